// Attention as its definition says it, in double: what the kernel has to come to.
#pragma once

#include <vector>

#include "backward.h"
#include "problem.h"

namespace qkv::test {

// Of an output: an infinity or a NaN times a weight that dropout takes or that is so small that it may be 0.
constexpr double undetermined = 1.2345e300;

struct Expected {
    std::vector<double> scores;   // (batch, heads, queries, keys), -inf where masked
    std::vector<double> weights;  // likewise, 0 where masked
    std::vector<double> kept;     // likewise, what dropout multiplies a weight by
    std::vector<double> slopes;   // likewise, of the score by the dot product
    std::vector<double> output;   // (batch, heads, queries, value_dim)
    double largest_value;
    std::vector<double> lse, entropy, max_score, distance;  // (batch, heads, queries)
};

Expected expected(const Problem &problem);

struct ExpectedGradients {
    std::vector<double> query, key, value;  // as the arrays, contiguous
    std::vector<std::vector<double>> bias;  // one a term, laid out as the gradient to be filled
    std::vector<double> sink;               // (heads,)
};

// Of the exact weights, and of the output in `given`, which was rounded before the backward pass came to see it.
ExpectedGradients expected(const Problem &problem, const Gradients &given, const Expected &forward);

}  // namespace qkv::test
