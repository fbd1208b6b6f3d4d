// The inner loop of both products: a few rows of scalars times a strip of vectors, the sums in registers.
//
// Scores are computed transposed, keys x queries, with the queries in the lanes: then keys and values are read as they lie,
// one scalar broadcast at a time, and maximum, sum and rescaling are lane by lane, never across.

template <int N> struct Count {
    static constexpr int value = N;
};

// Calls `work(Count<R>, first)` over rows 0..count-1 in the largest steps that fit: QKV_ROWS, then its halves.
template <int R, class Work> QKV_INLINE void by_rows(int64_t first, int64_t count, Work work) {
    for (; first + R <= count; first += R) work(Count<R>{}, first);
    if constexpr (R > 1) by_rows<R / 2>(first, count, work);
}

template <int R, int Q, class T> QKV_INLINE void store_vectors(const Vector<T> (&rows)[R][Q], T *to) {
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r)
#pragma GCC unroll 4
        for (int q = 0; q < Q; ++q) store(to + (r * Q + q) * lanes<T>, rows[r][q]);
}

// What is multiplied: numbers of the type that is computed in, one at a time.
template <class T> struct Plain {
    using Real = T;
    using Element = T;
    static constexpr int terms = 1;

    static QKV_INLINE T broadcast(const T *at) { return *at; }

    template <bool guarded> static QKV_INLINE Vector<T> add(Vector<T> sum, T a, Vector<T> b) {
        const Vector<T> next = sum + a * b;
        return guarded ? (b == (T)0 ? sum : next) : next;
    }

    static constexpr bool scales_scores = false;
    static constexpr bool rounds_weights = false;

    // How many numbers a query has, and where they are: in place, or in a copy of as many.
    static int64_t query_depth(const Problem &problem) { return problem.dim; }
    static const char *query_row(const Problem &problem, const char *from, T *copy) {
        if (bytes_of(problem.dtype) == sizeof(T)) return from;
        load_row(problem.dtype, from, problem.dim, copy);
        return (const char *)copy;
    }

    static Block<T> load_keys(const Problem &problem, int64_t batch, int64_t head, int64_t first, int64_t count, T *copy) {
        return load_block(problem, problem.key, batch, head, first, count, problem.dim, copy);
    }

    static Block<T> load_values(const Problem &problem, int64_t batch, int64_t head, int64_t first, int64_t count, T *copy) {
        return load_block(problem, problem.value, batch, head, first, count, problem.value_dim, copy);
    }

    // Stores the weights of R keys from `first` on.
    template <int R, int Q>
    static QKV_INLINE void store_rows(int64_t first, const Vector<T> (&weight)[R][Q], T *to, Vector<T> (&)[Q]) {
        store_vectors<R, Q, T>(weight, to + first * Q * lanes<T>);
    }

    // Stores what `weight_of(j, q)` gives for the keys first + j.
    template <int Q, class WeightOf>
    static QKV_INLINE void store_weights(int64_t, int64_t count, T *to, Vector<T> (&)[Q], WeightOf weight_of) {
        for (int64_t j = 0; j < count; ++j)
#pragma GCC unroll 4
            for (int q = 0; q < Q; ++q, to += lanes<T>) store(to, weight_of(j, q));
    }

    // Sets to 0 the stored weights of a block, `size` numbers of keys first and on, whose factor is 0.
    static void drop(int64_t, int64_t size, int64_t, const T *factors, T *weights) {
        for (int64_t at = 0; at < size; at += lanes<T>)
            store(weights + at, load(factors + at) == (T)0 ? Vector<T>{} : load(weights + at));
    }
};

// sum[r] = over t of left[r * row + t * step] * right[t]. `guarded`: a weight of 0 keeps out whatever it multiplies.
template <class P, int R, int Q, bool guarded, class T = typename P::Real>
QKV_INLINE void multiply(const typename P::Element *left, int64_t row, int64_t step, const T *right, int64_t depth,
                         Vector<T> (&sum)[R][Q]) {
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r)
#pragma GCC unroll 4
        for (int q = 0; q < Q; ++q) sum[r][q] = Vector<T>{};
#pragma GCC unroll 4
    for (int64_t t = 0; t < depth; ++t) {
        Vector<T> b[Q];
#pragma GCC unroll 4
        for (int q = 0; q < Q; ++q) b[q] = load(right + (t * Q + q) * lanes<T>);
#pragma GCC unroll 8
        for (int r = 0; r < R; ++r) {
            const auto a = P::broadcast(left + r * row + t * step);
#pragma GCC unroll 4
            for (int q = 0; q < Q; ++q) sum[r][q] = P::template add<guarded>(sum[r][q], a, b[q]);
        }
    }
}

// The scores of R keys from `first` on; times `factor` where queries are not scaled.
template <class P, int R, int Q, class T = typename P::Real>
QKV_INLINE void multiply_keys(Block<typename P::Element> keys, int64_t first, const T *queries, int64_t depth, T factor,
                              Vector<T> (&score)[R][Q]) {
    multiply<P, R, Q, false>(keys.data + first * keys.stride, keys.stride, P::terms, queries, depth, score);
    if constexpr (P::scales_scores)
#pragma GCC unroll 8
        for (int r = 0; r < R; ++r)
#pragma GCC unroll 4
            for (int q = 0; q < Q; ++q) score[r][q] = score[r][q] * factor;
}

// scores[j] = keys[j] . queries, for `count` keys.
template <class P, int Q, class T = typename P::Real>
void multiply_keys(Block<typename P::Element> keys, int64_t count, const T *queries, int64_t depth, T factor, T *scores) {
    by_rows<QKV_ROWS>(0, count, [&](auto rows, int64_t first) QKV_LAMBDA {
        constexpr int R = decltype(rows)::value;
        Vector<T> score[R][Q];
        multiply_keys<P, R, Q>(keys, first, queries, depth, factor, score);
        store_vectors<R, Q, T>(score, scores + first * Q * lanes<T>);
    });
}

// output = output * rescale + weights . values. Each block is summed from zero and added once, which keeps digits.
template <class P, int Q, bool guarded, class T = typename P::Real>
void multiply_values(Block<typename P::Element> values, int64_t depth, const T *weights, int64_t value_dim,
                     const Vector<T> (&rescale)[Q], T *output) {
    constexpr int width = Q * lanes<T>;
    by_rows<QKV_ROWS>(0, value_dim, [&](auto rows, int64_t first) QKV_LAMBDA {
        constexpr int R = decltype(rows)::value;
        Vector<T> sum[R][Q];
        multiply<P, R, Q, guarded>(values.data + first * P::terms, P::terms, values.stride, weights, depth, sum);
        for (int r = 0; r < R; ++r)
            for (int q = 0; q < Q; ++q) {
                T *place = output + (first + r) * width + q * lanes<T>;
                store(place, load(place) * rescale[q] + sum[r][q]);
            }
    });
}
