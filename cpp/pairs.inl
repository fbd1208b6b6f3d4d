// bfloat16 numbers multiplied two at a time, by processors that have an instruction for the dot product of pairs.
//
// A 32-bit lane holds two neighbours of the axis that is summed over: two dimensions of a query, or the weights of keys 2i and
// 2i + 1. Keys are read as they lie, a pair broadcast at a time; values are interleaved by pairs of keys, once for all tiles
// that share a block. Sums are float32. Weights are rounded to bfloat16 for the product with values, which is divided by
// the sum of the rounded weights; logsumexp and all statistics come from the weights as they were. Subnormal numbers count as 0 in the instruction.
#if defined(__AVX512BF16__)

constexpr bool multiplies_pairs = true;

struct Pairs {
    using Real = float;
    using Element = uint16_t;
    static constexpr int terms = 2;

    static QKV_INLINE __m512i broadcast(const uint16_t *at) {
        int32_t both;
        __builtin_memcpy(&both, at, sizeof both);
        return _mm512_set1_epi32(both);
    }

    template <bool guarded> static QKV_INLINE Vector<float> add(Vector<float> sum, __m512i a, Vector<float> b) {
        const __m512i right = (__m512i)b;
        const __m512i left = guarded ? _mm512_maskz_mov_epi16(_mm512_test_epi16_mask(right, right), a) : a;
        return (Vector<float>)_mm512_dpbf16_ps((__m512)sum, (__m512bh)left, (__m512bh)right);
    }

    // The same, but a weight of 0 on the left keeps out what is on the right.
    template <bool guarded> static QKV_INLINE Vector<float> add_guarding(Vector<float> sum, __m512i a, Vector<float> b) {
        const __m512i right = guarded ? _mm512_maskz_mov_epi16(_mm512_test_epi16_mask(a, a), (__m512i)b) : (__m512i)b;
        return (Vector<float>)_mm512_dpbf16_ps((__m512)sum, (__m512bh)a, (__m512bh)right);
    }

    // Queries must stay as they are to be exact, so scores are scaled instead.
    static constexpr bool scales_scores = true;
    // Dividing by the sum of what was multiplied, a query that sees one key alone gets that key's value to the bit.
    static constexpr bool rounds_weights = true;

    static int64_t padded(int64_t dim) { return (dim + 1) / 2 * 2; }
    static void copy_padded(const uint16_t *from, int64_t dim, uint16_t *to) {
        __builtin_memcpy(to, from, (size_t)dim * 2);
        if (dim % 2) to[dim] = 0;
    }

    static int64_t query_depth(const Problem &problem) { return padded(problem.dim) / 2; }
    static const char *query_row(const Problem &problem, const char *from, float *copy) {
        if (problem.dim % 2 == 0) return from;
        copy_padded((const uint16_t *)from, problem.dim, (uint16_t *)copy);
        return (const char *)copy;
    }

    static Block<uint16_t> load_keys(const Problem &problem, int64_t batch, int64_t head, int64_t first, int64_t count,
                                     float *copy) {
        const int64_t stride = problem.key.stride[2], dim = problem.dim;
        const uint16_t *from = (const uint16_t *)problem.key.at(batch, head, first, 2);
        if (dim % 2 == 0 && !crowded(stride * 2)) return {from, stride};
        uint16_t *to = (uint16_t *)copy;
        for (int64_t row = 0; row < count; ++row) copy_padded(from + row * stride, dim, to + row * padded(dim));
        return {to, padded(dim)};
    }

    // Row i holds the values of keys 2i and 2i + 1 in turn; a key outside of the run is 0.
    static Block<uint16_t> load_values(const Problem &problem, int64_t batch, int64_t head, int64_t first, int64_t count,
                                       float *copy) {
        const int64_t dim = problem.value_dim;
        uint16_t *to = (uint16_t *)copy;
        const auto row_of = [&](int64_t key) {
            const bool inside = key >= first && key < first + count;
            return inside ? (const uint16_t *)problem.value.at(batch, head, key, 2) : nullptr;
        };
        for (int64_t key = first / 2 * 2; key < first + count; key += 2, to += 2 * dim) {
            const uint16_t *even = row_of(key), *odd = row_of(key + 1);
            if (even && odd)
                for (int64_t d = 0; d < dim; ++d) to[2 * d] = even[d], to[2 * d + 1] = odd[d];
            else
                for (int64_t d = 0; d < dim; ++d) to[2 * d] = even ? even[d] : 0, to[2 * d + 1] = odd ? odd[d] : 0;
        }
        return {(const uint16_t *)copy, 2 * dim};
    }

