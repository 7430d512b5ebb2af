// Vectors of float or double as wide as the processor's, and loops over runs of numbers with them.
//
// Plain GCC/Clang vector types: the same source compiles to AVX-512, AVX2, SSE and NEON.
#pragma once

#include <cstdint>
#include <cstring>

#define LANES_INLINE inline __attribute__((always_inline))

namespace lanes {

#if defined(__AVX512F__)
constexpr int BYTES = 64;
#elif defined(__AVX__)
constexpr int BYTES = 32;
#else
constexpr int BYTES = 16;
#endif

template <typename T>
struct Of;
template <>
struct Of<float> {
  typedef float Vector __attribute__((vector_size(BYTES)));
  typedef float Loose __attribute__((vector_size(BYTES), aligned(4), may_alias));
};
template <>
struct Of<double> {
  typedef double Vector __attribute__((vector_size(BYTES)));
  typedef double Loose __attribute__((vector_size(BYTES), aligned(8), may_alias));
};

template <typename T>
using Vector = typename Of<T>::Vector;
template <typename T>
constexpr int COUNT = BYTES / sizeof(T);

template <typename T>
LANES_INLINE Vector<T> splat(T x) {
  return x - Vector<T>{};
}
template <typename T>
LANES_INLINE Vector<T> load(const T* p) {
  return *reinterpret_cast<const typename Of<T>::Loose*>(p);
}
template <typename T>
LANES_INLINE void store(T* p, Vector<T> v) {
  *reinterpret_cast<typename Of<T>::Loose*>(p) = v;
}
// The first n lanes, 0 < n < COUNT; the others are 0.
template <typename T>
LANES_INLINE Vector<T> load_part(const T* p, int64_t n) {
  T part[COUNT<T>] = {};
  std::memcpy(part, p, n * sizeof(T));
  return load(part);
}
template <typename T>
LANES_INLINE void store_part(T* p, Vector<T> v, int64_t n) {
  T part[COUNT<T>];
  store(part, v);
  std::memcpy(p, part, n * sizeof(T));
}
// Zero where the condition does not hold.
template <typename V, typename M>
LANES_INLINE V where(M condition, V v) {
  return condition ? v : V{};
}
template <typename T>
LANES_INLINE T total(Vector<T> v) {
  T result = 0;
  for (int i = 0; i < COUNT<T>; i++) result += v[i];
  return result;
}

// Calls whole(i) for every full vector of n numbers, and part(i, left) for those that are left over.
template <typename T, typename Whole, typename Part>
LANES_INLINE void sweep(int64_t n, Whole whole, Part part) {
  int64_t i = 0;
  for (; i + COUNT<T> <= n; i += COUNT<T>) whole(i);
  if (i < n) part(i, n - i);
}

// The sum of n numbers, in an order that depends on n and the vectors' width alone.
template <typename T>
LANES_INLINE T sum(const T* p, int64_t n) {
  Vector<T> sums{};
  T rest = 0;
  sweep<T>(
      n, [&](int64_t i) { sums += load(p + i); },
      [&](int64_t i, int64_t left) {
        for (int64_t k = 0; k < left; k++) rest += p[i + k];
      });
  return total<T>(sums) + rest;
}

// Whether n numbers are all 0; looks no further than the first that is not.
template <typename T>
LANES_INLINE bool all_zero(const T* p, int64_t n) {
  constexpr int64_t STEP = 64;
  int64_t i = 0;
  for (; i + STEP <= n; i += STEP) {
    int other = 0;
    for (int64_t k = 0; k < STEP; k++) other |= p[i + k] != 0;
    if (other) return false;
  }
  for (; i < n; i++)
    if (p[i] != 0) return false;
  return true;
}

}  // namespace lanes
