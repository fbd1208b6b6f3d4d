// Products whose lanes go along the dimensions, so that rows are read and written as they lie: one weight at a time times a row.

// sum[r] = over t of left[r * row + t * step] * rows[t], of C vectors of each row. `guarded`: a weight of 0 keeps out what it
// multiplies.
template <class P, int R, int C, bool guarded, class T = typename P::Real>
QKV_INLINE void sum_rows(const typename P::Element *left, int64_t row, int64_t step, const T *rows, int64_t stride, int64_t depth,
                         Vector<T> (&sum)[R][C]) {
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r)
#pragma GCC unroll 4
        for (int c = 0; c < C; ++c) sum[r][c] = Vector<T>{};
#pragma GCC unroll 4
    for (int64_t t = 0; t < depth; ++t) {
        Vector<T> b[C];
#pragma GCC unroll 4
        for (int c = 0; c < C; ++c) b[c] = load(rows + t * stride + c * lanes<T>);
#pragma GCC unroll 8
        for (int r = 0; r < R; ++r) {
            const auto a = P::broadcast(left + r * row + t * step);
#pragma GCC unroll 4
            for (int c = 0; c < C; ++c) {
                if constexpr (P::terms == 1)
                    sum[r][c] = guarded && a == 0 ? sum[r][c] : sum[r][c] + a * b[c];
                else
                    sum[r][c] = P::template add_guarding<guarded>(sum[r][c], a, b[c]);
            }
        }
    }
}

// Calls `take(r, column, sum)` for each vector of `count` such sums, whose rows have so many columns, a multiple of the lanes.
template <class P, bool guarded, class Take, class T = typename P::Real>
QKV_INLINE void each_sum_of_rows(const typename P::Element *left, int64_t row, int64_t step, int64_t count, const T *rows,
                                 int64_t stride, int64_t columns, int64_t depth, Take take) {
    by_rows<QKV_ROWS>(0, count, [&](auto height, int64_t first) QKV_LAMBDA {
        constexpr int R = decltype(height)::value;
        by_rows<QKV_VECTORS>(0, columns / lanes<T>, [&](auto vectors, int64_t vector) QKV_LAMBDA {
            constexpr int C = decltype(vectors)::value;
            Vector<T> sum[R][C];
            sum_rows<P, R, C, guarded>(left + first * row, row, step, rows + vector * lanes<T>, stride, depth, sum);
#pragma GCC unroll 8
            for (int r = 0; r < R; ++r)
#pragma GCC unroll 4
                for (int c = 0; c < C; ++c) take(first + r, (vector + c) * lanes<T>, sum[r][c]);
        });
    });
}

// sums[j] += over queries q of weights[j, q] * rows[q], for `count` keys.
template <class P, bool guarded, class T = typename P::Real>
void multiply_rows(const typename P::Element *weights, int64_t width, int64_t count, const T *rows, int64_t stride, int depth, T *sums) {
    each_sum_of_rows<P, guarded>(weights, width, P::terms, count, rows, stride, stride, depth,
                                 [&](int64_t j, int64_t column, Vector<T> sum) QKV_LAMBDA {
                                     T *place = sums + j * stride + column;
                                     store(place, load(place) + sum);
                                 });
}
