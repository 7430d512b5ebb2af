// The depthwise convolution of rows of a plane.
#pragma once

#include <algorithm>
#include <cstdint>

#include "../vectors.h"
#include "plan.h"

namespace {

// A window of rows of one plane; rows outside the plane are zero.
struct Rows {
  const Number* p;  // row 0, were it in the window
  int height, width;
  const Number* zero;  // width + 2 * UNIT zeros around this point

  INLINE const Number* at(int y) const { return y < 0 || y >= height ? zero : p + int64_t(y) * width; }
};

enum Side { FIRST = 1, LAST = 2, PART = 4 };  // of a chunk of a row's outputs; PART: fewer outputs than lanes

// 3x3, stride 1, padding 1: N outputs from column x on, of rows o0 .. o1 - 1.
template <int N, int SIDE>
INLINE void depthwise_1(const Rows& rows, int o0, int o1, const float* k, float bias, Number* out, int x) {
  const I<N> mask = first_lanes<N>(rows.width);
  F<N> w[9];
  for (int i = 0; i < 9; i++) w[i] = splat<N>(k[i]);
  const F<N> b = splat<N>(bias);
  F<N> left, here, right;
  auto take = [&](int y) __attribute__((always_inline)) {
    const Number* p = rows.at(y) + x;
    here = load<N>(p);
    if (SIDE & PART) here = masked<N>(here, mask);
    left = SIDE & FIRST ? Vector<Lane, N>::up(here) : load<N>(p - 1);
    right = SIDE & LAST ? Vector<Lane, N>::down(here) : load<N>(p + 1);
  };
  take(o0 - 1);
  F<N> above = b + left * w[0] + here * w[1] + right * w[2];
  take(o0);
  above = above + left * w[3] + here * w[4] + right * w[5];
  F<N> at = b + left * w[0] + here * w[1] + right * w[2];
  out += int64_t(o0) * rows.width + x;
  for (int o = o0; o < o1; o++) {
    take(o + 1);
    store<N>(out, above + left * w[6] + here * w[7] + right * w[8]);
    above = at + left * w[3] + here * w[4] + right * w[5];
    at = b + left * w[0] + here * w[1] + right * w[2];
    out += rows.width;
  }
}

// 3x3, stride 2, padding 1: N outputs from output column x on, of output rows o0 .. o1 - 1.
template <int N, int SIDE>
INLINE void depthwise_2(const Rows& rows, int o0, int o1, const float* k, float bias, Number* out, int x,
                        int out_width) {
  const int from = 2 * x, lanes_left = rows.width - from;
  const I<N> mask_a = first_lanes<N>(lanes_left), mask_b = first_lanes<N>(lanes_left - N);
  F<N> w[9];
  for (int i = 0; i < 9; i++) w[i] = splat<N>(k[i]);
  const F<N> b = splat<N>(bias);
  F<N> left, here, right;
  auto take = [&](int y) __attribute__((always_inline)) {
    const Number* p = rows.at(y) + from;
    F<N> low = load<N>(p), high = load<N>(p + N);
    if (SIDE & LAST) low = masked<N>(low, mask_a), high = masked<N>(high, mask_b);
    here = Vector<Lane, N>::even(low, high);
    right = Vector<Lane, N>::odd(low, high);
    left = Vector<Lane, N>::up(right, SIDE & FIRST ? F<N>{} : splat<N>(p[-1]));
  };
  take(2 * o0 - 1);
  F<N> above = b + left * w[0] + here * w[1] + right * w[2];
  out += int64_t(o0) * out_width + x;
  for (int o = o0; o < o1; o++) {
    take(2 * o);
    F<N> total = above + left * w[3] + here * w[4] + right * w[5];
    take(2 * o + 1);
    store<N>(out, total + left * w[6] + here * w[7] + right * w[8]);
    above = b + left * w[0] + here * w[1] + right * w[2];
    out += out_width;
  }
}

template <int N>
void depthwise_rows(const Rows& rows, int stride, int o0, int o1, const float* k, float bias, Number* out,
                    int out_width) {
  if (stride == 1) {
    if (out_width < N) return depthwise_1<N, FIRST | LAST | PART>(rows, o0, o1, k, bias, out, 0);
    if (out_width == N) return depthwise_1<N, FIRST | LAST>(rows, o0, o1, k, bias, out, 0);
    depthwise_1<N, FIRST>(rows, o0, o1, k, bias, out, 0);
    int x = N;
    for (; x + N < out_width; x += N) depthwise_1<N, 0>(rows, o0, o1, k, bias, out, x);
    return depthwise_1<N, LAST>(rows, o0, o1, k, bias, out, out_width - N);
  }
  if (out_width <= N) return depthwise_2<N, FIRST | LAST>(rows, o0, o1, k, bias, out, 0, out_width);
  depthwise_2<N, FIRST>(rows, o0, o1, k, bias, out, 0, out_width);
  int x = N;
  for (; x + N < out_width; x += N) depthwise_2<N, 0>(rows, o0, o1, k, bias, out, x, out_width);
  depthwise_2<N, LAST>(rows, o0, o1, k, bias, out, out_width - N, out_width);
}

// Any kernel, stride and padding: outputs begin .. end - 1 of output row o, OUTPUTS_AT_ONCE at most.
constexpr int OUTPUTS_AT_ONCE = 128;
void depthwise_part(const Level& l, const Rows& rows, int o, int begin, int end, const float* k, float bias,
                    Number* out) {
  const int stride = l.kernel_stride, padding = l.kernel_padding;
  Lane sums[OUTPUTS_AT_ONCE];
  std::fill(sums, sums + (end - begin), Lane(bias));
  for (int i = 0; i < l.kernel_height; i++) {
    const int y = o * stride + i - padding;
    if (y < 0 || y >= rows.height) continue;
    const Number* p = rows.at(y);
    for (int j = 0; j < l.kernel_width; j++) {
      const int shift = j - padding;
      const int first = std::max(begin, shift >= 0 ? 0 : (-shift + stride - 1) / stride);
      const int stop = std::min(end, rows.width - shift <= 0 ? 0 : (rows.width - shift - 1) / stride + 1);
      const Lane w = Lane(k[i * l.kernel_width + j]);
      for (int x = first; x < stop; x++) sums[x - begin] += w * p[x * stride + shift];
    }
  }
  copy_numbers(sums, end - begin, out + int64_t(o) * l.out_width + begin);
}

void depthwise_any(const Level& l, const Rows& rows, int o0, int o1, const float* k, float bias, Number* out) {
  for (int o = o0; o < o1; o++)
    for (int x = 0; x < l.out_width; x += OUTPUTS_AT_ONCE)
      depthwise_part(l, rows, o, x, std::min(l.out_width, x + OUTPUTS_AT_ONCE), k, bias, out);
}

// With the widest vectors that a row of outputs fills, or the narrowest that there are.
template <int N>
INLINE void depthwise_widest(const Rows& rows, int stride, int o0, int o1, const float* k, float bias, Number* out,
                             int out_width) {
  if constexpr (N > FEWEST_LANES)
    if (out_width <= N / 2) return depthwise_widest<N / 2>(rows, stride, o0, o1, k, bias, out, out_width);
  depthwise_rows<N>(rows, stride, o0, o1, k, bias, out, out_width);
}

// Rows may end in up to UNIT numbers of noise, which the next row or the padding of the plane takes.
void depthwise(const Level& l, const Rows& rows, int o0, int o1, const float* k, float bias, Number* out) {
  const bool usual = l.kernel_height == 3 && l.kernel_width == 3 && l.kernel_padding == 1 && l.kernel_stride <= 2;
  if (!usual) return depthwise_any(l, rows, o0, o1, k, bias, out);
  depthwise_widest<LANES>(rows, l.kernel_stride, o0, o1, k, bias, out, l.out_width);
}

}  // namespace
