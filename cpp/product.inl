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

// sum[r] = over t of left[r * row + t * step] * right[t]. `guarded`: a weight of 0 keeps out whatever it multiplies.
template <class T, int R, int Q, bool guarded>
QKV_INLINE void multiply(const T *left, int64_t row, int64_t step, const T *right, int64_t depth, Vector<T> (&sum)[R][Q]) {
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r)
#pragma GCC unroll 4
        for (int q = 0; q < Q; ++q) sum[r][q] = Vector<T>{};
    for (int64_t t = 0; t < depth; ++t) {
        Vector<T> b[Q];
#pragma GCC unroll 4
        for (int q = 0; q < Q; ++q) b[q] = load(right + (t * Q + q) * lanes<T>);
#pragma GCC unroll 8
        for (int r = 0; r < R; ++r) {
            const T a = left[r * row + t * step];
#pragma GCC unroll 4
            for (int q = 0; q < Q; ++q) {
                const Vector<T> next = sum[r][q] + a * b[q];
                sum[r][q] = guarded ? (b[q] == (T)0 ? sum[r][q] : next) : next;
            }
        }
    }
}

// scores[j] = keys[j] . queries, for `count` keys.
template <class T, int Q>
void multiply_keys(Block<T> keys, int64_t count, const T *queries, int64_t dim, T *scores) {
    constexpr int width = Q * lanes<T>;
    by_rows<QKV_ROWS>(0, count, [&](auto rows, int64_t first) QKV_LAMBDA {
        constexpr int R = decltype(rows)::value;
        Vector<T> sum[R][Q];
        multiply<T, R, Q, false>(keys.data + first * keys.stride, keys.stride, 1, queries, dim, sum);
        for (int r = 0; r < R; ++r)
            for (int q = 0; q < Q; ++q) store(scores + (first + r) * width + q * lanes<T>, sum[r][q]);
    });
}

// output = output * rescale + weights . values. Each block is summed from zero and added once, which keeps digits.
template <class T, int Q, bool guarded>
void multiply_values(Block<T> values, int64_t count, const T *weights, int64_t value_dim, const Vector<T> (&rescale)[Q],
                     T *output) {
    constexpr int width = Q * lanes<T>;
    by_rows<QKV_ROWS>(0, value_dim, [&](auto rows, int64_t first) QKV_LAMBDA {
        constexpr int R = decltype(rows)::value;
        Vector<T> sum[R][Q];
        multiply<T, R, Q, guarded>(values.data + first, 1, values.stride, weights, count, sum);
        for (int r = 0; r < R; ++r)
            for (int q = 0; q < Q; ++q) {
                T *place = output + (first + r) * width + q * lanes<T>;
                store(place, load(place) * rescale[q] + sum[r][q]);
            }
    });
}
