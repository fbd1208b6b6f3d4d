#include "backward.h"

#include <algorithm>
#include <atomic>
#include <new>
#include <thread>
#include <vector>

#include "dispatch.h"
#include "threads.h"

namespace qkv {
namespace {

constexpr int64_t span_bytes = 1 << 19;       // of a span's keys, values and their gradients: half of a second-level cache
constexpr int64_t most_query_bytes = 24 << 20;  // of the gradients of queries that a task holds
constexpr int64_t tiles_worth_a_part = 8, most_parts = 64, most_parts_of_tables = 8;
constexpr double cost_unfused = 7.0 / 5.0;    // products of a block of scores
constexpr double work_worth_a_thread = 5e5;   // multiply-adds

bool summed_over(const Problem &problem, const Gradients &given, int axis, int64_t size) {
    if (size == 1) return false;
    for (int i = 0; i < problem.bias_terms; ++i)
        if (problem.bias[i].kind == BiasKind::array && given.bias[i].data && given.bias[i].stride[axis] == 0) return true;
    return false;
}

BackwardSplit split_of(const Problem &problem, const Gradients &given, const Kernel &kernel, int threads) {
    const int64_t size = is_double(problem.dtype) ? 8 : 4;
    const int64_t width = is_double(problem.dtype) ? kernel.tile_rows_double : kernel.tile_rows_float;
    const int64_t fold = problem.heads / problem.key_heads, units = problem.batch * problem.key_heads;
    BackwardSplit split{};
    for (int i = 0; i < problem.bias_terms; ++i)
        if (problem.bias[i].kind == BiasKind::relative && given.bias[i].data) split.table_size += 2 * problem.bias[i].radius + 1;
    split.tiles_per_head = ceil_div(problem.queries, width);
    split.tiles = fold * split.tiles_per_head;
    const int64_t most = split.table_size ? most_parts_of_tables : most_parts;
    const int64_t tiles_held = std::max<int64_t>(most_query_bytes / (width * std::max<int64_t>(problem.dim, 1) * size), 1);
    split.tiles_per_part = ceil_div(split.tiles, std::clamp<int64_t>(ceil_div(split.tiles, tiles_worth_a_part), 1, most));
    split.tiles_per_part = std::clamp<int64_t>(split.tiles_per_part, 1, tiles_held);
    split.parts = std::max<int64_t>(ceil_div(split.tiles, split.tiles_per_part), 1);
    const int64_t row_bytes = 2 * (problem.dim + problem.value_dim) * size;
    split.keys_per_span = std::max<int64_t>(span_bytes / row_bytes / keys_at_once, 1) * keys_at_once;
    split.keys_per_span = std::min(split.keys_per_span, ceil_div(problem.keys, keys_at_once) * keys_at_once);
    split.spans = ceil_div(problem.keys, split.keys_per_span);
    split.units_per_task = summed_over(problem, given, 1, problem.heads)   ? units
                           : summed_over(problem, given, 0, problem.batch) ? problem.batch
                                                                           : 1;
    const int64_t groups = units / split.units_per_task;
    // Where queries of one part meet those of another in one number, or heads of one unit do, a task goes through them all.
    const bool together = summed_over(problem, given, 2, problem.queries) || (fold > 1 && summed_over(problem, given, 1, problem.heads));
    split.parts_per_task = together ? split.parts : 1;
    const int64_t rounds = ceil_div(groups, threads);
    const bool balanced = (double)(rounds * threads) <= cost_unfused * (double)groups;
    split.fused = split.tiles <= tiles_held && (balanced || together || split.parts == 1);
    split.once = split.tiles == 1 && problem.keys <= keys_at_once;
    split.tasks = split.fused ? groups : groups * (split.parts / split.parts_per_task) + units * split.spans;
    return split;
}

// Adds up what tasks left, in the order of batch items and parts.
template <class T>
void add_up(const Problem &problem, const Gradients &given, const BackwardSplit &split) {
    const int64_t fold = problem.heads / problem.key_heads, units = problem.batch * problem.key_heads;
    const auto by_head = [&](int term, T *to) {
        for (int64_t head = 0; head < problem.heads; ++head) {
            double total = 0;
            for (int64_t batch = 0; batch < problem.batch; ++batch) {
                const double *sums = split.row_sums + (term * units + batch * problem.key_heads + head / fold) * split.tiles;
                for (int64_t i = 0; i < split.tiles_per_head; ++i) total += sums[head % fold * split.tiles_per_head + i];
            }
            to[head] = (T)total;
        }
    };
    int64_t before = 0;
    for (int i = 0; i < problem.bias_terms; ++i) {
        T *to = (T *)given.bias[i].data;
        if (!to) continue;
        if (problem.bias[i].kind == BiasKind::alibi) by_head(i, to);
        if (problem.bias[i].kind != BiasKind::relative) continue;
        const int64_t length = 2 * problem.bias[i].radius + 1;
        for (int64_t head = 0; head < problem.heads; ++head)
            for (int64_t at = 0; at < length; ++at) {
                double total = 0;
                for (int64_t batch = 0; batch < problem.batch; ++batch)
                    for (int64_t part = 0; part < split.parts; ++part)
                        total += split.tables[(((batch * problem.key_heads + head / fold) * split.parts + part) * fold + head % fold) * split.table_size +
                                              before + at];
                to[head * length + at] = (T)total;
            }
        before += length;
    }
    if (given.sink) by_head(problem.bias_terms, (T *)given.sink);
}

struct Counter {
    std::atomic<int64_t> given{0};
    std::atomic<bool> stopped{false};
    int64_t tasks;
    std::thread::id caller;
    const std::function<bool()> &interrupted;

    bool stop() {
        if (std::this_thread::get_id() == caller && interrupted()) stopped.store(true);
        return stopped.load();
    }
};

}  // namespace

void backward(const Problem &problem, const Gradients &given, int threads, const std::function<bool()> &interrupted) {
    const Kernel &kernel = chosen_kernel();
    const double work = (double)problem.batch * (double)problem.heads * (double)problem.queries * (double)problem.keys *
                        (double)(problem.dim + problem.value_dim);
    const int worth = (int)std::min((double)threads, work / work_worth_a_thread + 1);
    BackwardSplit split = split_of(problem, given, kernel, worth);
    const int64_t units = problem.batch * problem.key_heads;
    std::vector<double> row_sums, tables;
    if (given.sink || problem.bias_terms) row_sums.resize((size_t)((problem.bias_terms + 1) * units * split.tiles));
    tables.resize((size_t)(units * split.parts * (problem.heads / problem.key_heads) * split.table_size));
    split.row_sums = row_sums.data();
    split.tables = tables.data();
    Counter counter{{0}, {false}, split.tasks, std::this_thread::get_id(), interrupted};
    const BackwardSource source = {[](void *state) -> int64_t {
                                       Counter &counter = *(Counter *)state;
                                       const int64_t task = counter.given.fetch_add(1);
                                       return task < counter.tasks && !counter.stopped.load() ? task : -1;
                                   },
                                   [](void *state) { return ((Counter *)state)->stop(); }, &counter};
    std::atomic<int> failures{0};
    run_on_threads((int)std::min<int64_t>(worth, split.tasks), [&] {
        if (!kernel.run_backward(problem, given, split, source)) failures.fetch_add(1);
    });
    if (failures.load()) throw std::bad_alloc();
    is_double(problem.dtype) ? add_up<double>(problem, given, split) : add_up<float>(problem, given, split);
}

}  // namespace qkv