    // Rounds to nearest; halves away from 0. Weights are positive, and a NaN stays one in the sum of weights.
    static QKV_INLINE Vector<float> pack(Vector<float> even, Vector<float> odd) {
        typedef uint32_t Bits __attribute__((vector_size(64)));
        const Bits low = ((Bits)even + 0x8000) >> 16, high = ((Bits)odd + 0x8000) & 0xffff0000;
        return (Vector<float>)(low | high);
    }

    // Packs two weights and adds them, rounded, to `mass`.
    static QKV_INLINE Vector<float> take(Vector<float> even, Vector<float> odd, Vector<float> &mass) {
        const Vector<float> packed = pack(even, odd);
        const __m512i ones = _mm512_set1_epi32(0x3f803f80);
        mass = (Vector<float>)_mm512_dpbf16_ps((__m512)mass, (__m512bh)(__m512i)packed, (__m512bh)ones);
        return packed;
    }

    // Packs the weights of R keys from `first` on, which is even.
    template <int R, int Q>
    static QKV_INLINE void store_rows(int64_t first, const Vector<float> (&weight)[R][Q], float *to, Vector<float> (&mass)[Q]) {
        constexpr int halved = (R + 1) / 2;
        Vector<float> packed[halved][Q];
#pragma GCC unroll 4
        for (int r = 0; r < halved; ++r)
#pragma GCC unroll 4
            for (int q = 0; q < Q; ++q)
                packed[r][q] = take(weight[2 * r][q], R == 1 ? Vector<float>{} : weight[(2 * r + 1) % R][q], mass[q]);
        store_vectors<halved, Q, float>(packed, to + first / 2 * Q * lanes<float>);
    }

    // Packs what `weight_of(j, q)` gives for the keys first + j, pairs beginning at even keys.
    template <int Q, class WeightOf>
    static QKV_INLINE void store_weights(int64_t first, int64_t count, float *to, Vector<float> (&mass)[Q], WeightOf weight_of) {
        int64_t j = 0;
        const auto next = [&](auto even, auto odd) QKV_LAMBDA {
#pragma GCC unroll 4
            for (int q = 0; q < Q; ++q, to += lanes<float>) {
                const Vector<float> low = even(q);
                store(to, take(low, odd(q), mass[q]));
            }
        };
        const auto none = [](int) QKV_LAMBDA { return Vector<float>{}; };
        const auto here = [&](int q) QKV_LAMBDA { return weight_of(j, q); };
        const auto after = [&](int q) QKV_LAMBDA { return weight_of(j + 1, q); };
        if (first % 2) next(none, here), ++j;
        for (; j + 1 < count; j += 2) next(here, after);
        if (j < count) next(here, none);
    }

    // Pairs begin at even keys: where `first` is odd, the first pair holds but one weight.
    static void drop(int64_t first, int64_t size, int64_t width, const float *factors, float *weights) {
        const int64_t odd = first % 2 * width;
        uint16_t *halves = (uint16_t *)weights;
        for (int64_t at = 0; at < size; ++at)
            if (factors[at] == 0) {
                const int64_t place = at + odd, pair = place / (2 * width), lane = place % width;
                halves[(pair * width + lane) * 2 + place / width % 2] = 0;
            }
    }

    typedef uint16_t Halves __attribute__((vector_size(32)));
    typedef uint32_t Words __attribute__((vector_size(64)));
    static QKV_INLINE Halves rounded(Vector<float> value) { return (Halves)_mm512_cvtneps_pbh((__m512)value); }

    // A block (keys, width) of numbers of any sign, rounded, in rows: two queries a 32-bit lane.
    template <int Q> static void round_rows(const float *from, int64_t count, float *to) {
        for (int64_t at = 0; at < count * Q; ++at) {
            const Halves halves = rounded(load(from + at * lanes<float>));
            __builtin_memcpy((char *)to + at * sizeof halves, &halves, sizeof halves);
        }
    }

    // The same with two keys a lane, the first of which is even; a key without a partner gets 0.
    template <int Q> static void round_pairs(const float *from, int64_t count, float *to) {
        const auto word = [&](int64_t j, int q) QKV_LAMBDA {
            return __builtin_convertvector(rounded(load(from + (j * Q + q) * lanes<float>)), Words);
        };
        for (int64_t j = 0; j < count; j += 2)
            for (int q = 0; q < Q; ++q, to += lanes<float>) {
                const Words odd = j + 1 < count ? word(j + 1, q) : Words{};
                store(to, (Vector<float>)(word(j, q) | odd << 16));
            }
    }
};

#else
constexpr bool multiplies_pairs = false;
#endif
