// The residual mask: a postfix program over a block of keys of one tile, or of one row (a tile of width 1), evaluated on
// bytes (keys, width) that are 0 or 1.

template <class Queries>
void push_interval(const MaskStep &step, const Queries &tile, int64_t batch, int64_t first, int64_t count, uint8_t *to) {
    constexpr int width = Queries::width;
    int32_t start[width], stop[width];
    for (int lane = 0; lane < width; ++lane) {
        start[lane] = step.first.of(batch)[tile.index[lane]];
        stop[lane] = step.second.of(batch)[tile.index[lane]];
    }
    for (int64_t j = 0; j < count; ++j) {
        const int32_t at = (int32_t)(first + j);
        for (int lane = 0; lane < width; ++lane) to[j * width + lane] = (at >= start[lane]) & (at < stop[lane]);
    }
}

template <class Queries>
void push_equal(const MaskStep &step, const Queries &tile, int64_t batch, int64_t first, int64_t count, uint8_t *to) {
    constexpr int width = Queries::width;
    int32_t id[width];
    for (int lane = 0; lane < width; ++lane) id[lane] = step.first.of(batch)[tile.index[lane]];
    const int32_t *ids = step.second.of(batch) + first;
    for (int64_t j = 0; j < count; ++j)
        for (int lane = 0; lane < width; ++lane) to[j * width + lane] = ids[j] == id[lane];
}

template <class Queries>
void push_array(const MaskStep &step, const Queries &tile, int64_t batch, int64_t first, int64_t count, uint8_t *to) {
    constexpr int width = Queries::width;
    const int64_t *stride = step.array.stride;
    const auto row_of = [&](int lane) {
        return step.array.data + batch * stride[0] + tile.head[lane] * stride[1] + tile.index[lane] * stride[2] + first * stride[3];
    };
    if constexpr (width % 8 == 0) {
        if (stride[3] == 1) {
            constexpr int L = width % 16 == 0 ? 16 : 8;
            for (int q = 0; q < width; q += L) {
                const char *rows[L];
                for (int lane = 0; lane < L; ++lane) rows[lane] = row_of(q + lane);
                rows_to_lanes(rows, count, width, to + q);
            }
            for (int64_t at = 0; at < count * width; ++at) to[at] = to[at] != 0;
            return;
        }
    }
    for (int lane = 0; lane < width; ++lane) {
        const char *row = row_of(lane);
        for (int64_t j = 0; j < count; ++j) to[j * width + lane] = row[j * stride[3]] != 0;
    }
}

// Runs the program; the result lies at the bottom of `stack`, whose slots are keys_in_block * width bytes.
template <class Queries>
void evaluate_mask(const Problem &problem, const Queries &tile, int64_t batch, int64_t first, int64_t count,
                   uint8_t *stack) {
    constexpr int64_t slot = keys_in_block * Queries::width;
    const int64_t used = count * Queries::width;
    int depth = 0;
    for (int i = 0; i < problem.mask_steps; ++i) {
        const MaskStep &step = problem.mask[i];
        uint8_t *top = stack + depth * slot;
        switch (step.op) {
            case MaskOp::interval: push_interval(step, tile, batch, first, count, top), ++depth; break;
            case MaskOp::equal: push_equal(step, tile, batch, first, count, top), ++depth; break;
            case MaskOp::array: push_array(step, tile, batch, first, count, top), ++depth; break;
            case MaskOp::both:
                for (int64_t at = 0; at < used; ++at) top[at - 2 * slot] &= top[at - slot];
                --depth;
                break;
            case MaskOp::either:
                for (int64_t at = 0; at < used; ++at) top[at - 2 * slot] |= top[at - slot];
                --depth;
                break;
            case MaskOp::negate:
                for (int64_t at = 0; at < used; ++at) top[at - slot] ^= 1;
                break;
        }
    }
}

// What a program allows of a block.
enum class Allowed { nothing, something, everything };

inline Allowed allowed_of(const uint8_t *mask, int64_t size) {
    uint8_t any = 0, all = 1;
    for (int64_t at = 0; at < size; ++at) any |= mask[at], all &= mask[at];
    return all ? Allowed::everything : any ? Allowed::something : Allowed::nothing;
}
