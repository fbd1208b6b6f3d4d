// The backward pass of one call: what it reads besides the problem, what it fills, and how it is cut into tasks.
#pragma once

#include <functional>

#include "problem.h"

namespace qkv {

// All gradients are contiguous but that of a bias array, whose strides are 0 where it is summed over.
struct Gradients {
    Array output, grad_output;  // of the forward pass, in the problem's dtype; the last axis is contiguous
    const void *lse;            // (batch, heads, queries), contiguous, of the statistics' type
    const void *grad_lse;       // likewise, or null
    Array query, key, value;    // to be filled
    const Array *bias;          // to be filled, one a term of the problem; data is null where it is not wanted
    void *sink;                 // to be filled, (heads,), or null
};

constexpr int64_t keys_at_once = 64;  // of a block

// The queries of all heads that share keys are cut into tiles, and runs of those into parts. Everything is summed in an order
// that follows from the problem's shape alone: for a query, over blocks of keys; for a key, over tiles of queries; sums over
// both, by part and in the order of parts.
struct BackwardSplit {
    int64_t tiles_per_head, tiles;  // of one head; of all heads that share keys
    int64_t tiles_per_part, parts;
    int64_t keys_per_span, spans;  // runs of keys whose gradients are held while queries go by
    // Fused, a task is all of some units: each score is computed once. Otherwise parts and spans are tasks of their own, the
    // former for queries, the latter for keys and values: more to compute, and more to do at once.
    bool fused;
    bool once;                   // every unit is one tile against one block
    int64_t units_per_task;      // (batch item, key head) pairs whose sums meet in one place; all of the batch for a head
    int64_t parts_per_task;      // one, or all of them, one after another
    int64_t tasks;
    double *row_sums;   // (bias_terms + 1, batch, key_heads, tiles): slopes', and at last the sink's
    double *tables;     // (batch, key_heads, parts, fold, table_size): those of relative biases, one after another
    int64_t table_size;
};

// Hands out task numbers; negative when none is left. A long task asks from time to time whether to stop.
struct BackwardSource {
    int64_t (*next)(void *state);
    bool (*stopped)(void *state);
    void *state;
};

// Throws std::bad_alloc where memory runs out. `interrupted` as in `attend`.
void backward(const Problem &problem, const Gradients &gradients, int threads, const std::function<bool()> &interrupted);

}  // namespace qkv
