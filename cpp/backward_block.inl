// One tile of queries against one block of keys: from their scores to what they add to every gradient.

// From scores and the gradients of weights, in place, to weights and the gradients of scores; what is masked has neither.
template <class T, int Q>
void differentiate(const BackwardTile<T, Q> &tile, int64_t count, const T *factors, T *weights, T *scores) {
    constexpr int L = lanes<T>;
    Vector<T> lse[Q], delta[Q];
    for (int q = 0; q < Q; ++q) lse[q] = load(tile.lse + q * L), delta[q] = load(tile.delta + q * L);
    for (int64_t j = 0; j < count; ++j)
#pragma GCC unroll 4
        for (int q = 0; q < Q; ++q) {
            T *weight = weights + (j * Q + q) * L, *score = scores + (j * Q + q) * L;
            const Vector<T> s = load(weight);
            const Vector<T> w = exp_of<T>(s - lse[q]);
            Vector<T> used = w, share = load(score);
            if (factors) {
                const Vector<T> factor = load(factors + (j * Q + q) * L);
                used = factor == 0 ? factor : used * factor;  // what is dropped has no part, NaN neither
                share = factor == 0 ? factor : share * factor;
            }
            const Vector<T> gradient = w * (share - delta[q]);
            store(weight, s == -infinity<T> ? Vector<T>{} : used);  // nor what is masked, where the query's lse is NaN
            store(score, s == -infinity<T> ? Vector<T>{} : gradient);
        }
}

// The same where these are all the keys of a tile: then delta, the output's product with its gradient, is what the weights make of
// their own gradients. It takes the place of what the tile holds, but for the gradient of lse. It is divided by the sum of the
// weights, with the sink's: a large lse is rounded, all weights with it, and what is alike for all keys would not cancel.
template <class T, int Q>
void differentiate_all(BackwardTile<T, Q> &tile, int64_t count, T sink, const T *factors, T *weights, T *scores) {
    constexpr int L = lanes<T>;
    Vector<T> lse[Q], delta[Q], sum[Q];
    for (int q = 0; q < Q; ++q) {
        lse[q] = load(tile.lse + q * L), delta[q] = Vector<T>{};
        sum[q] = sink == -infinity<T> ? Vector<T>{} : exp_of<T>(sink - lse[q]);
    }
    for (int64_t j = 0; j < count; ++j)
#pragma GCC unroll 4
        for (int q = 0; q < Q; ++q) {
            T *weight = weights + (j * Q + q) * L, *score = scores + (j * Q + q) * L;
            const Vector<T> s = load(weight), e = exp_of<T>(s - lse[q]), w = s == -infinity<T> ? Vector<T>{} : e;
            Vector<T> share = load(score);
            if (factors) {
                const Vector<T> factor = load(factors + (j * Q + q) * L);
                share = factor == 0 ? factor : share * factor;
                store(score, share);
            }
            delta[q] = w == 0 ? delta[q] : delta[q] + w * share;
            sum[q] += w;
            store(weight, w);
        }
    for (int q = 0; q < Q; ++q) {
        delta[q] = (sum[q] == 0 ? delta[q] : delta[q] / sum[q]) + load(tile.delta + q * L);
        store(tile.delta + q * L, delta[q]);
    }
    for (int64_t j = 0; j < count; ++j)
#pragma GCC unroll 4
        for (int q = 0; q < Q; ++q) {
            T *weight = weights + (j * Q + q) * L, *score = scores + (j * Q + q) * L;
            const Vector<T> w = load(weight), gradient = w * (load(score) - delta[q]);
            store(score, w == 0 ? w : gradient);
            if (!factors) continue;
            const Vector<T> factor = load(factors + (j * Q + q) * L);
            store(weight, factor == 0 ? factor : w * factor);
        }
}

template <class P, int Q, class T = typename P::Real>
void add_bias_gradients(const BackwardTile<T, Q> &tile, const Problem &problem, const Gradients &given, const BackwardSplit &split,
                        BackwardSpace<P> &space, int64_t batch, int64_t unit, int64_t first, int64_t count, const T *scores) {
    const int64_t units = problem.batch * problem.key_heads, at = batch * problem.key_heads + unit;
    const int64_t fold = problem.heads / problem.key_heads, part = tile.number / split.tiles_per_part;
    double *tables = split.tables + ((at * split.parts + part) * fold + tile.head[0] % fold) * split.table_size;
    for (int i = 0; i < problem.bias_terms; ++i) {
        const BiasTerm &term = problem.bias[i];
        const Array &wanted = given.bias[i];
        if (!wanted.data) continue;
        switch (term.kind) {
            case BiasKind::alibi:
                add_slope_gradient(term, tile, first, count, scores, split.row_sums + (i * units + at) * split.tiles + tile.number);
                break;
            case BiasKind::relative:
                add_table_gradient(term, tile, first, count, scores, space.line.data, tables);
                tables += 2 * term.radius + 1;
                break;
            case BiasKind::array: add_array_gradient(wanted, tile, batch, first, count, scores); break;
        }
    }
}

