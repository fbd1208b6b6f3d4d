// What the backward pass holds while it works: a tile of queries and a span of keys, each as its products want them.

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

// Lanes without a query attend to nothing.
template <class T, int Q> void close_unused(BackwardTile<T, Q> &tile) {
    for (int lane = tile.rows; lane < tile.width; ++lane) tile.start[lane] = tile.stop[lane] = 0;
    if (tile.rows < tile.width) tile.full_high = 0;
}

template <class P, int Q, class T = typename P::Real>
void open_backward(BackwardTile<T, Q> &tile, const Problem &problem, const Gradients &given, BackwardSpace<P> &space, int64_t batch,
                   int64_t head) {
    constexpr int width = Tile<T, Q>::width;
    close_unused(tile);
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
    if (!P::scales_scores) scale(tile.query, problem.dim * width, (T)problem.scale);
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
