// Large zeroed buffers.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <new>

#if defined(__linux__)
#include <sys/mman.h>
#endif

namespace {

template <class T>
class Buffer {  // zeroed, on large pages where the system has them
 public:
  Buffer() = default;
  explicit Buffer(int64_t n) {
    const size_t page = n * sizeof(T) >= (1 << 21) ? size_t(1) << 21 : 64;
    const size_t bytes = (size_t(n) * sizeof(T) + page - 1) / page * page;
    void* p = nullptr;
    if (posix_memalign(&p, page, std::max(bytes, page))) throw std::bad_alloc();
#if defined(__linux__)
    if (page > 64) madvise(p, bytes, MADV_HUGEPAGE);
#endif
    std::memset(p, 0, std::max(bytes, page));
    p_.reset(static_cast<T*>(p));
  }
  T* get() const { return p_.get(); }

 private:
  struct Free {
    void operator()(T* p) const { free(p); }
  };
  std::unique_ptr<T, Free> p_;
};

}  // namespace
