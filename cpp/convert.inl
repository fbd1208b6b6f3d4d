// Rows of any input type as rows of the type that is computed in, and results back.

QKV_INLINE float from_bits(uint32_t bits) {
    float value;
    __builtin_memcpy(&value, &bits, sizeof value);
    return value;
}

QKV_INLINE uint32_t to_bits(float value) {
    uint32_t bits;
    __builtin_memcpy(&bits, &value, sizeof bits);
    return bits;
}

QKV_INLINE float from_bfloat16(uint16_t half) { return from_bits((uint32_t)half << 16); }

// Exact: the exponent is moved by a multiplication, which also makes normal numbers of the subnormal.
QKV_INLINE float from_float16(uint16_t half) {
    const uint32_t sign = (uint32_t)(half & 0x8000) << 16;
    const uint32_t size = (uint32_t)(half & 0x7fff) << 13;
    const uint32_t finite = to_bits(from_bits(size) * 0x1p112f);
    const uint32_t special = size | 0x7f800000;
    return from_bits(sign | (size >= 0x0f800000 ? special : finite));
}

// Rounds to nearest, ties to even.
inline uint16_t to_bfloat16(float value) {
    const uint32_t bits = to_bits(value);
    if (value != value) return (uint16_t)(bits >> 16 | 0x40);
    return (uint16_t)((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

// Rounds to nearest, ties to even.
inline uint16_t to_float16(float value) {
    const uint32_t bits = to_bits(value);
    const uint16_t sign = (uint16_t)(bits >> 16 & 0x8000);
    const uint32_t size = bits & 0x7fffffff;
    if (size > 0x7f800000) return sign | 0x7e00;
    if (size >= 0x477ff000) return sign | 0x7c00;
    if (size < 0x38800000) {  // subnormal: adding 0.5 leaves the wanted bits, rounded, at the end of the mantissa
        return sign | (uint16_t)(to_bits(from_bits(size) + 0.5f) - 0x3f000000);
    }
    return sign | (uint16_t)((size + 0xfff + (size >> 13 & 1) - 0x38000000) >> 13);
}

inline int64_t bytes_of(Dtype dtype) {
    return dtype == Dtype::float64 ? 8 : dtype == Dtype::float32 ? 4 : 2;
}

// Values may have no dimensions, and then no memory.
inline void copy_bytes(void *to, const void *from, int64_t bytes) {
    if (bytes) __builtin_memcpy(to, from, (size_t)bytes);
}

inline void load_row(Dtype dtype, const char *from, int64_t count, float *to) {
    const uint16_t *half = (const uint16_t *)from;
    if (dtype == Dtype::float32) {
        copy_bytes(to, from, count * (int64_t)sizeof(float));
    } else if (dtype == Dtype::bfloat16) {
        for (int64_t i = 0; i < count; ++i) to[i] = from_bfloat16(half[i]);
    } else {
        int64_t i = 0;
#if defined(__AVX512F__)
        for (; i + 16 <= count; i += 16)
            _mm512_storeu_ps(to + i, _mm512_maskz_cvtph_ps(0xffff, _mm256_loadu_si256((const __m256i *)(half + i))));
#elif defined(__F16C__)
        for (; i + 8 <= count; i += 8)
            _mm256_storeu_ps(to + i, _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)(half + i))));
#endif
        for (; i < count; ++i) to[i] = from_float16(half[i]);
    }
}

inline void load_row(Dtype, const char *from, int64_t count, double *to) {
    copy_bytes(to, from, count * (int64_t)sizeof(double));
}

inline void store_row(Dtype dtype, const float *from, int64_t count, char *to) {
    if (dtype == Dtype::float32) {
        copy_bytes(to, from, count * (int64_t)sizeof(float));
    } else if (dtype == Dtype::bfloat16) {
        for (int64_t i = 0; i < count; ++i) ((uint16_t *)to)[i] = to_bfloat16(from[i]);
    } else {
        for (int64_t i = 0; i < count; ++i) ((uint16_t *)to)[i] = to_float16(from[i]);
    }
}

inline void store_row(Dtype, const double *from, int64_t count, char *to) {
    copy_bytes(to, from, count * (int64_t)sizeof(double));
}

