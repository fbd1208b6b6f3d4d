// The terms that are added to a block of scores, added up beforehand. A term of -inf counts as masked, whatever the others are
// and whatever the score: NaN and infinity too.

template <class T> QKV_INLINE Vector<T> plus_bias(Vector<T> sum, Vector<T> bias) {
    return bias == -infinity<T> ? bias : sum + bias;
}

// sum = the term's value where it is the first, or else sum + that.
template <class T> QKV_INLINE void accumulate(bool fresh, Vector<T> bias, T *sum) {
    store(sum, fresh ? bias : plus_bias<T>(load(sum), bias));
}

template <class T, int Q>
void add_alibi(const BiasTerm &term, const Tile<T, Q> &tile, int64_t first, int64_t count, bool fresh, T *sum) {
    constexpr int L = lanes<T>;
    for (int q = 0; q < Q; ++q) {
        Vector<T> slope;
        IntVector<T> position;
        for (int lane = 0; lane < L; ++lane) {
            slope[lane] = -((const T *)term.values.data)[tile.head[q * L + lane] * term.values.stride[1]];
            position[lane] = (Int<T>)(tile.index[q * L + lane] + term.offset - first);
        }
        for (int64_t j = 0; j < count; ++j) {
            const IntVector<T> step = position - (Int<T>)j;
            const Vector<T> distance = __builtin_convertvector(step < 0 ? -step : step, Vector<T>);
            accumulate(fresh, slope * distance, sum + (j * Q + q) * L);
        }
    }
}

// The lanes are consecutive queries of one head (a problem with this bias is never folded), so that a key's row of biases is
// a run of the head's table, read backwards: `line` holds that table for this tile and block, reversed.
template <class T, int Q>
void add_relative(const BiasTerm &term, const Tile<T, Q> &tile, int64_t first, int64_t count, T *line, bool fresh, T *sum) {
    constexpr int width = Tile<T, Q>::width;
    const int64_t stride = term.values.stride[3];
    const T *table = (const T *)term.values.data + tile.head[0] * term.values.stride[1] + term.radius * stride;
    const int64_t furthest = first + count - 1 - (tile.index[0] + term.offset);
    for (int64_t i = 0; i < count + width - 1; ++i) {
        const int64_t distance = furthest - i;
        const int64_t near = distance < -term.radius ? -term.radius : distance > term.radius ? term.radius : distance;
        line[i] = table[near * stride];
    }
    for (int64_t j = 0; j < count; ++j)
        for (int at = 0; at < width; at += lanes<T>) accumulate(fresh, load(line + count - 1 - j + at), sum + j * width + at);
}

template <class T, int Q>
void add_array(const BiasTerm &term, const Tile<T, Q> &tile, int64_t batch, int64_t first, int64_t count, bool fresh, T *sum) {
    constexpr int L = lanes<T>, width = Q * L;
    const int64_t *stride = term.values.stride;
    for (int q = 0; q < width; q += L) {
        const char *rows[L];
        for (int lane = 0; lane < L; ++lane)
            rows[lane] = (const char *)((const T *)term.values.data + batch * stride[0] + tile.head[q + lane] * stride[1] +
                                        tile.index[q + lane] * stride[2] + first * stride[3]);
        for (int64_t j = 0; j < count; j += L) {  // keys by as many as are turned at once
            alignas(64) T part[L * L];
            const int64_t used = count - j < L ? count - j : L;
            if (stride[3] == 1)
                rows_to_lanes(rows, used, L, part);
            else
                for (int64_t i = 0; i < used; ++i)
                    for (int lane = 0; lane < L; ++lane) part[i * L + lane] = ((const T *)rows[lane])[i * stride[3]];
            for (int64_t i = 0; i < used; ++i) accumulate(fresh, load(part + i * L), sum + (j + i) * width + q);
            for (int lane = 0; lane < L; ++lane) rows[lane] += used * stride[3] * (int64_t)sizeof(T);
        }
    }
}

// The sum of all terms, (keys, width).
template <class T, int Q>
void sum_biases(const Problem &problem, const Tile<T, Q> &tile, int64_t batch, int64_t first, int64_t count, T *line, T *sum) {
    for (int i = 0; i < problem.bias_terms; ++i) {
        const BiasTerm &term = problem.bias[i];
        switch (term.kind) {
            case BiasKind::alibi: add_alibi(term, tile, first, count, i == 0, sum); break;
            case BiasKind::relative: add_relative(term, tile, first, count, line, i == 0, sum); break;
            case BiasKind::array: add_array(term, tile, batch, first, count, i == 0, sum); break;
        }
    }
}
