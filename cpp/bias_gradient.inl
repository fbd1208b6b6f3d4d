// What a block of gradients of scores (keys, width) adds to those of the bias terms. Lanes that hold no query are 0.

template <class T, int Q>
void add_slope_gradient(const BiasTerm &term, const Tile<T, Q> &tile, int64_t first, int64_t count, const T *scores, double *total) {
    constexpr int L = lanes<T>;
    for (int q = 0; q < Q; ++q) {
        IntVector<T> position;
        for (int lane = 0; lane < L; ++lane) position[lane] = (Int<T>)(tile.index[q * L + lane] + term.offset - first);
        Vector<T> sum{};
        for (int64_t j = 0; j < count; ++j) {
            const IntVector<T> step = position - (Int<T>)j;
            sum += load(scores + (j * Q + q) * L) * __builtin_convertvector(step < 0 ? -step : step, Vector<T>);
        }
        *total -= (double)sum_of_lanes<T>(sum);
    }
}

// The reverse of add_relative: `line` gathers the diagonals of the block, which then go to their places in the table.
template <class T, int Q>
void add_table_gradient(const BiasTerm &term, const Tile<T, Q> &tile, int64_t first, int64_t count, const T *scores, T *line,
                        double *table) {
    constexpr int width = Tile<T, Q>::width;
    for (int64_t i = 0; i < count + width - 1; ++i) line[i] = 0;
    // Number by number: g++ 12 reorders whole vectors that overlap in part, and sums wrongly.
    for (int64_t j = 0; j < count; ++j)
        for (int lane = 0; lane < width; ++lane) line[count - 1 - j + lane] += scores[j * width + lane];
    const int64_t furthest = first + count - 1 - (tile.index[0] + term.offset);
    for (int64_t i = 0; i < count + width - 1; ++i) {
        const int64_t distance = furthest - i;
        table[(distance < -term.radius ? -term.radius : distance > term.radius ? term.radius : distance) + term.radius] += (double)line[i];
    }
}

template <class T, int Q>
void add_array_gradient(const Array &gradient, const Tile<T, Q> &tile, int64_t batch, int64_t first, int64_t count, const T *scores) {
    constexpr int width = Tile<T, Q>::width;
    const int64_t *stride = gradient.stride;
    T *base = (T *)gradient.data + batch * stride[0] + tile.head[0] * stride[1] + first * stride[3];
    if (stride[2] == 0) {
        for (int64_t j = 0; j < count; ++j) {
            Vector<T> sum{};
            for (int at = 0; at < width; at += lanes<T>) sum += load(scores + j * width + at);
            base[j * stride[3]] += sum_of_lanes<T>(sum);
        }
        return;
    }
    for (int lane = 0; lane < tile.rows; ++lane) {
        T *row = base + tile.index[lane] * stride[2];
        if (stride[3] == 0) {
            T sum = 0;
            for (int64_t j = 0; j < count; ++j) sum += scores[j * width + lane];
            *row += sum;
        } else {
            for (int64_t j = 0; j < count; ++j) row[j * stride[3]] += scores[j * width + lane];
        }
    }
}
