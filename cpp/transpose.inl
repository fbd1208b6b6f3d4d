// Rows of queries into lanes, and lanes into rows of results: square blocks of as many vectors as a vector has lanes.

// The lower or the upper halves of two vectors, lane by lane in turn.
template <bool upper, class V> QKV_INLINE V interleave(V a, V b) {
    constexpr int L = sizeof(V) / sizeof(a[0]), h = upper ? L / 2 : 0;
    if constexpr (L == 2)
        return __builtin_shufflevector(a, b, h, 2 + h);
    else if constexpr (L == 4)
        return __builtin_shufflevector(a, b, h, 4 + h, h + 1, 5 + h);
    else if constexpr (L == 8)
        return __builtin_shufflevector(a, b, h, 8 + h, h + 1, 9 + h, h + 2, 10 + h, h + 3, 11 + h);
    else
        return __builtin_shufflevector(a, b, h, 16 + h, h + 1, 17 + h, h + 2, 18 + h, h + 3, 19 + h, h + 4, 20 + h, h + 5, 21 + h,
                                       h + 6, 22 + h, h + 7, 23 + h);
}

// Interleaving the first half of the rows with the second turns the index of an element, row bits then lane bits, by one bit.
template <class V, int L> QKV_INLINE void transpose(V (&rows)[L]) {
#pragma GCC unroll 4
    for (int stage = 1; stage < L; stage *= 2) {
        V turned[L];
#pragma GCC unroll 8
        for (int i = 0; i < L / 2; ++i) {
            turned[2 * i] = interleave<false>(rows[i], rows[i + L / 2]);
            turned[2 * i + 1] = interleave<true>(rows[i], rows[i + L / 2]);
        }
#pragma GCC unroll 16
        for (int i = 0; i < L; ++i) rows[i] = turned[i];
    }
}

// Lane i of the result is the sum of rows[i], whose lanes are added by halves. The order is that of `sum_of_lanes`.
template <class T, int half = lanes<T> / 2> QKV_INLINE Vector<T> sums_of_lanes(Vector<T> (&rows)[lanes<T>]) {
#pragma GCC unroll 8
    for (int i = 0; i < half; ++i)
        rows[i] = interleave<false>(rows[i], rows[i + half]) + interleave<true>(rows[i], rows[i + half]);
    if constexpr (half > 1) return sums_of_lanes<T, half / 2>(rows);
    return rows[0];
}

// to[i * width + lane] = element i of rows[lane], for as many rows as a vector has lanes; they may lie at any address.
template <class T, int L> void rows_to_lanes(const char *const (&rows)[L], int64_t count, int64_t width, T *to) {
    typedef T V __attribute__((vector_size(L * sizeof(T))));
    int64_t i = 0;
    for (; i + L <= count; i += L) {
        V block[L];
#pragma GCC unroll 16
        for (int lane = 0; lane < L; ++lane) __builtin_memcpy(&block[lane], rows[lane] + i * sizeof(T), sizeof(V));
        transpose(block);
#pragma GCC unroll 16
        for (int at = 0; at < L; ++at) __builtin_memcpy(to + (i + at) * width, &block[at], sizeof(V));
    }
    for (; i < count; ++i)
        for (int lane = 0; lane < L; ++lane) __builtin_memcpy(to + i * width + lane, rows[lane] + i * sizeof(T), sizeof(T));
}

// The first `used` lanes of from[i * width + lane] * factor, a row each, in the type of the results.
template <class T>
void lanes_to_rows(Dtype dtype, const T *from, int64_t count, int64_t width, Vector<T> factor, int used,
                   char *const (&rows)[lanes<T>]) {
    constexpr int L = lanes<T>;
    T part[L];
    int64_t i = 0;
    for (; i + L <= count; i += L) {
        Vector<T> block[L];
        for (int at = 0; at < L; ++at) block[at] = load(from + (i + at) * width) * factor;
        transpose(block);
        for (int lane = 0; lane < used; ++lane) store_vector(dtype, block[lane], rows[lane] + i * bytes_of(dtype));
    }
    for (int lane = 0; i < count && lane < used; ++lane) {
        for (int64_t at = i; at < count; ++at) part[at - i] = from[at * width + lane] * factor[lane];
        store_row(dtype, part, count - i, rows[lane] + i * bytes_of(dtype));
    }
}
