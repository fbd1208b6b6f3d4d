// The terms that are added to a block of scores. A bias of -inf counts as masked, whatever the score: NaN and infinity too.

template <class T, int Q>
void add_alibi(const BiasTerm &term, const Tile<T, Q> &tile, int64_t first, int64_t count, T *scores) {
    constexpr int L = lanes<T>;
    for (int q = 0; q < Q; ++q) {
        Vector<T> slope;
        IntVector<T> position;
        for (int lane = 0; lane < L; ++lane) {
            slope[lane] = ((const T *)term.values.data)[tile.head[q * L + lane] * term.values.stride[1]];
            position[lane] = (Int<T>)(tile.index[q * L + lane] + term.offset - first);
        }
        for (int64_t j = 0; j < count; ++j) {
            T *place = scores + (j * Q + q) * L;
            const IntVector<T> step = position - (Int<T>)j;
            store(place, load(place) - slope * __builtin_convertvector(step < 0 ? -step : step, Vector<T>));
        }
    }
}

// The lanes are consecutive queries of one head (a problem with this bias is never folded), so that a key's row of biases is
// a run of the head's table, read backwards: `line` holds that table for this tile and block, reversed.
template <class T, int Q>
void add_relative(const BiasTerm &term, const Tile<T, Q> &tile, int64_t first, int64_t count, T *line, T *scores) {
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
        for (int at = 0; at < width; at += lanes<T>) {
            T *place = scores + j * width + at;
            const Vector<T> bias = load(line + count - 1 - j + at);
            store(place, bias == -infinity<T> ? bias : load(place) + bias);
        }
}

template <class T, int Q>
void add_array(const BiasTerm &term, const Tile<T, Q> &tile, int64_t batch, int64_t first, int64_t count, T *scores) {
    constexpr int width = Tile<T, Q>::width;
    const int64_t *stride = term.values.stride;
    for (int lane = 0; lane < width; ++lane) {
        const T *row = (const T *)term.values.data + batch * stride[0] + tile.head[lane] * stride[1] +
                       tile.index[lane] * stride[2] + first * stride[3];
        for (int64_t j = 0; j < count; ++j) {
            const T bias = row[j * stride[3]];
            T &score = scores[j * width + lane];
            score = bias == -infinity<T> ? bias : score + bias;
        }
    }
}

template <class T, int Q>
void add_bias(const Problem &problem, const Tile<T, Q> &tile, int64_t batch, int64_t first, int64_t count, T *line,
              T *scores) {
    for (int i = 0; i < problem.bias_terms; ++i) {
        const BiasTerm &term = problem.bias[i];
        switch (term.kind) {
            case BiasKind::alibi: add_alibi(term, tile, first, count, scores); break;
            case BiasKind::relative: add_relative(term, tile, first, count, line, scores); break;
            case BiasKind::array: add_array(term, tile, batch, first, count, scores); break;
        }
    }
}
