// The backward pass of a head whose queries fit one tile and whose keys fit one block, as those of a sentence do: nothing is summed
// in memory, and rows are read and written where they lie.

// Rows as whole vectors may read them, `all` numbers each: in place, or in a copy.
template <class T>
Block<T> whole_rows(Dtype dtype, const char *from, int64_t stride, int64_t count, int64_t dim, int64_t all, T *copy) {
    const int64_t size = bytes_of(dtype);
    if (size == (int64_t)sizeof(T) && dim == all && !crowded(stride * size)) return {(const T *)from, stride};
    for (int64_t row = 0; row < count; ++row) copy_row(dtype, from + row * stride * size, dim, all, copy + row * all);
    return {copy, all};
}

// An array's rows of one head, as a sum over rows reads them and as a product with single numbers of theirs does.
template <class P> struct Sides {
    Block<typename P::Real> rows;
    Block<typename P::Element> single;
    bool finite;
};

// `copy` has room for the rows, by pairs where those are multiplied.
template <class P, class T = typename P::Real>
Sides<P> take_sides(Dtype dtype, const Array &array, int64_t batch, int64_t head, int64_t first, int64_t count, int64_t dim, int64_t all,
                    T *copy) {
    const char *from = array.at(batch, head, first, bytes_of(dtype));
    const int64_t stride = array.stride[2];
    if constexpr (P::terms == 1) {
        const Block<T> rows = whole_rows(dtype, from, stride, count, dim, all, copy);
        return {rows, rows, all_finite(rows, count, dim)};
    } else {
        const Block<uint16_t> single = {(const uint16_t *)from, stride};
        for (int64_t row = 0; row < count; row += 2) {
            const uint16_t *even = single.data + row * stride;
            T *to = copy + row / 2 * all;
            if (row + 1 < count)
                interleave_halves(even, even + stride, dim, to);
            else
                for (int64_t d = 0; d < dim; ++d) ((uint32_t *)to)[d] = even[d];
            clear(to + dim, all - dim);
        }
        return {{copy, all}, single, all_finite(single, count, dim)};
    }
}

// Rows of which single numbers are read, in the type that is multiplied.
template <class P, class T = typename P::Real>
Block<typename P::Element> take_single(Dtype dtype, const Array &array, int64_t batch, int64_t head, int64_t first, int64_t count, int64_t dim,
                                       T *copy) {
    const char *from = array.at(batch, head, first, bytes_of(dtype));
    if constexpr (P::terms == 1)
        return whole_rows(dtype, from, array.stride[2], count, dim, dim, copy);
    else
        return {(const uint16_t *)from, array.stride[2]};
}

// Rows with one a lane; lanes beyond them repeat the last.
template <class P, int Q, class T = typename P::Real>
void turn_sides(const Sides<P> &sides, int64_t used, int64_t dim, T *to) {
    for (int q = 0; q < Q; ++q) {
        const char *rows[lanes<T>];
        for (int lane = 0; lane < lanes<T>; ++lane) {
            const int64_t row = q * lanes<T> + lane;
            rows[lane] = (const char *)(sides.single.data + (row < used ? row : used - 1) * sides.single.stride);
        }
        rows_to_lanes<T>(rows, dim / P::terms, Q * lanes<T>, to + q * lanes<T>);
    }
}

// The first `count` lanes.
template <class T> QKV_INLINE void store_part(Dtype dtype, Vector<T> value, int64_t count, char *to) {
    if (count >= lanes<T>) return store_vector(dtype, value, to);
    T part[lanes<T>];
    store(part, value);
    store_row(dtype, part, (int64_t)((uint64_t)count % lanes<T>), to);
}

// to[r] = factor times the sum over t of left[r * row + t * step] * rows[t], for `count` rows of `dim` numbers one after another.
template <class P, class T = typename P::Real>
void write_sums(const typename P::Element *left, int64_t row, int64_t step, int64_t count, Block<T> rows, int64_t depth, bool guarded,
                T factor, Dtype dtype, int64_t dim, int64_t all, char *to) {
    const int64_t size = bytes_of(dtype);
    const auto write = [&](int64_t r, int64_t column, Vector<T> sum) QKV_LAMBDA {
        store_part<T>(dtype, sum * factor, dim - column, to + (r * dim + column) * size);
    };
    if (guarded)
        each_sum_of_rows<P, true>(left, row, step, count, rows.data, rows.stride, all, depth, write);
    else
        each_sum_of_rows<P, false>(left, row, step, count, rows.data, rows.stride, all, depth, write);
}

