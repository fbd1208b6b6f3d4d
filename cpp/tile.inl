// A tile: as many queries as there are lanes in QKV_VECTORS vectors, and what is kept for each while keys go by.

// How far the largest score may exceed what exponentials are relative to before that moves: e^8 leaves room to either side.
template <class T> constexpr T slack = 8;

template <class T> struct Eight;

template <class T, int Q> struct Tile {
    static constexpr int width = Q * lanes<T>;
    static constexpr int places = width > QKV_ROWS ? width : QKV_ROWS;  // of an array that is gone through by QKV_ROWS at a time

    int rows;                                   // lanes in use; the others repeat the last query and are never written
    int64_t head[width], index[width];          // which query of which head a lane holds
    alignas(64) Int<T> start[width], stop[width];  // its bounds
    int64_t low, high;                          // the union of the bounds: keys to visit
    int64_t full_low, full_high;                // their intersection: keys that need no look at the bounds

    T *query;   // (dim, width), as the product wants them
    T *output;  // (value_dim, width), relative to `reference`
    T *scores;  // (keys visited or of one block, width): scores, then exp(score - reference)
    T *segments;        // (segments, width): sums of exponentials, for the block map
    T *kept_reference;  // (blocks, width): what each block's exponentials are relative to; where they are kept
    alignas(64) T maximum[width];    // of the scores
    alignas(64) T reference[width];  // what exponentials are relative to: a maximum, until a score exceeds it by `slack`
    alignas(64) T sum[width];        // of exp(score - reference)
    alignas(64) T mass[width];       // of these as the product with values sees them, where it rounds them
    alignas(64) T cross[width];      // sum of exp(score - reference) * (score - reference), for the entropy
    alignas(64) T travel[width];     // sum of exp(score - reference) * |position - j|, for the distance
    alignas(64) T normaliser[width];  // at the end: a weight is exp(score - reference) * normaliser
    bool settled;                     // every lane has a reference
    int failures;                     // blocks that had to be computed twice

    Eight<T> *top;               // each lane's largest scores and their keys; see rank.inl
    alignas(64) T bar[width];    // what a score must exceed to be one of a lane's largest
};

// Which queries a tile holds, and their bounds.
template <class T, int Q>
void place_tile(Tile<T, Q> &tile, const Problem &problem, int64_t fold, int64_t batch, int64_t unit, int64_t first, int rows) {
    constexpr int width = Tile<T, Q>::width;
    tile.rows = rows;
    tile.low = tile.full_high = problem.keys;
    tile.high = tile.full_low = 0;
    for (int lane = 0; lane < width; ++lane) {
        const int64_t row = first + (lane < rows ? lane : rows - 1);
        tile.head[lane] = fold == 1 ? unit : unit * fold + row % fold;  // a division takes longer than all the rest
        tile.index[lane] = fold == 1 ? row : row / fold;
        int64_t start = 0, stop = problem.keys;
        if (problem.start.data) {
            start = problem.start.of(batch)[tile.index[lane]];
            stop = problem.stop.of(batch)[tile.index[lane]];
            start = start < 0 ? 0 : start;
            stop = stop > problem.keys ? problem.keys : stop;
            if (stop < start) start = stop = 0;
        }
        tile.start[lane] = (Int<T>)start;
        tile.stop[lane] = (Int<T>)stop;
        if (start < stop) {
            tile.low = start < tile.low ? start : tile.low;
            tile.high = stop > tile.high ? stop : tile.high;
        }
        tile.full_low = start > tile.full_low ? start : tile.full_low;
        tile.full_high = stop < tile.full_high ? stop : tile.full_high;
    }
}

// The first task of a tile: its place, the queries with one a lane, and nothing seen yet.
template <class P, class T, int Q>
void open_tile(Tile<T, Q> &tile, const Problem &problem, int64_t fold, int64_t batch, int64_t unit, int64_t first, int rows,
               T *row_copy) {
    constexpr int width = Tile<T, Q>::width;
    place_tile(tile, problem, fold, batch, unit, first, rows);
    tile.settled = false;
    tile.failures = 0;
    for (int lane = 0; lane < width; ++lane) {
        tile.maximum[lane] = tile.reference[lane] = -infinity<T>;
        tile.sum[lane] = tile.mass[lane] = tile.cross[lane] = tile.travel[lane] = 0;
    }
    const int64_t depth = P::query_depth(problem);
    for (int q = 0; q < Q; ++q) {
        const char *rows[lanes<T>];
        for (int lane = 0; lane < lanes<T>; ++lane) {
            const int at = q * lanes<T> + lane;
            const char *row = problem.query.at(batch, tile.head[at], tile.index[at], bytes_of(problem.dtype));
            rows[lane] = P::query_row(problem, row, row_copy + lane * (problem.dim + 1));
        }
        rows_to_lanes<T>(rows, depth, width, tile.query + q * lanes<T>);
    }
    if (!P::scales_scores) scale(tile.query, depth * width, (T)problem.scale);
}

