// Runs a test under every instruction set of the machine, each in a process of its own: the choice is made once a process.
#pragma once

namespace qkv::test {

// Calls `test` in a child for each kernel that this machine runs, or only for the one that QKV_ISA names. Returns what
// main() should: 0 where all went well.
int in_each_isa(int (*test)());

}  // namespace qkv::test
