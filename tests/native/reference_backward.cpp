// The gradients of attention, written out from the chain rule in double.

#include <algorithm>
#include <cmath>

#include "doubles.h"
#include "reference.h"

namespace qkv::test {
namespace {

// The place in the gradient of a bias term that the score of (query, key) adds to, and by how much.
void add_to_bias(const BiasTerm &term, const Array &to, int64_t batch, int64_t head, int64_t query, int64_t key,
                 double grad, std::vector<double> &sum) {
    const int64_t step = key - (query + term.offset);
    switch (term.kind) {
        case BiasKind::alibi: sum[head] -= grad * (double)std::abs(step); break;
        case BiasKind::relative:
            sum[head * (2 * term.radius + 1) + std::clamp(step, -term.radius, term.radius) + term.radius] += grad;
            break;
        case BiasKind::array: sum[place(to, batch, head, query, key)] += grad; break;
    }
}

}  // namespace

ExpectedGradients expected(const Problem &p, const Gradients &given, const Expected &forward) {
    const Inputs inputs(p);
    const Dtype real = is_double(p.dtype) ? Dtype::float64 : Dtype::float32;
    const Doubles output(p.dtype, given.output, p.batch, p.heads, p.queries, p.value_dim);
    const Doubles grad_output(p.dtype, given.grad_output, p.batch, p.heads, p.queries, p.value_dim);
    ExpectedGradients all;
    all.query.resize(inputs.query.data.size());
    all.key.resize(inputs.key.data.size());
    all.value.resize(inputs.value.data.size());
    all.sink.resize((size_t)p.heads);
    for (int i = 0; i < p.bias_terms; ++i) {
        const BiasTerm &term = p.bias[i];
        int64_t count = term.kind == BiasKind::relative ? p.heads * (2 * term.radius + 1) : p.heads;
        if (term.kind == BiasKind::array) {
            count = 1;
            const int64_t shape[4] = {p.batch, p.heads, p.queries, p.keys};
            for (int axis = 0; axis < 4; ++axis) count *= given.bias[i].stride[axis] ? shape[axis] : 1;
        }
        all.bias.emplace_back((size_t)count);
    }
    const int64_t group = p.heads / p.key_heads;
    for (int64_t row = 0; row < p.batch * p.heads * p.queries; ++row) {
        const int64_t batch = row / (p.heads * p.queries), head = row / p.queries % p.heads, query = row % p.queries;
        const double *from = grad_output.row(batch, head, query), *lse = &forward.lse[row];
        double delta = 0;
        for (int64_t d = 0; d < p.value_dim; ++d) delta += from[d] * output.row(batch, head, query)[d];
        if (given.grad_lse) delta -= read(real, (const char *)given.grad_lse + row * size_of(real));
        if (p.sink.data && *lse != -INFINITY) all.sink[head] -= std::exp(read(real, p.sink, 0, head, 0, 0) - *lse) * delta;
        for (int64_t j = 0; j < p.keys; ++j) {
            const double weight = forward.weights[row * p.keys + j], kept = forward.kept[row * p.keys + j];
            if (forward.scores[row * p.keys + j] == -INFINITY) continue;
            const int64_t shared = ((batch * p.key_heads + head / group) * p.keys + j);
            const double *value = inputs.value.row(batch, head / group, j), *key = inputs.key.row(batch, head / group, j);
            double share = 0;
            for (int64_t d = 0; d < p.value_dim; ++d) {
                share += from[d] * value[d];
                if (kept != 0) all.value[shared * p.value_dim + d] += weight * kept * from[d];
            }
            const double grad = weight * ((kept != 0 ? share * kept : 0) - delta);
            for (int i = 0; i < p.bias_terms; ++i)
                add_to_bias(p.bias[i], given.bias[i], batch, head, query, j, grad, all.bias[i]);
            const double slope = grad * forward.slopes[row * p.keys + j];
            for (int64_t d = 0; d < p.dim; ++d) {
                all.query[row * p.dim + d] += slope * key[d];
                all.key[shared * p.dim + d] += slope * inputs.query.row(batch, head, query)[d];
            }
        }
    }
    return all;
}

}  // namespace qkv::test
