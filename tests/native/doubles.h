// A problem's inputs in double, contiguous.
#pragma once

#include <vector>

#include "numbers.h"

namespace qkv::test {

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

}  // namespace qkv::test
