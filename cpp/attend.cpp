#include "attend.h"

#include <algorithm>
#include <atomic>
#include <memory>
#include <new>
#include <thread>
#include <vector>

#include "dispatch.h"
#include "threads.h"

namespace qkv {
namespace {

constexpr int most_tiles = 8;               // sharing a block of keys; more gain nothing
constexpr int64_t kept_bytes = 1 << 19;     // of what tiles that share a block of keys keep until they are closed
constexpr int64_t sums_bytes = 1 << 23;     // a thread, of sums of `received` that wait to be added up
constexpr int64_t received_parts = 64;      // tasks in all that sum `received`, before heads alone are enough
constexpr int64_t most_parts_a_head = 32;
constexpr int64_t round_bytes = 32 << 20;   // a thread, held of the units of a round
constexpr double work_worth_a_thread = 1e6;  // multiply-adds

bool has_relative_bias(const Problem &problem) {
    return std::any_of(problem.bias, problem.bias + problem.bias_terms,
                       [](const BiasTerm &term) { return term.kind == BiasKind::relative; });
}

// What a tile keeps until it is closed, in bytes: exponentials or their sums, what they are relative to, the largest scores.
int64_t kept_of_tile(const Problem &problem, int64_t width, int64_t size) {
    const int64_t blocks = ceil_div(problem.keys, keys_in_block);
    int64_t numbers = 2 * round_up(problem.ranked, 8);
    if (problem.received || problem.block_map) numbers += blocks;
    if (problem.received) numbers += problem.keys;
    if (problem.block_map) numbers += blocks + ceil_div(problem.keys, problem.block_columns);
    return numbers * width * size;
}

Split split_of(const Problem &problem, const Kernel &kernel, int threads) {
    const bool real64 = is_double(problem.dtype);
    const int64_t width = real64 ? kernel.tile_rows_double : kernel.tile_rows_float;
    const bool keeps = problem.received || problem.block_map;
    const int64_t kept = std::max<int64_t>(kept_of_tile(problem, width, real64 ? 8 : 4), 1);
    Split split{};
    split.fold = problem.heads / problem.key_heads;
    split.rows = problem.queries * split.fold;
    if (problem.dropout == 0 && split.rows <= (real64 ? kernel.few_rows_double : kernel.few_rows_float)) {
        split.pieces = ceil_div(problem.keys, keys_in_piece);
        split.tasks = problem.batch * problem.key_heads * split.pieces;
        return split;
    }
    // Query heads that share keys share lanes too, but where lanes must be consecutive queries of one head.
    split.fold = keeps || has_relative_bias(problem) ? 1 : problem.heads / problem.key_heads;
    split.rows = problem.queries * split.fold;
    const int64_t units = problem.batch * problem.heads / split.fold;
    const int64_t tiles = ceil_div(split.rows, width);
    if (keeps) {
        // This cut decides in which order weights are summed, so it must not depend on the number of threads.
        const int64_t most = std::clamp<int64_t>(sums_bytes / std::max<int64_t>(problem.keys * 8, 1), 1, most_parts_a_head);
        const int64_t wanted = std::clamp<int64_t>(ceil_div(received_parts, units), 1, std::min(most, tiles));
        split.rows_per_task = round_up(ceil_div(split.rows, wanted), width);
        if (problem.block_map) split.rows_per_task = round_up(split.rows_per_task, problem.block_rows);
        split.tiles = (int)std::clamp<int64_t>(kept_bytes / kept, 1, most_tiles);
    } else {
        split.tiles = (int)std::clamp<int64_t>(kept_bytes / kept, 1, most_tiles);
        while (split.tiles > 1 && units * ceil_div(tiles, split.tiles) < 4 * (int64_t)threads) split.tiles /= 2;
        split.rows_per_task = split.tiles * width;
    }
    split.tasks_per_unit = ceil_div(split.rows, split.rows_per_task);
    split.units = units;
    if (problem.received) {
        const int64_t bytes = split.tasks_per_unit * problem.keys * 8;
        split.units = std::clamp<int64_t>(threads * sums_bytes / std::max<int64_t>(bytes, 1), 1, std::max<int64_t>(units, 1));
    }
    split.tasks = split.units * split.tasks_per_unit;
    return split;
}

int useful_threads(const Problem &problem, const Split &split, int threads) {
    const double work = (double)problem.batch * (double)problem.heads * (double)problem.queries * (double)problem.keys *
                        (double)(problem.dim + problem.value_dim);
    const double worth = std::min(work / work_worth_a_thread + 1, (double)split.tasks);
    return (int)std::min((double)threads, worth);
}

// Adds the parts of a round's `received` in their order.
template <class T> void sum_received(const Problem &problem, const Split &split) {
    T *to = (T *)problem.received + split.first_unit * problem.keys;
    const double *from = split.received;
    for (int64_t unit = 0; unit < split.units; ++unit, to += problem.keys)
        for (int64_t j = 0; j < problem.keys; ++j) {
            double sum = 0;
            for (int64_t part = 0; part < split.tasks_per_unit; ++part)
                sum += from[(unit * split.tasks_per_unit + part) * problem.keys + j];
            to[j] = (T)sum;
        }
}

struct Counter {
    std::atomic<int64_t> given{0};
    int64_t tasks;
    std::thread::id caller;
    const std::function<bool()> &interrupted;
};

// Runs a split's tasks. Returns false where the caller was interrupted, and not all of them were run.
bool run_tasks(const Problem &problem, const Split &split, int threads, const std::function<bool()> &interrupted) {
    const Kernel &kernel = chosen_kernel();
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
    run_on_threads(threads, [&] {
        if (!kernel.run(problem, split, source)) failures.fetch_add(1);
    });
    if (failures.load()) throw std::bad_alloc();
    return !interrupted();
}

// Few rows: the keys of every unit in pieces, as many units a round as may be held.
void attend_pieces(const Problem &problem, Split split, int threads, const std::function<bool()> &interrupted) {
    const int64_t units = split.tasks / split.pieces;
    const int64_t record = split.pieces * split.rows * record_bytes(problem);
    const int64_t kept = kept_in_unit(problem, split) * (is_double(problem.dtype) ? 8 : 4);
    const int64_t most = std::clamp<int64_t>(threads * round_bytes / (record + kept), 1, units);
    std::unique_ptr<char[]> held;
    std::vector<int32_t> left;
    for (int64_t stop; split.first_unit < units; split.first_unit = stop) {
        stop = std::min(units, split.first_unit + most);
        const int64_t count = stop - split.first_unit;
        split.tasks = count * split.pieces;
        if (split.pieces > 1) {
            if (!held) held.reset(new char[(size_t)(most * (record + kept) + 64)]);
            split.records = (char *)(((uintptr_t)held.get() + 63) / 64 * 64);
            split.kept = kept ? split.records + most * record : nullptr;
            left.assign((size_t)count, (int32_t)split.pieces);
            split.left = left.data();
        }
        if (!run_tasks(problem, split, threads, interrupted)) return;
    }
}

}  // namespace

Choice choose(const Problem &problem, int threads) {
    Choice choice{};
    choice.kernel = &chosen_kernel();
    choice.split = split_of(problem, *choice.kernel, threads);
    const bool pairs = problem.dtype == Dtype::bfloat16 && choice.kernel->bfloat16_pairs;
    choice.arithmetic = problem.dtype == Dtype::float64   ? "float64"
                        : problem.dtype == Dtype::float32 ? "float32"
                        : choice.split.pieces             ? "float32, converted in registers"
                        : pairs                           ? "bfloat16 by pairs, float32 sums"
                                                          : "float32, read block by block";
    choice.threads = useful_threads(problem, choice.split, threads);
    choice.tile_rows = is_double(problem.dtype) ? choice.kernel->tile_rows_double : choice.kernel->tile_rows_float;
    if (!choice.split.pieces && (problem.received || problem.block_map))
        choice.kept_bytes = choice.split.tiles * kept_of_tile(problem, choice.tile_rows, is_double(problem.dtype) ? 8 : 4);
    return choice;
}

std::string Choice::path() const {
    if (split.pieces) {
        std::string words = std::to_string(split.rows) + " rows at a time read keys as they lie";
        if (split.pieces > 1) words += ", in " + std::to_string(split.pieces) + " pieces of " + std::to_string(keys_in_piece);
        if (split.fold > 1) words += "; " + std::to_string(split.fold) + " query heads of a key head together";
        return words;
    }
    std::string words = "tiles of " + std::to_string(tile_rows) + " queries, " + std::to_string(split.tiles) + " to a block of keys";
    if (split.fold > 1) words += ", " + std::to_string(split.fold) + " query heads of a key head together";
    return words;
}

void attend(const Problem &problem, int threads, const std::function<bool()> &interrupted) {
    const Choice choice = choose(problem, threads);
    if (choice.split.pieces) {
        attend_pieces(problem, choice.split, choice.threads, interrupted);
        return;
    }
    const int64_t units = problem.batch * problem.heads / choice.split.fold;
    Split split = choice.split;
    std::unique_ptr<double[]> received;  // filled by tasks
    if (problem.received) {
        received.reset(new double[(size_t)(split.units * split.tasks_per_unit * problem.keys)]);
        split.received = received.get();
    }
    for (; split.first_unit < units; split.first_unit += split.units) {
        split.units = std::min(split.units, units - split.first_unit);
        split.tasks = split.units * split.tasks_per_unit;
        if (!run_tasks(problem, split, choice.threads, interrupted)) break;
        if (problem.received) is_double(problem.dtype) ? sum_received<double>(problem, split) : sum_received<float>(problem, split);
    }
}

}  // namespace qkv
