// A level over single values: dense or sparse rows.
#pragma once

#include <algorithm>
#include <cstdint>

#include "../vectors.h"
#include "plan.h"

namespace {

// A band of nodes of IMAGES images: dot products of dense rows with values; each sum's order is the same for any
// IMAGES.
template <int IMAGES>
INLINE void dense_band(const Level& l, int node, float* values, int64_t stride) {
  constexpr int N = UNIT / FLOAT_LANES;
  const Number* dense = l.dense_.data() + int64_t(node) * l.columns;
  Floats<FLOAT_LANES> a[BAND][IMAGES] = {};
  for (int c = 0; c < l.columns; c += UNIT, dense += BAND * UNIT)
#pragma GCC unroll 4
    for (int v = 0; v < N; v++) {
      Floats<FLOAT_LANES> x[IMAGES];
#pragma GCC unroll 4
      for (int i = 0; i < IMAGES; i++)
        x[i] = load_floats<FLOAT_LANES>(values + l.column_begin + i * stride + c + v * FLOAT_LANES);
#pragma GCC unroll 4
      for (int r = 0; r < BAND; r++) {
        const Floats<FLOAT_LANES> w = load_floats<FLOAT_LANES>(dense + r * UNIT + v * FLOAT_LANES);
#pragma GCC unroll 4
        for (int i = 0; i < IMAGES; i++) a[r][i] += w * x[i];
      }
    }
#pragma GCC unroll 4
  for (int r = 0; r < BAND; r++)
#pragma GCC unroll 4
    for (int i = 0; i < IMAGES; i++) {
      if (node + r >= l.nodes) continue;
      float total = 0;
      for (int lane = 0; lane < FLOAT_LANES; lane++) total += a[r][i][lane];
      const float v = total + l.bias_[node + r];
      values[i * stride + l.plane + node + r] = l.relu && v < 0 ? 0 : v;
    }
}

void sparse_nodes(const Level& l, int begin, int end, float* values) {
  for (int n = begin; n < end; n++) {
    float a[4] = {};
    int64_t e = l.indptr_[n];
    const int64_t stop = l.indptr_[n + 1];
    for (; e + 4 <= stop; e += 4)
      for (int j = 0; j < 4; j++) a[j] += l.weight_[e + j] * values[l.index_[e + j]];
    for (; e < stop; e++) a[0] += l.weight_[e] * values[l.index_[e]];
    const float v = (a[0] + a[1]) + (a[2] + a[3]) + l.bias_[n];
    values[l.plane + n] = l.relu && v < 0 ? 0 : v;
  }
}

// The nodes of part `part` of `parts`, of all images.
void run_values(const Level& l, int64_t part, int64_t parts, int64_t images, float* values, int64_t stride) {
  const int bands = (l.nodes + BAND - 1) / BAND;
  const int begin = int(bands * part / parts) * BAND, end = int(bands * (part + 1) / parts) * BAND;
  int64_t i = 0;
  if (l.kind == SUM_VALUES_SPARSE) {
    for (; i < images; i++) sparse_nodes(l, begin, std::min(end, l.nodes), values + i * stride);
    return;
  }
  constexpr int NEAR = 8 * BAND;  // rows that stay in the cache while the images pass
  for (int near = begin; near < end; near += NEAR) {
    const int stop = std::min(end, near + NEAR);
    for (i = 0; i + 4 <= images; i += 4)
      for (int n = near; n < stop; n += BAND) dense_band<4>(l, n, values + i * stride, stride);
    for (; i < images; i++)
      for (int n = near; n < stop; n += BAND) dense_band<1>(l, n, values + i * stride, stride);
  }
}

}  // namespace
