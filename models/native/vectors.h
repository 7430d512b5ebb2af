// Vectors of 4, 8 or 16 floats, and the widest that the processor has.
//
// Plain GCC/Clang vector types: the same source compiles to AVX-512, AVX2, SSE and NEON.
#pragma once

#include <cstdint>

#define INLINE inline __attribute__((always_inline))

namespace {

#if defined(__AVX512F__)
constexpr int LANES = 16, REGISTERS = 32;
#elif defined(__AVX__)
constexpr int LANES = 8, REGISTERS = 16;
#elif defined(__aarch64__)
constexpr int LANES = 4, REGISTERS = 32;
#else
constexpr int LANES = 4, REGISTERS = 16;
#endif

template <int N>
struct Vector;

#define DEFINE_VECTOR(N)                                                            \
  template <>                                                                       \
  struct Vector<N> {                                                                \
    typedef float F __attribute__((vector_size(4 * N)));                            \
    typedef int32_t I __attribute__((vector_size(4 * N)));                          \
    typedef float Loose __attribute__((vector_size(4 * N), aligned(4), may_alias)); \
    static INLINE F up(F v, F first = F{});                                         \
    static INLINE F down(F v);                                                      \
    static INLINE F even(F a, F b);                                                 \
    static INLINE F odd(F a, F b);                                                  \
  };
DEFINE_VECTOR(4)
DEFINE_VECTOR(8)
DEFINE_VECTOR(16)

#if defined(__clang__)
#define SHUFFLE(N, a, b, ...) __builtin_shufflevector(a, b, __VA_ARGS__)
#else
#define SHUFFLE(N, a, b, ...) __builtin_shuffle(a, b, (Vector<N>::I){__VA_ARGS__})
#endif
// up: `first` enters at lane 0; down: a zero enters at the last lane; even, odd: of the lanes of a and b in a row.
#define DEFINE_SHUFFLES(N, UP, DOWN, EVEN, ODD)                                        \
  INLINE Vector<N>::F Vector<N>::up(F v, F first) { return SHUFFLE(N, v, first, UP); } \
  INLINE Vector<N>::F Vector<N>::down(F v) { return SHUFFLE(N, v, F{}, DOWN); }        \
  INLINE Vector<N>::F Vector<N>::even(F a, F b) { return SHUFFLE(N, a, b, EVEN); }     \
  INLINE Vector<N>::F Vector<N>::odd(F a, F b) { return SHUFFLE(N, a, b, ODD); }
#define LIST(...) __VA_ARGS__
DEFINE_SHUFFLES(4, LIST(4, 0, 1, 2), LIST(1, 2, 3, 4), LIST(0, 2, 4, 6), LIST(1, 3, 5, 7))
DEFINE_SHUFFLES(8, LIST(8, 0, 1, 2, 3, 4, 5, 6), LIST(1, 2, 3, 4, 5, 6, 7, 8), LIST(0, 2, 4, 6, 8, 10, 12, 14),
                LIST(1, 3, 5, 7, 9, 11, 13, 15))
DEFINE_SHUFFLES(16, LIST(16, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14),
                LIST(1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16),
                LIST(0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30),
                LIST(1, 3, 5, 7, 9, 11, 13, 15, 17, 19, 21, 23, 25, 27, 29, 31))

template <int N>
using F = typename Vector<N>::F;
template <int N>
using I = typename Vector<N>::I;

template <int N>
INLINE F<N> splat(float x) {
  return x - F<N>{};
}
template <int N>
INLINE F<N> load(const float* p) {
  return *reinterpret_cast<const typename Vector<N>::Loose*>(p);
}
template <int N>
INLINE void store(float* p, F<N> v) {
  *reinterpret_cast<typename Vector<N>::Loose*>(p) = v;
}
template <int N>
INLINE F<N> relu(F<N> v) {
  return v < F<N>{} ? F<N>{} : v;
}
template <int N>
INLINE I<N> first_lanes(int n) {
  I<N> lane;
  for (int i = 0; i < N; i++) lane[i] = i;
  return lane < (n - I<N>{});
}
template <int N>
INLINE F<N> masked(F<N> v, I<N> mask) {
  return reinterpret_cast<F<N>>(reinterpret_cast<I<N>>(v) & mask);
}

// The sum of n floats, in an order that depends on n and the vectors' width alone.
float sum(const float* p, int n) {
  F<LANES> total{};
  int i = 0;
  for (; i + LANES <= n; i += LANES) total += load<LANES>(p + i);
  float result = 0;
  for (; i < n; i++) result += p[i];
  for (int lane = 0; lane < LANES; lane++) result += total[lane];
  return result;
}

float sum_of_squares(const float* p, int n, float centre) {
  F<LANES> total{};
  int i = 0;
  for (; i + LANES <= n; i += LANES) {
    F<LANES> d = load<LANES>(p + i) - splat<LANES>(centre);
    total += d * d;
  }
  float result = 0;
  for (; i < n; i++) result += (p[i] - centre) * (p[i] - centre);
  for (int lane = 0; lane < LANES; lane++) result += total[lane];
  return result;
}

}  // namespace