template <class P, int Q, class T = typename P::Real>
void differentiate_once(const Problem &problem, const Gradients &given, const BackwardSplit &split, BackwardSpace<P> &space, int64_t batch,
                        int64_t head) {
    constexpr int width = Tile<T, Q>::width;
    const Dtype dtype = problem.dtype;
    const int64_t size = bytes_of(dtype);
    const T factor = (T)problem.scale;
    BackwardTile<T, Q> tile;
    tile.number = 0;
    place_tile(tile, problem, 1, batch, head, 0, (int)problem.queries);
    close_unused(tile);
    const int64_t row = (batch * problem.heads + head) * problem.queries;
    for (int lane = 0; lane < width; ++lane) {
        const T lse = ((const T *)given.lse)[row + tile.index[lane]];
        tile.lse[lane] = lse == -infinity<T> ? (T)0 : lse;  // all scores are -inf then
        tile.delta[lane] = given.grad_lse ? -((const T *)given.grad_lse)[row + tile.index[lane]] : (T)0;
    }
    const int64_t first = tile.low / P::terms * P::terms, count = tile.high - first;  // pairs begin at even keys
    const auto no_gradient = [&](int64_t from, int64_t stop) {  // of keys that nobody sees
        clear(given.key.at(batch, head, from, size), (stop - from) * problem.dim * size);
        clear(given.value.at(batch, head, from, size), (stop - from) * problem.value_dim * size);
    };
    if (count <= 0) {
        clear(given.query.at(batch, head, 0, size), problem.queries * problem.dim * size);
        no_gradient(0, problem.keys);
        if (given.sink) add_sink_gradient(tile, problem, given, split, batch, head, head);
        return;
    }
    no_gradient(0, first);
    no_gradient(tile.high, problem.keys);
    T *key_rows = P::terms == 1 ? space.key.data : space.key_pairs.data;
    const auto query = take_sides<P>(dtype, problem.query, batch, head, 0, tile.rows, problem.dim, space.dim, space.query_rows.data);
    const auto grad = take_sides<P>(dtype, given.grad_output, batch, head, 0, tile.rows, problem.value_dim, space.value_dim, space.grad_rows.data);
    const auto key = take_sides<P>(dtype, problem.key, batch, head, first, count, problem.dim, space.dim, key_rows);
    const auto values = take_single<P>(dtype, problem.value, batch, head, first, count, problem.value_dim, (T *)space.value.data);
    tile.query = space.query_lanes.data;
    turn_sides<P, Q>(query, tile.rows, problem.dim, tile.query);
    turn_sides<P, Q>(grad, tile.rows, problem.value_dim, space.grad_lanes.data);
    if (!P::scales_scores) scale(tile.query, problem.dim * width, factor);
    differentiate_block<P, Q, true, true>(tile, problem, given, split, space, batch, head, first, count, key.single, values);
    if (given.sink) add_sink_gradient(tile, problem, given, split, batch, head, head);
    const Factors<P> found = factors_of<P, Q>(space, count);
    const bool guarded = !query.finite || !grad.finite;
    const int64_t queries = ceil_div(tile.rows, P::terms), keys = ceil_div(count, P::terms);  // or pairs of them
    write_sums<P>(found.weight_rows, width, P::terms, count, grad.rows, queries, guarded, (T)1, dtype, problem.value_dim, space.value_dim,
                  given.value.at(batch, head, first, size));
    write_sums<P>(found.score_rows, width, P::terms, count, query.rows, queries, guarded, factor, dtype, problem.dim, space.dim,
                  given.key.at(batch, head, first, size));
    write_sums<P>((const typename P::Element *)found.score_lanes, P::terms, P::terms * width, tile.rows, key.rows, keys, !key.finite, factor,
                  dtype, problem.dim, space.dim, given.query.at(batch, head, 0, size));
}