// Where the queries of a vector stand, counted from key `first`; and how far from there a key is.
template <class T, int Q>
QKV_INLINE IntVector<T> position_of(const Tile<T, Q> &tile, const Problem &problem, int q, int64_t first) {
    IntVector<T> position;
    for (int lane = 0; lane < lanes<T>; ++lane)
        position[lane] = (Int<T>)(tile.index[q * lanes<T> + lane] + problem.offset - first);
    return position;
}

template <class T> QKV_INLINE Vector<T> distance_to(IntVector<T> position, int64_t key) {
    const IntVector<T> step = position - (Int<T>)key;
    return __builtin_convertvector(step < 0 ? -step : step, Vector<T>);
}

// Turns a block of scores into weights exp(score - reference) and adds to the sums; `top` is the largest score so far.
// Everything is decided lane by lane: where a lane's reference stays, its rescaling is exactly 1, so a query's bits do not
// depend on its neighbours. `kept` weights take the place of the scores, besides being stored as the product wants them.
template <class P, class T, int Q>
void soften(Tile<T, Q> &tile, const Problem &problem, int64_t first, int64_t count, T *scores, bool kept, const T *top,
            T *weights, Vector<T> (&rescale)[Q]) {
    constexpr int L = lanes<T>;
    const bool measured = problem.entropy || problem.distance;
    Vector<T> reference[Q], sum[Q], mass[Q], cross[Q], travel[Q];
    IntVector<T> position[Q];
    tile.settled = true;
    for (int q = 0; q < Q; ++q) {
        const Vector<T> most = load(top + q * L), before = load(tile.reference + q * L);
        const Vector<T> now = most > before + slack<T> ? most : before;
        tile.settled &= !any_lane<T>(now == -infinity<T>);
        reference[q] = now == -infinity<T> ? Vector<T>{} : now;  // no key yet: any number will do, all are masked
        const Vector<T> moved = before - reference[q];
        rescale[q] = exp_of<T>(moved);
        store(tile.maximum + q * L, most);
        store(tile.reference + q * L, now);
        const Vector<T> so_far = load(tile.sum + q * L);
        // The sum of p (s - m) over p = exp(s - m), when m moves by d, becomes exp(d) (itself + d times the sum of p).
        cross[q] = (load(tile.cross + q * L) + clamp_exponent<T>(moved) * so_far) * rescale[q];
        sum[q] = so_far * rescale[q];
        mass[q] = load(tile.mass + q * L) * rescale[q];
        travel[q] = load(tile.travel + q * L) * rescale[q];
        position[q] = position_of(tile, problem, q, first);
    }
    Vector<T> block_sum[Q] = {}, block_mass[Q] = {}, block_cross[Q] = {}, block_travel[Q] = {};
    kept &= weights != scores;
    if (!measured && !kept) {
        P::template store_weights<Q>(first, count, weights, block_mass, [&](int64_t j, int q) QKV_LAMBDA {
            const Vector<T> weight = exp_of<T>(load(scores + (j * Q + q) * L) - reference[q]);
            block_sum[q] += weight;
            return weight;
        });
    } else {
        P::template store_weights<Q>(first, count, weights, block_mass, [&](int64_t j, int q) QKV_LAMBDA {
            T *place = scores + (j * Q + q) * L;
            const Vector<T> below = load(place) - reference[q];
            const Vector<T> weight = exp_of<T>(below);
            block_sum[q] += weight;
            block_cross[q] += weight * clamp_exponent<T>(below);
            block_travel[q] += weight * distance_to<T>(position[q], j);
            if (kept) store(place, weight);
            return weight;
        });
    }
    for (int q = 0; q < Q; ++q) {
        store(tile.sum + q * L, sum[q] + block_sum[q]);
        store(tile.mass + q * L, mass[q] + block_mass[q]);
        store(tile.cross + q * L, cross[q] + block_cross[q]);
        store(tile.travel + q * L, travel[q] + block_travel[q]);
    }
}

