// Halves in memory and floats in registers, and what the processor does with halves by instructions of its own.
//
// Included by vectors.h. The compilers' own conversion of vectors takes a number at a time.
#pragma once

#include <cstdint>

#if defined(__F16C__)
#include <immintrin.h>
#elif defined(__aarch64__)
#include <arm_neon.h>
#endif

namespace {

template <int N>
INLINE Floats<N> load_floats(const Half* p) {
#if defined(__F16C__)
  if constexpr (N == 4) return _mm_cvtph_ps(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(p)));
  if constexpr (N == 8) return _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
#if defined(__AVX512F__)
  if constexpr (N == 16) return _mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
#endif
#elif defined(__aarch64__)
  if constexpr (N == 4) return vcvt_f32_f16(vld1_f16(p));
#endif
  Floats<N> v;
  for (int i = 0; i < N; i++) v[i] = float(p[i]);
  return v;
}

template <int N>
INLINE void store_floats(Half* p, Floats<N> v) {
#if defined(__F16C__)
  constexpr int ROUND = _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC;
  if constexpr (N == 4) return _mm_storel_epi64(reinterpret_cast<__m128i*>(p), _mm_cvtps_ph(v, ROUND));
  if constexpr (N == 8) return _mm_storeu_si128(reinterpret_cast<__m128i*>(p), _mm256_cvtps_ph(v, ROUND));
#if defined(__AVX512F__)
  if constexpr (N == 16) return _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), _mm512_cvtps_ph(v, ROUND));
#endif
#elif defined(__aarch64__)
  if constexpr (N == 4) return vst1_f16(p, vcvt_f16_f32(v));
#endif
  for (int i = 0; i < N; i++) p[i] = Half(v[i]);
}

#if WIRINGS_HALF_LANES
template <int N>
INLINE typename Vector<Half, N>::F splat_halves(Half x) {
#if defined(__aarch64__)
  return vdupq_n_f16(x);
#else
  return x - typename Vector<Half, N>::F{};
#endif
}
#if defined(__aarch64__)
#define MAXIMUM_OF_HALVES vmaxq_f16  // g++ compares vectors of halves one number at a time
#endif
#endif

// y[i] becomes (y[i] - centre) * scale + shift, and its ReLU where it is asked for.
void standardise(Half* y, int n, float centre, float scale, float shift, bool rectify) {
  constexpr int N = FLOAT_LANES;
  int i = 0;
  for (; i + N <= n; i += N) {
    const Floats<N> v = (load_floats<N>(y + i) - splat_floats<N>(centre)) * scale + shift;
    store_floats<N>(y + i, rectify ? (v < Floats<N>{} ? Floats<N>{} : v) : v);
  }
  for (; i < n; i++) {
    const float v = (y[i] - centre) * scale + shift;
    y[i] = Half(rectify && v < 0 ? 0 : v);
  }
}

// An image is of floats, and never read in place.
INLINE const Half* as_planes(const float*) { return nullptr; }

// Whether one of n halves is infinite or not a number: the largest finite one is 65504.
INLINE bool any_beyond(const Half* p, int64_t n) {
  typedef uint16_t Bits __attribute__((may_alias));
  constexpr uint16_t INFINITE = 0x7c00, MAGNITUDE = 0x7fff;
  const Bits* bits = reinterpret_cast<const Bits*>(p);
  uint16_t largest = 0;
  for (int64_t i = 0; i < n; i++) {
    const uint16_t magnitude = bits[i] & MAGNITUDE;
    largest = magnitude > largest ? magnitude : largest;
  }
  return largest >= INFINITE;
}

}  // namespace