// The weights and the gradients of scores of one tile and one block of keys, in `space`. `once`: the block is all the tile's keys.
template <class P, int Q, bool rows, bool once, class T = typename P::Real>
void differentiate_block(BackwardTile<T, Q> &tile, const Problem &problem, const Gradients &given, const BackwardSplit &split,
                         BackwardSpace<P> &space, int64_t batch, int64_t unit, int64_t first, int64_t count,
                         Block<typename P::Element> keys, Block<typename P::Element> values) {
    constexpr int L = lanes<T>, width = Tile<T, Q>::width;
    T *weights = space.weights.data, *scores = space.scores.data;
    multiply_keys<P, Q>(keys, count, tile.query, ceil_div(problem.dim, P::terms), (T)problem.scale, weights);
    if (problem.softcap != 0) {
        const T cap = (T)problem.softcap, inverse = (T)(1 / problem.softcap);
        for (int64_t i = 0; i < count * width; i += L) {
            const Vector<T> bent = tanh_of<T>(load(weights + i) * inverse);
            store(weights + i, bent * cap);
            store(space.slopes.data + i, (T)1 - bent * bent);
        }
    }
    const auto adjustment = prepare<T, Q>(problem, tile, batch, first, count, space.line.data, space.biases.data, space.mask.data);
    adjust_block<Q>(adjustment, count, weights);
    multiply_keys<P, Q>(values, count, space.grad_lanes.data, ceil_div(problem.value_dim, P::terms), (T)1, scores);
    if (problem.dropout != 0) draw(problem, tile, batch, first, count, space.factors.data);
    if constexpr (once) {
        const T sink = problem.sink.data ? ((const T *)problem.sink.data)[unit * problem.sink.stride[1]] : -infinity<T>;
        differentiate_all(tile, count, sink, space.factors.data, weights, scores);
    } else
        differentiate(tile, count, space.factors.data, weights, scores);
    if (rows && problem.bias_terms) add_bias_gradients(tile, problem, given, split, space, batch, unit, first, count, scores);
    if (problem.softcap != 0)
        for (int64_t i = 0; i < count * width; i += L) {
            const Vector<T> gradient = load(scores + i);
            store(scores + i, gradient == 0 ? gradient : gradient * load(space.slopes.data + i));
        }
}

// Weights and the gradients of scores as they are multiplied: in rows, and with queries in the lanes.
template <class P> struct Factors {
    using T = typename P::Real;
    const typename P::Element *weight_rows, *score_rows;
    const T *score_lanes;
};

template <class P, int Q> Factors<P> factors_of(BackwardSpace<P> &space, int64_t count) {
    if constexpr (P::terms == 1) {
        return {space.weights.data, space.scores.data, space.scores.data};
    } else {
        using Element = typename P::Element;
        P::template round_rows<Q>(space.weights.data, count, space.weight_rows.data);
        P::template round_rows<Q>(space.scores.data, count, space.score_rows.data);
        P::template round_pairs<Q>(space.scores.data, count, space.score_pairs.data);
        return {(const Element *)space.weight_rows.data, (const Element *)space.score_rows.data, space.score_pairs.data};
    }
}

// One tile against one block of keys, which begins `at` keys into the span.
template <class P, int Q, bool rows, bool columns, class T = typename P::Real>
void visit_backward(BackwardTile<T, Q> &tile, const Problem &problem, const Gradients &given, const BackwardSplit &split,
                    BackwardSpace<P> &space, int64_t batch, int64_t unit, int64_t first, int64_t count, int64_t at, bool keys_guarded) {
    using Element = typename P::Element;
    constexpr int width = Tile<T, Q>::width;
    const Block<Element> keys = {(const Element *)space.key.data + at * space.dim, space.dim};
    const Block<Element> values = {(const Element *)space.value.data + at * space.value_dim, space.value_dim};
    differentiate_block<P, Q, rows, false>(tile, problem, given, split, space, batch, unit, first, count, keys, values);
    const Factors<P> found = factors_of<P, Q>(space, count);
    if (columns) {
        T *grad_value = space.grad_value.data + at * space.value_dim, *grad_key = space.grad_key.data + at * space.dim;
        const int depth = (tile.rows + P::terms - 1) / P::terms;
        if (tile.guarded) {
            multiply_rows<P, true>(found.weight_rows, width, count, space.grad_rows.data, space.value_dim, depth, grad_value);
            multiply_rows<P, true>(found.score_rows, width, count, space.query_rows.data, space.dim, depth, grad_key);
        } else {
            multiply_rows<P, false>(found.weight_rows, width, count, space.grad_rows.data, space.value_dim, depth, grad_value);
            multiply_rows<P, false>(found.score_rows, width, count, space.query_rows.data, space.dim, depth, grad_key);
        }
    }
    if (rows) {
        Vector<T> one[Q];
        for (int q = 0; q < Q; ++q) one[q] = splat<T>(1);
        Block<Element> turned = keys;
        if constexpr (P::terms > 1) turned = {(const Element *)(space.key_pairs.data + at / 2 * space.dim), 2 * space.dim};
        const int64_t depth = (count + P::terms - 1) / P::terms;
        if (keys_guarded)
            multiply_values<P, Q, true>(turned, depth, found.score_lanes, problem.dim, one, tile.grad_query);
        else
            multiply_values<P, Q, false>(turned, depth, found.score_lanes, problem.dim, one, tile.grad_query);
    }
}
