// One whole call: cut into tasks, run on threads, sums over queries put together.
#pragma once

#include "problem.h"

namespace qkv {

// Throws std::bad_alloc where memory runs out.
void attend(const Problem &problem, int threads);

}  // namespace qkv
