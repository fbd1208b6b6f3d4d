// The Python module: two calls, what they fill, and the choice of instruction set.

#include <nanobind/stl/vector.h>

#include <chrono>

#include "arguments.h"
#include "attend.h"
#include "backward.h"
#include "dispatch.h"

namespace nb = nanobind;
using namespace nb::literals;

namespace {

using qkv::Array;
using qkv::Dtype;
using qkv::dtype_of;
using qkv::four_axes;
using qkv::has_shape;
using qkv::has_size;
using qkv::is_contiguous;
using qkv::is_float;
using qkv::last_contiguous;
using qkv::read_problem;
using qkv::require;
using qkv::Held;
using qkv::In;
using qkv::Out;
using qkv::Problem;

void *statistic(const std::optional<Out> &array, const Problem &problem, std::initializer_list<int64_t> shape,
                const char *name) {
    if (!array) return nullptr;
    require(is_float(*array, is_double(problem.dtype) ? 64 : 32) && has_shape(*array, shape) && is_contiguous(*array), name,
            "contiguous float32 (float64 for float64 inputs) of the statistic's shape");
    return array->data();
}

// Lets Ctrl-C end a long call: looks for signals ten times a second, so that short calls never wait for the GIL.
struct Signals {
    using clock = std::chrono::steady_clock;
    clock::time_point looked = clock::now();
    bool raised = false;

