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

constexpr int64_t keys_at_once = 64;  // of a block; a divisor of keys_per_span

template <class T> int64_t padded(int64_t dim) { return (dim + lanes<T> - 1) / lanes<T> * lanes<T>; }

// One thread's memory, taken once for all its tasks.
template <class P> struct BackwardSpace {
    using T = typename P::Real;
    static constexpr int64_t width = QKV_VECTORS * lanes<T>;
    int64_t dim, value_dim;  // padded
    Buffer<T> key, value, grad_key, grad_value;           // a span of keys, in rows
    Buffer<T> query_rows, grad_rows, row;                 // a tile, in rows, and one row
    Buffer<T> query_lanes, grad_lanes, grad_query;        // in lanes; of grad_query, all that tasks go through
    Buffer<T> weights, scores, slopes, factors, line, biases;  // a block
    // For pairs alone: keys by pairs, a tile as it came, and a block's weights and scores rounded, in rows and by pairs of keys.
    Buffer<T> key_pairs, raw, weight_rows, score_rows, score_pairs;
    Buffer<uint8_t> mask;

    BackwardSpace(const Problem &p, const BackwardSplit &split)
        : dim(padded<T>(p.dim)),
          value_dim(padded<T>(p.value_dim)),
          key(split.keys_per_span * dim),
          value(split.keys_per_span * value_dim),
          grad_key(split.keys_per_span * dim),
          grad_value(split.keys_per_span * value_dim),
          query_rows(width * dim),
          grad_rows(width * value_dim),
          row(value_dim),
          query_lanes(width * dim),
          grad_lanes(width * value_dim),
          grad_query((split.fused ? split.tiles : split.tiles_per_part) * width * dim),
          weights(keys_at_once * width),
          scores(keys_at_once * width),
          slopes(p.softcap != 0 ? keys_at_once * width : 0),
          factors(p.dropout != 0 ? keys_at_once * width : 0),
          line(keys_at_once + width),
          biases(p.bias_terms ? keys_at_once * width : 0),
          key_pairs(P::terms > 1 ? split.keys_per_span * dim / 2 : 0),
          raw(P::terms > 1 ? width * (dim > value_dim ? dim : value_dim) / 2 : 0),
          weight_rows(P::terms > 1 ? keys_at_once * width / 2 : 0),
          score_rows(P::terms > 1 ? keys_at_once * width / 2 : 0),
          score_pairs(P::terms > 1 ? keys_at_once * width / 2 : 0),
          mask(p.mask_depth * keys_in_block * width) {}

    bool ok() const {
        return key.ok && value.ok && grad_key.ok && grad_value.ok && query_rows.ok && grad_rows.ok && row.ok && query_lanes.ok &&
               grad_lanes.ok && grad_query.ok && weights.ok && scores.ok && slopes.ok && factors.ok && line.ok && biases.ok &&
               key_pairs.ok && raw.ok && weight_rows.ok && score_rows.ok && score_pairs.ok && mask.ok;
    }
};

// What a tile needs besides its bounds.
template <class T, int Q> struct BackwardTile : Tile<T, Q> {
    static constexpr int width = Tile<T, Q>::width;
    alignas(64) T lse[width], delta[width];
    int64_t number;    // among those of its unit
    bool guarded;      // some number of a query or of its gradient is not finite
    T *grad_query;     // (dim, width), not yet scaled
};

template <class T> void clear(T *to, int64_t count) {
    for (int64_t i = 0; i < count; ++i) to[i] = 0;
}

// A row in the type that is computed in, and zeros up to the padded length.
template <class T> void copy_row(Dtype dtype, const char *from, int64_t dim, int64_t all, T *to) {
    load_row(dtype, from, dim, to);
    for (int64_t d = dim; d < all; ++d) to[d] = 0;
}

