// What one call computes: the plan of DESIGN.md in plain C types, so that every instruction set's object file can read it
// without instantiating a shared template.
#pragma once

#include <stdint.h>

namespace qkv {

enum class Dtype { float16, bfloat16, float32, float64 };

// Scores and statistics are float, or double for float64 inputs.
inline bool is_double(Dtype dtype) { return dtype == Dtype::float64; }

// A strided array of four axes (batch, heads, length, dim); strides count elements.
struct Array {
    char *data = nullptr;
    int64_t stride[4] = {0, 0, 0, 0};
    // A row of elements of `size` bytes.
    char *at(int64_t batch, int64_t head, int64_t index, int64_t size) const {
        return data + (batch * stride[0] + head * stride[1] + index * stride[2]) * size;
    }
};

// A row of int32 for each batch item; a stride of 0 shares one row.
struct Rows {
    const int32_t *data = nullptr;
    int64_t stride = 0;
    const int32_t *of(int64_t batch) const { return data + batch * stride; }
};

enum class MaskOp { interval, equal, array, both, either, negate };

// One step of the postfix program: a leaf pushes a block of booleans, an operator combines what lies on top.
struct MaskStep {
    MaskOp op;
    Rows first;   // interval: start; equal: ids of the queries
    Rows second;  // interval: stop; equal: ids of the keys
    Array array;  // array: one byte a position
};

enum class BiasKind { alibi, relative, array };

struct BiasTerm {
    BiasKind kind;
    Array values;        // alibi: slopes by head in stride[1]; relative: a table by head and distance in stride[1], stride[3]
    int64_t radius = 0;  // relative: distances are clamped to -radius .. radius
    int64_t offset = 0;  // the position of query i is i + offset
};

struct Problem {
    Dtype dtype;         // of query, key and value
    Dtype output_dtype;  // the same, or float32 for 16-bit inputs
    int64_t batch, heads, key_heads, queries, keys, dim, value_dim;
    Array query, key, value, output;  // the last axis is contiguous

    double scale, softcap;  // softcap 0 is none
    Array sink;             // by head in stride[1], of the statistics' type; data is null for none
    Rows start, stop;       // query i attends within start <= j < stop; data is null for every key
    const MaskStep *mask;
    int mask_steps, mask_depth;
    const BiasTerm *bias;
    int bias_terms;
    int64_t offset;
    double dropout;  // the probability that a weight becomes 0
    uint64_t seed;

    // Statistics, contiguous, each null unless asked for: float, or double for float64 inputs.
    void *lse, *entropy, *max_score, *distance;  // (batch, heads, queries)
    void *top_weights;                           // (batch, heads, queries, top_k)
    int64_t *top_indices;
    int64_t top_k;
    int64_t ranked;   // the lesser of top_k and keys: how many can be found
    void *received;   // (batch, heads, keys)
    void *block_map;  // (batch, heads, ceil(queries / block_rows), ceil(keys / block_columns))
    int64_t block_rows, block_columns;
};

// How a problem is cut into tasks. A unit is what shares keys: one head, or (folded) all query heads of one key head, whose
// rows are then ordered by query first. A task is a run of a unit's rows. Results do not depend on the cut, but for the
// order in which `received` is summed, so that cut follows from the problem's shape alone.
struct Split {
    int64_t fold;           // query heads in one unit
    int64_t rows;           // rows of one unit
    int64_t rows_per_task;
    int64_t tasks_per_unit;
    int64_t first_unit;     // units come in rounds, so that what is held of them stays small; this is the first of a round
    int64_t units;          // of a round
    int64_t tasks;          // of a round
    int tiles;              // query tiles that share a block of keys
    double *received;       // (units, tasks_per_unit, keys), or null

    // Where a unit's rows are few, its keys are cut instead, and a task is one piece of them.
    int64_t pieces;      // of each unit's keys; 0 where rows are cut
    char *records;       // (units of the round, pieces, rows), each of record_bytes; with several pieces only, as below
    void *kept;          // (units of the round), each of kept_in_unit numbers; null where no statistic needs them
    int32_t *left;       // (units of the round): pieces that nobody has finished
};

constexpr int64_t keys_in_block = 128;
constexpr int64_t keys_in_piece = 1024;

constexpr int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }
constexpr int64_t round_up(int64_t a, int64_t b) { return ceil_div(a, b) * b; }
constexpr int64_t whole_lines(int64_t bytes) { return round_up(bytes, 64); }

// What is known of a row after a piece: five numbers, its output, its largest scores and their keys.
inline int64_t record_bytes(const Problem &problem) {
    const int64_t size = is_double(problem.dtype) ? 8 : 4;
    return 64 + whole_lines(problem.value_dim * size) + whole_lines(problem.ranked * size) + whole_lines(problem.ranked * 8);
}

// Exponentials of a unit's scores, and what those of each block are relative to.
inline int64_t kept_in_unit(const Problem &problem, const Split &split) {
    if (!problem.received && !problem.block_map) return 0;
    return split.rows * (problem.keys + ceil_div(problem.keys, keys_in_block));
}

// Hands out task numbers; negative when none is left.
struct TaskSource {
    int64_t (*next)(void *state);
    void *state;
};

struct Gradients;
struct BackwardSplit;
struct BackwardSource;

// One instruction set's kernel.
struct Kernel {
    const char *name;
    int tile_rows_float, tile_rows_double;
    bool bfloat16_pairs;  // multiplies bfloat16 numbers as they are
    int few_rows_float, few_rows_double;  // up to so many rows of a unit, keys are cut instead of rows
    // Works on tasks until none is left; returns false where memory ran out.
    bool (*run)(const Problem &, const Split &, TaskSource);
    bool (*run_backward)(const Problem &, const Gradients &, const BackwardSplit &, BackwardSource);  // likewise; see backward.h
    double (*multiply_most)(Dtype, int64_t rounds);  // see limit.inl
};

}  // namespace qkv
