// Which instruction set's kernel runs: decided once, or named by QKV_ISA.
#pragma once

#include <string>
#include <vector>

#include "problem.h"

namespace qkv {

// The names of those that this machine can run, from the plainest to the widest.
std::vector<std::string> available_kernels();

// The one in use; throws std::runtime_error where QKV_ISA names one that is unknown or that this machine lacks.
const Kernel &chosen_kernel();

}  // namespace qkv
