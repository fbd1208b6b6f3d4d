// The pool of threads: many short calls, callers at once, forked children, calls that are interrupted or that fail.
// Written for ThreadSanitizer, which sees what a test by results cannot.
//   pool [without-forks]

#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <cstdio>
#include <cstring>
#include <functional>
#include <new>
#include <thread>
#include <vector>

#include "attend.h"
#include "choices.h"
#include "each_isa.h"
#include "threads.h"

namespace {

using qkv::Problem;

int failures = 0;

void expect(bool holds, const char *what) {
    if (!holds) std::printf("pool: %s\n", what), ++failures;
}

// Attention of enough work for several threads.
struct Call {
    static constexpr int64_t heads = 4, length = 150, dim = 32;
    std::vector<float> query, key, value, output, received;
    Problem problem{};

    explicit Call(uint64_t seed) {
        qkv::test::Random random(seed);
        for (std::vector<float> *array : {&query, &key, &value}) {
            array->resize(heads * length * dim);
            for (float &number : *array) number = (float)random.normal();
        }
        output.resize(query.size());
        received.resize(heads * length);
        problem.dtype = problem.output_dtype = qkv::Dtype::float32;
        problem.batch = 1;
        problem.heads = problem.key_heads = heads;
        problem.queries = problem.keys = length;
        problem.dim = problem.value_dim = dim;
        problem.scale = 0.2;
        problem.received = received.data();
        const auto array = [](std::vector<float> &data) {
            return qkv::Array{(char *)data.data(), {0, length * dim, dim, 1}};
        };
        problem.query = array(query), problem.key = array(key), problem.value = array(value), problem.output = array(output);
    }

    std::vector<float> run(int threads) {
        qkv::attend(problem, threads, [] { return false; });
        std::vector<float> both = output;
        both.insert(both.end(), received.begin(), received.end());
        return both;
    }
};

bool same(const std::vector<float> &a, const std::vector<float> &b) {
    return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0;
}

void many_short_calls() {
    for (int i = 0; i < 3000; ++i) {
        std::atomic<int> left{i % 7}, done{0};
        qkv::run_on_threads(1 + i % 4, [&] {
            while (left.fetch_sub(1) > 0) done.fetch_add(1);
        });
        expect(done.load() == i % 7, "work was lost or done twice");
    }
}

void callers_at_once() {
    constexpr int callers = 6;
    std::vector<std::vector<float>> expected;
    for (int i = 0; i < callers; ++i) expected.push_back(Call((uint64_t)i).run(1));
    std::vector<std::thread> threads;
    std::atomic<int> wrong{0};
    for (int i = 0; i < callers; ++i)
        threads.emplace_back([&, i] {
            Call call((uint64_t)i);
            for (int round = 0; round < 8; ++round)
                if (!same(call.run(1 + round % 4), expected[i])) wrong.fetch_add(1);
        });
    for (std::thread &thread : threads) thread.join();
    expect(wrong.load() == 0, "callers at once got other results than alone");
}

// The child computes on threads of its own, and so does its child.
int in_child(const std::vector<float> &expected, int deeper) {
    const pid_t child = fork();
    if (child == 0) {
        bool right = same(Call(1).run(3), expected);
        if (deeper) right = right && in_child(expected, deeper - 1) == 0;
        _exit(right ? 0 : 1);
    }
    int status = -1;
    waitpid(child, &status, 0);
    return status;
}

void forked_children() {
    const std::vector<float> expected = Call(1).run(3);
    for (int i = 0; i < 5; ++i) expect(in_child(expected, 1) == 0, "a forked child failed");
    expect(same(Call(1).run(3), expected), "the parent got other results after its forks");
}

void interruption() {
    Call call(2);
    const std::vector<float> expected = call.run(3);
    for (int after = 0; after < 6; ++after) {
        int asked = 0;
        qkv::attend(call.problem, 3, [&] { return asked++ >= after; });
    }
    expect(same(call.run(3), expected), "a call after an interrupted one got other results");
}

void no_memory() {
    Call call(3);
    call.problem.dim = (int64_t)1 << 48;  // never read: its buffers are not to be had
    bool refused = false;
    try {
        qkv::attend(call.problem, 3, [] { return false; });
    } catch (const std::bad_alloc &) {
        refused = true;
    }
    expect(refused, "memory that is not to be had should be an exception");
}

bool forks = true;

int run() {
    many_short_calls();
    callers_at_once();
    if (forks) forked_children();
    interruption();
    no_memory();
    return failures ? 1 : 0;
}

}  // namespace

int main(int count, char **arguments) {
    forks = count < 2 || std::strcmp(arguments[1], "without-forks") != 0;
    return qkv::test::in_each_isa(run);
}
