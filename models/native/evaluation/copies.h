// Shifted and strided copies of rows, which edges with kernels sum over.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>

#include "../vectors.h"
#include "plan.h"

namespace {

// q[i] = p[2 * i] for i < n, reading within begin .. end only.
INLINE void copy_every_second(const Number* p, int n, Number* q, const Number* begin, const Number* end) {
  const int shift = p > begin;  // a vector earlier: then the wanted numbers are at odd places
  if (n >= LANES && p - shift + 2 * n <= end) {
    p -= shift;
    for (int i = 0;; i = std::min(i + LANES, n - LANES)) {
      const F<LANES> low = load<LANES>(p + 2 * i), high = load<LANES>(p + 2 * i + LANES);
      store<LANES>(q + i, shift ? Vector<Lane, LANES>::odd(low, high) : Vector<Lane, LANES>::even(low, high));
      if (i == n - LANES) return;
    }
  }
  for (int i = 0; i < n; i++) q[i] = p[2 * i];
}

// Writes n numbers of a row of outputs, from output x on: what the tap sees of that row of the source (null: outside).
INLINE void copy_row(const Tap& tap, const Number* row, int source_width, int stride, int x, int n, Number* out) {
  const int first = row ? std::min(std::max(tap.first, x), x + n) : x;
  const int end = row ? std::min(std::max(tap.end, first), x + n) : x;
  for (int i = x; i < first; i++) out[i - x] = 0;
  for (int i = end; i < x + n; i++) out[i - x] = 0;
  if (first == end) return;
  const Number* p = row + int64_t(first) * stride + tap.x;
  Number* q = out + (first - x);
  const int m = end - first;
  if (stride == 1)
    std::memcpy(q, p, sizeof(Number) * m);
  else if (stride == 2)
    copy_every_second(p, m, q, row, row + source_width);
  else
    for (int i = 0; i < m; i++) q[i] = p[int64_t(i) * stride];
}

}  // namespace
