// The kernel of one instruction set: walks tasks, and within each the blocks of keys that a few query tiles share.
//
// Everything here has internal linkage, and nothing comes from the standard library's templates: the linker must never hand
// code compiled for a wide instruction set to an old processor.

#include <stdint.h>
#include <stdlib.h>

#if defined(__AVX2__)
#include <immintrin.h>
#endif

#include "problem.h"

namespace qkv {
namespace {

#include "lanes.inl"
#include "exp.inl"
#include "convert.inl"
#include "product.inl"
#include "pairs.inl"
#include "row_product.inl"
#include "transpose.inl"
#include "tile.inl"
#include "mask.inl"
#include "bias.inl"
#include "adjust.inl"
#include "rank.inl"
#include "fused.inl"
#include "dropout.inl"
#include "columns.inl"
#include "stream.inl"
#include "row.inl"
#include "decode.inl"
#include "limit.inl"

constexpr int tiles_held = 8;  // at most this many tiles share a block of keys

// One thread's memory, taken once for all its tasks.
template <class T> struct Workspace {
    static constexpr int64_t width = QKV_VECTORS * lanes<T>;
    bool keep, keep_segments;  // until the tile is closed: exponentials of all keys, or sums of some
    int64_t blocks, wide;
    Buffer<T> query, output, scores, segments, reference, weights, candidates, factors, key, value, row, line, biases;
    Buffer<Eight<T>> top;
    Buffer<double> map_row;
    Buffer<uint8_t> mask;

    Workspace(const Problem &p, const Split &split)
        : keep(p.received),
          keep_segments(p.block_map),
          blocks((p.keys + keys_in_block - 1) / keys_in_block),
          wide(columns_of(p)),
          query(split.tiles * p.dim * width),
          output(split.tiles * p.value_dim * width),
          scores(keep ? split.tiles * p.keys * width : keys_in_block * width),
          segments(keep_segments ? split.tiles * (blocks + wide) * width : 0),
          reference(keep || keep_segments ? split.tiles * blocks * width : 0),
          weights(keys_in_block * width),
          candidates(p.ranked ? (keys_in_block + keys_in_chunk) * width : 0),
          factors(p.dropout != 0 ? keys_in_block * width : 0),
          key(keys_in_block * (p.dim + 1)),
          value(keys_in_block * p.value_dim),
          row(lanes<T> * (p.dim + 1)),
          line(keys_in_block + width),
          biases(p.bias_terms ? keys_in_block * width : 0),
          top(split.tiles * eights(p) * width),
          map_row(wide),
          mask(p.mask_depth * keys_in_block * width) {}

    bool ok() const {
        return query.ok && output.ok && scores.ok && segments.ok && reference.ok && weights.ok && candidates.ok && factors.ok &&
               key.ok && value.ok && row.ok && line.ok && biases.ok && top.ok && map_row.ok && mask.ok;
    }
};

// What is left to multiply of a tile and a block; values as rows are read, each as many as a weight has.
template <class P, int Q> struct Weighed {
    using T = typename P::Real;
    const T *weights = nullptr;  // (depth, width)
    Block<typename P::Element> values = {nullptr, 0};
    int64_t depth = 0;
    Vector<T> rescale[Q];  // what was multiplied before
};

// One tile against one block of keys, as far as its weights.
template <class P, class T, int Q>
Weighed<P, Q> weigh_block(Tile<T, Q> &tile, const Problem &problem, Workspace<T> &space, int64_t batch, int64_t from, int64_t stop,
                          Block<typename P::Element> keys, Block<typename P::Element> values) {
    constexpr int L = lanes<T>, width = Tile<T, Q>::width;
    Weighed<P, Q> found;
    const int64_t first = from > tile.low ? from : tile.low;
    const int64_t count = (stop < tile.high ? stop : tile.high) - first;
    if (count <= 0) return found;
    keys.data += (first - from) * keys.stride;
    values.data += (first / P::terms - from / P::terms) * values.stride;
    const int64_t depth = (first + count + P::terms - 1) / P::terms - first / P::terms;
    T *scores = space.keep ? tile.scores + first * width : tile.scores;
    T *weights = P::terms == 1 && problem.dropout == 0 ? scores : space.weights.data;

    const bool keeps = space.keep || space.keep_segments;
    Adjustment<T> adjustment = prepare(problem, tile, batch, first, count, space.line.data, space.biases.data, space.mask.data);
    if (adjustment.empty && !keeps) return found;  // weights of 0 would change nothing
    if (problem.softcap != 0) {
        adjustment.cap = (T)problem.softcap;
        adjustment.inverse_cap = (T)(1 / problem.softcap);
    }
    const bool fused = may_weigh<P>(tile, problem, first);
    const Besides<T> besides = {keeps && weights != scores ? scores : nullptr, space.candidates.data};
    const bool observed = besides.exponentials || besides.candidates || problem.entropy || problem.distance;
    if (fused && (observed ? weigh<P, true>(tile, problem, adjustment, keys, first, count, weights, besides)
                           : weigh<P, false>(tile, problem, adjustment, keys, first, count, weights, besides))) {
        for (int q = 0; q < Q; ++q) found.rescale[q] = splat<T>(1);
    } else {
        tile.failures += fused;
        alignas(64) T tops[width];
        score<P>(tile, problem, adjustment, keys, count, scores, tops);
        if (problem.ranked && !fused) rank(tile, problem, first, count, scores, besides.candidates);
        soften<P>(tile, problem, first, count, scores, keeps, tops, weights, found.rescale);
    }
    if (problem.dropout != 0) {
        draw(problem, tile, batch, first, count, space.factors.data);
        P::drop(first, count * width, width, space.factors.data, weights);
    }
    if (keeps)
        for (int q = 0; q < Q; ++q)
            store(tile.kept_reference + from / keys_in_block * width + q * L, load(tile.reference + q * L));
    if (space.keep_segments) keep_segments(tile, problem, first, count, scores);
    found.weights = weights;
    found.values = values;
    found.depth = depth;
    return found;
}

// Adds a block's products with values to those of the blocks before.
template <class P, class T, int Q>
void add_values(Tile<T, Q> &tile, const Problem &problem, const Weighed<P, Q> &block, bool guarded) {
    if (block.depth == 0) return;
    if (guarded)
        multiply_values<P, Q, true>(block.values, block.depth, block.weights, problem.value_dim, block.rescale, tile.output);
    else
        multiply_values<P, Q, false>(block.values, block.depth, block.weights, problem.value_dim, block.rescale, tile.output);
}

// Where there is but one block, its products are the output: they are written where they belong, by rows. The order of sums is
// that of `add_values`, and so are the bits.
template <class P, bool guarded, class T, int Q>
void write_values(const Tile<T, Q> &tile, const Problem &problem, int64_t batch, const Weighed<P, Q> &block, const T *share) {
    using Element = typename P::Element;
    constexpr int64_t width = Tile<T, Q>::width;
    char *rows[Tile<T, Q>::places];
    for (int lane = 0; lane < tile.rows; ++lane) rows[lane] = output_row(tile, problem, batch, lane);
    const int64_t size = bytes_of(problem.output_dtype);
    each_sum_of_rows<P, guarded>((const Element *)block.weights, P::terms, P::terms * width, tile.rows, (const T *)block.values.data,
                                 block.values.stride / P::terms, problem.value_dim, block.depth,
                                 [&](int64_t lane, int64_t column, Vector<T> sum) QKV_LAMBDA {
                                     store_vector(problem.output_dtype, sum * share[lane], rows[lane] + column * size);
                                 });
}

// Rows first .. last of a unit, as tiles that share each block of keys.
template <class P, int Q, class T = typename P::Real>
void attend_rows(const Problem &problem, const Split &split, Workspace<T> &space, int64_t batch, int64_t unit, int64_t first,
                 int64_t last, Columns<T> &columns) {
    constexpr int width = Tile<T, Q>::width;
    Tile<T, Q> tiles[tiles_held];
    int used = 0;
    int64_t low = problem.keys, high = 0;
    for (int64_t row = first; row < last; row += width, ++used) {
        Tile<T, Q> &tile = tiles[used];
        tile.query = space.query.data + used * problem.dim * width;
        tile.output = space.output.data + used * problem.value_dim * width;
        tile.scores = space.scores.data + (space.keep ? used * problem.keys * width : 0);
        tile.segments = space.segments.data + (space.keep_segments ? used * (space.blocks + space.wide) * width : 0);
        tile.kept_reference = space.reference.data + (space.keep || space.keep_segments ? used * space.blocks * width : 0);
        tile.top = space.top.data + used * eights(problem) * width;
        const int rows = (int)(last - row < width ? last - row : width);
        open_tile<P>(tile, problem, split.fold, batch, unit, row, rows, space.row.data);
        if (problem.ranked) open_lists(tile, problem);
        low = tile.low < low ? tile.low : low;
        high = tile.high > high ? tile.high : high;
    }
    // Where values are read by whole vectors, and some query sees any.
    const bool once = problem.keys <= keys_in_block && problem.value_dim % lanes<T> == 0 && low < high;
    for (int i = 0; !once && i < used; ++i) clear(tiles[i].output, problem.value_dim * width);
    const int64_t key_head = unit * split.fold / (problem.heads / problem.key_heads);
    for (int64_t block = low / keys_in_block * keys_in_block; block < high; block += keys_in_block) {
        // Only what some query of these may see is read: beyond, there may be anything.
        const int64_t from = block < low ? low : block;
        const int64_t stop = block + keys_in_block < high ? block + keys_in_block : high;
        const int64_t count = stop - from;
        const auto keys = P::load_keys(problem, batch, key_head, from, count, space.key.data);
        const auto values = P::load_values(problem, batch, key_head, from, count, space.value.data);
        // A value that is NaN or infinite must not reach the queries that may not attend to it, as 0 * NaN would.
        const int64_t rows = (stop + P::terms - 1) / P::terms - from / P::terms;
        const bool guarded = !all_finite(values, rows, problem.value_dim * P::terms);
        for (int i = 0; i < used; ++i) {
            const auto block = weigh_block<P>(tiles[i], problem, space, batch, from, stop, keys, values);
            if (!once) {
                add_values(tiles[i], problem, block, guarded);
                continue;
            }
            T share[Tile<T, Q>::places];
            finish_tile<P>(tiles[i], problem, batch, share);
            if (guarded)
                write_values<P, true>(tiles[i], problem, batch, block, share);
            else
                write_values<P, false>(tiles[i], problem, batch, block, share);
        }
    }
    for (int i = 0; i < used; ++i) {
        if (!once) close_tile<P>(tiles[i], problem, batch);
        if (problem.top_k) write_top(tiles[i], problem, batch);
        if (columns.received) add_received(tiles[i], columns.received);
        if (problem.block_map) add_map(problem, tiles[i], batch, columns);
    }
}

template <class P> bool work(const Problem &problem, const Split &split, TaskSource source) {
    using T = typename P::Real;
    Workspace<T> space(problem, split);
    if (!space.ok()) return false;
    for (int64_t i = 0; i < space.wide; ++i) space.map_row.data[i] = 0;
    const int64_t units_in_item = problem.heads / split.fold;
    for (int64_t task; (task = source.next(source.state)) >= 0;) {
        // Units go by fastest, and within them the last rows first: under a causal mask those take longest.
        const int64_t part = split.tasks_per_unit - 1 - task / split.units, place = task % split.units;
        const int64_t batch = (split.first_unit + place) / units_in_item, unit = (split.first_unit + place) % units_in_item;
        const int64_t first = part * split.rows_per_task;
        const int64_t last = first + split.rows_per_task < split.rows ? first + split.rows_per_task : split.rows;
        Columns<T> columns = {nullptr, space.map_row.data, -1, unit};
        if (split.received) {
            columns.received = split.received + (place * split.tasks_per_unit + part) * problem.keys;
            for (int64_t j = 0; j < problem.keys; ++j) columns.received[j] = 0;
        }
        int64_t step;
        for (int64_t row = first; row < last; row += step) {
            step = split.tiles * Workspace<T>::width;
            const int64_t stop = row + step < last ? row + step : last;
            if (stop - row <= lanes<T>)
                attend_rows<P, 1>(problem, split, space, batch, unit, row, stop, columns);
            else
                attend_rows<P, QKV_VECTORS>(problem, split, space, batch, unit, row, stop, columns);
        }
        flush_row(problem, batch, columns);
    }
    return true;
}

bool run(const Problem &problem, const Split &split, TaskSource source) {
    if (split.pieces) {
        switch (problem.dtype) {
            case Dtype::float16: return decode<float, Float16>(problem, split, source);
            case Dtype::bfloat16: return decode<float, Bfloat16>(problem, split, source);
            case Dtype::float32: return decode<float, float>(problem, split, source);
            case Dtype::float64: return decode<double, double>(problem, split, source);
        }
    }
#if defined(__AVX512BF16__)
    if (problem.dtype == Dtype::bfloat16) return work<Pairs>(problem, split, source);
#endif
    return is_double(problem.dtype) ? work<Plain<double>>(problem, split, source)
                                    : work<Plain<float>>(problem, split, source);
}

}  // namespace

bool QKV_BACKWARD(const Problem &, const Gradients &, const BackwardSplit &, BackwardSource);

extern const Kernel QKV_KERNEL;
const Kernel QKV_KERNEL = {QKV_NAME, QKV_VECTORS * lanes<float>, QKV_VECTORS * lanes<double>, multiplies_pairs,
                           lanes<float>, lanes<double>, run, QKV_BACKWARD, multiply_most};

}  // namespace qkv
