// Runs the fuzz target on bytes of its own: the same ones every time, or from another seed on, for longer.
//   random_problems [how many] [first seed]

#include <array>
#include <cstdio>
#include <cstdlib>

#include "choices.h"
#include "each_isa.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t count);

namespace {

long how_many = 400;
unsigned long long first_seed = 1;

int run() {
    for (long i = 0; i < how_many; ++i) {
        const unsigned long long seed = first_seed + (unsigned long long)i;
        qkv::test::Random random(seed);
        std::array<uint8_t, 160> bytes;
        for (uint8_t &byte : bytes) byte = (uint8_t)random.bits();
        // A failure ends the process at once; this line, the last of a test's words, says how to see it again.
        std::fprintf(stderr, "\rseed %llu ", seed);
        LLVMFuzzerTestOneInput(bytes.data(), bytes.size());
    }
    std::fprintf(stderr, "\r%ld problems\n", how_many);
    return 0;
}

}  // namespace

int main(int count, char **arguments) {
    if (count > 1) how_many = std::atol(arguments[1]);
    if (count > 2) first_seed = std::strtoull(arguments[2], nullptr, 10);
    return qkv::test::in_each_isa(run);
}
