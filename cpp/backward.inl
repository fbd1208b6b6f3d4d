// The backward pass of one instruction set. Five products a block of scores: the scores again, from them and lse the weights;
// the weights' gradients, from them the scores'; and what both add to the gradients of query, key and value.
//
// As in the forward pass, queries lie in the lanes, and a copy of them in rows serves the sums over queries. Everything here
// has internal linkage: see kernel.inl.

#include <stdint.h>
#include <stdlib.h>

#if defined(__AVX2__)
#include <immintrin.h>
#endif

#include "backward.h"
#include "problem.h"

namespace qkv {
namespace {

#include "lanes.inl"
#include "exp.inl"
#include "convert.inl"
#include "product.inl"
#include "pairs.inl"
#include "transpose.inl"
#include "tile.inl"
#include "mask.inl"
#include "bias.inl"
#include "adjust.inl"
#include "dropout.inl"
#include "bias_gradient.inl"
#include "backward_tile.inl"
#include "row_product.inl"
#include "backward_block.inl"

// What the sink of a head loses by a tile's queries: it takes part in their sums, but in no output.
template <class T, int Q>
void add_sink_gradient(const BackwardTile<T, Q> &tile, const Problem &problem, const Gradients &given, const BackwardSplit &split, int64_t batch,
                       int64_t unit, int64_t head) {
    double pull = 0;
    const double sink = (double)((const T *)problem.sink.data)[head * problem.sink.stride[1]];
    for (int lane = 0; lane < tile.rows; ++lane) {
        const double lse = (double)((const T *)given.lse)[(batch * problem.heads + head) * problem.queries + tile.index[lane]];
        if (lse != -infinity<T>) pull -= __builtin_exp(sink - lse) * (double)tile.delta[lane];
    }
    const int64_t units = problem.batch * problem.key_heads;
    split.row_sums[(problem.bias_terms * units + batch * problem.key_heads + unit) * split.tiles + tile.number] = pull;
}

#include "backward_once.inl"

// One tile against a span of keys.
template <class P, int Q, bool rows, bool columns, class T = typename P::Real>
void visit_tile(const Problem &problem, const Gradients &given, const BackwardSplit &split, BackwardSpace<P> &space, int64_t batch,
                int64_t unit, int64_t number, int64_t base, int64_t from, int64_t stop, bool keys_guarded) {
    constexpr int width = Tile<T, Q>::width;
    const int64_t fold = problem.heads / problem.key_heads;
    const int64_t head = unit * fold + number / split.tiles_per_head;
    const int64_t first = number % split.tiles_per_head * BackwardSpace<P>::width;
    const int64_t left = problem.queries - first;
    BackwardTile<T, Q> tile;
    tile.number = number;
    place_tile(tile, problem, 1, batch, head, first, (int)(left < width ? left : width));
    tile.grad_query = space.grad_query.data + (number - base) * BackwardSpace<P>::width * space.dim;
    const bool opening = from == 0;
    if (rows && opening) clear(tile.grad_query, width * problem.dim);
    const bool sinks = rows && opening && given.sink;
    if ((tile.low >= stop || tile.high <= from) && !sinks) return;
    open_backward(tile, problem, given, space, batch, head);
    if (sinks) add_sink_gradient(tile, problem, given, split, batch, unit, head);
    for (int64_t block = from; block < stop; block += keys_at_once) {
        const int64_t low = (block > tile.low ? block : tile.low) / P::terms * P::terms;  // pairs begin at even keys
        const int64_t end = block + keys_at_once < stop ? block + keys_at_once : stop;
        const int64_t high = end < tile.high ? end : tile.high;
        if (low < high)
            visit_backward<P, Q, rows, columns>(tile, problem, given, split, space, batch, unit, low, high - low, low - from, keys_guarded);
    }
}

// Gradients of the queries of tiles base .. last (where `rows`), and of the keys first .. end (where `columns`).
template <class P, bool rows, bool columns, class T = typename P::Real>
void differentiate_part(const Problem &problem, const Gradients &given, const BackwardSplit &split, BackwardSpace<P> &space,
                        BackwardSource source, int64_t batch, int64_t unit, int64_t base, int64_t last, int64_t first, int64_t end) {
    constexpr int64_t width = BackwardSpace<P>::width;
    const int64_t size = bytes_of(problem.dtype);
    const T scale = (T)problem.scale;
    for (int64_t from = first; from < end; from += split.keys_per_span) {
        const int64_t stop = from + split.keys_per_span < end ? from + split.keys_per_span : end;
        const bool guarded = !take_span(problem, space, batch, unit, from, stop);
        if (columns) {
            clear(space.grad_key.data, (stop - from) * space.dim);
            clear(space.grad_value.data, (stop - from) * space.value_dim);
        }
        for (int64_t number = base; number < last; ++number) {
            if (source.stopped(source.state)) return;
            const int64_t left = problem.queries - number % split.tiles_per_head * width;
            if (left <= lanes<T>)
                visit_tile<P, 1, rows, columns>(problem, given, split, space, batch, unit, number, base, from, stop, guarded);
            else
                visit_tile<P, QKV_VECTORS, rows, columns>(problem, given, split, space, batch, unit, number, base, from, stop, guarded);
        }
        for (int64_t j = from; columns && j < stop; ++j) {
            T *grad = space.grad_key.data + (j - from) * space.dim;
            for (int64_t d = 0; d < problem.dim; ++d) grad[d] *= scale;
            store_row(problem.dtype, grad, problem.dim, given.key.at(batch, unit, j, size));
            store_row(problem.dtype, space.grad_value.data + (j - from) * space.value_dim, problem.value_dim,
                      given.value.at(batch, unit, j, size));
        }
    }
    const int64_t fold = problem.heads / problem.key_heads;
    for (int64_t number = base; rows && number < last; ++number) {
        const int64_t row = number % split.tiles_per_head * width, head = unit * fold + number / split.tiles_per_head;
        const int64_t left = problem.queries - row < width ? problem.queries - row : width;
        const int64_t step = left <= lanes<T> ? lanes<T> : width;
        const T *from = space.grad_query.data + (number - base) * width * space.dim;
        for (int64_t lane = 0; lane < left; lane += lanes<T>) {
            char *rows_of_array[lanes<T>];
            const int used = (int)(left - lane < lanes<T> ? left - lane : lanes<T>);
            for (int i = 0; i < used; ++i) rows_of_array[i] = given.query.at(batch, head, row + lane + i, size);
            lanes_to_rows<T>(problem.dtype, from + lane, problem.dim, step, splat<T>(scale), used, rows_of_array);
        }
    }
}

template <class P> bool work_backward(const Problem &problem, const Gradients &given, const BackwardSplit &split, BackwardSource source) {
    BackwardSpace<P> space(problem, split);
    if (!space.ok()) return false;
    const int64_t units = problem.batch * problem.key_heads, groups = units / split.units_per_task;
    const int64_t turns = split.fused ? 1 : split.parts / split.parts_per_task;
    for (int64_t task; (task = source.next(source.state)) >= 0;) {
        if (task >= groups * turns) {
            const int64_t rest = task - groups * turns, span = rest / units, at = rest % units;
            const int64_t from = span * split.keys_per_span;
            const int64_t end = from + split.keys_per_span < problem.keys ? from + split.keys_per_span : problem.keys;
            differentiate_part<P, false, true>(problem, given, split, space, source, at % problem.batch, at / problem.batch, 0, split.tiles,
                                               from, end);
            continue;
        }
        const int64_t group = task % groups, turn = turns - 1 - task / groups;  // under a causal mask the last are the longest
        for (int64_t at = group * split.units_per_task; at < (group + 1) * split.units_per_task; ++at) {
            // As they lie in memory, unless what all batch items of a head add to is gone through together.
            const bool alone = split.units_per_task == 1;
            const int64_t batch = alone ? at / problem.key_heads : at % problem.batch, unit = alone ? at % problem.key_heads : at / problem.batch;
            if (split.once && source.stopped(source.state)) return true;
            if (split.once && problem.dim % P::terms == 0 && problem.value_dim % P::terms == 0) {  // whole pairs, or numbers
                if (problem.queries <= lanes<typename P::Real>)
                    differentiate_once<P, 1>(problem, given, split, space, batch, unit);
                else
                    differentiate_once<P, QKV_VECTORS>(problem, given, split, space, batch, unit);
                continue;
            }
            if (split.fused) {
                differentiate_part<P, true, true>(problem, given, split, space, source, batch, unit, 0, split.tiles, 0, problem.keys);
                continue;
            }
            for (int64_t part = turn * split.parts_per_task; part < (turn + 1) * split.parts_per_task; ++part) {
                const int64_t base = part * split.tiles_per_part, end = base + split.tiles_per_part;
                differentiate_part<P, true, false>(problem, given, split, space, source, batch, unit, base,
                                                   end < split.tiles ? end : split.tiles, 0, problem.keys);
            }
        }
    }
    return true;
}

}  // namespace

bool QKV_BACKWARD(const Problem &problem, const Gradients &given, const BackwardSplit &split, BackwardSource source) {
#if defined(__AVX512BF16__)
    if (problem.dtype == Dtype::bfloat16) return work_backward<Pairs>(problem, given, split, source);
#endif
    return is_double(problem.dtype) ? work_backward<Plain<double>>(problem, given, split, source)
                                    : work_backward<Plain<float>>(problem, given, split, source);
}

}  // namespace qkv
