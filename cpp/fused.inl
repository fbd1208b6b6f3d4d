// Scores of a block, with what is done to them while they are in registers; and scores turned into weights there, for blocks
// of which nothing but weights is asked.
//
// It relies on exponentials being relative to a reference that seldom moves. Where a score of this block exceeds it by more
// than `slack` the work is thrown away, and the block goes the long way, which moves the reference of that lane and computes
// the same bits for all others.

constexpr int most_failures = 3;  // of a tile; scores that rise on and on would cost more than is saved

// Stores the scores of the block; `tops` are the largest so far.
template <class P, class T, int Q>
void score(const Tile<T, Q> &tile, const Problem &problem, const Adjustment<T> &adjustment, Block<typename P::Element> keys,
           int64_t count, T *scores, T *tops) {
    constexpr int L = lanes<T>;
    Vector<T> most[Q];
    for (int q = 0; q < Q; ++q) most[q] = load(tile.maximum + q * L);
    by_rows<QKV_ROWS>(0, count, [&](auto rows, int64_t at) QKV_LAMBDA {
        constexpr int R = decltype(rows)::value;
        Vector<T> score[R][Q];
        multiply_keys<P, R, Q>(keys, at, tile.query, P::query_depth(problem), (T)problem.scale, score);
        adjust(adjustment, at, score);
#pragma GCC unroll 8
        for (int r = 0; r < R; ++r)
#pragma GCC unroll 4
            for (int q = 0; q < Q; ++q) most[q] = larger(score[r][q], most[q]);
        store_vectors<R, Q, T>(score, scores + at * Q * L);
    });
    for (int q = 0; q < Q; ++q) store(tops + q * L, most[q]);
}

// Adds to the sums and stores the weights of keys first .. first + count - 1; false where a lane's reference has to move.
template <class P, class T, int Q>
bool weigh(Tile<T, Q> &tile, const Problem &problem, const Adjustment<T> &adjustment, Block<typename P::Element> keys, int64_t count,
           T *weights) {
    constexpr int L = lanes<T>;
    Vector<T> reference[Q], most[Q], sum[Q] = {}, mass[Q] = {};
    for (int q = 0; q < Q; ++q) {
        reference[q] = load(tile.reference + q * L);
        most[q] = load(tile.maximum + q * L);
    }
    by_rows<QKV_ROWS>(0, count, [&](auto rows, int64_t at) QKV_LAMBDA {
        constexpr int R = decltype(rows)::value;
        Vector<T> weight[R][Q];
        multiply_keys<P, R, Q>(keys, at, tile.query, P::query_depth(problem), (T)problem.scale, weight);
        adjust(adjustment, at, weight);
#pragma GCC unroll 8
        for (int r = 0; r < R; ++r)
#pragma GCC unroll 4
            for (int q = 0; q < Q; ++q) {
                most[q] = larger(weight[r][q], most[q]);
                weight[r][q] = exp_of<T>(weight[r][q] - reference[q]);
                sum[q] += weight[r][q];
            }
        P::template store_rows<R, Q>(at, weight, weights, mass);
    });
    for (int q = 0; q < Q; ++q)
        if (any_lane<T>(most[q] > reference[q] + slack<T>)) return false;
    for (int q = 0; q < Q; ++q) {
        store(tile.maximum + q * L, most[q]);
        store(tile.sum + q * L, load(tile.sum + q * L) + sum[q]);
        store(tile.mass + q * L, load(tile.mass + q * L) + mass[q]);
    }
    return true;
}

// Whether a block may be tried: every lane has a reference, and a score is used for nothing but its weight.
template <class P, class T, int Q>
bool may_weigh(const Tile<T, Q> &tile, const Problem &problem, bool keep, int64_t first) {
    return tile.settled && tile.failures < most_failures && first % P::terms == 0 && !problem.ranked && !keep &&
           !problem.entropy && !problem.distance;
}
