// A node for training, forward: norm, ReLU and a 3x3 depthwise convolution over the planes of one channel, all images at once.
//
// A plane is [height, width, images], so that a neighbour in x is `images` numbers away and a row is one run of numbers.
// The norm is a scale and a shift, one for the channel or one for each image of it; activated rows are made anew in the
// backward pass from the plane that the forward pass read.
#pragma once

#include <omp.h>

#include <algorithm>
#include <cmath>

#include "lanes.h"
#include "scratch.h"

namespace training {

enum Norm : int32_t { NO_NORM, BATCH_NORM, INSTANCE_NORM, FIXED_NORM };

// What Python fills in, see models/native/training.py. Where a pointer may be null, its comment says so.
template <typename T>
struct Node {
  int64_t channels, images, height, width, stride, input_stride, output_stride;
  int32_t norm, relu, threads, accumulate;
  double epsilon;
  const T* input;     // [channels][height * width * images]
  const T* gamma;     // [channels]; null: 1
  const T* beta;      // [channels]; null: 0
  const T* kernel;    // [channels][9]; null: no convolution
  T* output;          // forward: [channels][out height * out width * images]
  T* mean;            // [channels], of INSTANCE_NORM [channels][images]; null without norm; given for FIXED_NORM
  T* deviation;       // the same, 1 / sqrt(variance + epsilon)
  T* variance;        // [channels], biased; of BATCH_NORM only
  const T* gradient;  // backward: of the output
  T* to_input;        // added to where `accumulate`
  T* to_gamma;        // [channels]
  T* to_beta;         // [channels]
  T* to_kernel;       // [channels][9]
};

template <typename T>
class NodeWorker {
 public:
  using V = lanes::Vector<T>;
  static constexpr int L = lanes::COUNT<T>;

  NodeWorker(const Node<T>& node, Scratch& scratch)
      : node_(node),
        plane_(node.height * node.width * node.images),
        run_(node.width * node.images),
        out_height_((node.height - 1) / node.stride + 1),
        out_run_(((node.width - 1) / node.stride + 1) * node.images),
        half_((node.width + 3) / 2 * node.images),
        row_(2 * half_ + 2 * L),
        gradient_row_(out_run_ + 2 * node.images + 2 * L) {
    const int64_t lengths[] = {run_ + L,       run_ + L,       run_ + L,      run_ + L,  run_ + L,
                               ROWS_KEPT * row_, ROWS_KEPT * gradient_row_, plane_ + L, half_ + L, half_ + L};
    T** const parts[] = {&scale_, &shift_, &centre_, &plain_, &weighted_, &rows_, &gradient_rows_, &masked_, &even_, &odd_};
    size_t bytes = 0;
    for (int64_t length : lengths) bytes += Scratch::bytes<T>(length);
    scratch.reserve(bytes);
    for (int i = 0; i < 10; i++) *parts[i] = scratch.take<T>(lengths[i]);
  }

  void forward(int64_t channel) {
    const T* input = node_.input + channel * node_.input_stride;
    measure(input, channel);
    spread_norm(channel);
    T* output = node_.output + channel * node_.output_stride;
    if (!node_.kernel) {
      for (int64_t y = 0; y < node_.height; y++) activate(input + y * run_, output + y * run_);
      return;
    }
    V kernel[9];
    for (int i = 0; i < 9; i++) kernel[i] = lanes::splat(node_.kernel[9 * channel + i]);
    int64_t made = 0;  // rows of the padded plane
    for (int64_t y = 0; y < out_height_; y++) {
      for (; made <= y * node_.stride + 2; made++) make_row(input, made);
      const T* rows[3] = {row(y * node_.stride), row(y * node_.stride + 1), row(y * node_.stride + 2)};
      T* out = output + y * out_run_;
      auto at = [&](int64_t i) {
        V sum{};
        for (int u = 0; u < 3; u++)
          for (int v = 0; v < 3; v++) sum += kernel[3 * u + v] * lanes::load(rows[u] + tap(v) + i);
        return sum;
      };
      lanes::sweep<T>(
          out_run_, [&](int64_t i) { lanes::store(out + i, at(i)); },
          [&](int64_t i, int64_t left) { lanes::store_part(out + i, at(i), left); });
    }
  }

 protected:
  T* row(int64_t y) { return rows_ + y % ROWS_KEPT * row_; }
  T* gradient_row(int64_t y) { return gradient_rows_ + (y + ROWS_KEPT) % ROWS_KEPT * gradient_row_; }
  // Where column v of a window begins in a padded row; with stride 2 even and odd columns lie apart.
  int64_t tap(int v) const {
    return node_.stride == 1 ? v * node_.images : (v & 1) * half_ + (v >> 1) * node_.images;
  }

