// One whole call: cut into tasks, run on threads, sums over queries put together.
#pragma once

#include <functional>
#include <string>

#include "problem.h"

namespace qkv {

// What is decided before anything is computed; `qkv info --explain` and QKV_LOG tell it.
struct Choice {
    const Kernel *kernel;
    const char *arithmetic;  // what is computed in
    Split split;
    int tile_rows;
    int threads;
    int64_t kept_bytes;  // a thread's memory that grows with the keys

    std::string path() const;  // how queries and keys are gone through, in words
};

Choice choose(const Problem &problem, int threads);

// Throws std::bad_alloc where memory runs out. `interrupted` is asked between tasks, on the calling thread alone; where it
// says yes, no task is begun any more, and what was to be filled is left unfinished.
void attend(const Problem &problem, int threads, const std::function<bool()> &interrupted);

}  // namespace qkv
