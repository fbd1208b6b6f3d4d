// One whole call: cut into tasks, run on threads, sums over queries put together.
#pragma once

#include <functional>

#include "problem.h"

namespace qkv {

// Throws std::bad_alloc where memory runs out. `interrupted` is asked between tasks, on the calling thread alone; where it
// says yes, no task is begun any more, and what was to be filled is left unfinished.
void attend(const Problem &problem, int threads, const std::function<bool()> &interrupted);

}  // namespace qkv
