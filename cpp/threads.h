// A pool of our own: workers that sleep between calls, and that a forked child starts afresh.
#pragma once

#include <functional>

namespace qkv {

// Calls `work` once on each of `threads` threads, the caller's included, and returns when all have. Where another call
// holds the pool, the caller works alone: `work` must get everything done however many join in.
void run_on_threads(int threads, const std::function<void()> &work);

}  // namespace qkv
