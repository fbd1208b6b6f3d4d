// exp and tanh on vectors. exp takes arguments of at most 0 (scores less their maximum) or NaN.

template <class T> struct ExpConstants;

template <> struct ExpConstants<float> {
    static constexpr float lowest = -87.0f;  // below, the result is 0: it would leave the normal numbers
    static constexpr float magic = 12582912.0f + 127.0f;  // 1.5 * 2^23 + the exponent's bias: adding it rounds to an integer
    static constexpr int mantissa = 23;
    // 2^r = 1 + r * p(r) on |r| <= 1/2, the polynomial whose largest relative error is least: 2e-9.
    static constexpr float tail[] = {1.5353362e-4f, 1.3398875e-3f, 9.6184369e-3f, 5.5503324e-2f, 2.4022648e-1f, 6.9314718e-1f};
};

template <> struct ExpConstants<double> {
    static constexpr double lowest = -708.0;
    static constexpr double magic = 6755399441055744.0 + 1023.0;
    static constexpr int mantissa = 52;
    // The same, within 2e-17.
    static constexpr double tail[] = {4.0780719295883367e-10, 7.0725704128144235e-09, 1.0180647659234139e-07,
                                      1.3215442675329822e-06, 1.5252727385193868e-05, 1.540353044157213e-04,
                                      1.3333558153439965e-03, 9.6181291076070024e-03, 5.5504108664790395e-02,
                                      2.4022650695910098e-01, 6.9314718055994568e-01};
};

// p * 2^whole, but 0 where x is below `lowest`. `shifted` is `whole` as the magic number leaves it.
template <class T> QKV_INLINE Vector<T> scale_exponent(Vector<T> p, Vector<T> shifted, Vector<T> whole, Vector<T> x) {
#if defined(__AVX512F__)
    (void)shifted;
    if constexpr (sizeof(T) == sizeof(float)) {
        const __mmask16 keep = _mm512_cmp_ps_mask((__m512)x, _mm512_set1_ps(ExpConstants<T>::lowest), _CMP_NLT_UQ);
        return (Vector<T>)_mm512_maskz_scalef_ps(keep, (__m512)p, (__m512)whole);
    } else {
        const __mmask8 keep = _mm512_cmp_pd_mask((__m512d)x, _mm512_set1_pd(ExpConstants<T>::lowest), _CMP_NLT_UQ);
        return (Vector<T>)_mm512_maskz_scalef_pd(keep, (__m512d)p, (__m512d)whole);
    }
#else
    (void)whole;
    const Vector<T> value = p * (Vector<T>)((IntVector<T>)shifted << ExpConstants<T>::mantissa);
    return x < ExpConstants<T>::lowest ? Vector<T>{} : value;
#endif
}

// exp(x) for x <= 0, as a power of 2: 0 below `lowest`, NaN stays NaN, and exactly 1 at 0, so that rescaling by it changes no
// bit. The rounding of x * log2(e) is relative to x, so it matters less than exp(x) shrinks.
template <class T> QKV_INLINE Vector<T> exp_of(Vector<T> x) {
    using C = ExpConstants<T>;
    const Vector<T> power = x * (T)1.4426950408889634074;
    const Vector<T> shifted = power + C::magic;
    const Vector<T> whole = shifted - C::magic;
    const Vector<T> r = power - whole;
    Vector<T> p = splat<T>(C::tail[0]);
#pragma GCC unroll 16
    for (int i = 1; i < (int)(sizeof C::tail / sizeof(T)); ++i) p = p * r + C::tail[i];
    return scale_exponent<T>(p * r + (T)1, shifted, whole, x);
}

template <class T> QKV_INLINE Vector<T> clamp_exponent(Vector<T> x) {
    const Vector<T> lowest = splat<T>(ExpConstants<T>::lowest);
    return lowest > x ? lowest : x;  // one instruction this way round, which keeps a NaN
}

// float: x * p(x^2) / q(x^2), whose largest relative error over the range in which tanh is not yet 1 is least: 2e-8. Rounding
// makes it 3e-7. double: (1 - e) / (1 + e) with e = exp(-2|x|); near 0, where that loses digits, the first terms of the series.
template <class T> QKV_INLINE Vector<T> tanh_of(Vector<T> x) {
    if constexpr (sizeof(T) == sizeof(float)) {
        constexpr float furthest = 9.01f;
        constexpr float above[] = {1.3336745e-8f, 2.0596197e-5f, 3.4948063e-3f, 1.3380368e-1f, 1.0f};
        constexpr float below[] = {7.7692399e-7f, 3.2843556e-4f, 2.5874009e-2f, 4.6713683e-1f, 1.0f};
        x = x > furthest ? splat<T>(furthest) : x;
        x = x < -furthest ? splat<T>(-furthest) : x;
        const Vector<T> y = x * x;
        Vector<T> p = splat<T>(above[0]), q = splat<T>(below[0]);
#pragma GCC unroll 4
        for (int i = 1; i < 5; ++i) {
            p = p * y + above[i];
            q = q * y + below[i];
        }
        return x * p / q;
    } else {
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
        return size < (T)0.12 ? near : (x < (T)0 ? -far : far);
    }
}
