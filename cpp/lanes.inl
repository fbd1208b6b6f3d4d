// Vectors of the instruction set at hand, in the compiler's own vector extension: the same source on x86 and ARM.
// QKV_VECTOR_BYTES, QKV_ROWS and QKV_VECTORS come from the isa_*.cpp that includes this.

#define QKV_INLINE inline __attribute__((always_inline))
#define QKV_LAMBDA __attribute__((always_inline))

template <class T> struct Lanes;

template <> struct Lanes<float> {
    typedef float V __attribute__((vector_size(QKV_VECTOR_BYTES)));
    typedef int32_t I __attribute__((vector_size(QKV_VECTOR_BYTES)));
    typedef uint8_t Bytes __attribute__((vector_size(QKV_VECTOR_BYTES / 4)));
    typedef double Doubles __attribute__((vector_size(QKV_VECTOR_BYTES * 2)));
    typedef int32_t Int;
};

template <> struct Lanes<double> {
    typedef double V __attribute__((vector_size(QKV_VECTOR_BYTES)));
    typedef int64_t I __attribute__((vector_size(QKV_VECTOR_BYTES)));
    typedef uint8_t Bytes __attribute__((vector_size(QKV_VECTOR_BYTES / 8)));
    typedef V Doubles;
    typedef int64_t Int;
};

template <class T> using Vector = typename Lanes<T>::V;
template <class T> using IntVector = typename Lanes<T>::I;
template <class T> using Int = typename Lanes<T>::Int;

template <class T> constexpr int lanes = QKV_VECTOR_BYTES / (int)sizeof(T);

template <class T> QKV_INLINE Vector<T> load(const T *from) {
    Vector<T> value;
    __builtin_memcpy(&value, from, sizeof value);
    return value;
}

template <class T> QKV_INLINE void store(T *to, Vector<T> value) { __builtin_memcpy(to, &value, sizeof value); }

template <class T> QKV_INLINE IntVector<T> load_int(const Int<T> *from) {
    IntVector<T> value;
    __builtin_memcpy(&value, from, sizeof value);
    return value;
}

template <class T> QKV_INLINE void store_int(Int<T> *to, IntVector<T> value) { __builtin_memcpy(to, &value, sizeof value); }

// Bytes that are 0 or 1, as a mask of lanes.
template <class T> QKV_INLINE IntVector<T> load_mask(const uint8_t *from) {
    typename Lanes<T>::Bytes bytes;
    __builtin_memcpy(&bytes, from, sizeof bytes);
    return __builtin_convertvector(bytes, IntVector<T>) != 0;
}

template <class T> QKV_INLINE Vector<T> splat(T value) { return Vector<T>{} + value; }

// The larger; a NaN in `candidate` is passed over.
template <class V> QKV_INLINE V larger(V candidate, V value) { return candidate > value ? candidate : value; }

// The sum of all lanes, halving: the order is fixed by the lane count alone.
template <class T> QKV_INLINE T sum_of_lanes(Vector<T> value) {
    T part[lanes<T>];
    store(part, value);
    for (int width = lanes<T> / 2; width > 0; width /= 2)
        for (int lane = 0; lane < width; ++lane) part[lane] += part[lane + width];
    return part[0];
}

// Whether a comparison holds in any lane.
template <class T> QKV_INLINE bool any_lane(IntVector<T> holds) {
    Int<T> part[lanes<T>], any = 0;
    __builtin_memcpy(part, &holds, sizeof part);
    for (int lane = 0; lane < lanes<T>; ++lane) any |= part[lane];
    return any != 0;
}

template <class T> constexpr T infinity = (T)__builtin_inf();

template <class T> void clear(T *to, int64_t count) {
    for (int64_t i = 0; i < count; ++i) to[i] = 0;
}

// By whole vectors, as a compiler that has much to inline does not always see: `count` is a multiple of the lanes.
template <class T> void scale(T *numbers, int64_t count, T factor) {
    for (int64_t i = 0; i < count; i += lanes<T>) store(numbers + i, load(numbers + i) * factor);
}

// Memory for one thread's work, aligned to a cache line; null where there was none to be had.
template <class T> struct Buffer {
    T *data = nullptr;
    bool ok = true;
    explicit Buffer(int64_t count) {
        if (count <= 0) return;
        data = (T *)aligned_alloc(64, ((size_t)count * sizeof(T) + 63) / 64 * 64);
        ok = data != nullptr;
    }
    ~Buffer() { free(data); }
    Buffer(const Buffer &) = delete;
    Buffer &operator=(const Buffer &) = delete;
};
