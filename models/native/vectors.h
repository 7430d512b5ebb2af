// Vectors of 4, 8 or 16 floats, those of 8, 16 or 32 halves where the processor computes with halves, and loops over
// runs of numbers with them.
//
// Plain GCC/Clang vector types: the same source compiles to AVX-512, AVX2, SSE and NEON.
#pragma once

#include <cstdint>
#include <cstring>
#include <type_traits>

#include "numbers.h"

#define INLINE inline __attribute__((always_inline))

namespace {

template <class T, int N>
struct Vector;

#define DEFINE_VECTOR(T, INDEX, N)                                                              \
  template <>                                                                                   \
  struct Vector<T, N> {                                                                         \
    typedef INDEX Index;                                                                        \
    typedef T F __attribute__((vector_size(sizeof(T) * N)));                                    \
    typedef INDEX I __attribute__((vector_size(sizeof(T) * N)));                                \
    typedef T Loose __attribute__((vector_size(sizeof(T) * N), aligned(sizeof(T)), may_alias)); \
    static INLINE F up(F v, F first = F{});                                                     \
    static INLINE F down(F v);                                                                  \
    static INLINE F even(F a, F b);                                                             \
    static INLINE F odd(F a, F b);                                                              \
  };

#if defined(__clang__)
#define SHUFFLE(T, N, a, b, ...) __builtin_shufflevector(a, b, __VA_ARGS__)
#else
#define SHUFFLE(T, N, a, b, ...) __builtin_shuffle(a, b, (Vector<T, N>::I){__VA_ARGS__})
#endif
// up: `first` enters at lane 0; down: a zero enters at the last lane; even, odd: of the lanes of a and b in a row.
#define DEFINE_SHUFFLES(T, N, UP, DOWN, EVEN, ODD)                                              \
  INLINE Vector<T, N>::F Vector<T, N>::up(F v, F first) { return SHUFFLE(T, N, v, first, UP); } \
  INLINE Vector<T, N>::F Vector<T, N>::down(F v) { return SHUFFLE(T, N, v, F{}, DOWN); }        \
  INLINE Vector<T, N>::F Vector<T, N>::even(F a, F b) { return SHUFFLE(T, N, a, b, EVEN); }     \
  INLINE Vector<T, N>::F Vector<T, N>::odd(F a, F b) { return SHUFFLE(T, N, a, b, ODD); }
#define LIST(...) __VA_ARGS__
#define DEFINE_4(T, INDEX)   \
  DEFINE_VECTOR(T, INDEX, 4) \
  DEFINE_SHUFFLES(T, 4, LIST(4, 0, 1, 2), LIST(1, 2, 3, 4), LIST(0, 2, 4, 6), LIST(1, 3, 5, 7))
#define DEFINE_8(T, INDEX)                                                          \
  DEFINE_VECTOR(T, INDEX, 8)                                                        \
  DEFINE_SHUFFLES(T, 8, LIST(8, 0, 1, 2, 3, 4, 5, 6), LIST(1, 2, 3, 4, 5, 6, 7, 8), \
                  LIST(0, 2, 4, 6, 8, 10, 12, 14), LIST(1, 3, 5, 7, 9, 11, 13, 15))
#define DEFINE_16(T, INDEX)                                                          \
  DEFINE_VECTOR(T, INDEX, 16)                                                        \
  DEFINE_SHUFFLES(T, 16, LIST(16, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14), \
                  LIST(1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16),       \
                  LIST(0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30),   \
                  LIST(1, 3, 5, 7, 9, 11, 13, 15, 17, 19, 21, 23, 25, 27, 29, 31))
DEFINE_4(float, int32_t)
DEFINE_8(float, int32_t)
DEFINE_16(float, int32_t)
#if WIRINGS_HALF_LANES
DEFINE_8(Half, int16_t)
#endif
#if WIRINGS_HALF_LANES > 8
DEFINE_16(Half, int16_t)
DEFINE_VECTOR(Half, int16_t, 32)
DEFINE_SHUFFLES(Half, 32,
                LIST(32, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25,
                     26, 27, 28, 29, 30),
                LIST(1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27,
                     28, 29, 30, 31, 32),
                LIST(0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30, 32, 34, 36, 38, 40, 42, 44, 46, 48, 50,
                     52, 54, 56, 58, 60, 62),
                LIST(1, 3, 5, 7, 9, 11, 13, 15, 17, 19, 21, 23, 25, 27, 29, 31, 33, 35, 37, 39, 41, 43, 45, 47, 49, 51,
                     53, 55, 57, 59, 61, 63))
#endif

// Of planes.
template <int N>
using F = typename Vector<Lane, N>::F;
template <int N>
using I = typename Vector<Lane, N>::I;
// Of single values and of statistics.
template <int N>
using Floats = typename Vector<float, N>::F;

template <int N>
INLINE Floats<N> load_floats(const float* p) {
  return *reinterpret_cast<const typename Vector<float, N>::Loose*>(p);
}
template <int N>
INLINE void store_floats(float* p, Floats<N> v) {
  *reinterpret_cast<typename Vector<float, N>::Loose*>(p) = v;
}
template <int N>
INLINE Floats<N> splat_floats(float x) {
  return x - Floats<N>{};
}

}  // namespace