// (width, dim) as (dim, width).
template <class T> void turn(const T *from, int64_t dim, int64_t all, int64_t width, T *to) {
    for (int64_t first = 0; first < width; first += lanes<T>) {
        const char *rows[lanes<T>];
        for (int lane = 0; lane < lanes<T>; ++lane) rows[lane] = (const char *)(from + (first + lane) * all);
        rows_to_lanes<T>(rows, dim, width, to + first);
    }
}

// bfloat16 numbers as they are, and zeros up to the padded length.
inline void copy_halves(const char *from, int64_t dim, int64_t all, uint16_t *to) {
    copy_bytes(to, from, dim * 2);
    for (int64_t d = dim; d < all; ++d) to[d] = 0;
}

// Two rows, number by number in turn.
inline void interleave_halves(const uint16_t *even, const uint16_t *odd, int64_t count, float *to) {
    uint16_t *halves = (uint16_t *)to;
    for (int64_t d = 0; d < count; ++d) halves[2 * d] = even[d], halves[2 * d + 1] = odd[d];
}

// A tile's rows of an array, as both kinds of products want them: in `rows` and in `lanes`. False where one is not finite.
template <class P, int width, class T = typename P::Real>
bool take_rows(const char *const *from, Dtype dtype, int used, int64_t dim, int64_t all, T *raw, T *rows, T *in_lanes) {
    if constexpr (P::terms == 1) {
        for (int lane = 0; lane < width; ++lane) copy_row(dtype, from[lane], dim, all, rows + lane * all);
        turn(rows, dim, all, width, in_lanes);
        return all_finite(Block<T>{rows, all}, used, dim);
    } else {
        uint16_t *halves = (uint16_t *)raw;
        for (int lane = 0; lane < width; ++lane) copy_halves(from[lane], dim, all, halves + lane * all);
        turn(raw, all / 2, all / 2, width, in_lanes);
        for (int lane = 0; lane < width; lane += 2) interleave_halves(halves + lane * all, halves + (lane + 1) * all, all, rows + lane / 2 * all);
        return all_finite(Block<uint16_t>{halves, all}, used, dim);
    }
}

template <class P, int Q, class T = typename P::Real>
void open_backward(BackwardTile<T, Q> &tile, const Problem &problem, const Gradients &given, BackwardSpace<P> &space, int64_t batch,
                   int64_t head) {
    constexpr int width = Tile<T, Q>::width;
    for (int lane = tile.rows; lane < width; ++lane) tile.start[lane] = tile.stop[lane] = 0;
    if (tile.rows < width) tile.full_high = 0;  // lanes without a query attend to nothing
    const int64_t size = bytes_of(problem.dtype);
    const char *queries[width], *grads[width];
    for (int lane = 0; lane < width; ++lane) {
        const int64_t i = tile.index[lane], at = (batch * problem.heads + head) * problem.queries + i;
        queries[lane] = problem.query.at(batch, head, i, size);
        grads[lane] = given.grad_output.at(batch, head, i, size);
        copy_row(problem.dtype, given.output.at(batch, head, i, size), problem.value_dim, space.value_dim, space.row.data);
        copy_row(problem.dtype, grads[lane], problem.value_dim, space.value_dim, space.grad_rows.data);
        Vector<T> products{};
        for (int64_t d = 0; d < space.value_dim; d += lanes<T>) products += load(space.grad_rows.data + d) * load(space.row.data + d);
        const T delta = sum_of_lanes<T>(products), lse = ((const T *)given.lse)[at];
        tile.delta[lane] = given.grad_lse ? delta - ((const T *)given.grad_lse)[at] : delta;
        tile.lse[lane] = lse == -infinity<T> ? (T)0 : lse;  // all scores are -inf then
    }
    tile.query = space.query_lanes.data;
    const bool sound = take_rows<P, width>(queries, problem.dtype, tile.rows, problem.dim, space.dim, space.raw.data,
                                           space.query_rows.data, tile.query);
    const bool sound_too = take_rows<P, width>(grads, problem.dtype, tile.rows, problem.value_dim, space.value_dim, space.raw.data,
                                               space.grad_rows.data, space.grad_lanes.data);
    tile.guarded = !sound || !sound_too;
    if (!P::scales_scores)
        for (int64_t i = 0; i < problem.dim * width; ++i) tile.query[i] *= (T)problem.scale;
}

