// The largest scores of each query: a list a lane, in descending order, whose places lie along vectors, so that a score that
// enters finds its place, and the others give way, in a few steps without a branch. Scores are looked at singly only where
// the largest of a few keys exceeds some lane's bar, which is at first a bound of what its list will hold, then its last score.
//
// A place that is still empty has index -1. A NaN is kept as -infinity: it comes after all numbers, and its row's weights are
// NaN whatever is kept.

constexpr int64_t keys_in_chunk = 8;  // looked at together

// Eight places of a list.
template <> struct Eight<float> {
    typedef float Scores __attribute__((vector_size(32)));
    typedef int32_t Keys __attribute__((vector_size(32)));
    Scores score;
    Keys key;
};
template <> struct Eight<double> {
    typedef double Scores __attribute__((vector_size(64)));
    typedef int64_t Keys __attribute__((vector_size(64)));
    Scores score;
    Keys key;
};

// How many of these a list takes. What lies beyond the last of `ranked` places is not shown.
inline int64_t eights(const Problem &problem) { return ceil_div(problem.ranked, 8); }

template <class T, int Q> void open_lists(Tile<T, Q> &tile, const Problem &problem) {
    for (T &bar : tile.bar) bar = -infinity<T>;
    for (int64_t i = 0, size = eights(problem) * Tile<T, Q>::width; i < size; ++i) {
        tile.top[i].score = typename Eight<T>::Scores{} - infinity<T>;
        tile.top[i].key = typename Eight<T>::Keys{} - 1;
    }
}

// A bit for each lane where a is not at most b: where it is larger, or one of them is NaN.
template <class T> QKV_INLINE uint64_t lanes_above(Vector<T> a, Vector<T> b) {
#if defined(__AVX512F__)
    if constexpr (sizeof(T) == sizeof(float))
        return _mm512_cmp_ps_mask((__m512)a, (__m512)b, _CMP_NLE_UQ);
    else
        return _mm512_cmp_pd_mask((__m512d)a, (__m512d)b, _CMP_NLE_UQ);
#elif defined(__AVX2__)
    if constexpr (sizeof(T) == sizeof(float))
        return (unsigned)_mm256_movemask_ps((__m256) ~(a <= b));
    else
        return (unsigned)_mm256_movemask_pd((__m256d) ~(a <= b));
#else
    uint64_t bits = 0;
    for (int lane = 0; lane < lanes<T>; ++lane) bits |= (uint64_t)!(a[lane] <= b[lane]) << lane;
    return bits;
#endif
}

// Puts a score after what is as large, for that came earlier. `list` has `count` times eight places.
template <class T> QKV_INLINE void insert(T score, Int<T> key, Eight<T> *list, int64_t count) {
    using Scores = typename Eight<T>::Scores;
    using Keys = typename Eight<T>::Keys;
    const Scores entering = Scores{} + score;
    for (int64_t i = count - 1;; --i) {
        const Scores held = list[i].score, first = Scores{} + (i ? list[i - 1].score[7] : infinity<T>);
        const Keys at = list[i].key, first_at = Keys{} + (i ? list[i - 1].key[7] : (Int<T>)-1);
        const Scores above = __builtin_shufflevector(first, held, 0, 8, 9, 10, 11, 12, 13, 14);
        const Keys above_at = __builtin_shufflevector(first_at, at, 0, 8, 9, 10, 11, 12, 13, 14);
        const Keys stays = held >= entering, follows = above >= entering;
        list[i].score = stays ? held : (follows ? entering : above);
        list[i].key = stays ? at : (follows ? Keys{} + key : above_at);
        if (first[0] >= score) return;
    }
}

// Scores of a block that are to be looked at singly: those of a few keys for the queries of vector q. All are looked at with
// the bars as they were before, for a bar that was just raised is slow to read.
template <class T, int Q> struct Candidates {
    struct Chunk {
        int16_t key;
        int8_t count, q;
    };

    T *scores;  // (keys, lanes): of each chunk in turn, and room for one chunk more than a block has
    T *end = scores;
    int64_t count = 0;
    Chunk chunk[keys_in_block * Q + 1];

    explicit Candidates(T *room) : scores(room) {}

    // Adds a chunk if it is `wanted`, without a branch: whether it is, nobody can foresee.
    template <int R> QKV_INLINE void add(bool wanted, int64_t key, int q, const Vector<T> (&score)[R][Q]) {
        chunk[count] = {(int16_t)key, (int8_t)R, (int8_t)q};
#pragma GCC unroll 8
        for (int r = 0; r < R; ++r) store(end + r * lanes<T>, score[r][q]);
        end += wanted ? R * lanes<T> : 0;
        count += wanted;
    }
};