#if defined(WIRINGS_HALF)
#include "halves.h"
#endif

namespace {

#if !defined(WIRINGS_HALF)
// y[i] becomes (y[i] - centre) * scale + shift, and its ReLU where it is asked for.
INLINE void standardise(float* y, int n, float centre, float scale, float shift, bool rectify) {
  for (int i = 0; i < n; i++) y[i] = (y[i] - centre) * scale + shift;
  if (rectify)
    for (int i = 0; i < n; i++) y[i] = y[i] < 0 ? 0 : y[i];
}

// An image read in place.
INLINE const float* as_planes(const float* image) { return image; }

// Floats are not watched.
INLINE bool any_beyond(const float*, int64_t) { return false; }
#endif

#if WIRINGS_HALF_LANES
template <int N>
INLINE F<N> splat(Half x) {
  return splat_halves<N>(x);
}
template <int N>
INLINE F<N> load(const Half* p) {
  return *reinterpret_cast<const typename Vector<Half, N>::Loose*>(p);
}
template <int N>
INLINE void store(Half* p, F<N> v) {
  *reinterpret_cast<typename Vector<Half, N>::Loose*>(p) = v;
}
#else
template <int N>
INLINE F<N> splat(float x) {
  return splat_floats<N>(x);
}
template <int N>
INLINE F<N> load(const Number* p) {
  return load_floats<N>(p);
}
template <int N>
INLINE void store(Number* p, F<N> v) {
  store_floats<N>(p, v);
}
#endif

// Sums of halves that went beyond them on the way are not hidden: a negative infinity becomes no number, not 0.
template <int N>
INLINE F<N> relu(F<N> v) {
  const F<N> zero = HALF ? v * F<N>{} : F<N>{};
#if defined(MAXIMUM_OF_HALVES)
  return MAXIMUM_OF_HALVES(v, zero);
#else
  return v < F<N>{} ? zero : v;
#endif
}
template <int N>
INLINE I<N> first_lanes(int n) {
  typedef typename Vector<Lane, N>::Index Index;
  if (sizeof(Index) < sizeof(int)) n = n < 0 ? 0 : n > N ? N : n;
  I<N> lane;
  for (int i = 0; i < N; i++) lane[i] = i;
  return lane < (Index(n) - I<N>{});
}
template <int N>
INLINE F<N> masked(F<N> v, I<N> mask) {
  return reinterpret_cast<F<N>>(reinterpret_cast<I<N>>(v) & mask);
}

// The sum of n numbers, in an order that depends on n and the vectors' width alone.
float sum(const Number* p, int n) {
  Floats<FLOAT_LANES> total{};
  int i = 0;
  for (; i + FLOAT_LANES <= n; i += FLOAT_LANES) total += load_floats<FLOAT_LANES>(p + i);
  float result = 0;
  for (; i < n; i++) result += p[i];
  for (int lane = 0; lane < FLOAT_LANES; lane++) result += total[lane];
  return result;
}

float sum_of_squares(const Number* p, int n, float centre) {
  Floats<FLOAT_LANES> total{};
  int i = 0;
  for (; i + FLOAT_LANES <= n; i += FLOAT_LANES) {
    Floats<FLOAT_LANES> d = load_floats<FLOAT_LANES>(p + i) - splat_floats<FLOAT_LANES>(centre);
    total += d * d;
  }
  float result = 0;
  for (; i < n; i++) result += (p[i] - centre) * (p[i] - centre);
  for (int lane = 0; lane < FLOAT_LANES; lane++) result += total[lane];
  return result;
}

// Copies n numbers, which may become others.
template <class From, class To>
INLINE void copy_numbers(const From* p, int64_t n, To* q) {
  if constexpr (std::is_same_v<From, To>) {
    std::memcpy(q, p, sizeof(To) * n);
  } else {
    int64_t i = 0;
    for (; i + FLOAT_LANES <= n; i += FLOAT_LANES) store_floats<FLOAT_LANES>(q + i, load_floats<FLOAT_LANES>(p + i));
    for (; i < n; i++) q[i] = To(p[i]);
  }
}

}  // namespace
