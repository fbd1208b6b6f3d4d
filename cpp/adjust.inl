// What is done to a block of scores between their product and their maximum: softcap, biases, mask and bounds. It is made
// ready once for a tile and a block, and applied to a few keys at a time while their scores are in registers.

template <class T> struct Adjustment {
    T cap = 0, inverse_cap = 0;         // 0: none
    const T *bias = nullptr;            // (keys, width), all terms together
    const uint8_t *mask = nullptr;      // (keys, width), bytes that are 0 or 1
    const Int<T> *start = nullptr, *stop = nullptr;  // of each lane, where some key is out of some lane's bounds
    int64_t first = 0;                  // the block's first key
    bool empty = false;                 // the mask leaves nothing

    bool none() const { return cap == 0 && !bias && !mask && !start; }
};

// All but the softcap. `line`, `sums` and `stack` are room to work in, and must stay as they are until it has been applied.
template <class T, int Q>
Adjustment<T> prepare(const Problem &problem, const Tile<T, Q> &tile, int64_t batch, int64_t first, int64_t count, T *line,
                      T *sums, uint8_t *stack) {
    Adjustment<T> found;
    found.first = first;
    if (problem.mask_steps) {
        evaluate_mask(problem, tile, batch, first, count, stack);
        const Allowed allowed = allowed_of(stack, count * Tile<T, Q>::width);
        found.empty = allowed == Allowed::nothing;
        if (allowed != Allowed::everything) found.mask = stack;
    }
    if (problem.bias_terms) {
        sum_biases(problem, tile, batch, first, count, line, sums);
        found.bias = sums;
    }
    if (first < tile.full_low || first + count > tile.full_high) {
        found.start = tile.start;
        found.stop = tile.stop;
    }
    return found;
}

// Applied to the scores of R keys of the block, from its key number `at` on.
template <int R, int Q, class T>
QKV_INLINE void adjust(const Adjustment<T> &what, int64_t at, Vector<T> (&score)[R][Q]) {
    constexpr int L = lanes<T>;
    const auto each = [&](auto change) QKV_LAMBDA {
#pragma GCC unroll 8
        for (int r = 0; r < R; ++r)
#pragma GCC unroll 4
            for (int q = 0; q < Q; ++q) change(score[r][q], r, q);
    };
    if (what.cap != 0)
        each([&](Vector<T> &s, int, int) QKV_LAMBDA { s = tanh_of<T>(s * what.inverse_cap) * what.cap; });
    if (what.bias) {
        const T *from = what.bias + at * Q * L;
        each([&](Vector<T> &s, int r, int q) QKV_LAMBDA { s = plus_bias<T>(s, load(from + (r * Q + q) * L)); });
    }
    const Vector<T> masked = splat<T>(-infinity<T>);
    if (what.mask) {
        const uint8_t *from = what.mask + at * Q * L;
        each([&](Vector<T> &s, int r, int q) QKV_LAMBDA { s = load_mask<T>(from + (r * Q + q) * L) ? s : masked; });
    }
    if (what.start) {
        const Int<T> key = (Int<T>)(what.first + at);
        each([&](Vector<T> &s, int r, int q) QKV_LAMBDA {
            const IntVector<T> start = load_int<T>(what.start + q * L), stop = load_int<T>(what.stop + q * L);
            const IntVector<T> here = IntVector<T>{} + (key + r);
            s = ((here >= start) & (here < stop)) ? s : masked;
        });
    }
}

// The same for a whole block of scores in memory.
template <int Q, class T> void adjust_block(const Adjustment<T> &what, int64_t count, T *scores) {
    if (what.none()) return;
    for (int64_t j = 0; j < count; ++j) {
        Vector<T> score[1][Q];
        for (int q = 0; q < Q; ++q) score[0][q] = load(scores + (j * Q + q) * lanes<T>);
        adjust(what, j, score);
        store_vectors<1, Q, T>(score, scores + j * Q * lanes<T>);
    }
}