// sums[j] += over queries q of weights[j, q] * rows[q], for `count` keys. `guarded`: a weight of 0 keeps out what it multiplies.
template <class P, int R, int C, bool guarded, class T = typename P::Real>
QKV_INLINE void add_rows(const typename P::Element *weights, int64_t width, const T *rows, int64_t stride, int depth, T *sums) {
    Vector<T> sum[R][C];
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r)
#pragma GCC unroll 4
        for (int c = 0; c < C; ++c) sum[r][c] = Vector<T>{};
#pragma GCC unroll 4
    for (int q = 0; q < depth; ++q) {
        Vector<T> b[C];
#pragma GCC unroll 4
        for (int c = 0; c < C; ++c) b[c] = load(rows + q * stride + c * lanes<T>);
#pragma GCC unroll 8
        for (int r = 0; r < R; ++r) {
            const auto a = P::broadcast(weights + r * width + q * P::terms);
#pragma GCC unroll 4
            for (int c = 0; c < C; ++c) {
                if constexpr (P::terms == 1)
                    sum[r][c] = guarded && a == 0 ? sum[r][c] : sum[r][c] + a * b[c];
                else
                    sum[r][c] = P::template add_guarding<guarded>(sum[r][c], a, b[c]);
            }
        }
    }
    for (int r = 0; r < R; ++r)
        for (int c = 0; c < C; ++c) {
            T *place = sums + r * stride + c * lanes<T>;
            store(place, load(place) + sum[r][c]);
        }
}

template <class P, bool guarded, class T = typename P::Real>
void multiply_rows(const typename P::Element *weights, int64_t width, int64_t count, const T *rows, int64_t stride, int depth, T *sums) {
    by_rows<QKV_ROWS>(0, count, [&](auto step, int64_t first) QKV_LAMBDA {
        constexpr int R = decltype(step)::value;
        by_rows<QKV_VECTORS>(0, stride / lanes<T>, [&](auto vectors, int64_t column) QKV_LAMBDA {
            constexpr int C = decltype(vectors)::value;
            add_rows<P, R, C, guarded>(weights + first * width, width, rows + column * lanes<T>, stride, depth,
                                       sums + first * stride + column * lanes<T>);
        });
    });
}

// From scores and the gradients of weights, in place, to weights and the gradients of scores; what is masked has neither.
template <class T, int Q>
void differentiate(const BackwardTile<T, Q> &tile, int64_t count, const T *factors, T *weights, T *scores) {
    constexpr int L = lanes<T>;
    Vector<T> lse[Q], delta[Q];
    for (int q = 0; q < Q; ++q) lse[q] = load(tile.lse + q * L), delta[q] = load(tile.delta + q * L);
    for (int64_t j = 0; j < count; ++j)
#pragma GCC unroll 4
        for (int q = 0; q < Q; ++q) {
            T *weight = weights + (j * Q + q) * L, *score = scores + (j * Q + q) * L;
            const Vector<T> s = load(weight);
            const Vector<T> w = exp_of<T>(s - lse[q]);
            Vector<T> used = w, share = load(score);
            if (factors) {
                const Vector<T> factor = load(factors + (j * Q + q) * L);
                used = factor == 0 ? factor : used * factor;  // what is dropped has no part, NaN neither
                share = factor == 0 ? factor : share * factor;
            }
            const Vector<T> gradient = w * (share - delta[q]);
            store(weight, s == -infinity<T> ? Vector<T>{} : used);  // nor what is masked, where the query's lse is NaN
            store(score, s == -infinity<T> ? Vector<T>{} : gradient);
        }
}