// Puts what exceeds its lane's bar into the lists; `first` is the first key of the block.
template <class T, int Q>
void enter(Tile<T, Q> &tile, const Problem &problem, int64_t first, const Candidates<T, Q> &candidates) {
    constexpr int L = lanes<T>, width = Tile<T, Q>::width;
    typedef unsigned __int128 Bits;  // a lane of a key each
    static_assert(keys_in_chunk * L <= 128, "");
    const int64_t list_length = eights(problem), last = problem.ranked - 1;
    alignas(64) T bars[width];
    for (int q = 0; q < Q; ++q) store(bars + q * L, load(tile.bar + q * L));
    const T *scores = candidates.scores;
    for (int64_t i = 0; i < candidates.count; scores += candidates.chunk[i].count * L, ++i) {
        const auto chunk = candidates.chunk[i];
        const Vector<T> bar = load(bars + chunk.q * L);
        Bits found = 0;
#pragma GCC unroll 8
        for (int j = 0; j < keys_in_chunk; ++j)
            if (j < chunk.count) found |= (Bits)lanes_above<T>(load(scores + j * L), bar) << j * L;
        for (; found; found &= found - 1) {
            const int bit = (uint64_t)found ? __builtin_ctzll((uint64_t)found) : 64 + __builtin_ctzll((uint64_t)(found >> 64));
            const int lane = chunk.q * L + bit % L;
            const T score = scores[bit];
            const Int<T> key = (Int<T>)(first + chunk.key + bit / L);
            Eight<T> *list = tile.top + lane * list_length;
            if (score == score) {
                insert(score, key, list, list_length);
                const T lowest = list[last / 8].score[last % 8];
                tile.bar[lane] = lowest > tile.bar[lane] ? lowest : tile.bar[lane];
            } else {
                int64_t place = 0;
                while (place <= last && list[place / 8].key[place % 8] >= 0) ++place;
                if (place <= last) list[place / 8].key[place % 8] = key;
            }
        }
    }
}

// Whether every list is full of numbers, or will be by the end of a block: then a NaN changes none.
template <class T, int Q> bool lists_full(const Tile<T, Q> &tile) {
    constexpr int L = lanes<T>;
    for (int q = 0; q < Q; ++q)
        if (any_lane<T>(load(tile.bar + q * L) == -infinity<T>)) return false;
    return true;
}

// Raises the bars of lists that are not full to just below what as many scores of the block reach as there are places. That
// is as large as the largest scores of as many runs of keys, of which there are a few times more.
template <class T, int Q> void raise_bars(Tile<T, Q> &tile, int64_t ranked, int64_t count, const T *scores) {
    constexpr int L = lanes<T>, width = Tile<T, Q>::width;
    const int64_t run = count < 4 * ranked ? 1 : count / (4 * ranked);
    for (int q = 0; q < Q && ranked <= count; ++q) {
        Vector<T> best[keys_in_block];
        for (int64_t i = 0; i < ranked; ++i) best[i] = splat<T>(-infinity<T>);
        for (int64_t j = 0; j < count; j += run) {
            Vector<T> most = splat<T>(-infinity<T>);
            for (int64_t i = j; i < j + run && i < count; ++i) most = larger(load(scores + i * width + q * L), most);
            for (int64_t i = 0; i < ranked; ++i) {
                const Vector<T> held = best[i];
                best[i] = larger(most, held);
                most = most < held ? most : held;
            }
        }
        const Vector<T> least = best[ranked - 1], size = least < (T)0 ? -least : least;
        const Vector<T> below = least - size * (T)1e-6 - (T)1e-37;
        T *bar = tile.bar + q * L;
        store(bar, larger(below, load(bar)));
    }
}

// Looks at a block of scores; `candidates` has room for them.
template <class T, int Q>
void rank(Tile<T, Q> &tile, const Problem &problem, int64_t first, int64_t count, const T *scores, T *room) {
    constexpr int L = lanes<T>, width = Tile<T, Q>::width;
    if (!lists_full(tile)) raise_bars(tile, problem.ranked, count, scores);
    const bool filling = !lists_full(tile);
    Candidates<T, Q> candidates(room);
    by_rows<keys_in_chunk>(0, count, [&](auto rows, int64_t at) QKV_LAMBDA {
        constexpr int R = decltype(rows)::value;
        Vector<T> score[R][Q];
        for (int q = 0; q < Q; ++q) {
            const Vector<T> bar = load(tile.bar + q * L);
            Vector<T> most = bar;
            for (int r = 0; r < R; ++r) {
                score[r][q] = load(scores + (at + r) * width + q * L);
                most = larger(score[r][q], most);
            }
            candidates.template add<R>(filling || lanes_above<T>(most, bar), at, q, score);
        }
    });
    enter(tile, problem, first, candidates);
}

// Writes what was kept, as weights.
template <class T, int Q> void write_top(const Tile<T, Q> &tile, const Problem &problem, int64_t batch) {
    constexpr int L = lanes<T>;
    for (int lane = 0; lane < tile.rows; ++lane) {
        const Eight<T> *list = tile.top + lane * eights(problem);
        const int64_t at = ((batch * problem.heads + tile.head[lane]) * problem.queries + tile.index[lane]) * problem.top_k;
        for (int64_t first = 0; first < problem.top_k; first += L) {
            Vector<T> below = {};
            const int64_t shown = problem.ranked - first < L ? problem.ranked - first : L;
            for (int64_t i = 0; i < shown; ++i)
                below[i] = list[(first + i) / 8].score[(first + i) % 8] - tile.reference[lane];
            const Vector<T> weight = exp_of<T>(below) * tile.normaliser[lane];
            for (int64_t i = 0; i < L && first + i < problem.top_k; ++i) {
                const int64_t key = i < shown ? list[(first + i) / 8].key[(first + i) % 8] : -1;
                problem.top_indices[at + first + i] = key;
                ((T *)problem.top_weights)[at + first + i] = key < 0 ? (T)0 : weight[i];
            }
        }
    }
}
