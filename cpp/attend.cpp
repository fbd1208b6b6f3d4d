#include "attend.h"

#include <algorithm>
#include <atomic>
#include <new>
#include <thread>
#include <vector>

#include "dispatch.h"
#include "threads.h"

namespace qkv {
namespace {

constexpr int most_tiles = 8;               // sharing a block of keys; more gain nothing
constexpr int64_t kept_bytes = 1 << 19;     // of kept scores, by which tiles share the second-level cache
constexpr int64_t received_parts = 64;      // tasks in all that sum `received`, before heads alone are enough
constexpr int64_t most_parts_a_head = 32;
constexpr double work_worth_a_thread = 1e6;  // multiply-adds

int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }
int64_t round_up(int64_t a, int64_t b) { return ceil_div(a, b) * b; }

bool has_relative_bias(const Problem &problem) {
    return std::any_of(problem.bias, problem.bias + problem.bias_terms,
                       [](const BiasTerm &term) { return term.kind == BiasKind::relative; });
}

Split split_of(const Problem &problem, const Kernel &kernel, int threads) {
    const bool real64 = is_double(problem.dtype);
    const int64_t width = real64 ? kernel.tile_rows_double : kernel.tile_rows_float;
    const bool keeps = problem.received || problem.block_map;
    Split split{};
    // Query heads that share keys share lanes too, but where lanes must be consecutive queries of one head.
    split.fold = keeps || has_relative_bias(problem) ? 1 : problem.heads / problem.key_heads;
    split.rows = problem.queries * split.fold;
    const int64_t units = problem.batch * problem.heads / split.fold;
    const int64_t tiles = ceil_div(split.rows, width);
    if (keeps) {
        // This cut decides in which order weights are summed, so it must not depend on the number of threads.
        const int64_t wanted = std::clamp<int64_t>(ceil_div(received_parts, units), 1, std::min(most_parts_a_head, tiles));
        split.rows_per_task = round_up(ceil_div(split.rows, wanted), width);
        if (problem.block_map) split.rows_per_task = round_up(split.rows_per_task, problem.block_rows);
        const int64_t bytes = problem.keys * width * (real64 ? 8 : 4);
        split.tiles = (int)std::clamp<int64_t>(kept_bytes / std::max<int64_t>(bytes, 1), 1, most_tiles);
    } else {
        split.tiles = most_tiles;
        while (split.tiles > 1 && units * ceil_div(tiles, split.tiles) < 4 * (int64_t)threads) split.tiles /= 2;
        split.rows_per_task = split.tiles * width;
    }
    split.tasks_per_unit = ceil_div(split.rows, split.rows_per_task);
    split.tasks = units * split.tasks_per_unit;
    return split;
}

int useful_threads(const Problem &problem, const Split &split, int threads) {
    const double work = (double)problem.batch * (double)problem.heads * (double)problem.queries * (double)problem.keys *
                        (double)(problem.dim + problem.value_dim);
    const double worth = std::min(work / work_worth_a_thread + 1, (double)split.tasks);
    return (int)std::min((double)threads, worth);
}

// Adds the parts of `received` in their order.
template <class T> void sum_received(const Problem &problem, const Split &split) {
    T *to = (T *)problem.received;
    const double *from = split.received;
    for (int64_t head = 0; head < problem.batch * problem.heads; ++head, to += problem.keys)
        for (int64_t j = 0; j < problem.keys; ++j) {
            double sum = 0;
            for (int64_t part = 0; part < split.tasks_per_unit; ++part)
                sum += from[(head * split.tasks_per_unit + part) * problem.keys + j];
            to[j] = (T)sum;
        }
}

struct Counter {
    std::atomic<int64_t> given{0};
    int64_t tasks;
    std::thread::id caller;
    const std::function<bool()> &interrupted;
};

}  // namespace

Choice choose(const Problem &problem, int threads) {
    Choice choice{};
    choice.kernel = &chosen_kernel();
    choice.arithmetic = problem.dtype == Dtype::float64   ? "float64"
                        : problem.dtype == Dtype::float32 ? "float32"
                        : problem.dtype == Dtype::bfloat16 && choice.kernel->bfloat16_pairs
                            ? "bfloat16 by pairs, float32 sums"
                                                          : "float32, read block by block";
    choice.split = split_of(problem, *choice.kernel, threads);
    choice.threads = useful_threads(problem, choice.split, threads);
    choice.tile_rows = is_double(problem.dtype) ? choice.kernel->tile_rows_double : choice.kernel->tile_rows_float;
    if (problem.received || problem.block_map)
        choice.kept_bytes = choice.split.tiles * problem.keys * choice.tile_rows * (is_double(problem.dtype) ? 8 : 4);
    return choice;
}

std::string Choice::path() const {
    std::string words = "tiles of " + std::to_string(tile_rows) + " queries, " + std::to_string(split.tiles) + " to a block of keys";
    if (split.fold > 1) words += ", " + std::to_string(split.fold) + " query heads of a key head together";
    return words;
}

Choice attend(const Problem &problem, int threads, const std::function<bool()> &interrupted) {
    const Choice choice = choose(problem, threads);
    const Kernel &kernel = *choice.kernel;
    Split split = choice.split;
    std::vector<double> received;
    if (problem.received) {
        received.resize((size_t)(problem.batch * problem.heads * split.tasks_per_unit * problem.keys));
        split.received = received.data();
    }
    Counter counter{{0}, split.tasks, std::this_thread::get_id(), interrupted};
    const TaskSource source = {[](void *state) -> int64_t {
                                   Counter &counter = *(Counter *)state;
                                   if (std::this_thread::get_id() == counter.caller && counter.interrupted())
                                       counter.given.store(counter.tasks);
                                   const int64_t task = counter.given.fetch_add(1);
                                   return task < counter.tasks ? task : -1;
                               },
                               &counter};
    std::atomic<int> failures{0};
    run_on_threads(choice.threads, [&] {
        if (!kernel.run(problem, split, source)) failures.fetch_add(1);
    });
    if (failures.load()) throw std::bad_alloc();
    if (problem.received) is_double(problem.dtype) ? sum_received<double>(problem, split) : sum_received<float>(problem, split);
    return choice;
}

}  // namespace qkv
