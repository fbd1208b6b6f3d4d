// A Problem out of Python's arguments.

#include "arguments.h"

namespace qkv {

Dtype dtype_of(const std::string &name) {
    if (name == "float16") return Dtype::float16;
    if (name == "bfloat16") return Dtype::bfloat16;
    if (name == "float32") return Dtype::float32;
    if (name == "float64") return Dtype::float64;
    throw nb::value_error("dtype: expected float16, bfloat16, float32 or float64");
}

namespace {

Rows rows_of(const In &array, int64_t batch, int64_t length, const char *name) {
    require(array.dtype() == nb::dtype<int32_t>() && (has_shape(array, {1, length}) || has_shape(array, {batch, length})) &&
                (length <= 1 || array.stride(1) == 1),
            name, "contiguous rows of int32, one or one a batch item");
    return {(const int32_t *)array.data(), array.shape(0) == 1 ? 0 : array.stride(0)};
}

void read_mask(nb::sequence program, Held &held, Problem &problem) {
    int depth = 0;
    for (nb::handle item : program) {
        const nb::tuple entry = nb::cast<nb::tuple>(item);
        const std::string name = nb::cast<std::string>(entry[0]);
        MaskStep step{};
        if (name == "interval" || name == "equal") {
            require(entry.size() == 3, "residual", "two arrays");
            const int64_t second = name == "equal" ? problem.keys : problem.queries;
            step.op = name == "equal" ? MaskOp::equal : MaskOp::interval;
            step.first = rows_of(held.take(entry[1]), problem.batch, problem.queries, "residual");
            step.second = rows_of(held.take(entry[2]), problem.batch, second, "residual");
            ++depth;
        } else if (name == "array") {
            require(entry.size() == 2, "residual", "one array");
            const In &array = held.take(entry[1]);
            require(array.dtype().bits == 8 && has_shape(array, {problem.batch, problem.heads, problem.queries, problem.keys}),
                    "residual", "booleans (batch, heads, N, M)");
            step.op = MaskOp::array;
            step.array = four_axes(array, "residual");
            ++depth;
        } else if (name == "not") {
            step.op = MaskOp::negate;
        } else {
            require(name == "and" || name == "or", "residual", "a step that exists");
            step.op = name == "and" ? MaskOp::both : MaskOp::either;
            require(depth >= 2, "residual", "two operands");
            --depth;
        }
        require(depth >= 1, "residual", "an operand");
        problem.mask_depth = std::max(problem.mask_depth, depth);
        held.steps.push_back(step);
    }
    require(held.steps.empty() || depth == 1, "residual", "one result");
    problem.mask = held.steps.data();
    problem.mask_steps = (int)held.steps.size();
}

void read_bias(nb::sequence terms, Held &held, Problem &problem) {
    const int bits = is_double(problem.dtype) ? 64 : 32;
    for (nb::handle item : terms) {
        const nb::tuple entry = nb::cast<nb::tuple>(item);
        const std::string name = nb::cast<std::string>(entry[0]);
        const In &array = held.take(entry[1]);
        require(is_float(array, bits), "bias", "float32, or float64 for float64 inputs");
        BiasTerm term{};
        const Array values = four_axes(array, "bias");
        if (name == "array") {
            require(has_shape(array, {problem.batch, problem.heads, problem.queries, problem.keys}), "bias",
                    "(batch, heads, N, M)");
            term.kind = BiasKind::array;
            term.values = values;
        } else {
            require(entry.size() == 3, "bias", "an offset");
            term.offset = nb::cast<int64_t>(entry[2]);
            term.values.data = values.data;
            if (name == "alibi") {
                require(has_shape(array, {problem.heads}), "bias", "slopes (heads,)");
                term.kind = BiasKind::alibi;
                term.values.stride[1] = values.stride[3];
            } else {
                require(name == "relative" && array.ndim() == 2 && (int64_t)array.shape(0) == problem.heads &&
                            array.shape(1) % 2 == 1,
                        "bias", "a table (heads, 2R + 1)");
                term.kind = BiasKind::relative;
                term.values.stride[1] = values.stride[2];
                term.values.stride[3] = values.stride[3];
                term.radius = (int64_t)array.shape(1) / 2;
            }
        }
        held.terms.push_back(term);
    }
    problem.bias = held.terms.data();
    problem.bias_terms = (int)held.terms.size();
}

}  // namespace

Problem read_problem(const In &query, const In &key, const In &value, const std::string &dtype, double scale, double softcap,
                     const std::optional<In> &sink, const In &start, const In &stop, nb::sequence residual, nb::sequence bias,
                     int64_t offset, double dropout, uint64_t seed, Held &held) {
    Problem problem{};
    problem.dtype = dtype_of(dtype);
    problem.query = last_contiguous(query, problem.dtype, "query");
    problem.key = last_contiguous(key, problem.dtype, "key");
    problem.value = last_contiguous(value, problem.dtype, "value");

    const int64_t batch = problem.batch = (int64_t)query.shape(0), heads = problem.heads = (int64_t)query.shape(1);
    const int64_t queries = problem.queries = (int64_t)query.shape(2), keys = problem.keys = (int64_t)key.shape(2);
    const int64_t key_heads = problem.key_heads = (int64_t)key.shape(1);
    problem.dim = (int64_t)query.shape(3);
    problem.value_dim = (int64_t)value.shape(3);
    require(key_heads >= 1 && heads % key_heads == 0, "key", "heads that divide the query's");
    require(has_shape(key, {batch, key_heads, keys, problem.dim}), "key", "(batch, key_heads, M, dim)");
    require(has_shape(value, {batch, key_heads, keys, problem.value_dim}), "value", "(batch, key_heads, M, value_dim)");
    require(batch >= 1 && queries >= 1 && keys >= 1 && problem.dim >= 1, "query", "at least one of everything");

    problem.scale = scale;
    problem.softcap = softcap;
    problem.offset = offset;
    require(dropout >= 0 && dropout < 1, "dropout", "a probability below 1");
    problem.dropout = dropout;
    problem.seed = seed;
    if (sink) {
        require(is_float(*sink, is_double(problem.dtype) ? 64 : 32) && has_shape(*sink, {heads}), "sink", "(heads,)");
        const Array values = four_axes(*sink, "sink");
        problem.sink.data = values.data;
        problem.sink.stride[1] = values.stride[3];
    }
    problem.start = rows_of(start, batch, queries, "start");
    problem.stop = rows_of(stop, batch, queries, "stop");
    held.arrays.reserve(2 * nb::len(residual) + nb::len(bias));
    read_mask(residual, held, problem);
    read_bias(bias, held, problem);
    return problem;
}

}  // namespace qkv
