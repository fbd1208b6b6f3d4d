// Python's arrays as C sees them, and the checks that keep a caller from reading or writing out of bounds. What else can
// go wrong is checked in Python, where messages can be good.

#pragma once

#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/string.h>

#include <algorithm>
#include <initializer_list>
#include <optional>
#include <string>
#include <vector>

#include "problem.h"

namespace qkv {

namespace nb = nanobind;

using In = nb::ndarray<nb::ro>;
using Out = nb::ndarray<>;

inline void require(bool holds, const char *name, const char *expected) {
    if (!holds) throw nb::value_error((std::string(name) + ": expected " + expected).c_str());
}

Dtype dtype_of(const std::string &name);

template <class A> bool is_float(const A &array, int bits) {
    return array.dtype() == nb::dlpack::dtype{(uint8_t)nb::dlpack::dtype_code::Float, (uint8_t)bits, 1};
}

template <class A> bool has_size(const A &array, Dtype dtype) {
    const int bits = dtype == Dtype::float64 ? 64 : dtype == Dtype::float32 ? 32 : 16;
    return bits == 16 ? array.dtype().bits == 16 && array.dtype().lanes == 1 : is_float(array, bits);
}

template <class A> bool has_shape(const A &array, std::initializer_list<int64_t> shape) {
    if (array.ndim() != shape.size()) return false;
    size_t axis = 0;
    return std::all_of(shape.begin(), shape.end(), [&](int64_t size) { return (int64_t)array.shape(axis++) == size; });
}

template <class A> bool is_contiguous(const A &array) {
    int64_t expected = 1;
    for (size_t axis = array.ndim(); axis-- > 0;) {
        if (array.shape(axis) > 1 && array.stride(axis) != expected) return false;
        expected *= (int64_t)array.shape(axis);
    }
    return true;
}

template <class A> Array four_axes(const A &array, const char *name) {
    require(array.device_type() == nb::device::cpu::value, name, "memory of the CPU");
    Array result;
    result.data = (char *)const_cast<void *>((const void *)array.data());
    for (size_t axis = 0; axis < array.ndim(); ++axis) result.stride[axis + 4 - array.ndim()] = array.stride(axis);
    for (size_t axis = 0; axis < array.ndim(); ++axis)
        if (array.shape(axis) == 1) result.stride[axis + 4 - array.ndim()] = 0;
    return result;
}

template <class A> Array last_contiguous(const A &array, Dtype dtype, const char *name) {
    require(array.ndim() == 4 && has_size(array, dtype), name, "four axes of the given dtype");
    require(array.shape(3) <= 1 || array.stride(3) == 1, name, "the last axis contiguous");
    return four_axes(array, name);
}

// Keeps the Python objects of a call alive, and its steps and terms.
struct Held {
    std::vector<In> arrays;
    std::vector<MaskStep> steps;
    std::vector<BiasTerm> terms;

    const In &take(nb::handle array) {
        arrays.push_back(nb::cast<In>(array));
        return arrays.back();
    }
};

// The arrays and the plan of a call. What it points to is kept by the caller's objects and by `held`.
Problem read_problem(const In &query, const In &key, const In &value, const std::string &dtype, double scale, double softcap,
                     const std::optional<In> &sink, const In &start, const In &stop, nb::sequence residual, nb::sequence bias,
                     int64_t offset, double dropout, uint64_t seed, Held &held);

}  // namespace qkv
