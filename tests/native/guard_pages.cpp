// That the guard pages guard: the tests trust them, so a touch beyond either end has to end a process.

#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdio>

#include "guarded.h"

using qkv::test::Guarded;

namespace {

// Whether reading (or writing) the byte at `offset` ends the process that does it.
bool fatal(const Guarded &memory, long offset, bool writes) {
    const pid_t child = fork();
    if (child == 0) {
        const rlimit none{0, 0};
        setrlimit(RLIMIT_CORE, &none);
        std::fclose(stderr);
        volatile char *byte = memory.data() + offset;
        if (writes)
            *byte = 1;
        else
            (void)*byte;
        _exit(0);
    }
    int status = 0;
    waitpid(child, &status, 0);
    return !(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

}  // namespace

int main() {
    int failures = 0;
    const auto expect = [&](bool holds, const char *what, size_t bytes) {
        if (!holds) std::printf("guard pages: %s (%zu bytes)\n", what, bytes), ++failures;
    };
    for (size_t bytes : {0, 1, 4, 100, 4096, 5000, 70000}) {
        const Guarded low(bytes, Guarded::Against::start), high(bytes, Guarded::Against::end);
        for (bool writes : {false, true}) {
            expect(fatal(low, -1, writes), "the byte before the first went unnoticed", bytes);
            expect(fatal(high, (long)bytes, writes), "the byte behind the last went unnoticed", bytes);
            expect(!bytes || !fatal(low, 0, writes), "the first byte could not be used", bytes);
            expect(!bytes || !fatal(high, (long)bytes - 1, writes), "the last byte could not be used", bytes);
        }
    }
    return failures ? 1 : 0;
}