    bool pending() {
        if (raised || clock::now() - looked < std::chrono::milliseconds(100)) return raised;
        nb::gil_scoped_acquire held;
        raised = PyErr_CheckSignals() != 0;
        looked = clock::now();
        return raised;
    }
};

// What was chosen, in the words of qkv info --explain.
nb::dict described(const qkv::Choice &choice) {
    nb::dict told;
    told["isa"] = choice.kernel->name;
    told["path"] = choice.path();
    told["arithmetic"] = choice.arithmetic;
    told["threads"] = choice.threads;
    told["tasks"] = choice.split.tasks;
    told["kept_bytes"] = choice.kept_bytes;
    return told;
}

std::optional<nb::dict> attend(In query, In key, In value, Out output, const std::string &dtype, double scale, double softcap,
            std::optional<In> sink, In start, In stop, nb::sequence residual, nb::sequence bias, int64_t offset,
            double dropout, uint64_t seed, std::optional<Out> lse, std::optional<Out> entropy, std::optional<Out> max_score, std::optional<Out> distance,
            std::optional<Out> top_indices, std::optional<Out> top_weights, std::optional<Out> received,
            std::optional<Out> block_map, int64_t block_rows, int64_t block_columns, int threads, bool compute) {
    Held held;
    Problem problem =
        read_problem(query, key, value, dtype, scale, softcap, sink, start, stop, residual, bias, offset, dropout, seed, held);
    const int64_t batch = problem.batch, heads = problem.heads, queries = problem.queries, keys = problem.keys;
    problem.output_dtype = has_size(output, problem.dtype) ? problem.dtype : Dtype::float32;
    problem.output = last_contiguous(output, problem.output_dtype, "output");
    require(has_shape(output, {batch, heads, queries, problem.value_dim}), "output", "(batch, heads, N, value_dim)");

    problem.lse = statistic(lse, problem, {batch, heads, queries}, "lse");
    problem.entropy = statistic(entropy, problem, {batch, heads, queries}, "entropy");
    problem.max_score = statistic(max_score, problem, {batch, heads, queries}, "max_score");
    problem.distance = statistic(distance, problem, {batch, heads, queries}, "distance");
    require(top_indices.has_value() == top_weights.has_value(), "top_indices", "top_weights with it");
    if (top_indices) {
        problem.top_k = top_indices->ndim() == 4 ? (int64_t)top_indices->shape(3) : 0;
        require(top_indices->dtype() == nb::dtype<int64_t>() && is_contiguous(*top_indices) &&
                    has_shape(*top_indices, {batch, heads, queries, problem.top_k}),
                "top_indices", "contiguous int64 (batch, heads, N, k)");
        problem.ranked = std::min(problem.top_k, keys);
        problem.top_indices = (int64_t *)top_indices->data();
        problem.top_weights = statistic(top_weights, problem, {batch, heads, queries, problem.top_k}, "top_weights");
    }
    problem.received = statistic(received, problem, {batch, heads, keys}, "received");
    if (block_map) {
        require(block_rows >= 1 && block_columns >= 1, "block_map", "blocks of at least 1 x 1");
        problem.block_rows = std::min(block_rows, queries);
        problem.block_columns = std::min(block_columns, keys);
        const int64_t tall = (queries - 1) / problem.block_rows + 1, wide = (keys - 1) / problem.block_columns + 1;
        problem.block_map = statistic(block_map, problem, {batch, heads, tall, wide}, "block_map");
    }
    require(threads >= 1, "threads", "at least 1");

    if (!compute) return described(qkv::choose(problem, threads));
    Signals signals;
    {
        nb::gil_scoped_release released;
        qkv::attend(problem, threads, [&] { return signals.pending(); });
    }
    if (signals.raised) throw nb::python_error();
    return {};
}

// A gradient that is filled: contiguous, of these axes, in the dtype of the problem or of its statistics.
Array wanted(const Out &array, Dtype dtype, std::initializer_list<int64_t> shape, const char *name) {
    require(has_size(array, dtype) && has_shape(array, shape) && is_contiguous(array), name, "a contiguous gradient of the array's shape");
    return four_axes(array, name);
}

// One gradient a bias term, or None; an array's has size 1 where it is summed over.
std::vector<Array> wanted_of_bias(nb::sequence gradients, const Problem &problem, std::vector<Out> &held) {
    const Dtype real = is_double(problem.dtype) ? Dtype::float64 : Dtype::float32;
    std::vector<Array> found((size_t)problem.bias_terms);
    require((int)nb::len(gradients) == problem.bias_terms, "grad_bias", "one for each term, or None");
    int64_t i = 0;
    for (nb::handle item : gradients) {
        const qkv::BiasTerm &term = problem.bias[i];
        Array &to = found[(size_t)i++];
        if (item.is_none()) continue;
        held.push_back(nb::cast<Out>(item));
        const Out &array = held.back();
        if (term.kind == qkv::BiasKind::alibi) {
            to = wanted(array, real, {problem.heads}, "grad_bias");
        } else if (term.kind == qkv::BiasKind::relative) {
            to = wanted(array, real, {problem.heads, 2 * term.radius + 1}, "grad_bias");
        } else {
            const int64_t sizes[] = {problem.batch, problem.heads, problem.queries, problem.keys};
            require(array.ndim() == 4, "grad_bias", "four axes");
            for (size_t axis = 0; axis < 4; ++axis)
                require((int64_t)array.shape(axis) == sizes[axis] || array.shape(axis) == 1, "grad_bias", "(batch, heads, N, M), or 1 of each");
            require(has_size(array, real) && is_contiguous(array), "grad_bias", "contiguous float32, or float64 for float64 inputs");
            to = four_axes(array, "grad_bias");
        }
    }
    return found;
}

void backward(In query, In key, In value, In output, In lse, In grad_output, std::optional<In> grad_lse, const std::string &dtype,
              double scale, double softcap, std::optional<In> sink, In start, In stop, nb::sequence residual, nb::sequence bias,
              int64_t offset, double dropout, uint64_t seed, Out grad_query, Out grad_key, Out grad_value, nb::sequence grad_bias,
              std::optional<Out> grad_sink, int threads) {
    Held held;
    const Problem problem =
        read_problem(query, key, value, dtype, scale, softcap, sink, start, stop, residual, bias, offset, dropout, seed, held);
    const int64_t batch = problem.batch, heads = problem.heads, queries = problem.queries;
    const Dtype real = is_double(problem.dtype) ? Dtype::float64 : Dtype::float32;
    qkv::Gradients given{};
    given.output = last_contiguous(output, problem.dtype, "output");
    given.grad_output = last_contiguous(grad_output, problem.dtype, "grad_output");
    for (const In *array : {&output, &grad_output})
        require(has_shape(*array, {batch, heads, queries, problem.value_dim}), "output", "(batch, heads, N, value_dim), and its gradient");
    const auto by_query = [&](const In &array, const char *name) {
        require(has_size(array, real) && has_shape(array, {batch, heads, queries}) && is_contiguous(array), name,
                "contiguous (batch, heads, N), float32 or float64 for float64 inputs");
        return (const void *)array.data();
    };
    given.lse = by_query(lse, "lse");
    if (grad_lse) given.grad_lse = by_query(*grad_lse, "grad_lse");
    given.query = wanted(grad_query, problem.dtype, {batch, heads, queries, problem.dim}, "grad_query");
    given.key = wanted(grad_key, problem.dtype, {batch, problem.key_heads, problem.keys, problem.dim}, "grad_key");
    given.value = wanted(grad_value, problem.dtype, {batch, problem.key_heads, problem.keys, problem.value_dim}, "grad_value");
    std::vector<Out> filled;
    const std::vector<Array> terms = wanted_of_bias(grad_bias, problem, filled);
    given.bias = terms.data();
    if (grad_sink) {
        require(problem.sink.data != nullptr, "grad_sink", "a sink");
        given.sink = wanted(*grad_sink, real, {heads}, "grad_sink").data;
    }
    require(threads >= 1, "threads", "at least 1");
    Signals signals;
    {
        nb::gil_scoped_release released;
        qkv::backward(problem, given, threads, [&] { return signals.pending(); });
    }
    if (signals.raised) throw nb::python_error();
}

}  // namespace

