// Attention as its definition says it, in double: what the kernel has to come to.
#pragma once

#include <vector>

#include "problem.h"

namespace qkv::test {

// Of an output: an infinity or a NaN times a weight so small that it may be 0.
constexpr double undetermined = 1.2345e300;

struct Expected {
    std::vector<double> scores;   // (batch, heads, queries, keys), -inf where masked
    std::vector<double> weights;  // likewise, 0 where masked
    std::vector<double> output;   // (batch, heads, queries, value_dim)
    double largest_value;
    std::vector<double> lse, entropy, max_score, distance;  // (batch, heads, queries)
};

Expected expected(const Problem &problem);

}  // namespace qkv::test
