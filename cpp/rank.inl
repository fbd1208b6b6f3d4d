// The largest scores of each query. They lie in its lane, in descending order, so that a score finds its place in all lanes at
// once; and scores are looked at singly only where the largest of a few keys exceeds what some lane holds.
//
// A place that is still empty has index -1. A NaN is kept as -infinity: it comes after all numbers, and its row's weights are
// NaN whatever is kept.

constexpr int64_t keys_in_chunk = 8;   // looked at together
constexpr int64_t places_in_step = 8;  // passed over together, where many are kept

template <class T> QKV_INLINE bool any_above(Vector<T> a, Vector<T> b) {
#if defined(__AVX512F__)
    if constexpr (sizeof(T) == sizeof(float))
        return _mm512_cmp_ps_mask((__m512)a, (__m512)b, _CMP_GT_OQ) != 0;
    else
        return _mm512_cmp_pd_mask((__m512d)a, (__m512d)b, _CMP_GT_OQ) != 0;
#else
    return any_lane<T>(a > b);
#endif
}

// Puts one score a lane into its place, which is after what is as large, for that came earlier. `filling`: also into the first
// empty place.
template <bool filling, class T>
QKV_INLINE void insert(Vector<T> score, IntVector<T> key, int64_t top_k, int64_t width, T *best, Int<T> *index) {
    int64_t place = 0;
    if (!filling)
        for (place = (top_k - 1) / places_in_step * places_in_step; place > 0; place -= places_in_step)
            if (!any_above<T>(score, load(best + (place - 1) * width))) break;
    const Vector<T> entering = score;  // what gives way to it goes down in turn, past its equals too
    for (best += place * width, index += place * width; place < top_k; ++place, best += width, index += width) {
        const Vector<T> held = load(best);
        const IntVector<T> at = load_int<T>(index);
        IntVector<T> take = entering > held;
        if (filling) take |= at < 0;
        store(best, take ? score : held);
        store_int<T>(index, take ? key : at);
        score = take ? held : score;
        key = take ? at : key;
    }
}

// Keeps the top_k largest scores of each lane.
template <class T, int Q> void rank(Tile<T, Q> &tile, int64_t top_k, int64_t first, int64_t count, const T *scores) {
    constexpr int L = lanes<T>, width = Tile<T, Q>::width;
    for (int q = 0; q < Q; ++q) {
        T *best = tile.top_score + q * L;
        Int<T> *index = tile.top_index + q * L;
        const T *last = best + (top_k - 1) * width;
        const auto score_of = [&](int64_t j) QKV_LAMBDA { return load(scores + j * width + q * L); };
        const auto key_of = [&](int64_t j) QKV_LAMBDA { return IntVector<T>{} + (Int<T>)(first + j); };
        const auto empty = [&]() QKV_LAMBDA { return load_int<T>(index + (top_k - 1) * width) < 0; };
        bool filling = any_lane<T>(empty());
        for (int64_t chunk = 0; chunk < count; chunk += keys_in_chunk) {
            const int64_t stop = chunk + keys_in_chunk < count ? chunk + keys_in_chunk : count;
            if (filling) {
                for (int64_t j = chunk; j < stop; ++j) {
                    const Vector<T> score = score_of(j);
                    const IntVector<T> wanted = ~(score <= load(last));  // numbers above it, and NaN
                    const Vector<T> number = (score == score) & wanted ? score : splat<T>(-infinity<T>);
                    insert<true, T>(number, wanted ? key_of(j) : IntVector<T>{} - 1, top_k, width, best, index);
                }
                filling = any_lane<T>(empty());
                continue;
            }
            const Vector<T> bar = load(last);
            Vector<T> most = bar;
            for (int64_t j = chunk; j < stop; ++j) most = larger(score_of(j), most);
            if (!any_above<T>(most, bar)) continue;
            unsigned flags = 0;
            for (int64_t j = chunk; j < stop; ++j) flags |= (unsigned)any_above<T>(score_of(j), bar) << (j - chunk);
            for (; flags; flags &= flags - 1) {
                const int64_t j = chunk + __builtin_ctz(flags);
                insert<false, T>(score_of(j), key_of(j), top_k, width, best, index);
            }
        }
    }
}

// Writes what was kept, as weights.
template <class T, int Q> void write_top(const Tile<T, Q> &tile, const Problem &problem, int64_t batch) {
    constexpr int L = lanes<T>, width = Tile<T, Q>::width;
    alignas(64) T weights[width];
    for (int64_t place = 0; place < problem.top_k; ++place) {
        if (place < problem.ranked)
            for (int q = 0; q < Q; ++q) {
                const Vector<T> below = load(tile.top_score + place * width + q * L) - load(tile.reference + q * L);
                store(weights + q * L, exp_of<T>(below) * load(tile.normaliser + q * L));
            }
        for (int lane = 0; lane < tile.rows; ++lane) {
            const int64_t index = place < problem.ranked ? (int64_t)tile.top_index[place * width + lane] : -1;
            const int64_t at = (batch * problem.heads + tile.head[lane]) * problem.queries + tile.index[lane];
            problem.top_indices[at * problem.top_k + place] = index;
            ((T *)problem.top_weights)[at * problem.top_k + place] = index < 0 ? (T)0 : weights[lane];
        }
    }
}
