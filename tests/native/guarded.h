// Memory between two pages that nobody may touch: a read or a write beyond either end ends the process.
#pragma once

#include <cstddef>
#include <deque>

namespace qkv::test {

class Guarded {
  public:
    enum class Against { start, end };  // which end lies against its page; one byte beyond the other may go unnoticed

    Guarded(size_t bytes, Against side);
    ~Guarded();
    Guarded(const Guarded &) = delete;
    Guarded &operator=(const Guarded &) = delete;

    char *data() const { return data_; }
    size_t bytes() const { return bytes_; }
    void fill(unsigned char byte);

  private:
    size_t bytes_, mapped_;
    char *map_, *data_;
};

using Memory = std::deque<Guarded>;  // grows without moving what it holds

}  // namespace qkv::test
