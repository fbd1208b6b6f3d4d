// The most that the processor can multiply, to say how far from it a kernel is: the instruction of the inner loop with
// everything in registers, one after another in as many sums as the inner loop has.

// How many floating-point operations were carried out in `rounds` rounds.
template <class P> double multiply_in_registers(int64_t rounds) {
    using T = typename P::Real;
    constexpr int L = lanes<T>;
    // Read through volatile, so that no compiler can work the sums out beforehand.
    volatile T start[] = {(T)0.5, (T)0.25};
    alignas(64) T one[L], sums[QKV_ROWS * QKV_VECTORS * L];
    alignas(64) typename P::Element other[P::terms];
    for (T &number : one) number = start[0];
    for (T &number : sums) number = start[1];
    __builtin_memset(other, 0, sizeof other);
    const Vector<T> right = load(one);
    const auto left = P::broadcast(other);
    Vector<T> sum[QKV_ROWS * QKV_VECTORS];
    for (int i = 0; i < QKV_ROWS * QKV_VECTORS; ++i) sum[i] = load(sums + i * L) + (T)i;
    for (int64_t round = 0; round < rounds; ++round)
#pragma GCC unroll 32
        for (int i = 0; i < QKV_ROWS * QKV_VECTORS; ++i) sum[i] = P::template add<false>(sum[i], left, right);
    for (int i = 0; i < QKV_ROWS * QKV_VECTORS; ++i) start[0] = sum[i][0];
    return 2.0 * P::terms * L * QKV_ROWS * QKV_VECTORS * (double)rounds;
}

inline double multiply_most(Dtype dtype, int64_t rounds) {
#if defined(__AVX512BF16__)
    if (dtype == Dtype::bfloat16) return multiply_in_registers<Pairs>(rounds);
#endif
    return is_double(dtype) ? multiply_in_registers<Plain<double>>(rounds) : multiply_in_registers<Plain<float>>(rounds);
}
