// Memory of one thread that stays from call to call.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <new>

namespace training {

class Scratch {
 public:
  Scratch() = default;
  Scratch(const Scratch&) = delete;
  Scratch& operator=(const Scratch&) = delete;
  ~Scratch() { std::free(memory_); }

  void reserve(size_t bytes) {
    if (bytes > size_) {
      std::free(memory_);
      memory_ = nullptr;
      size_ = 0;
      if (posix_memalign(&memory_, 64, bytes)) throw std::bad_alloc();
      size_ = bytes;
    }
    used_ = 0;
  }
  template <typename T>
  T* take(int64_t count) {
    T* result = reinterpret_cast<T*>(static_cast<char*>(memory_) + used_);
    used_ += bytes<T>(count);
    return result;
  }
  template <typename T>
  static size_t bytes(int64_t count) {
    return (count * sizeof(T) + 63) / 64 * 64;
  }

 private:
  void* memory_ = nullptr;
  size_t size_ = 0, used_ = 0;
};

}  // namespace training
