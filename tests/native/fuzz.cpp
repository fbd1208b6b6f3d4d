// The fuzz target: any bytes are a problem, and everything that `check` promises must hold for it.
// With Clang: -DQKV_FUZZER=ON, then `fuzz -max_total_time=600`. Elsewhere `random_problems` runs it on bytes of its own.

#include "check.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t count) {
    qkv::test::check(bytes, count);
    return 0;
}
