// Sums of weights over columns: what each key receives, and the block map. Both need a row's final normaliser, so that what a
// tile's exponentials were is kept until it is closed: all of them for `received`; for the map their sums over
// segments, the keys that share a block of keys and a column of the map.

inline int64_t columns_of(const Problem &problem) {
    return problem.block_map ? (problem.keys + problem.block_columns - 1) / problem.block_columns : 0;
}

// Where the weights of a task's tiles are summed. Tiles come in the order of their queries.
template <class T> struct Columns {
    double *received;   // (keys), or null
    double *row;        // (block columns): the row of blocks that is being filled
    int64_t open_row;   // which; -1 for none
    int64_t open_head;
};

template <class T> T *map_row(const Problem &problem, int64_t batch, int64_t head, int64_t row) {
    const int64_t tall = (problem.queries + problem.block_rows - 1) / problem.block_rows;
    return (T *)problem.block_map + ((batch * problem.heads + head) * tall + row) * columns_of(problem);
}

template <class T> void flush_row(const Problem &problem, int64_t batch, Columns<T> &columns) {
    if (columns.open_row < 0) return;
    T *to = map_row<T>(problem, batch, columns.open_head, columns.open_row);
    for (int64_t column = 0, wide = columns_of(problem); column < wide; ++column) {
        to[column] = (T)columns.row[column];
        columns.row[column] = 0;
    }
    columns.open_row = -1;
}

// Calls work(begin, end, column) for the segments of keys first .. last, which lie in one block of keys.
template <class Work> QKV_INLINE void by_segments(const Problem &problem, int64_t first, int64_t last, Work work) {
    for (int64_t j = first, column = first / problem.block_columns; j < last; ++column) {
        const int64_t end = (column + 1) * problem.block_columns < last ? (column + 1) * problem.block_columns : last;
        work(j, end, column);
        j = end;
    }
}

// A segment's place: its block of keys and its column number it, for one of them grows from each segment to the next.
template <class T, int Q> T *segment_of(const Tile<T, Q> &tile, int64_t first, int64_t column) {
    return tile.segments + (first / keys_in_block + column) * Tile<T, Q>::width;
}

// Keeps the sums of a block's exponentials.
template <class T, int Q>
void keep_segments(Tile<T, Q> &tile, const Problem &problem, int64_t first, int64_t count, const T *exponentials) {
    constexpr int L = lanes<T>, width = Tile<T, Q>::width;
    by_segments(problem, first, first + count, [&](int64_t begin, int64_t end, int64_t column) QKV_LAMBDA {
        Vector<T> sum[Q] = {};
        for (int64_t j = begin; j < end; ++j)
            for (int q = 0; q < Q; ++q) sum[q] += load(exponentials + (j - first) * width + q * L);
        for (int q = 0; q < Q; ++q) store(segment_of(tile, begin, column) + q * L, sum[q]);
    });
}

// What turns the exponentials of the block of keys that `key` lies in into weights. A lane that has no weights gets 0.
template <class T, int Q> QKV_INLINE void weight_factors(const Tile<T, Q> &tile, int64_t key, Vector<T> (&factor)[Q]) {
    constexpr int L = lanes<T>, width = Tile<T, Q>::width;
    for (int q = 0; q < Q; ++q) {
        const Vector<T> normaliser = load(tile.normaliser + q * L);
        const Vector<T> final = normaliser == (T)0 ? splat<T>(infinity<T>) : load(tile.reference + q * L);
        factor[q] = exp_of<T>(load(tile.kept_reference + key / keys_in_block * width + q * L) - final) * normaliser;
    }
}

// Adds to what each key has received.
template <class T, int Q> void add_received(const Tile<T, Q> &tile, double *received) {
    constexpr int L = lanes<T>, width = Tile<T, Q>::width;
    Vector<T> factor[Q];
    const auto weights_of = [&](int64_t j) QKV_LAMBDA {
        Vector<T> sum = load(tile.scores + j * width) * factor[0];
        for (int q = 1; q < Q; ++q) sum += load(tile.scores + j * width + q * L) * factor[q];
        return sum;
    };
    for (int64_t j = tile.low, last; j < tile.high; j = last) {
        last = (j / keys_in_block + 1) * keys_in_block;
        if (last > tile.high) last = tile.high;
        weight_factors(tile, j, factor);
        Vector<T> some[L];
        for (; j + L <= last; j += L) {
#pragma GCC unroll 16
            for (int i = 0; i < L; ++i) some[i] = weights_of(j + i);
            const Vector<T> sums = sums_of_lanes<T>(some);
            typename Lanes<T>::Doubles total;
            __builtin_memcpy(&total, received + j, sizeof total);
            total += __builtin_convertvector(sums, typename Lanes<T>::Doubles);
            __builtin_memcpy(received + j, &total, sizeof total);
        }
        if (j == last) continue;
        for (int i = 0; i < L; ++i) some[i] = i < last - j ? weights_of(j + i) : Vector<T>{};
        const Vector<T> sums = sums_of_lanes<T>(some);
        for (int i = 0; i < last - j; ++i) received[j + i] += (double)sums[i];
    }
}

// Adds to the rows of the map that the tile's queries lie in; those that end with it are written.
template <class T, int Q>
void add_map(const Problem &problem, const Tile<T, Q> &tile, int64_t batch, Columns<T> &columns) {
    constexpr int L = lanes<T>, width = Tile<T, Q>::width;
    const auto row_of = [&](int lane) { return tile.index[lane] / problem.block_rows; };
    if (columns.open_row != row_of(0)) flush_row(problem, batch, columns);
    columns.open_head = tile.head[0];
    columns.open_row = row_of(tile.rows - 1);
    Vector<T> factor[Q] = {};
    int64_t known = -1;  // the block of keys whose factors these are
    for (int64_t column = 0, wide = columns_of(problem); column < wide; ++column) {
        Vector<T> across[Q] = {};
        const int64_t begin = column * problem.block_columns, end = begin + problem.block_columns;
        for (int64_t j = begin > tile.low ? begin : tile.low, stop = end < tile.high ? end : tile.high; j < stop;) {
            const int64_t block = j / keys_in_block, next = (block + 1) * keys_in_block;
            if (block != known) weight_factors(tile, j, factor);
            known = block;
            for (int q = 0; q < Q; ++q) across[q] += load(segment_of(tile, j, column) + q * L) * factor[q];
            j = next < stop ? next : stop;
        }
        if (row_of(0) == columns.open_row) {
            for (int q = 1; q < Q; ++q) across[0] += across[q];
            columns.row[column] += (double)sum_of_lanes<T>(across[0]);
            continue;
        }
        T part[width];
        for (int q = 0; q < Q; ++q) store(part + q * L, across[q]);
        for (int lane = 0; lane < tile.rows; ++lane) {
            columns.row[column] += (double)part[lane];
            if (row_of(lane) == columns.open_row || row_of(lane) == row_of(lane + 1)) continue;
            map_row<T>(problem, batch, tile.head[0], row_of(lane))[column] = (T)columns.row[column];
            columns.row[column] = 0;
        }
    }
}