inline float log_of(float x) { return __builtin_logf(x); }
inline double log_of(double x) { return __builtin_log(x); }

// What one row comes to when all keys have gone by.
template <class T> struct Totals {
    T maximum, reference;         // the largest score; what exponentials are relative to
    T sum, mass, cross, travel;   // `mass` sums the weights as they met the values: rounded, or the same as `sum`
};

// What turns exp(score - reference) into weights, and products of those with values into the output.
template <class T> struct Shares {
    T weights, output;
};

// Writes the statistics of a single row, but for its largest scores.
template <class T>
Shares<T> finish_row(const Problem &problem, int64_t batch, int64_t head, int64_t index, const Totals<T> &row) {
    const int64_t at = (batch * problem.heads + head) * problem.queries + index;
    const T *sinks = (const T *)problem.sink.data;
    const T sink = sinks ? sinks[head * problem.sink.stride[1]] : -infinity<T>;
    const bool empty = row.sum == 0;  // the largest score alone adds 1
    T lse = sink, above = 0;          // `above` is lse - reference, without the digits that a large one eats
    Shares<T> shares = {0, 0};
    if (!empty) {
        const T origin = sink > row.reference ? sink : row.reference;
        T shrink = 1, outside = 0;
        if (sinks) {
            shrink = (T)__builtin_exp((double)(row.reference - origin));
            outside = (T)__builtin_exp((double)(sink - origin));
        }
        const T total = row.sum * shrink + outside;
        shares = {shrink / total, shrink / (row.mass * shrink + outside)};
        if (problem.dropout != 0) shares.output *= (T)(1 / (1 - problem.dropout));
        lse = origin + log_of(total);
        above = (origin - row.reference) + log_of(total);
    }
    const bool broken = row.sum != row.sum;  // a NaN or an infinite score: the whole row is NaN
    if (problem.lse) ((T *)problem.lse)[at] = lse;
    if (problem.max_score) ((T *)problem.max_score)[at] = broken ? row.sum : row.maximum;
    if (problem.distance) ((T *)problem.distance)[at] = empty ? (T)0 : row.travel * shares.weights;
    if (problem.entropy) {
        const T entropy = empty ? (T)0 : (row.sum * above - row.cross) * shares.weights;
        ((T *)problem.entropy)[at] = entropy < 0 ? (T)0 : entropy;
    }
    return shares;
}

// What is known once all keys have gone by: the statistics of single queries, and what the output is multiplied by.
template <class P, class T, int Q> void finish_tile(Tile<T, Q> &tile, const Problem &problem, int64_t batch, T *share) {
    constexpr int width = Tile<T, Q>::width;
    for (int lane = 0; lane < tile.rows; ++lane) {
        const int64_t head = tile.head[lane], index = tile.index[lane];
        const T sum = tile.sum[lane];
        const Totals<T> totals = {tile.maximum[lane],
                                  tile.reference[lane],
                                  sum,
                                  P::rounds_weights && sum == sum ? tile.mass[lane] : sum,
                                  tile.cross[lane],
                                  tile.travel[lane]};
        const Shares<T> shares = finish_row(problem, batch, head, index, totals);
        tile.normaliser[lane] = shares.weights;
        share[lane] = shares.output;
    }
    for (int lane = tile.rows; lane < width; ++lane) tile.normaliser[lane] = share[lane] = 0;
}

template <class T, int Q>
char *output_row(const Tile<T, Q> &tile, const Problem &problem, int64_t batch, int64_t lane) {
    return problem.output.at(batch, tile.head[lane], tile.index[lane], bytes_of(problem.output_dtype));
}

template <class P, class T, int Q> void close_tile(Tile<T, Q> &tile, const Problem &problem, int64_t batch) {
    constexpr int width = Tile<T, Q>::width;
    T share[width];
    finish_tile<P>(tile, problem, batch, share);
    for (int first = 0; first < tile.rows; first += lanes<T>) {
        const int used = tile.rows - first < lanes<T> ? tile.rows - first : lanes<T>;
        char *rows[lanes<T>];
        for (int lane = 0; lane < used; ++lane) rows[lane] = output_row(tile, problem, batch, first + lane);
        lanes_to_rows<T>(problem.output_dtype, tile.output + first, problem.value_dim, width, load(share + first), used, rows);
    }
}