template <class P, int Q, class T = typename P::Real>
void add_bias_gradients(const BackwardTile<T, Q> &tile, const Problem &problem, const Gradients &given, const BackwardSplit &split,
                        BackwardSpace<P> &space, int64_t batch, int64_t unit, int64_t first, int64_t count, const T *scores) {
    const int64_t units = problem.batch * problem.key_heads, at = batch * problem.key_heads + unit;
    const int64_t fold = problem.heads / problem.key_heads, part = tile.number / split.tiles_per_part;
    double *tables = split.tables + ((at * split.parts + part) * fold + tile.head[0] % fold) * split.table_size;
    for (int i = 0; i < problem.bias_terms; ++i) {
        const BiasTerm &term = problem.bias[i];
        const Array &wanted = given.bias[i];
        if (!wanted.data) continue;
        switch (term.kind) {
            case BiasKind::alibi:
                add_slope_gradient(term, tile, first, count, scores, split.row_sums + (i * units + at) * split.tiles + tile.number);
                break;
            case BiasKind::relative:
                add_table_gradient(term, tile, first, count, scores, space.line.data, tables);
                tables += 2 * term.radius + 1;
                break;
            case BiasKind::array: add_array_gradient(wanted, tile, batch, first, count, scores); break;
        }
    }
}

// One tile against one block of keys, which begins `at` keys into the span.
template <class P, int Q, bool rows, bool columns, class T = typename P::Real>
void visit_backward(BackwardTile<T, Q> &tile, const Problem &problem, const Gradients &given, const BackwardSplit &split,
                    BackwardSpace<P> &space, int64_t batch, int64_t unit, int64_t first, int64_t count, int64_t at, bool keys_guarded) {
    using Element = typename P::Element;
    constexpr int L = lanes<T>, width = Tile<T, Q>::width;
    T *weights = space.weights.data, *scores = space.scores.data;
    const Block<Element> keys = {(const Element *)space.key.data + at * space.dim, space.dim};
    const Block<Element> values = {(const Element *)space.value.data + at * space.value_dim, space.value_dim};
    multiply_keys<P, Q>(keys, count, tile.query, P::terms == 1 ? problem.dim : space.dim / 2, (T)problem.scale, weights);
    if (problem.softcap != 0) {
        const T cap = (T)problem.softcap, inverse = (T)(1 / problem.softcap);
        for (int64_t i = 0; i < count * width; i += L) {
            const Vector<T> bent = tanh_of<T>(load(weights + i) * inverse);
            store(weights + i, bent * cap);
            store(space.slopes.data + i, (T)1 - bent * bent);
        }
    }
    const auto adjustment = prepare<T, Q>(problem, tile, batch, first, count, space.line.data, space.biases.data, space.mask.data);
    adjust_block<Q>(adjustment, count, weights);
    multiply_keys<P, Q>(values, count, space.grad_lanes.data, P::terms == 1 ? problem.value_dim : space.value_dim / 2, (T)1, scores);
    if (problem.dropout != 0) draw(problem, tile, batch, first, count, space.factors.data);
    differentiate(tile, count, space.factors.data, weights, scores);
    if (rows && problem.bias_terms) add_bias_gradients(tile, problem, given, split, space, batch, unit, first, count, scores);
    if (problem.softcap != 0)
        for (int64_t i = 0; i < count * width; i += L) {
            const Vector<T> gradient = load(scores + i);
            store(scores + i, gradient == 0 ? gradient : gradient * load(space.slopes.data + i));
        }
    const Element *weight_rows, *score_rows;
    const T *score_lanes = scores;
    Block<Element> turned = keys;
    if constexpr (P::terms == 1) {
        weight_rows = weights;
        score_rows = scores;
    } else {
        P::template round_rows<Q>(weights, count, space.weight_rows.data);
        P::template round_rows<Q>(scores, count, space.score_rows.data);
        P::template round_pairs<Q>(scores, count, space.score_pairs.data);
        weight_rows = (const Element *)space.weight_rows.data;
        score_rows = (const Element *)space.score_rows.data;
        score_lanes = space.score_pairs.data;
        turned = {(const Element *)(space.key_pairs.data + at / 2 * space.dim), 2 * space.dim};
    }
    if (columns) {
        T *grad_value = space.grad_value.data + at * space.value_dim, *grad_key = space.grad_key.data + at * space.dim;
        const int depth = (tile.rows + P::terms - 1) / P::terms;
        if (tile.guarded) {
            multiply_rows<P, true>(weight_rows, width, count, space.grad_rows.data, space.value_dim, depth, grad_value);
            multiply_rows<P, true>(score_rows, width, count, space.query_rows.data, space.dim, depth, grad_key);
        } else {
            multiply_rows<P, false>(weight_rows, width, count, space.grad_rows.data, space.value_dim, depth, grad_value);
            multiply_rows<P, false>(score_rows, width, count, space.query_rows.data, space.dim, depth, grad_key);
        }
    }
    if (rows) {
        Vector<T> one[Q];
        for (int q = 0; q < Q; ++q) one[q] = splat<T>(1);
        const int64_t depth = (count + P::terms - 1) / P::terms;
        if (keys_guarded)
            multiply_values<P, Q, true>(turned, depth, score_lanes, problem.dim, one, tile.grad_query);
        else
            multiply_values<P, Q, false>(turned, depth, score_lanes, problem.dim, one, tile.grad_query);
    }
}

