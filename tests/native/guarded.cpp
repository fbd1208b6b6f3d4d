#include "guarded.h"

#include <sys/mman.h>
#include <unistd.h>

#include <cstring>
#include <new>

namespace qkv::test {

Guarded::Guarded(size_t bytes, Against side) : bytes_(bytes) {
    const size_t page = (size_t)sysconf(_SC_PAGESIZE);
    const size_t room = (bytes + page - 1) / page * page;
    mapped_ = room + 2 * page;
    void *map = mmap(nullptr, mapped_, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (map == MAP_FAILED) throw std::bad_alloc();
    map_ = (char *)map;
    if (room && mprotect(map_ + page, room, PROT_READ | PROT_WRITE) != 0) throw std::bad_alloc();
    data_ = map_ + page + (side == Against::end ? room - bytes : 0);
}

Guarded::~Guarded() { munmap(map_, mapped_); }

void Guarded::fill(unsigned char byte) { std::memset(data_, byte, bytes_); }

}  // namespace qkv::test
