// Both products for a few rows that have their keys to themselves, as in decoding. Each key and value is read from memory
// once, in the type it lies there, and what limits the speed is how fast that goes: lanes go along the dimensions, and what
// comes next is asked for early. In a tile of queries most lanes would hold nothing.

struct Bfloat16 {
    uint16_t bits;
};
struct Float16 {
    uint16_t bits;
};

template <class T> QKV_INLINE Vector<T> load_as(const T *from) { return load(from); }

typedef uint16_t Halves __attribute__((vector_size(QKV_VECTOR_BYTES / 2)));

template <class T> QKV_INLINE Vector<T> load_as(const Bfloat16 *from) {
    Halves halves;
    __builtin_memcpy(&halves, from, sizeof halves);
    return (Vector<T>)(__builtin_convertvector(halves, IntVector<T>) << 16);
}

// As from_float16, on a vector.
template <class T> QKV_INLINE Vector<T> load_as(const Float16 *from) {
    Halves halves;
    __builtin_memcpy(&halves, from, sizeof halves);
#if defined(__AVX512F__)
    return (Vector<T>)_mm512_maskz_cvtph_ps(0xffff, (__m256i)halves);  // without a mask, GCC 12 warns of its own header
#elif defined(__F16C__)
    return (Vector<T>)_mm256_cvtph_ps((__m128i)halves);
#else
    const IntVector<T> bits = __builtin_convertvector(halves, IntVector<T>);
    const IntVector<T> size = (bits & 0x7fff) << 13, sign = (bits & 0x8000) << 16;
    const IntVector<T> finite = (IntVector<T>)((Vector<T>)size * 0x1p112f);
    return (Vector<T>)(sign | (size >= 0x0f800000 ? size | 0x7f800000 : finite));
#endif
}

// The first `count` lanes, the others 0; nothing is read beyond them.
template <class T, class In> QKV_INLINE Vector<T> load_part(const In *from, int64_t count) {
    In copy[lanes<T>] = {};
    __builtin_memcpy(copy, from, (size_t)count * sizeof(In));
    return load_as<T>(copy);
}

// Rows of keys or values, and what will be read after them.
template <class In> struct Stream {
    const In *data;
    int64_t stride, count, width;
    const In *next_data;
    int64_t next_stride, next_count, next_width;

    // Asks for what lies about 8 kB beyond row j: by the time it is needed it has come from memory.
    QKV_INLINE void ask_beyond(int64_t j) const {
        const int64_t row_bytes = width * (int64_t)sizeof(In);
        j += row_bytes < 8192 ? 8192 / row_bytes : 1;
        const char *row = (const char *)(data + j * stride);
        int64_t bytes = row_bytes;
        if (j >= count) {
            if (j - count >= next_count) return;
            row = (const char *)(next_data + (j - count) * next_stride);
            bytes = next_width * (int64_t)sizeof(In);
        }
        for (int64_t at = 0; at < bytes; at += 64) __builtin_prefetch(row + at, 0, 2);
    }
};

template <int... I> struct Places {};
template <int N, int... I> struct PlacesTo : PlacesTo<N - 1, N - 1, I...> {};
template <int... I> struct PlacesTo<0, I...> {
    using type = Places<I...>;
};

// Runs of S lanes of two vectors, each added to half its length.
template <class T, int S, int... I> QKV_INLINE Vector<T> halve(Vector<T> a, Vector<T> b, Places<I...>) {
    return __builtin_shufflevector(a, b, (I / (S / 2) * S + I % (S / 2))...) +
           __builtin_shufflevector(a, b, (I / (S / 2) * S + I % (S / 2) + S / 2)...);
}

// Lane i of the result is sum_of_lanes(value[i]), to the last bit.
template <class T, int S = lanes<T>> QKV_INLINE Vector<T> sums_of_lanes(const Vector<T> *value) {
    if constexpr (S == 1) {
        return *value;
    } else {
        Vector<T> half[S / 2];
#pragma GCC unroll 16
        for (int i = 0; i < S / 2; ++i)
            half[i] = halve<T, S>(value[2 * i], value[2 * i + 1], typename PlacesTo<lanes<T>>::type{});
        return sums_of_lanes<T, S / 2>(half);
    }
}