// The tiles of a part, or of all, against a span of keys.
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
    if (sinks) {
        double pull = 0;
        const double sink = (double)((const T *)problem.sink.data)[head * problem.sink.stride[1]];
        for (int lane = 0; lane < tile.rows; ++lane) {
            const double lse = (double)((const T *)given.lse)[(batch * problem.heads + head) * problem.queries + tile.index[lane]];
            if (lse != -infinity<double>) pull -= __builtin_exp(sink - lse) * (double)tile.delta[lane];
        }
        const int64_t units = problem.batch * problem.key_heads;
        split.row_sums[(problem.bias_terms * units + batch * problem.key_heads + unit) * split.tiles + number] = pull;
    }
    for (int64_t block = from; block < stop; block += keys_at_once) {
        const int64_t low = (block > tile.low ? block : tile.low) / P::terms * P::terms;  // pairs begin at even keys
        const int64_t end = block + keys_at_once < stop ? block + keys_at_once : stop;
        const int64_t high = end < tile.high ? end : tile.high;
        if (low < high)
            visit_backward<P, Q, rows, columns>(tile, problem, given, split, space, batch, unit, low, high - low, low - from, keys_guarded);
    }
}

// The keys from .. stop and their values, as the products want them. False where a key is not finite.
template <class P> bool take_span(const Problem &problem, BackwardSpace<P> &space, int64_t batch, int64_t unit, int64_t from, int64_t stop) {
    using Element = typename P::Element;
    const int64_t size = bytes_of(problem.dtype);
    Element *keys = (Element *)space.key.data, *values = (Element *)space.value.data;
    for (int64_t j = 0; j < stop - from; ++j) {
        const char *key = problem.key.at(batch, unit, from + j, size), *value = problem.value.at(batch, unit, from + j, size);
        if constexpr (P::terms == 1) {
            copy_row(problem.dtype, key, problem.dim, space.dim, keys + j * space.dim);
            copy_row(problem.dtype, value, problem.value_dim, space.value_dim, values + j * space.value_dim);
        } else {
            copy_halves(key, problem.dim, space.dim, keys + j * space.dim);
            copy_halves(value, problem.value_dim, space.value_dim, values + j * space.value_dim);
        }
    }
    if constexpr (P::terms > 1) {
        clear(keys + (stop - from) * space.dim, (stop - from) % 2 * space.dim);  // a key without a partner
        for (int64_t j = 0; j < stop - from; j += 2)
            interleave_halves(keys + j * space.dim, keys + (j + 1) * space.dim, space.dim, space.key_pairs.data + j / 2 * space.dim);
    }
    return all_finite(Block<Element>{keys, space.dim}, stop - from, problem.dim);
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
            const int64_t batch = at % problem.batch, unit = at / problem.batch;
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
