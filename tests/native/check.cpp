#include "check.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <utility>
#include <vector>

#include "attend.h"
#include "backward.h"
#include "dispatch.h"
#include "example.h"
#include "reference.h"

namespace qkv::test {
namespace {

const char *name_of(Dtype dtype) {
    const char *names[] = {"float16", "bfloat16", "float32", "float64"};
    return names[(int)dtype];
}

[[noreturn]] void fail(const Problem &p, const char *what, double found = 0, double wanted = 0, double allowed = 0) {
    std::fprintf(stderr, "%s: %s: found %.9g, expected %.9g, may be off by %.3g\n", chosen_kernel().name, what, found, wanted,
                 allowed);
    std::fprintf(stderr, "  %s, batch %d, heads %d/%d, queries %d, keys %d, dim %d, value_dim %d, scale %g, softcap %g,\n",
                 name_of(p.dtype), (int)p.batch, (int)p.heads, (int)p.key_heads, (int)p.queries, (int)p.keys, (int)p.dim,
                 (int)p.value_dim, p.scale, p.softcap);
    std::fprintf(stderr, "  %d mask steps, %d bias terms, bounds %d, sink %d, top_k %d, received %d, block map %d, dropout %g\n",
                 p.mask_steps, p.bias_terms, p.start.data != nullptr, p.sink.data != nullptr, (int)p.top_k,
                 p.received != nullptr, p.block_map != nullptr, p.dropout);
    std::abort();
}

struct Comparison {
    const Problem &p;
    const Expected &want;
    const Dtype real;
    const double rounding;
    const bool exact_scores;

    double statistic(const void *values, int64_t at) const {
        return read(real, (const char *)values + at * size_of(real));
    }

    // Where the definition gives no number, a NaN or an infinity in sight, the kernel must only not give one that looks right.
    void close(const char *what, double found, double wanted, double allowed) const {
        if (wanted == undetermined) return;
        if (std::isnan(wanted) || wanted == INFINITY) {
            if (std::isfinite(found) && std::isnan(wanted)) fail(p, what, found, wanted);
        } else if (wanted == -INFINITY ? found != wanted : !(std::fabs(found - wanted) <= allowed)) {
            fail(p, what, found, wanted, allowed);
        }
    }

    void rows() const {
        double last_place = 0;  // of a 16-bit output; weights of bfloat16 are rounded too, where it is multiplied by pairs
        if (p.dtype == Dtype::float16) last_place = 0x1p-11;
        if (p.dtype == Dtype::bfloat16) last_place = 0x1p-8;
        for (int64_t row = 0; row < p.batch * p.heads * p.queries; ++row) {
            const int64_t batch = row / (p.heads * p.queries), head = row / p.queries % p.heads, query = row % p.queries;
            for (int64_t d = 0; d < p.value_dim; ++d)
                close("output", read(p.output_dtype, p.output, batch, head, query, d), want.output[row * p.value_dim + d],
                      want.largest_value / (1 - p.dropout) * (rounding + last_place));
            if (p.lse) close("lse", statistic(p.lse, row), want.lse[row], 4 * rounding);
            if (p.max_score) close("max_score", statistic(p.max_score, row), want.max_score[row], 4 * rounding);
            if (p.entropy)
                close("entropy", statistic(p.entropy, row), want.entropy[row], rounding * (1 + std::log((double)p.keys)));
            if (p.distance)
                close("distance", statistic(p.distance, row), want.distance[row], rounding * (double)(p.queries + p.keys));
            if (p.top_k) top(row);
        }
    }

    // The heaviest keys: as many as there are, in order, each with its weight, and none left out that is heavier.
    void top(int64_t row) const {
        const double *scores = want.scores.data() + row * p.keys, *weights = want.weights.data() + row * p.keys;
        const int64_t *indices = p.top_indices + row * p.top_k;
        if (std::any_of(scores, scores + p.keys, [](double score) { return std::isnan(score) || score == INFINITY; })) return;
        const int64_t seen = p.keys - std::count(scores, scores + p.keys, -INFINITY);
        std::vector<bool> taken((size_t)p.keys);
        double least = INFINITY, left_out = -INFINITY;
        for (int64_t i = 0; i < p.top_k; ++i) {
            const double weight = statistic(p.top_weights, row * p.top_k + i);
            if ((indices[i] >= 0) != (i < std::min(seen, p.top_k))) fail(p, "top_k: how many", (double)i, (double)seen);
            if (indices[i] < 0) {
                if (indices[i] != -1 || weight != 0) fail(p, "top_k: padding", weight, 0);
                continue;
            }
            if (indices[i] >= p.keys || taken[indices[i]]) fail(p, "top_k: an index", (double)indices[i], (double)p.keys);
            taken[indices[i]] = true;
            close("top_k: a weight", weight, weights[indices[i]], 2 * rounding);
            if (scores[indices[i]] > least + 4 * rounding) fail(p, "top_k: order", scores[indices[i]], least);
            if (exact_scores && i && scores[indices[i]] == least && indices[i] < indices[i - 1])
                fail(p, "top_k: ties go to the lowest index", (double)indices[i], (double)indices[i - 1]);
            least = scores[indices[i]];
        }
        for (int64_t j = 0; j < p.keys; ++j)
            if (!taken[j]) left_out = std::max(left_out, scores[j]);
        if (p.top_k < seen && left_out > least + (exact_scores ? 0 : 4 * rounding)) fail(p, "top_k: left out", least, left_out);
    }