  // Means and deviations of a training step.
  void measure(const T* input, int64_t channel) {
    if (node_.norm == BATCH_NORM) {
      const double mean = sum_of(plane_, [&](int64_t i) { return lanes::load(input + i); },
                                 [&](int64_t i, int64_t left) { return lanes::load_part(input + i, left); }) /
                          plane_;
      const T centre = static_cast<T>(mean);
      auto square = [&](V v) {
        v -= lanes::splat(centre);
        return v * v;
      };
      double squares = sum_of(plane_, [&](int64_t i) { return square(lanes::load(input + i)); },
                              [&](int64_t, int64_t) { return V{}; });
      for (int64_t i = plane_ / L * L; i < plane_; i++) squares += double(input[i] - centre) * (input[i] - centre);
      const double variance = squares / plane_ - (mean - centre) * (mean - centre);
      node_.mean[channel] = centre;
      node_.variance[channel] = static_cast<T>(variance);
      node_.deviation[channel] = static_cast<T>(1 / std::sqrt(variance + node_.epsilon));
    } else if (node_.norm == INSTANCE_NORM) {
      const int64_t images = node_.images, places = node_.height * node_.width;
      T* mean = node_.mean + channel * images;
      T* deviation = node_.deviation + channel * images;
      std::fill(mean, mean + images, T(0));
      for (int64_t p = 0; p < places; p++)
        for (int64_t n = 0; n < images; n++) mean[n] += input[p * images + n];
      for (int64_t n = 0; n < images; n++) mean[n] /= places;
      std::fill(deviation, deviation + images, T(0));
      for (int64_t p = 0; p < places; p++)
        for (int64_t n = 0; n < images; n++) {
          const T d = input[p * images + n] - mean[n];
          deviation[n] += d * d;
        }
      for (int64_t n = 0; n < images; n++)
        deviation[n] = 1 / std::sqrt(deviation[n] / places + static_cast<T>(node_.epsilon));
    }
  }

  // The sum of n numbers, in double every few thousand.
  template <typename Whole, typename Part>
  static double sum_of(int64_t n, Whole whole, Part part) {
    double result = 0;
    for (int64_t start = 0; start < n; start += 4096) {
      V sums[4] = {};
      const int64_t end = std::min(n, start + 4096);
      int64_t i = start;
      for (; i + 4 * L <= end; i += 4 * L)
        for (int k = 0; k < 4; k++) sums[k] += whole(i + k * L);
      for (; i + L <= end; i += L) sums[0] += whole(i);
      if (i < end) sums[1] += part(i, end - i);
      result += lanes::total<T>((sums[0] + sums[1]) + (sums[2] + sums[3]));
    }
    return result;
  }

  // The norm as scale and shift of every number of a row, and the mean of each.
  void spread_norm(int64_t channel) {
    if (node_.norm == NO_NORM) return;
    const T gamma = node_.gamma ? node_.gamma[channel] : T(1), beta = node_.beta ? node_.beta[channel] : T(0);
    const int64_t given = node_.norm == INSTANCE_NORM ? node_.images : 1;
    for (int64_t n = 0; n < given; n++) {
      centre_[n] = node_.mean[channel * given + n];
      scale_[n] = gamma * node_.deviation[channel * given + n];
      shift_[n] = beta - centre_[n] * scale_[n];
    }
    for (T* values : {centre_, scale_, shift_}) repeat(values, given);
  }

  // A row whose first numbers are repeated to its end.
  void repeat(T* values, int64_t given) const {
    for (int64_t have = given; have < run_; have *= 2) std::copy_n(values, std::min(have, run_ - have), values + have);
  }

  LANES_INLINE V activated(V v, int64_t i) const {
    if (node_.norm != NO_NORM) v = v * lanes::load(scale_ + i) + lanes::load(shift_ + i);
    return node_.relu ? (v < V{} ? V{} : v) : v;
  }

  // A row of the input through norm and ReLU.
  void activate(const T* input, T* output) const {
    lanes::sweep<T>(
        run_, [&](int64_t i) { lanes::store(output + i, activated(lanes::load(input + i), i)); },
        [&](int64_t i, int64_t left) {
          lanes::store_part(output + i, activated(lanes::load_part(input + i, left), i), left);
        });
  }

  // Row y of the activated plane, with a border of zeros all around it: row 0 lies above the plane.
  void make_row(const T* input, int64_t y) {
    T* out = row(y);
    const int64_t images = node_.images;
    if (y == 0 || y > node_.height) {
      std::fill(out, out + row_, T(0));
      return;
    }
    const T* in = input + (y - 1) * run_;
    if (node_.stride == 1) {
      std::fill(out, out + images, T(0));
      activate(in, out + images);
      std::fill(out + images + run_, out + row_, T(0));
      return;
    }
    std::fill(out, out + row_, T(0));
    for (int64_t x = 0; x < node_.width; x++) {
      T* to = out + ((x + 1) & 1) * half_ + ((x + 1) >> 1) * images;
      const T* from = in + x * images;
      lanes::sweep<T>(
          images, [&](int64_t n) { lanes::store(to + n, activated(lanes::load(from + n), x * images + n)); },
          [&](int64_t n, int64_t left) {
            lanes::store_part(to + n, activated(lanes::load_part(from + n, left), x * images + n), left);
          });
    }
  }

  static constexpr int ROWS_KEPT = 4;
  const Node<T>& node_;
  const int64_t plane_, run_, out_height_, out_run_, half_, row_, gradient_row_;
  T *scale_, *shift_, *centre_, *plain_, *weighted_, *rows_, *gradient_rows_, *masked_, *even_, *odd_;
};

}  // namespace training
