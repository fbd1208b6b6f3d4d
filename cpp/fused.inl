// Scores of a block, with what is done to them while they are in registers; and scores turned there into weights, and into
// what statistics need of both.
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

// Where a block's numbers go besides; null where nobody asks for them.
template <class T> struct Besides {
    T *exponentials;  // as they are, where the product with values wants something else
    T *candidates;    // scores of the few keys that may be among a query's largest
};

// Adds to the sums and stores the weights of keys first .. first + count - 1; false where a lane's reference has to move.
// The largest scores have been looked for either way. `observed`: there is more to do than weights and the maximum.
template <class P, bool observed, class T, int Q>
bool weigh(Tile<T, Q> &tile, const Problem &problem, const Adjustment<T> &adjustment, Block<typename P::Element> keys, int64_t first,
           int64_t count, T *weights, Besides<T> besides) {
    constexpr int L = lanes<T>, width = Tile<T, Q>::width;
    Vector<T> reference[Q], most[Q], sum[Q] = {}, mass[Q] = {}, cross[Q] = {}, travel[Q] = {};
    IntVector<T> position[Q] = {};
    for (int q = 0; q < Q; ++q) {
        reference[q] = load(tile.reference + q * L);
        most[q] = load(tile.maximum + q * L);
        if (observed && problem.distance) position[q] = position_of(tile, problem, q, first);
    }
    Candidates<T, Q> candidates(besides.candidates);
    by_rows<QKV_ROWS>(0, count, [&](auto rows, int64_t at) QKV_LAMBDA {
        constexpr int R = decltype(rows)::value;
        Vector<T> weight[R][Q];
        multiply_keys<P, R, Q>(keys, at, tile.query, P::query_depth(problem), (T)problem.scale, weight);
        adjust(adjustment, at, weight);
#pragma GCC unroll 4
        for (int q = 0; q < Q; ++q) {
            const bool ranked = observed && besides.candidates;
            const Vector<T> bar = ranked ? load(tile.bar + q * L) : most[q];
            Vector<T> top = bar;
#pragma GCC unroll 8
            for (int r = 0; r < R; ++r) top = larger(weight[r][q], top);
            most[q] = larger(top, most[q]);
            if (ranked) candidates.template add<R>(lanes_above<T>(top, bar), at, q, weight);
        }
        const auto soften = [&](auto weighed) QKV_LAMBDA {
#pragma GCC unroll 8
            for (int r = 0; r < R; ++r)
#pragma GCC unroll 4
                for (int q = 0; q < Q; ++q) {
                    const Vector<T> below = weight[r][q] - reference[q];
                    weight[r][q] = exp_of<T>(below);
                    sum[q] += weight[r][q];
                    weighed(q, below, weight[r][q]);
                }
        };
        if (observed && problem.entropy)
            soften([&](int q, Vector<T> below, Vector<T> w) QKV_LAMBDA { cross[q] += w * clamp_exponent<T>(below); });
        else
            soften([](int, Vector<T>, Vector<T>) QKV_LAMBDA {});
        if (observed && problem.distance)
#pragma GCC unroll 8
            for (int r = 0; r < R; ++r)
#pragma GCC unroll 4
                for (int q = 0; q < Q; ++q) travel[q] += weight[r][q] * distance_to<T>(position[q], at + r);
        if (observed && besides.exponentials) store_vectors<R, Q, T>(weight, besides.exponentials + at * width);
        P::template store_rows<R, Q>(at, weight, weights, mass);
    });
    if (candidates.count) enter(tile, problem, first, candidates);
    for (int q = 0; q < Q; ++q)
        if (any_lane<T>(most[q] > reference[q] + slack<T>)) return false;
    for (int q = 0; q < Q; ++q) {
        const auto add = [&](T *to, Vector<T> more) QKV_LAMBDA { store(to + q * L, load(to + q * L) + more); };
        store(tile.maximum + q * L, most[q]);
        add(tile.sum, sum[q]);
        add(tile.mass, mass[q]);
        if (observed && problem.entropy) add(tile.cross, cross[q]);
        if (observed && problem.distance) add(tile.travel, travel[q]);
    }
    return true;
}

// Whether a block may be tried: every lane has a reference, and a NaN would change no list of largest scores.
template <class P, class T, int Q>
bool may_weigh(const Tile<T, Q> &tile, const Problem &problem, int64_t first) {
    return tile.settled && tile.failures < most_failures && first % P::terms == 0 && (!problem.ranked || lists_full(tile));
}