    // Sums over queries. A row that holds a NaN may break every sum of its head: it has no weights, so it has no zeros either.
    void sums() const {
        const int64_t tall = p.block_map ? (p.queries - 1) / p.block_rows + 1 : 0;
        const int64_t wide = p.block_map ? (p.keys - 1) / p.block_columns + 1 : 0;
        for (int64_t head = 0; head < p.batch * p.heads; ++head) {
            std::vector<long double> received((size_t)p.keys), map((size_t)(tall * wide));
            bool vague = false;
            for (int64_t i = 0; i < p.queries; ++i)
                for (int64_t j = 0; j < p.keys; ++j) {
                    const double weight = want.weights[(head * p.queries + i) * p.keys + j];
                    received[j] += weight;
                    if (p.block_map) map[i / p.block_rows * wide + j / p.block_columns] += weight;
                    vague = vague || std::isnan(weight);
                }
            if (vague) continue;
            for (int64_t j = 0; p.received && j < p.keys; ++j)
                close("received", statistic(p.received, head * p.keys + j), (double)received[j], rounding * (double)p.queries);
            for (int64_t i = 0; i < tall * wide; ++i)
                close("block_map", statistic(p.block_map, head * tall * wide + i), (double)map[i], 2 * rounding * (double)p.block_rows);
        }
    }
};

// The gradients, under the same promises.
void backward_is_sound(Example &example) {
    const Problem &p = example.problem;
    const Gradients &given = example.gradients;
    std::vector<char> first;
    for (const auto &[threads, poison] : {std::pair{1, 0x5a}, {1, 0xa5}, {2, 0xff}, {5, 0x00}}) {
        example.poison_gradients((unsigned char)poison);
        backward(p, given, threads, [] { return false; });
        const std::vector<char> written = example.gradient_results();
        if (first.empty()) first = written;
        if (written != first) fail(p, threads == 1 ? "not every gradient was written" : "threads change gradients", threads);
    }
}

void compare_gradients(const Example &example, const Expected &want) {
    const Problem &p = example.problem;
    const Gradients &given = example.gradients;
    const ExpectedGradients exact = expected(p, given, want);
    const double digits[] = {4e-3, 3e-2, 2e-5, 1e-11};  // by dtype
    const double relative = std::max(digits[(int)p.dtype], 16 * example.rounding);
    const auto compare = [&](const char *what, const char *found, const std::vector<double> &wanted, Dtype dtype) {
        double size = 1 / (1 - p.dropout);
        for (double value : wanted) size = std::max(size, std::fabs(value));
        for (size_t i = 0; i < wanted.size(); ++i) {
            const double value = read(dtype, found + (int64_t)i * size_of(dtype));
            if (!(std::fabs(value - wanted[i]) <= relative * size)) fail(p, what, value, wanted[i], relative * size);
        }
    };
    const Dtype real = is_double(p.dtype) ? Dtype::float64 : Dtype::float32;
    compare("gradient of query", given.query.data, exact.query, p.dtype);
    compare("gradient of key", given.key.data, exact.key, p.dtype);
    compare("gradient of value", given.value.data, exact.value, p.dtype);
    if (given.sink) compare("gradient of sink", (const char *)given.sink, exact.sink, real);
    for (int i = 0; i < p.bias_terms; ++i)
        if (given.bias[i].data) compare("gradient of a bias", given.bias[i].data, exact.bias[i], real);
}

}  // namespace

void check(const uint8_t *bytes, size_t count) {
    Choices choices(bytes, count);
    Example example(choices);
    const Problem &p = example.problem;
    std::vector<char> first;
    for (const auto &[threads, poison] : {std::pair{1, 0x5a}, {1, 0xa5}, {2, 0xff}, {5, 0x00}}) {
        example.poison((unsigned char)poison);
        attend(p, threads, [] { return false; });
        if (!example.untouched_between_rows((unsigned char)poison)) fail(p, "something was written between rows");
        const std::vector<char> written = example.results();
        if (first.empty()) first = written;
        if (written != first) fail(p, threads == 1 ? "not everything was written" : "threads change bits", threads);
    }
    if (example.backward) backward_is_sound(example);
    if (example.digitless) return;
    const Expected want = expected(p);
    const Comparison all{p, want, is_double(p.dtype) ? Dtype::float64 : Dtype::float32, example.rounding, example.exact_scores};
    all.rows();
    if (p.received || p.block_map) all.sums();
    // What infinities come to in the gradients, one would have to write the kernel again to say.
    if (example.backward && !example.wild) compare_gradients(example, want);
}

}  // namespace qkv::test