// scores[r][j] = queries[r] . keys[j] for R rows of queries, which are `depth` apart and end in zeros up to whole vectors.
template <class T, int R, class In>
void stream_keys(const Stream<In> &keys, const T *queries, int64_t depth, T *scores, int64_t strip, bool asks) {
    constexpr int L = lanes<T>, K = L / R;
    const int64_t whole = keys.width / L * L;
    for (int64_t j = 0; j < keys.count; j += K) {
        const In *key[K];
        Vector<T> sum[L];
        for (int k = 0; k < K; ++k) {
            const int64_t row = j + k < keys.count ? j + k : keys.count - 1;
            key[k] = keys.data + row * keys.stride;
            if (asks) keys.ask_beyond(j + k);
        }
#pragma GCC unroll 16
        for (int i = 0; i < L; ++i) sum[i] = Vector<T>{};
        for (int64_t d = 0; d < whole; d += L) {
            Vector<T> q[R];
#pragma GCC unroll 4
            for (int r = 0; r < R; ++r) q[r] = load(queries + r * depth + d);
#pragma GCC unroll 16
            for (int k = 0; k < K; ++k) {
                const Vector<T> b = load_as<T>(key[k] + d);
#pragma GCC unroll 4
                for (int r = 0; r < R; ++r) sum[r * K + k] += q[r] * b;
            }
        }
        if (whole < keys.width)
            for (int k = 0; k < K; ++k) {
                const Vector<T> b = load_part<T>(key[k] + whole, keys.width - whole);
                for (int r = 0; r < R; ++r) sum[r * K + k] += load(queries + r * depth + whole) * b;
            }
        alignas(64) T found[L];
        store(found, sums_of_lanes<T>(sum));
        const int64_t used = keys.count - j < K ? keys.count - j : K;
        for (int r = 0; r < R; ++r) {
            if (used == K)
                __builtin_memcpy(scores + r * strip + j, found + r * K, K * sizeof(T));
            else
                __builtin_memcpy(scores + r * strip + j, found + r * K, (size_t)used * sizeof(T));
        }
    }
}

// sum[r][v] = over j of weights[r][j] * values[j][v]. `guarded`: a weight of 0 keeps out whatever it multiplies.
template <class T, int R, int V, bool guarded, bool part, class In>
QKV_INLINE void sum_values(const Stream<In> &values, int64_t first, const T *weights, int64_t strip, bool asks,
                           Vector<T> (&sum)[R][V]) {
#pragma GCC unroll 4
    for (int r = 0; r < R; ++r)
#pragma GCC unroll 8
        for (int v = 0; v < V; ++v) sum[r][v] = Vector<T>{};
    for (int64_t j = 0; j < values.count; ++j) {
        const In *row = values.data + j * values.stride + first;
        if (asks) values.ask_beyond(j);
        Vector<T> b[V];
#pragma GCC unroll 8
        for (int v = 0; v < V; ++v)
            b[v] = part ? load_part<T>(row, values.width - first) : load_as<T>(row + v * lanes<T>);
#pragma GCC unroll 4
        for (int r = 0; r < R; ++r) {
            const T weight = weights[r * strip + j];
#pragma GCC unroll 8
            for (int v = 0; v < V; ++v) {
                const Vector<T> next = sum[r][v] + weight * b[v];
                sum[r][v] = !guarded || weight != 0 ? next : sum[r][v];
            }
        }
    }
}

// output[r] = output[r] * rescale[r] + weights[r] . values, for one strip of V vectors from dimension `first` on.
template <class T, int R, int V, bool part, class In>
QKV_INLINE void add_values(const Stream<In> &values, int64_t first, const T *weights, int64_t strip, bool asks,
                           const T *rescale, T *output, int64_t depth) {
    Vector<T> sum[R][V], odd = {};
    sum_values<T, R, V, false, part>(values, first, weights, strip, asks, sum);
    for (int r = 0; r < R; ++r)
        for (int v = 0; v < V; ++v) odd += sum[r][v] - sum[r][v];
    // NaN or infinity: perhaps from a value that is masked, so with care again.
    if (sum_of_lanes<T>(odd) != 0) sum_values<T, R, V, true, part>(values, first, weights, strip, false, sum);
    for (int r = 0; r < R; ++r)
        for (int v = 0; v < V; ++v) {
            T *place = output + r * depth + first + v * lanes<T>;
            store(place, load(place) * rescale[r] + sum[r][v]);
        }
}

template <class T, int R, class In>
void stream_values(const Stream<In> &values, const T *weights, int64_t strip, bool asks, const T *rescale, T *output,
                   int64_t depth) {
    constexpr int L = lanes<T>;
    // As many sums as registers hold, in strips of a power of two.
    constexpr int room = QKV_ROWS * QKV_VECTORS / R, most = room >= 8 ? 8 : room >= 4 ? 4 : 2;
    by_rows<most>(0, values.width / L, [&](auto vectors, int64_t first) QKV_LAMBDA {
        constexpr int V = decltype(vectors)::value;
        add_values<T, R, V, false>(values, first * L, weights, strip, asks && first == 0, rescale, output, depth);
    });
    const int64_t whole = values.width / L * L;
    if (whole < values.width)
        add_values<T, R, 1, true>(values, whole, weights, strip, asks && whole == 0, rescale, output, depth);
}