// One vector of results.
QKV_INLINE void store_vector(Dtype, Vector<double> value, char *to) { __builtin_memcpy(to, &value, sizeof value); }

QKV_INLINE void store_vector(Dtype dtype, Vector<float> value, char *to) {
    if (dtype == Dtype::float32) {
        __builtin_memcpy(to, &value, sizeof value);
    } else if (dtype == Dtype::bfloat16) {
        typedef uint32_t Bits __attribute__((vector_size(QKV_VECTOR_BYTES)));
        typedef uint16_t Halves __attribute__((vector_size(QKV_VECTOR_BYTES / 2)));
        const Bits bits = (Bits)value, rounded = bits + 0x7fff + (bits >> 16 & 1), quiet = bits | 0x400000;
        const Halves halves = __builtin_convertvector((value != value ? quiet : rounded) >> 16, Halves);
        __builtin_memcpy(to, &halves, sizeof halves);
    } else {
#if defined(__AVX512F__)
        _mm256_storeu_si256((__m256i *)to, _mm512_maskz_cvtps_ph(0xffff, (__m512)value, _MM_FROUND_TO_NEAREST_INT));
#elif defined(__F16C__)
        _mm_storeu_si128((__m128i *)to, _mm256_cvtps_ph((__m256)value, _MM_FROUND_TO_NEAREST_INT));
#else
        float part[lanes<float>];
        store(part, value);
        store_row(dtype, part, lanes<float>, to);
#endif
    }
}

// A block of keys or values, ready to be read: in place, or a copy in the type that is computed in.
template <class T> struct Block {
    const T *data;
    int64_t stride;
};

// Rows a multiple of a kilobyte apart would fight for the same few lines of the cache.
inline bool crowded(int64_t stride_bytes) { return stride_bytes % 1024 == 0; }

template <class T>
Block<T> load_block(const Problem &problem, const Array &array, int64_t batch, int64_t head, int64_t first, int64_t count,
                    int64_t width, T *copy) {
    if (width == 0) return {copy, 0};  // values of no dimensions: statistics alone are wanted
    const int64_t size = bytes_of(problem.dtype);
    const int64_t stride = array.stride[2];
    const char *from = array.at(batch, head, first, size);
    if (size == (int64_t)sizeof(T) && !crowded(stride * size)) return {(const T *)from, stride};
    for (int64_t row = 0; row < count; ++row) load_row(problem.dtype, from + row * stride * size, width, copy + row * width);
    return {copy, width};
}

// The bits of a number but its sign; those of infinity.
inline uint32_t size_bits(float value) { return to_bits(value) & 0x7fffffff; }
inline uint64_t size_bits(double value) {
    uint64_t bits;
    __builtin_memcpy(&bits, &value, sizeof bits);
    return bits & 0x7fffffffffffffff;
}
inline uint16_t size_bits(uint16_t bfloat16) { return bfloat16 & 0x7fff; }
template <class E> inline auto infinite_bits() { return size_bits(infinity<E>); }
template <> inline auto infinite_bits<uint16_t>() { return (uint16_t)0x7f80; }

// By whole vectors: this looks at every value once for each few tiles.
template <class E> bool all_finite(Block<E> block, int64_t count, int64_t width) {
    using Bits = decltype(size_bits((E)0));
    typedef Bits Many __attribute__((vector_size(QKV_VECTOR_BYTES)));
    constexpr int n = QKV_VECTOR_BYTES / (int)sizeof(Bits);
    Many most = {};
    Bits largest = 0;
    for (int64_t row = 0; row < count; ++row) {
        const E *from = block.data + row * block.stride;
        int64_t i = 0;
        for (; i + n <= width; i += n) {
            Many bits;
            __builtin_memcpy(&bits, from + i, sizeof bits);
            bits &= (Bits)((Bits)~(Bits)0 >> 1);
            most = bits > most ? bits : most;
        }
        for (; i < width; ++i) largest = size_bits(from[i]) > largest ? size_bits(from[i]) : largest;
    }
    for (int i = 0; i < n; ++i) largest = most[i] > largest ? most[i] : largest;
    return largest < infinite_bits<E>();
}
