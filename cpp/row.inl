// A row: one query of one head whose scores lie in a strip, keys in the lanes, as they do where rows are few. What a tile
// does lane by lane is done here along the strip.

// Strips begin at multiples of keys_in_block and are as long, whatever is visited of them: which numbers share a lane, and
// with it the order of every sum, does not depend on a neighbour's bounds.
template <class T> struct Row {
    static constexpr int width = 1;  // for the mask, a tile of one lane

    int64_t head[width], index[width];
    int64_t start, stop;            // its bounds
    T maximum;
    Vector<T> sum, cross, travel;   // as in a tile, each still in as many parts as there are lanes
    T *output;                      // (value_dim), relative to `maximum`
    T *top_score;                   // (ranked), descending
    int64_t *top_index, top_count;
};

template <class T> Row<T> open_row(const Problem &problem, int64_t fold, int64_t batch, int64_t unit, int64_t row) {
    Row<T> opened{};
    opened.head[0] = unit * fold + row % fold;
    opened.index[0] = row / fold;
    opened.stop = problem.keys;
    if (problem.start.data) {
        const int64_t start = problem.start.of(batch)[opened.index[0]], stop = problem.stop.of(batch)[opened.index[0]];
        opened.start = start < 0 ? 0 : start;
        opened.stop = stop > problem.keys ? problem.keys : stop;
        if (opened.stop < opened.start) opened.start = opened.stop = 0;
    }
    opened.maximum = -infinity<T>;
    return opened;
}

// The key's place less the query's, for a vector of keys from `key` on.
template <class T> QKV_INLINE Vector<T> distance_from(const Row<T> &row, int64_t offset, int64_t key) {
    IntVector<T> step;
    for (int lane = 0; lane < lanes<T>; ++lane) step[lane] = (Int<T>)lane;
    step += (Int<T>)(key - row.index[0] - offset);
    return __builtin_convertvector(step < 0 ? -step : step, Vector<T>);
}

// Scores of keys first .. first + count, before the mask: softcap and biases.
template <class T> void adjust_row(const Problem &problem, const Row<T> &row, int64_t batch, int64_t first, int64_t count, T *scores) {
    constexpr int L = lanes<T>;
    int64_t j = 0;
    if (problem.softcap != 0) {
        const T cap = (T)problem.softcap, inverse = (T)(1 / problem.softcap);
        for (j = 0; j + L <= count; j += L) store(scores + j, tanh_of<T>(load(scores + j) * inverse) * cap);
        if (j < count) {
            T rest[L];
            store(rest, tanh_of<T>(load_part<T>(scores + j, count - j) * inverse) * cap);
            __builtin_memcpy(scores + j, rest, (size_t)(count - j) * sizeof(T));
        }
    }
    for (int i = 0; i < problem.bias_terms; ++i) {
        const BiasTerm &term = problem.bias[i];
        const int64_t *stride = term.values.stride;
        const T *values = (const T *)term.values.data + row.head[0] * stride[1];
        const int64_t position = row.index[0] + term.offset;
        const auto add = [&](auto bias_of) QKV_LAMBDA {
            for (int64_t j = 0; j < count; ++j) {
                const T bias = bias_of(j);
                scores[j] = bias == -infinity<T> ? bias : scores[j] + bias;
            }
        };
        if (term.kind == BiasKind::alibi) {
            const T slope = values[0];
            for (int64_t j = 0; j < count; ++j) {
                const Int<T> step = (Int<T>)(first + j - position);
                scores[j] -= slope * (T)(step < 0 ? -step : step);
            }
        } else if (term.kind == BiasKind::relative) {
            const int64_t radius = term.radius;
            add([&](int64_t j) QKV_LAMBDA {
                const int64_t step = first + j - position;
                return values[(radius + (step < -radius ? -radius : step > radius ? radius : step)) * stride[3]];
            });
        } else {
            values += batch * stride[0] + row.index[0] * stride[2] + first * stride[3];
            if (stride[3] == 1)
                add([&](int64_t j) QKV_LAMBDA { return values[j]; });
            else
                add([&](int64_t j) QKV_LAMBDA { return values[j * stride[3]]; });
        }
    }
}

// Sets to -inf what the program forbids among keys first .. first + count.
template <class T>
void mask_row(const Problem &problem, const Row<T> &row, int64_t batch, int64_t first, int64_t count, uint8_t *stack, T *scores) {
    if (!problem.mask_steps) return;
    evaluate_mask(problem, row, batch, first, count, stack);
    for (int64_t j = 0; j < count; ++j) scores[j] = stack[j] ? scores[j] : -infinity<T>;
}

