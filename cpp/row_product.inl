// The products of the backward pass that sum over queries: one weight at a time times a row.

// sums[j] += over queries q of weights[j, q] * rows[q], for `count` keys. `guarded`: a weight of 0 keeps out what it multiplies.
template <class P, int R, int C, bool guarded, class T = typename P::Real>
QKV_INLINE void add_rows(const typename P::Element *weights, int64_t width, const T *rows, int64_t stride, int depth, T *sums) {
    Vector<T> sum[R][C];
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r)
#pragma GCC unroll 4
        for (int c = 0; c < C; ++c) sum[r][c] = Vector<T>{};
#pragma GCC unroll 4
    for (int q = 0; q < depth; ++q) {
        Vector<T> b[C];
#pragma GCC unroll 4
        for (int c = 0; c < C; ++c) b[c] = load(rows + q * stride + c * lanes<T>);
#pragma GCC unroll 8
        for (int r = 0; r < R; ++r) {
            const auto a = P::broadcast(weights + r * width + q * P::terms);
#pragma GCC unroll 4
            for (int c = 0; c < C; ++c) {
                if constexpr (P::terms == 1)
                    sum[r][c] = guarded && a == 0 ? sum[r][c] : sum[r][c] + a * b[c];
                else
                    sum[r][c] = P::template add_guarding<guarded>(sum[r][c], a, b[c]);
            }
        }
    }
    for (int r = 0; r < R; ++r)
        for (int c = 0; c < C; ++c) {
            T *place = sums + r * stride + c * lanes<T>;
            store(place, load(place) + sum[r][c]);
        }
}

template <class P, bool guarded, class T = typename P::Real>
void multiply_rows(const typename P::Element *weights, int64_t width, int64_t count, const T *rows, int64_t stride, int depth, T *sums) {
    by_rows<QKV_ROWS>(0, count, [&](auto step, int64_t first) QKV_LAMBDA {
        constexpr int R = decltype(step)::value;
        by_rows<QKV_VECTORS>(0, stride / lanes<T>, [&](auto vectors, int64_t column) QKV_LAMBDA {
            constexpr int C = decltype(vectors)::value;
            add_rows<P, R, C, guarded>(weights + first * width, width, rows + column * lanes<T>, stride, depth,
                                       sums + first * stride + column * lanes<T>);
        });
    });
}
