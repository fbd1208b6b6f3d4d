// One problem drawn from bytes, of any shape that the kernel takes, with all it points to in guarded memory.
#pragma once

#include <vector>

#include "backward.h"
#include "choices.h"
#include "guarded.h"
#include "numbers.h"
#include "problem.h"

namespace qkv::test {

class Example {
  public:
    explicit Example(Choices &choices);
    Example(const Example &) = delete;
    Example &operator=(const Example &) = delete;

    Problem problem{};
    Gradients gradients{};  // where `backward`: of the problem once it has been computed
    bool backward = false;
    bool wild = false;          // a NaN or an infinity here and there
    bool digitless = false;     // a number so large that rounding decides what is left of a sum
    bool exact_scores = false;  // they are the same numbers in every arithmetic: ties are ties
    double rounding = 0;        // what a score may be off by

    // Every byte that a call may write to becomes this one: of the forward pass, or of the backward pass.
    void poison(unsigned char byte);
    void poison_gradients(unsigned char byte);
    // What was computed, one output after the other; 0 between the output's rows. One NaN is as good as another: its sign and
    // payload follow from the order in which a compiler puts two operands.
    std::vector<char> results() const;
    std::vector<char> gradient_results() const;
    // Whether what lies between the output's rows is still this byte.
    bool untouched_between_rows(unsigned char byte) const;

  private:
    struct Layout {
        int64_t stride[4], span, origin;  // in elements; `origin` is where element (0, 0, 0, 0) lies
    };

    struct Output {
        Guarded *memory;
        Dtype dtype;
        bool indices;
    };

    char *take(int64_t bytes);
    Layout layout(const int64_t (&shape)[4], bool rows_whole, bool may_share);
    Array input(const int64_t (&shape)[4], double size);
    void draw_shape();
    void draw_output();
    void draw_bounds();
    void draw_mask();
    void draw_bias();
    void draw_statistics();
    void draw_backward();
    Rows rows(int64_t length, int64_t least, int64_t below);
    Array values(const int64_t (&shape)[4], double size, double masked);
    double unit() const { return is_double(real_) ? 0x1p-53 : 0x1p-24; }  // half of a 1's last place
    void *statistic(int64_t count);
    char *gradient(int64_t count, Dtype dtype);
    static std::vector<char> contents(const std::vector<Output> &outputs);
    std::vector<bool> between_rows() const;  // byte by byte of the output's memory

    Choices &choices_;
    Random random_{0};
    Memory memory_;
    std::vector<Output> outputs_;  // the output first
    std::vector<Output> gradients_;
    std::vector<Array> bias_gradients_;
    std::vector<MaskStep> steps_;
    std::vector<BiasTerm> terms_;
    Dtype real_ = Dtype::float32;
};

}  // namespace qkv::test
