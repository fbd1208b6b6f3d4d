#include "example.h"

#include <algorithm>
#include <cstring>

namespace qkv::test {
namespace {

constexpr int64_t most_work = 3'000'000;  // multiply-adds: enough for a few threads, little enough for seconds in all
constexpr unsigned char unused = 0xff;    // a NaN in every dtype: what lies between rows and must not matter

}  // namespace

Example::Example(Choices &choices) : choices_(choices) {
    random_ = Random(choices_.seed());
    draw_shape();
    backward = choices_.flip();
    draw_output();
    draw_bounds();
    if (choices_.flip()) draw_mask();
    if (choices_.flip()) draw_bias();
    if (choices_.below(4) == 3) problem.sink = values({1, problem.heads, 1, 1}, 2, 0);
    draw_statistics();
    if (backward) draw_backward();
}

void Example::draw_shape() {
    Problem &p = problem;
    p.dtype = choices_.one_of({Dtype::float32, Dtype::bfloat16, Dtype::float16, Dtype::float64});
    real_ = is_double(p.dtype) ? Dtype::float64 : Dtype::float32;
    wild = choices_.below(5) == 4;
    p.batch = 1 + choices_.below(2);
    p.key_heads = 1 + choices_.below(3);
    p.heads = p.key_heads * choices_.one_of({1, 1, 2, 3, 8});
    p.queries = choices_.one_of({1, 2, 5, 16, 31, 33, 64, 70, 130, 257});
    p.keys = choices_.one_of({1, 3, 20, 64, 127, 128, 129, 200, 300, 520});
    if (choices_.flip()) p.queries = 1 + choices_.below(256);
    if (choices_.flip()) p.keys = 1 + choices_.below(256);
    p.dim = choices_.one_of({1, 2, 7, 16, 32, 48, 64, 65, 80, 128, 256, 511, 512});
    p.value_dim = choices_.one_of({0, 1, 3, 13, 16, 64, 64, 96, 128, 130, 256, 512});
    while (p.batch * p.heads * p.queries * p.keys * (p.dim + p.value_dim) > most_work) {
        int64_t &longest = p.queries > p.keys ? p.queries : p.keys;
        if (longest > 140)
            longest -= longest / 3;
        else if (p.batch > 1)
            p.batch = 1;
        else if (p.heads > p.key_heads)
            p.heads = p.key_heads;
        else if (p.key_heads > 1)
            p.heads = p.key_heads = 1;
        else
            (p.dim > p.value_dim ? p.dim : p.value_dim) /= 2;
    }
    const double root = 1 / std::sqrt((double)p.dim);
    p.scale = choices_.one_of({root, root, root, -0.1, 1.0, 0.0});
    p.softcap = choices_.one_of({0.0, 0.0, 0.0, 2.0, 30.0});
    p.dropout = choices_.one_of({0.0, 0.0, 0.0, 0.1, 0.5, 0.9});
    p.seed = random_.bits();
    p.offset = choices_.flip() ? p.keys - p.queries : 0;
    p.query = input({p.batch, p.heads, p.queries, p.dim}, 1);
    p.key = input({p.batch, p.key_heads, p.keys, p.dim}, 1);
    p.value = input({p.batch, p.key_heads, p.keys, p.value_dim}, 1);
    // Of a score: the product of two normal vectors' lengths, with room. And of a sum over a block of keys, where roundings of
    // equal numbers all go one way.
    rounding = unit() * (64 * (double)p.dim * std::fabs(p.scale) + 128);
    exact_scores = p.scale == 0 && !wild;
}

// Memory for so many bytes, against the page before or behind it.
char *Example::take(int64_t bytes) {
    memory_.emplace_back((size_t)bytes, choices_.flip() ? Guarded::Against::end : Guarded::Against::start);
    return memory_.back().data();
}

// Axes in any order, apart by any step, backwards, or (where they are only read) one element shared by a whole axis.
Example::Layout Example::layout(const int64_t (&shape)[4], bool rows_whole, bool may_share) {
    Layout made{{0, 0, 0, 0}, 1, 0};
    int order[4] = {3, 2, 1, 0};  // from the innermost axis
    const int first = rows_whole ? 1 : 0;
    if (choices_.flip()) std::swap(order[first + choices_.below(3)], order[first + 1 + choices_.below(2)]);
    int64_t step = 1, high = 0, low = 0;
    for (int i = 0; i < 4; ++i) {
        const int axis = order[i];
        const int64_t extent = std::max<int64_t>(shape[axis], 1) - 1;
        const bool free = axis != 3 || !rows_whole;
        const int kind = free ? (int)choices_.below(6) : 0;
        if (kind == 5 && may_share) continue;  // stride 0
        const int64_t apart = kind == 4 ? step + 1 + choices_.below(40) : step;
        made.stride[axis] = kind == 3 ? -apart : apart;
        (kind == 3 ? low : high) += made.stride[axis] * extent;
        step = apart * (extent + 1);
    }
    made.span = shape[0] * shape[1] * shape[2] * shape[3] == 0 ? 0 : high - low + 1;
    made.origin = -low;
    return made;
}

Array Example::input(const int64_t (&shape)[4], double size) {
    const int64_t bytes = size_of(problem.dtype);
    const Layout at = layout(shape, true, true);
    Array array;
    std::copy(at.stride, at.stride + 4, array.stride);
    char *memory = take(at.span * bytes);
    memory_.back().fill(unused);
    array.data = memory + at.origin * bytes;
    for (int64_t a = 0; a < shape[0]; ++a)
        for (int64_t b = 0; b < shape[1]; ++b)
            for (int64_t c = 0; c < shape[2]; ++c)
                for (int64_t d = 0; d < shape[3]; ++d)
                    write(problem.dtype, random_.normal() * size, array.data + place(array, a, b, c, d) * bytes);
    for (int64_t i = 0; wild && at.span && i < 1 + random_.below(3); ++i) {
        const int64_t odd = place(array, random_.below(shape[0]), random_.below(shape[1]), random_.below(shape[2]),
                                  random_.below(shape[3]));
        const double odds[] = {NAN, INFINITY, -INFINITY, -0.0, 1e30};
        const int64_t which = random_.below(5);
        write(problem.dtype, odds[which], array.data + odd * bytes);
        digitless = digitless || which == 4;
    }
    return array;
}

void Example::draw_output() {
    Problem &p = problem;
    p.output_dtype = !backward && size_of(p.dtype) == 2 && choices_.below(3) == 2 ? Dtype::float32 : p.dtype;
    const Layout at = layout({p.batch, p.heads, p.queries, p.value_dim}, true, false);
    char *memory = take(at.span * size_of(p.output_dtype));
    outputs_.push_back({&memory_.back(), p.output_dtype, false});
    std::copy(at.stride, at.stride + 4, p.output.stride);
    p.output.data = memory + at.origin * size_of(p.output_dtype);
}

// One row or one a batch item, of numbers from `least` on.
Rows Example::rows(int64_t length, int64_t least, int64_t below) {
    const bool shared = choices_.flip();
    const int64_t apart = length + (shared ? 0 : choices_.below(3));
    const int64_t span = shared ? length : apart * (problem.batch - 1) + length;
    int32_t *data = (int32_t *)take(span * 4);
    for (int64_t i = 0; i < span; ++i) data[i] = (int32_t)(least + random_.below(below - least));
    return {data, shared ? 0 : apart};
}

void Example::draw_bounds() {
    Problem &p = problem;
    const int64_t kind = choices_.below(6);
    if (kind == 0) return;  // none: every key
    if (kind == 1) {        // anything at all, out of range and the wrong way round
        p.start = rows(p.queries, -p.keys, 2 * p.keys);
        p.stop = rows(p.queries, -p.keys, 2 * p.keys);
        return;
    }
    p.start = rows(p.queries, 0, 1);
    p.stop = rows(p.queries, p.keys, p.keys + 1);
    const int64_t left = 1 + choices_.below(200), right = choices_.below(20);
    for (int64_t batch = 0; batch < p.batch; ++batch)
        for (int64_t i = 0; i < p.queries; ++i) {
            int32_t &start = const_cast<int32_t *>(p.start.of(batch))[i], &stop = const_cast<int32_t *>(p.stop.of(batch))[i];
            const int64_t at = i + p.offset;
            if (kind == 2) stop = (int32_t)std::clamp<int64_t>(at + 1, 0, p.keys);
            if (kind == 3) start = (int32_t)std::clamp<int64_t>(at - left, 0, p.keys);
            if (kind == 3) stop = (int32_t)std::clamp<int64_t>(at + 1 + right, start, p.keys);
            if (kind == 4) start = (int32_t)std::min(i % 7 * left, p.keys);
        }
}

Array Example::values(const int64_t (&shape)[4], double size, double masked) {
    const Layout at = layout(shape, false, true);
    char *memory = take(at.span * size_of(real_));
    memory_.back().fill(unused);
    Array array;
    std::copy(at.stride, at.stride + 4, array.stride);
    array.data = memory + at.origin * size_of(real_);
    for (int64_t a = 0; a < shape[0]; ++a)
        for (int64_t b = 0; b < shape[1]; ++b)
            for (int64_t c = 0; c < shape[2]; ++c)
                for (int64_t d = 0; d < shape[3]; ++d) {
                    const double value = random_.uniform() < masked ? -INFINITY : random_.normal() * size;
                    write(real_, value, array.data + place(array, a, b, c, d) * size_of(real_));
                }
    return array;
}

void Example::draw_mask() {
    Problem &p = problem;
    int depth = 0;
    const int64_t leaves = 1 + choices_.below(4);
    for (int64_t leaf = 0; leaf < leaves || depth > 1;) {
        MaskStep step{};
        if (depth >= 2 && (leaf == leaves || choices_.flip())) {
            step.op = choices_.flip() ? MaskOp::both : MaskOp::either;
            --depth;
        } else if (depth >= 1 && choices_.below(4) == 3) {
            step.op = MaskOp::negate;
        } else if (leaf < leaves) {
            step.op = choices_.one_of({MaskOp::interval, MaskOp::equal, MaskOp::array});
            if (step.op == MaskOp::interval) {
                step.first = rows(p.queries, -1, p.keys / 2 + 1);
                step.second = rows(p.queries, p.keys / 4, p.keys + 2);
            } else if (step.op == MaskOp::equal) {
                step.first = rows(p.queries, 0, 3);
                step.second = rows(p.keys, 0, 3);
            } else {
                const Layout at = layout({p.batch, p.heads, p.queries, p.keys}, false, true);
                char *memory = take(at.span);
                for (int64_t i = 0; i < at.span; ++i) memory[i] = random_.uniform() < 0.7;
                std::copy(at.stride, at.stride + 4, step.array.stride);
                step.array.data = memory + at.origin;
            }
            ++leaf;
            ++depth;
        } else {
            continue;
        }
        steps_.push_back(step);
        p.mask_depth = std::max(p.mask_depth, depth);
    }
    p.mask = steps_.data();
    p.mask_steps = (int)steps_.size();
}

void Example::draw_bias() {
    Problem &p = problem;
    const int64_t count = 1 + choices_.below(3);
    for (int64_t i = 0; i < count; ++i) {
        BiasTerm term{};
        term.kind = choices_.one_of({BiasKind::array, BiasKind::alibi, BiasKind::relative});
        term.offset = choices_.flip() ? p.keys - p.queries : choices_.below(3) - 1;
        if (term.kind == BiasKind::array) {
            term.values = values({p.batch, p.heads, p.queries, p.keys}, 1, 0.1);
        } else if (term.kind == BiasKind::alibi) {
            term.values = values({1, p.heads, 1, 1}, 0.2, 0);
            rounding += 16 * unit() * (double)(p.queries + p.keys);
        } else {
            term.radius = choices_.below(50);
            term.values = values({1, p.heads, 1, 2 * term.radius + 1}, 1, 0.1);
        }
        rounding += 16 * unit() * 4;
        exact_scores = exact_scores && term.kind == BiasKind::array && count == 1;
        terms_.push_back(term);
    }
    p.bias = terms_.data();
    p.bias_terms = (int)terms_.size();
}

void *Example::statistic(int64_t count) {
    char *data = take(count * size_of(real_));
    outputs_.push_back({&memory_.back(), real_, false});
    return data;
}

void Example::draw_statistics() {
    Problem &p = problem;
    const int64_t all = p.batch * p.heads * p.queries;
    if (choices_.below(4) != 3) p.lse = statistic(all);
    if (choices_.flip()) p.entropy = statistic(all);
    if (choices_.flip()) p.max_score = statistic(all);
    if (choices_.flip()) p.distance = statistic(all);
    p.top_k = choices_.one_of<int64_t>({0, 0, 1, 3, 8, 17, 400});
    if (p.top_k) {
        p.ranked = std::min(p.top_k, p.keys);
        p.top_weights = statistic(all * p.top_k);
        p.top_indices = (int64_t *)take(all * p.top_k * 8);
        outputs_.push_back({&memory_.back(), Dtype::float64, true});
    }
    if (choices_.below(3) == 2) p.received = statistic(p.batch * p.heads * p.keys);
    if (choices_.below(3) == 2) {
        p.block_rows = std::min<int64_t>(choices_.one_of({1, 5, 32, 64, 1000}), p.queries);
        p.block_columns = std::min<int64_t>(choices_.one_of({1, 7, 64, 200, 1000}), p.keys);
        const int64_t tall = (p.queries - 1) / p.block_rows + 1, wide = (p.keys - 1) / p.block_columns + 1;
        p.block_map = statistic(p.batch * p.heads * tall * wide);
    }
}

// Contiguous, to be filled.
char *Example::gradient(int64_t count, Dtype dtype) {
    char *data = take(count * size_of(dtype));
    gradients_.push_back({&memory_.back(), dtype, false});
    return data;
}

void Example::draw_backward() {
    Problem &p = problem;
    const int64_t rows = p.batch * p.heads * p.queries;
    if (!p.lse) p.lse = statistic(rows);
    const auto contiguous = [](int64_t heads, int64_t length, int64_t dim) {
        return Array{nullptr, {heads * length * dim, length * dim, dim, 1}};
    };
    gradients.output = p.output;
    gradients.lse = p.lse;
    gradients.grad_output = input({p.batch, p.heads, p.queries, p.value_dim}, 1);
    if (choices_.flip()) {
        char *data = take(rows * size_of(real_));
        for (int64_t i = 0; i < rows; ++i) write(real_, random_.normal(), data + i * size_of(real_));
        gradients.grad_lse = data;
    }
    gradients.query = contiguous(p.heads, p.queries, p.dim);
    gradients.query.data = gradient(rows * p.dim, p.dtype);
    gradients.key = contiguous(p.key_heads, p.keys, p.dim);
    gradients.key.data = gradient(p.batch * p.key_heads * p.keys * p.dim, p.dtype);
    gradients.value = contiguous(p.key_heads, p.keys, p.value_dim);
    gradients.value.data = gradient(p.batch * p.key_heads * p.keys * p.value_dim, p.dtype);
    if (p.sink.data && choices_.flip()) gradients.sink = gradient(p.heads, real_);
    for (const BiasTerm &term : terms_) {
        Array to;
        int64_t count = p.heads;
        if (term.kind == BiasKind::relative) count *= 2 * term.radius + 1;
        if (term.kind == BiasKind::array) {
            const int64_t shape[4] = {p.batch, p.heads, p.queries, p.keys};
            count = 1;
            for (int axis = 3; axis >= 0; --axis) {
                if (shape[axis] == 1 || term.values.stride[axis] == 0) continue;  // summed over, or nothing to step to
                to.stride[axis] = count;
                count *= shape[axis];
            }
        }
        if (choices_.below(4) != 3) to.data = gradient(count, real_);
        bias_gradients_.push_back(to);
    }
    gradients.bias = bias_gradients_.data();
}

void Example::poison_gradients(unsigned char byte) {
    for (const Output &output : gradients_) output.memory->fill(byte);
    // Gradients of bias arrays are added to what is there, from many places.
    for (size_t i = 0; i < terms_.size(); ++i)
        if (terms_[i].kind == BiasKind::array && bias_gradients_[i].data)
            for (const Output &output : gradients_)
                if (output.memory->data() == bias_gradients_[i].data) output.memory->fill(0);
}

void Example::poison(unsigned char byte) {
    for (const Output &output : outputs_) output.memory->fill(byte);
}

std::vector<bool> Example::between_rows() const {
    const Problem &p = problem;
    const int64_t size = size_of(p.output_dtype), origin = p.output.data - outputs_[0].memory->data();
    std::vector<bool> between(outputs_[0].memory->bytes(), true);
    for (int64_t b = 0; b < p.batch; ++b)
        for (int64_t h = 0; h < p.heads; ++h)
            for (int64_t i = 0; i < p.queries; ++i) {
                const auto row = between.begin() + origin + place(p.output, b, h, i, 0) * size;
                std::fill(row, row + p.value_dim * size, false);
            }
    return between;
}

std::vector<char> Example::contents(const std::vector<Output> &outputs) {
    std::vector<char> bytes;
    for (const Output &output : outputs) {
        const size_t first = bytes.size();
        bytes.insert(bytes.end(), output.memory->data(), output.memory->data() + output.memory->bytes());
        for (size_t at = first; !output.indices && at < bytes.size(); at += (size_t)size_of(output.dtype))
            if (std::isnan(read(output.dtype, &bytes[at]))) write(output.dtype, NAN, &bytes[at]);
    }
    return bytes;
}

std::vector<char> Example::gradient_results() const { return contents(gradients_); }

std::vector<char> Example::results() const {
    std::vector<char> bytes = contents(outputs_);
    const std::vector<bool> between = between_rows();
    for (size_t i = 0; i < between.size(); ++i)
        if (between[i]) bytes[i] = 0;
    return bytes;
}

bool Example::untouched_between_rows(unsigned char byte) const {
    const std::vector<bool> between = between_rows();
    for (size_t i = 0; i < between.size(); ++i)
        if (between[i] && (unsigned char)outputs_[0].memory->data()[i] != byte) return false;
    return true;
}

}  // namespace qkv::test
