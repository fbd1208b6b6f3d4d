#include "reference.h"

#include <algorithm>
#include <cmath>

#include "numbers.h"

namespace qkv::test {
namespace {

constexpr double vanishing = 1e-30;  // float32 may hold such a weight as 0

struct Place {
    int64_t batch, head, query, key;
};

// An array of the inputs in double, contiguous.
struct Doubles {
    int64_t heads, length, dim;
    std::vector<double> data;

    Doubles(Dtype dtype, const Array &array, int64_t batch, int64_t heads, int64_t length, int64_t dim)
        : heads(heads), length(length), dim(dim), data((size_t)(batch * heads * length * dim)) {
        size_t at = 0;
        for (int64_t a = 0; a < batch; ++a)
            for (int64_t b = 0; b < heads; ++b)
                for (int64_t c = 0; c < length; ++c)
                    for (int64_t d = 0; d < dim; ++d) data[at++] = read(dtype, array, a, b, c, d);
    }

    const double *row(int64_t batch, int64_t head, int64_t index) const {
        return data.data() + ((batch * heads + head) * length + index) * dim;
    }
};

struct Inputs {
    Doubles query, key, value;
    explicit Inputs(const Problem &p)
        : query(p.dtype, p.query, p.batch, p.heads, p.queries, p.dim),
          key(p.dtype, p.key, p.batch, p.key_heads, p.keys, p.dim),
          value(p.dtype, p.value, p.batch, p.key_heads, p.keys, p.value_dim) {}
};

bool within(const Rows &start, const Rows &stop, const Place &at) {
    return start.of(at.batch)[at.query] <= at.key && at.key < stop.of(at.batch)[at.query];
}

bool allowed(const Problem &p, const Place &at) {
    if (p.start.data && !within(p.start, p.stop, at)) return false;
    std::vector<bool> stack;
    for (int i = 0; i < p.mask_steps; ++i) {
        const MaskStep &step = p.mask[i];
        if (step.op == MaskOp::interval) {
            stack.push_back(within(step.first, step.second, at));
        } else if (step.op == MaskOp::equal) {
            stack.push_back(step.first.of(at.batch)[at.query] == step.second.of(at.batch)[at.key]);
        } else if (step.op == MaskOp::array) {
            stack.push_back(step.array.data[place(step.array, at.batch, at.head, at.query, at.key)] != 0);
        } else if (step.op == MaskOp::negate) {
            stack.back() = !stack.back();
        } else {
            const bool top = stack.back();
            stack.pop_back();
            stack.back() = step.op == MaskOp::both ? stack.back() && top : stack.back() || top;
        }
    }
    return stack.empty() || stack.back();
}

double bias(const Problem &p, const BiasTerm &term, const Place &at) {
    const Dtype real = is_double(p.dtype) ? Dtype::float64 : Dtype::float32;
    const int64_t step = at.key - (at.query + term.offset);
    switch (term.kind) {
        case BiasKind::alibi: return -read(real, term.values, 0, at.head, 0, 0) * (double)std::abs(step);
        case BiasKind::relative:
            return read(real, term.values, 0, at.head, 0, std::clamp(step, -term.radius, term.radius) + term.radius);
        case BiasKind::array: break;
    }
    return read(real, term.values, at.batch, at.head, at.query, at.key);
}

double score(const Problem &p, const Inputs &inputs, const Place &at) {
    const double *query = inputs.query.row(at.batch, at.head, at.query);
    const double *key = inputs.key.row(at.batch, at.head / (p.heads / p.key_heads), at.key);
    double sum = 0;
    for (int64_t d = 0; d < p.dim; ++d) sum += query[d] * key[d];
    sum *= p.scale;
    if (p.softcap != 0) sum = p.softcap * std::tanh(sum / p.softcap);
    for (int i = 0; i < p.bias_terms; ++i) {
        const double term = bias(p, p.bias[i], at);
        if (term == -INFINITY) return -INFINITY;
        sum += term;
    }
    return sum;
}

void attend_row(const Problem &p, const Inputs &inputs, int64_t batch, int64_t head, int64_t query, Expected &all) {
    const int64_t row = (batch * p.heads + head) * p.queries + query;
    double *scores = all.scores.data() + row * p.keys, *weights = all.weights.data() + row * p.keys;
    const Dtype real = is_double(p.dtype) ? Dtype::float64 : Dtype::float32;
    const double sink = p.sink.data ? read(real, p.sink, 0, head, 0, 0) : -INFINITY;
    double maximum = -INFINITY, sum = 0, entropy = 0, distance = 0;
    for (int64_t j = 0; j < p.keys; ++j) {
        const Place at{batch, head, query, j};
        scores[j] = allowed(p, at) ? score(p, inputs, at) : -INFINITY;
        maximum = std::isnan(scores[j]) || std::isnan(maximum) ? NAN : std::max(maximum, scores[j]);
    }
    const double highest = std::max(maximum, sink), reference = highest == -INFINITY ? 0 : highest;
    for (int64_t j = 0; j < p.keys; ++j) sum += std::exp(scores[j] - reference);
    const double lse = reference + std::log(sum + std::exp(sink - reference));
    for (int64_t j = 0; j < p.keys; ++j) {
        const double weight = weights[j] = scores[j] == -INFINITY ? 0 : std::exp(scores[j] - lse);
        if (weight != 0) entropy -= weight * std::log(weight);
        distance += weight * (double)std::abs(query + p.offset - j);
    }
    const int64_t key_head = head / (p.heads / p.key_heads);
    double *output = all.output.data() + row * p.value_dim;
    for (int64_t j = 0; j < p.keys; ++j) {
        if (scores[j] == -INFINITY) continue;  // what may not be seen does not exist, whatever it holds
        const double *value = inputs.value.row(batch, key_head, j);
        for (int64_t d = 0; d < p.value_dim; ++d)
            if (weights[j] < vanishing && !std::isfinite(value[d]))
                output[d] = undetermined;
            else if (output[d] != undetermined)
                output[d] += weights[j] * value[d];
    }
    all.lse[row] = lse;
    all.entropy[row] = entropy;
    all.max_score[row] = maximum;
    all.distance[row] = distance;
}

}  // namespace

Expected expected(const Problem &p) {
    const size_t rows = (size_t)(p.batch * p.heads * p.queries);
    Expected all;
    for (std::vector<double> *one : {&all.lse, &all.entropy, &all.max_score, &all.distance}) one->resize(rows);
    all.scores.resize(rows * (size_t)p.keys);
    all.weights.resize(rows * (size_t)p.keys);
    all.output.resize(rows * (size_t)p.value_dim);
    const Inputs inputs(p);
    all.largest_value = 1;
    for (double value : inputs.value.data)
        if (std::isfinite(value)) all.largest_value = std::max(all.largest_value, std::fabs(value));
    for (int64_t batch = 0; batch < p.batch; ++batch)
        for (int64_t head = 0; head < p.heads; ++head)
            for (int64_t query = 0; query < p.queries; ++query) attend_row(p, inputs, batch, head, query, all);
    return all;
}

}  // namespace qkv::test
