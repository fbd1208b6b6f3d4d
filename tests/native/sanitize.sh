#!/usr/bin/env bash
# Builds the kernels and their native tests three times, and runs them: under AddressSanitizer and
# UndefinedBehaviorSanitizer, under ThreadSanitizer, and compiled for AArch64 under QEMU. `make sanitize` calls it.
#   sanitize.sh [address] [thread] [aarch64]      only these
set -euo pipefail
cd "$(dirname "$0")/../.."

# configure, build, test: NAME PROBLEMS OPTIONS...
native() {
    local name=$1 problems=$2 began=$SECONDS
    shift 2
    cmake -S tests/native -B "build/sanitize/$name" -G Ninja -DCMAKE_BUILD_TYPE=RelWithDebInfo -DQKV_PROBLEMS="$problems" "$@" >/dev/null
    cmake --build "build/sanitize/$name" >"build/sanitize/$name.log" || { cat "build/sanitize/$name.log"; return 1; }
    local built=$SECONDS
    ctest --test-dir "build/sanitize/$name" --output-on-failure --parallel "$(nproc)" >"build/sanitize/$name.log" 2>&1 ||
        { tr '\r' '\n' <"build/sanitize/$name.log"; return 1; }
    echo "sanitize: $name: well, built in $((built - began)) s, tested in $((SECONDS - built)) s"
}

# A cross compiler and an emulator come through apt where it may be used.
cross_compiler() {
    local packages=(g++-aarch64-linux-gnu qemu-user)
    have() { command -v aarch64-linux-gnu-g++ >/dev/null && command -v qemu-aarch64 >/dev/null; }
    if ! have && command -v apt-get >/dev/null && { [ "$(id -u)" = 0 ] || sudo -n true 2>/dev/null; }; then
        local as_root=()
        [ "$(id -u)" = 0 ] || as_root=(sudo -n)
        "${as_root[@]}" apt-get update -qq
        "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${packages[@]}" >/dev/null
    fi
    have || {
        echo "sanitize: aarch64: needs aarch64-linux-gnu-g++ and qemu-aarch64, which Debian and Ubuntu have in ${packages[*]};" \
            "install them, or leave this part out: tests/native/sanitize.sh address thread" >&2
        return 1
    }
}

[ $# -gt 0 ] || set -- address thread aarch64
for part; do
    case $part in
        address) native address 250 -DQKV_SANITIZE=address,undefined ;;
        thread) native thread 25 -DQKV_SANITIZE=thread ;;
        aarch64)
            cross_compiler
            native aarch64 100 -DCMAKE_TOOLCHAIN_FILE="$PWD/tests/native/aarch64.cmake"
            ;;
        *) echo "sanitize: expected address, thread or aarch64, got '$part'" >&2; exit 2 ;;
    esac
done