NB_MODULE(_native, module) {
    // Later versions of Python refuse by themselves. Types and the pool of threads are the process's, not an interpreter's.
    if (PyInterpreterState_Get() != PyInterpreterState_Main())
        throw nb::import_error("qkv.attention._native: expected the main interpreter of the process, got a sub-interpreter; "
                               "use threads (the kernel releases the GIL) or processes");
    module.doc() = "The compiled kernels of attention; see qkv.attention._backends._native, which calls them from a plan.";
    module.def("attend", &attend, "query"_a, "key"_a, "value"_a, "output"_a, nb::kw_only(), "dtype"_a, "scale"_a, "softcap"_a,
               "sink"_a.none(), "start"_a, "stop"_a, "residual"_a, "bias"_a, "offset"_a, "dropout"_a, "seed"_a, "lse"_a.none(), "entropy"_a.none(),
               "max_score"_a.none(), "distance"_a.none(), "top_indices"_a.none(), "top_weights"_a.none(),
               "received"_a.none(), "block_map"_a.none(), "block_rows"_a, "block_columns"_a, "threads"_a,
               "compute"_a = true,
               "Fill what is asked for from validated arrays (batch, heads, length, dim), releasing the GIL, or with compute=False "
               "fill nothing and return what would be chosen.");
    module.def("backward", &backward, "query"_a, "key"_a, "value"_a, "output"_a, "lse"_a, "grad_output"_a, "grad_lse"_a.none(),
               nb::kw_only(), "dtype"_a, "scale"_a, "softcap"_a, "sink"_a.none(), "start"_a, "stop"_a, "residual"_a, "bias"_a,
               "offset"_a, "dropout"_a, "seed"_a, "grad_query"_a, "grad_key"_a, "grad_value"_a, "grad_bias"_a, "grad_sink"_a.none(),
               "threads"_a, "Fill the gradients from validated arrays; releases the GIL. Arrays of grad_bias must be 0.");
    module.def("isa", [] { return std::string(qkv::chosen_kernel().name); },
               "The instruction set in use: the widest that this machine runs, or the one that QKV_ISA names.");
    module.def("isas", &qkv::available_kernels, "The instruction sets that this machine runs, the plainest first.");
    module.def(
        "multiply_most",
        [](const std::string &dtype, int64_t rounds) {
            const Dtype type = dtype_of(dtype);
            nb::gil_scoped_release release;
            return qkv::chosen_kernel().multiply_most(type, rounds);
        },
        "dtype"_a, "rounds"_a,
        "Repeat the inner loop's instruction from registers; return how many floating-point operations that was.");
    module.attr("compiler") = QKV_COMPILER;
}