// Sets to -inf what of a strip lies outside of low .. high.
template <class T> void bound_row(int64_t low, int64_t high, T *scores) {
    if (low >= high) low = high = keys_in_block;
    for (int64_t j = 0; j < low; ++j) scores[j] = -infinity<T>;
    for (int64_t j = high; j < keys_in_block; ++j) scores[j] = -infinity<T>;
}

// Puts one score in its place among a row's best: after what is as large, for that came earlier; a NaN after all numbers.
template <class T> void insert_score(T score, int64_t key, T *best, int64_t *index, int64_t &held, int64_t top_k) {
    int64_t place = held < top_k ? held++ : top_k - 1;
    for (; place > 0 && (score > best[place - 1] || (best[place - 1] != best[place - 1] && score == score)); --place) {
        best[place] = best[place - 1];
        index[place] = index[place - 1];
    }
    best[place] = score;
    index[place] = key;
}

// Writes a row's largest scores as weights exp(score - maximum) * normaliser.
template <class T>
void write_top_row(const Problem &problem, int64_t batch, int64_t head, int64_t index, const T *score, const int64_t *key,
                   int64_t count, T maximum, T normaliser) {
    const int64_t at = ((batch * problem.heads + head) * problem.queries + index) * problem.top_k;
    for (int64_t i = 0; i < problem.top_k; ++i) {
        const bool found = i < count;
        problem.top_indices[at + i] = found ? key[i] : -1;
        ((T *)problem.top_weights)[at + i] = found ? (T)__builtin_exp((double)(score[i] - maximum)) * normaliser : (T)0;
    }
}

// Keeps the top_k largest of the scores, which come in the order of their keys; `key` names each.
template <class T, class Key>
void rank_row(Row<T> &row, int64_t top_k, int64_t count, const T *scores, Key key) {
    const auto bar = [&] {
        const T last = row.top_score[top_k - 1];
        return last == last ? last : -infinity<T>;
    };
    for (int64_t j = 0; j < count; ++j)
        if (row.top_count < top_k ? scores[j] != -infinity<T> : scores[j] > bar())
            insert_score(scores[j], key(j), row.top_score, row.top_index, row.top_count, top_k);
}

template <class T> QKV_INLINE T largest_of_lanes(Vector<T> value) {
    T most = value[0];
    for (int lane = 1; lane < lanes<T>; ++lane) most = value[lane] > most ? value[lane] : most;
    return most;
}

// Turns a strip of scores, whose first key is `first`, into exp(score - maximum), moves the maximum and adds to the sums.
// Returns what the output so far has to be rescaled by.
template <class T> T soften_row(Row<T> &row, const Problem &problem, int64_t first, T *scores) {
    constexpr int L = lanes<T>;
    Vector<T> most = splat<T>(row.maximum);
    for (int64_t j = 0; j < keys_in_block; j += L) most = larger(load(scores + j), most);
    const T top = largest_of_lanes<T>(most);
    if (problem.ranked && (row.top_count < problem.ranked || !(top <= row.top_score[problem.ranked - 1])))
        rank_row(row, problem.ranked, keys_in_block, scores, [&](int64_t j) QKV_LAMBDA { return first + j; });

    const T reference = top == -infinity<T> ? (T)0 : top;
    const Vector<T> moved = splat<T>(row.maximum - reference), rescale = exp_of<T>(moved);
    row.maximum = top;
    row.cross = (row.cross + clamp_exponent<T>(moved) * row.sum) * rescale;
    row.sum *= rescale;
    row.travel *= rescale;
    Vector<T> sum = {}, cross = {}, travel = {};
    if (!problem.entropy && !problem.distance) {
        for (int64_t j = 0; j < keys_in_block; j += L) {
            const Vector<T> weight = exp_of<T>(load(scores + j) - reference);
            sum += weight;
            store(scores + j, weight);
        }
    } else {
        for (int64_t j = 0; j < keys_in_block; j += L) {
            const Vector<T> below = load(scores + j) - reference, weight = exp_of<T>(below);
            sum += weight;
            cross += weight * clamp_exponent<T>(below);
            travel += weight * distance_from(row, problem.offset, first + j);
            store(scores + j, weight);
        }
    }
    row.sum += sum;
    row.cross += cross;
    row.travel += travel;
    return rescale[0];
}
