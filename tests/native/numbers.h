// Numbers of the four dtypes, bit by bit and in double: written from their definitions, to check what the kernel does fast.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>

#include "problem.h"

namespace qkv::test {

inline int64_t size_of(Dtype dtype) { return dtype == Dtype::float64 ? 8 : dtype == Dtype::float32 ? 4 : 2; }

// A number of `exponent_bits` and `mantissa_bits` behind a sign.
inline double read_half(uint16_t bits, int exponent_bits, int mantissa_bits) {
    const int bias = (1 << (exponent_bits - 1)) - 1, exponent = (bits & 0x7fff) >> mantissa_bits;
    const int mantissa = bits & ((1 << mantissa_bits) - 1);
    double size;
    if (exponent == (1 << exponent_bits) - 1)
        size = mantissa ? NAN : INFINITY;
    else if (exponent == 0)
        size = std::ldexp(mantissa, 1 - bias - mantissa_bits);
    else
        size = std::ldexp(mantissa + (1 << mantissa_bits), exponent - bias - mantissa_bits);
    return bits & 0x8000 ? -size : size;
}

// The bits of a number of such a kind that is near; digits beyond are cut off.
inline uint16_t write_half(double value, int exponent_bits, int mantissa_bits) {
    const int bias = (1 << (exponent_bits - 1)) - 1, most = (1 << exponent_bits) - 1;
    const uint16_t sign = std::signbit(value) ? 0x8000 : 0;
    if (std::isnan(value)) return (uint16_t)(sign | most << mantissa_bits | 1);
    int exponent;
    const double fraction = std::frexp(std::fabs(value), &exponent);  // 0.5 to 1
    if (std::isinf(value) || exponent - 1 + bias >= most) return (uint16_t)(sign | most << mantissa_bits);
    if (exponent - 1 + bias <= 0) return (uint16_t)(sign | (int)std::ldexp(std::fabs(value), bias - 1 + mantissa_bits));
    const int mantissa = (int)std::ldexp(fraction, mantissa_bits + 1) & ((1 << mantissa_bits) - 1);
    return (uint16_t)(sign | (exponent - 1 + bias) << mantissa_bits | mantissa);
}

template <class T> T read_as(const char *from) {
    T value;
    std::memcpy(&value, from, sizeof value);
    return value;
}

inline double read(Dtype dtype, const char *from) {
    switch (dtype) {
        case Dtype::float16: return read_half(read_as<uint16_t>(from), 5, 10);
        case Dtype::bfloat16: return read_half(read_as<uint16_t>(from), 8, 7);
        case Dtype::float32: return (double)read_as<float>(from);
        case Dtype::float64: break;
    }
    return read_as<double>(from);
}

inline void write(Dtype dtype, double value, char *to) {
    const uint16_t half = dtype == Dtype::float16 ? write_half(value, 5, 10) : write_half(value, 8, 7);
    const float single = (float)value;
    switch (dtype) {
        case Dtype::float16:
        case Dtype::bfloat16: std::memcpy(to, &half, sizeof half); break;
        case Dtype::float32: std::memcpy(to, &single, sizeof single); break;
        case Dtype::float64: std::memcpy(to, &value, sizeof value); break;
    }
}

// An element of a strided array.
inline int64_t place(const Array &array, int64_t a, int64_t b, int64_t c, int64_t d) {
    return a * array.stride[0] + b * array.stride[1] + c * array.stride[2] + d * array.stride[3];
}

inline double read(Dtype dtype, const Array &array, int64_t a, int64_t b, int64_t c, int64_t d) {
    return read(dtype, array.data + place(array, a, b, c, d) * size_of(dtype));
}

}  // namespace qkv::test
