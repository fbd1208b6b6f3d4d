// What must hold for every problem, whatever the bytes that it was drawn from.
#pragma once

#include <cstddef>
#include <cstdint>

namespace qkv::test {

// Draws a problem and computes it. Says what was wrong and aborts, which is how a fuzzer is told, unless
//   nothing outside the arrays was touched (or the process is gone),
//   everything asked for was written, and nothing between the rows of the output,
//   every number of threads gives the same bits, and
//   all is as the definition in double has it.
void check(const uint8_t *bytes, size_t count);

}  // namespace qkv::test
