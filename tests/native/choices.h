// Where a test's decisions come from: bytes, whoever made them. A fuzzer can so steer everything that an example holds.
#pragma once

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <initializer_list>

namespace qkv::test {

// splitmix64: the same numbers on every machine, which the standard library's distributions do not promise.
class Random {
  public:
    explicit Random(uint64_t seed) : state_(seed) {}

    uint64_t bits() {
        uint64_t x = state_ += 0x9e3779b97f4a7c15;
        x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9;
        x = (x ^ (x >> 27)) * 0x94d049bb133111eb;
        return x ^ (x >> 31);
    }

    // From 0 to below 1.
    double uniform() { return (double)(bits() >> 11) * 0x1p-53; }

    int64_t below(int64_t count) { return (int64_t)(uniform() * (double)count); }

    // Nearly normal: the sum of four uniform numbers, centred, of variance 1.
    double normal() { return (uniform() + uniform() + uniform() + uniform() - 2) * 1.7320508075688772; }

  private:
    uint64_t state_;
};

// Reads decisions off bytes; when they are used up, the first of everything is chosen.
class Choices {
  public:
    Choices(const uint8_t *bytes, size_t count) : at_(bytes), end_(bytes + count) {}

    int64_t below(int64_t count) { return byte() % count; }

    bool flip() { return byte() & 1; }

    template <class T> T one_of(std::initializer_list<T> options) {
        return options.begin()[below((int64_t)options.size())];
    }

    uint64_t seed() {
        uint64_t seed = 0;
        for (int i = 0; i < 4; ++i) seed = seed << 8 | byte();
        return seed;
    }

  private:
    uint8_t byte() { return at_ < end_ ? *at_++ : 0; }

    const uint8_t *at_, *end_;
};

}  // namespace qkv::test
