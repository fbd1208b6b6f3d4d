#include "reference.h"

#include <algorithm>
#include <cmath>

#include "doubles.h"

namespace qkv::test {
namespace {

constexpr double vanishing = 1e-30;  // float32 may hold such a weight as 0

struct Place {
    int64_t batch, head, query, key;
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

// Philox4x32-10 (Salmon et al., 2011): one of four words for the counter (key / 4, query, head, batch item).
uint32_t philox(uint64_t seed, const Place &at) {
    uint32_t word[4] = {(uint32_t)(at.key / 4), (uint32_t)at.query, (uint32_t)at.head, (uint32_t)at.batch};
    uint32_t low = (uint32_t)seed, high = (uint32_t)(seed >> 32);
    for (int turn = 0; turn < 10; ++turn) {
        const uint64_t left = (uint64_t)word[0] * 0xD2511F53, right = (uint64_t)word[2] * 0xCD9E8D57;
        const uint32_t next[4] = {(uint32_t)(right >> 32) ^ word[1] ^ low, (uint32_t)right,
                                  (uint32_t)(left >> 32) ^ word[3] ^ high, (uint32_t)left};
        std::copy(next, next + 4, word);
        low += 0x9E3779B9;
        high += 0xBB67AE85;
    }
    return word[at.key % 4];
}

double kept(const Problem &p, const Place &at) {
    const double threshold = std::min(std::nearbyint(p.dropout * 0x1p32), 0x1p32 - 1);
    return (double)philox(p.seed, at) >= threshold ? 1 / (1 - p.dropout) : 0;
}

double score(const Problem &p, const Inputs &inputs, const Place &at, double &slope) {
    const double *query = inputs.query.row(at.batch, at.head, at.query);
    const double *key = inputs.key.row(at.batch, at.head / (p.heads / p.key_heads), at.key);
    double sum = 0;
    for (int64_t d = 0; d < p.dim; ++d) sum += query[d] * key[d];
    sum *= p.scale;
    slope = p.scale;
    if (p.softcap != 0) {
        const double bent = std::tanh(sum / p.softcap);
        slope = p.scale * (1 - bent * bent);
        sum = p.softcap * bent;
    }
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
        scores[j] = allowed(p, at) ? score(p, inputs, at, all.slopes[row * p.keys + j]) : -INFINITY;
        all.kept[row * p.keys + j] = p.dropout == 0 ? 1 : kept(p, at);
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
    const double *factors = all.kept.data() + row * p.keys;
    for (int64_t j = 0; j < p.keys; ++j) {
        if (scores[j] == -INFINITY) continue;  // what may not be seen does not exist, whatever it holds
        const double *value = inputs.value.row(batch, key_head, j);
        for (int64_t d = 0; d < p.value_dim; ++d)
            if ((weights[j] < vanishing || factors[j] == 0) && !std::isfinite(value[d]))
                output[d] = undetermined;
            else if (output[d] != undetermined)
                output[d] += weights[j] * factors[j] * value[d];
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
    for (std::vector<double> *one : {&all.weights, &all.kept, &all.slopes}) one->resize(rows * (size_t)p.keys);
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
