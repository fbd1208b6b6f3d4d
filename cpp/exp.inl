// exp and tanh on vectors. exp takes arguments of at most 0 (scores less their maximum) or NaN.

template <class T> struct ExpConstants;

template <> struct ExpConstants<float> {
    static constexpr float lowest = -87.0f;  // below, the result is 0: it would leave the normal numbers
    static constexpr float magic = 12582912.0f + 127.0f;  // 1.5 * 2^23 + the exponent's bias: adding it rounds to an integer
    static constexpr float ln2_high = 0.693359375f, ln2_low = -2.12194440e-4f;
    static constexpr int mantissa = 23;
    // Cephes' expf: 1 + r + r^2 * p(r), within 1 ulp on |r| <= ln(2) / 2.
    static constexpr float tail[] = {1.9875691500e-4f, 1.3981999507e-3f, 8.3334519073e-3f,
                                     4.1665795894e-2f, 1.6666665459e-1f, 5.0000001201e-1f};
};

template <> struct ExpConstants<double> {
    static constexpr double lowest = -708.0;
    static constexpr double magic = 6755399441055744.0 + 1023.0;
    static constexpr double ln2_high = 6.93145751953125e-1, ln2_low = 1.42860682030941723212e-6;
    static constexpr int mantissa = 52;
    // Taylor's series to r^13: what is left is below 5e-18.
    static constexpr double tail[] = {1.0 / 6227020800, 1.0 / 479001600, 1.0 / 39916800, 1.0 / 3628800,
                                      1.0 / 362880,     1.0 / 40320,     1.0 / 5040,     1.0 / 720,
                                      1.0 / 120,        1.0 / 24,        1.0 / 6,        1.0 / 2};
};

// exp(x) for lowest <= x <= 0; NaN stays NaN; exactly 1 at 0, so that rescaling by it changes no bit.
template <class T> QKV_INLINE Vector<T> exp_in_range(Vector<T> x) {
    using C = ExpConstants<T>;
    const Vector<T> shifted = x * (T)1.4426950408889634074 + C::magic;
    const Vector<T> whole = shifted - C::magic;
    const Vector<T> r = x - whole * C::ln2_high - whole * C::ln2_low;
    Vector<T> p = splat<T>(C::tail[0]);
#pragma GCC unroll 16
    for (int i = 1; i < (int)(sizeof C::tail / sizeof(T)); ++i) p = p * r + C::tail[i];
    p = p * (r * r) + r + (T)1;
    return p * (Vector<T>)((IntVector<T>)shifted << C::mantissa);
}

template <class T> QKV_INLINE Vector<T> clamp_exponent(Vector<T> x) {
    constexpr T lowest = ExpConstants<T>::lowest;
    return x < lowest ? splat<T>(lowest) : x;
}

// exp(x) for x <= 0; 0 below `lowest`.
template <class T> QKV_INLINE Vector<T> exp_of(Vector<T> x) {
    const Vector<T> value = exp_in_range<T>(clamp_exponent<T>(x));
    return x < ExpConstants<T>::lowest ? Vector<T>{} : value;
}

// (1 - e) / (1 + e) with e = exp(-2|x|); near 0, where that loses digits, the first terms of the series.
template <class T> QKV_INLINE Vector<T> tanh_of(Vector<T> x) {
    const Vector<T> size = x < (T)0 ? -x : x;
    const Vector<T> e = exp_of<T>(size * (T)-2);
    const Vector<T> far = ((T)1 - e) / ((T)1 + e);
    const Vector<T> y = x * x;
    constexpr T terms[] = {(T)(-929569.0 / 638512875), (T)(21844.0 / 6081075), (T)(-1382.0 / 155925), (T)(62.0 / 2835),
                           (T)(-17.0 / 315),           (T)(2.0 / 15),          (T)(-1.0 / 3)};
    Vector<T> series = splat<T>(terms[0]);
#pragma GCC unroll 8
    for (int i = 1; i < 7; ++i) series = series * y + terms[i];
    const Vector<T> near = x + x * y * series;
    constexpr T turn = sizeof(T) == 4 ? (T)0.4 : (T)0.12;
    return size < turn ? near : (x < (T)0 ? -far : far);
}
