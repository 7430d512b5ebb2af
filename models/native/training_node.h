// A node for training: norm, ReLU and a 3x3 depthwise convolution over the planes of one channel, for all images at once.
//
// A plane is [height, width, images], so that a neighbour in x is `images` numbers away and a row is one run of numbers.
// The norm is a scale and a shift, one for the channel or one for each image of it; activated rows are made anew in the
// backward pass from the plane that the forward pass read.
#pragma once

#include <omp.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <new>

#include "lanes.h"

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

// Memory of one thread that stays from call to call.
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

template <typename T>
class NodeWorker {
  using V = lanes::Vector<T>;
  static constexpr int L = lanes::COUNT<T>;

 public:
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

  void backward(int64_t channel) {
    const T* input = node_.input + channel * node_.input_stride;
    spread_norm(channel);
    std::fill(plain_, plain_ + run_ + L, T(0));
    std::fill(weighted_, weighted_ + run_ + L, T(0));
    if (node_.kernel)
      through_convolution(input, channel);
    else
      through_activation(input, channel);
    through_norm(input, channel);
  }

 private:
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

  // A row of the output's gradient with zeros on both sides; zeros outside the plane.
  void make_gradient_row(const T* gradient, int64_t y) {
    T* out = gradient_row(y);
    if (y < 0 || y >= out_height_) {
      std::fill(out, out + gradient_row_, T(0));
      return;
    }
    std::fill(out, out + node_.images, T(0));
    std::copy_n(gradient + y * out_run_, out_run_, out + node_.images);
    std::fill(out + node_.images + out_run_, out + gradient_row_, T(0));
  }

  // The gradient of the activated plane's row y (0 is the first row of the plane), through the convolution.
  void through_convolution(const T* input, int64_t channel) {
    const T* gradient = node_.gradient + channel * node_.output_stride;
    V kernel[9], to_kernel[9] = {};
    double kernel_sums[9] = {};
    for (int i = 0; i < 9; i++) kernel[i] = lanes::splat(node_.kernel[9 * channel + i]);
    for (int64_t y = -1; y < 1; y++) make_gradient_row(gradient, y);
    make_row(input, 0);
    make_row(input, 1);
    int64_t made = 1;  // rows of the gradient from the first on
    for (int64_t y = 0; y < node_.height; y++) {
      make_row(input, y + 2);
      for (; made <= std::min((y + 1) / node_.stride, out_height_); made++) make_gradient_row(gradient, made);
      if (node_.stride == 1)
        row_through_stride_1(y, kernel, to_kernel);
      else
        row_through_stride_2(y, kernel, to_kernel);
      for (int i = 0; i < 9; i++) {
        kernel_sums[i] += lanes::total<T>(to_kernel[i]);
        to_kernel[i] = V{};
      }
      mask_row(input, y);
    }
    for (int i = 0; i < 9; i++) node_.to_kernel[9 * channel + i] = static_cast<T>(kernel_sums[i]);
  }

  void row_through_stride_1(int64_t y, const V* kernel, V* to_kernel) {
    const int64_t images = node_.images;
    const T* rows[3] = {row(y), row(y + 1), row(y + 2)};
    const T* gradients[3] = {gradient_row(y + 1), gradient_row(y), gradient_row(y - 1)};
    T* out = masked_ + y * run_;
    auto at = [&](int64_t i) {
      V sum{};
      for (int u = 0; u < 3; u++)
        for (int v = 0; v < 3; v++) sum += kernel[3 * u + v] * lanes::load(gradients[u] + (2 - v) * images + i);
      return sum;
    };
    auto weigh = [&](V gradient, int64_t i) {
      for (int u = 0; u < 3; u++)
        for (int v = 0; v < 3; v++) to_kernel[3 * u + v] += gradient * lanes::load(rows[u] + v * images + i);
    };
    const T* here = gradients[1] + images;
    lanes::sweep<T>(
        run_,
        [&](int64_t i) {
          lanes::store(out + i, at(i));
          weigh(lanes::load(here + i), i);
        },
        [&](int64_t i, int64_t left) {
          lanes::store_part(out + i, at(i), left);
          weigh(lanes::load_part(here + i, left), i);
        });
  }

  void row_through_stride_2(int64_t y, const V* kernel, V* to_kernel) {
    const int64_t images = node_.images;
    // windows whose row u lies on row y + 1 of the padded plane
    T *even = even_, *odd = odd_;
    std::fill(even, even + half_ + L, T(0));
    std::fill(odd, odd + half_ + L, T(0));
    for (int u = 0; u < 3; u++) {
      if ((y + 1 - u) & 1 || y + 1 < u) continue;
      const int64_t window = (y + 1 - u) / 2;
      if (window >= out_height_) continue;
      const T* gradient = gradient_row(window);  // begins with zeros for the column before the first
      const T* activated_row = row(y + 1);
      const V *k = kernel + 3 * u;
      V* to = to_kernel + 3 * u;
      auto add = [&](int64_t i, int64_t left) {
        const V before = lanes::load(gradient + i), here = lanes::load(gradient + images + i);
        const V e = lanes::load(even + i) + k[0] * here + k[2] * before;
        const V o = lanes::load(odd + i) + k[1] * here;
        const V own = left < L ? lanes::load_part(gradient + images + i, left) : here;
        for (int v = 0; v < 3; v++) to[v] += own * lanes::load(activated_row + tap(v) + i);
        if (left < L) {
          lanes::store_part(even + i, e, left);
          lanes::store_part(odd + i, o, left);
        } else {
          lanes::store(even + i, e);
          lanes::store(odd + i, o);
        }
      };
      lanes::sweep<T>(out_run_, [&](int64_t i) { add(i, L); }, add);
      for (int64_t n = 0; n < images; n++)  // the column after the last window's middle
        even[out_run_ + n] += gradient[out_run_ + n] * k[2][0];
    }
    T* out = masked_ + y * run_;
    for (int64_t x = 0; x < node_.width; x++)
      std::copy_n(((x + 1) & 1 ? odd : even) + ((x + 1) >> 1) * images, images, out + x * images);
  }

  // Where the ReLU was 0, so is the gradient; and its sums, alone and times the input's distance from a mean of 0.
  void mask_row(const T* input, int64_t y) {
    T* gradient = masked_ + y * run_;
    const T* in = input + y * run_;
    const bool normed = node_.norm != NO_NORM;
    auto act = [&](V g, V x, int64_t i) {
      if (node_.relu) g = activated(x, i) <= V{} ? V{} : g;
      if (normed) {
        lanes::store(plain_ + i, lanes::load(plain_ + i) + g);
        lanes::store(weighted_ + i, lanes::load(weighted_ + i) + g * (x - lanes::load(centre_ + i)));
      }
      return g;
    };
    lanes::sweep<T>(
        run_,
        [&](int64_t i) {
          lanes::store(gradient + i, act(lanes::load(gradient + i), lanes::load(in + i), i));
        },
        [&](int64_t i, int64_t left) {
          lanes::store_part(gradient + i, act(lanes::load_part(gradient + i, left), lanes::load_part(in + i, left), i),
                            left);
        });
  }

  void through_activation(const T* input, int64_t channel) {
    std::copy_n(node_.gradient + channel * node_.output_stride, plane_, masked_);
    for (int64_t y = 0; y < node_.height; y++) mask_row(input, y);
  }

  // From the gradient of the normed plane to that of the plane, of gamma and of beta.
  void through_norm(const T* input, int64_t channel) {
    const int64_t images = node_.images;
    const bool fixed = node_.norm == FIXED_NORM || node_.norm == NO_NORM;
    if (node_.norm != NO_NORM) {
      const int64_t given = node_.norm == INSTANCE_NORM ? images : 1;
      const T share = T(1) / (node_.height * node_.width * images / given);
      double to_gamma = 0, to_beta = 0;
      for (int64_t n = 0; n < given; n++) {
        double sum = 0, weighted = 0;
        for (int64_t i = n; i < run_; i += given) {
          sum += plain_[i];
          weighted += weighted_[i];
        }
        const double deviation = node_.deviation[channel * given + n];
        to_beta += sum;
        to_gamma += weighted * deviation;
        plain_[n] = static_cast<T>(sum * share);
        weighted_[n] = static_cast<T>(weighted * deviation * deviation * share);
      }
      if (node_.to_gamma) node_.to_gamma[channel] = static_cast<T>(to_gamma);
      if (node_.to_beta) node_.to_beta[channel] = static_cast<T>(to_beta);
      repeat(plain_, given);
      repeat(weighted_, given);
    }
    T* out = node_.to_input + channel * node_.input_stride;
    for (int64_t y = 0; y < node_.height; y++, input += run_, out += run_) {
      const T* gradient = masked_ + y * run_;
      auto act = [&](int64_t i, V x, V before) {
        V g = lanes::load(gradient + i);
        if (!fixed) g -= lanes::load(plain_ + i) + (x - lanes::load(centre_ + i)) * lanes::load(weighted_ + i);
        if (node_.norm != NO_NORM) g *= lanes::load(scale_ + i);
        return node_.accumulate ? before + g : g;
      };
      lanes::sweep<T>(
          run_, [&](int64_t i) { lanes::store(out + i, act(i, lanes::load(input + i), lanes::load(out + i))); },
          [&](int64_t i, int64_t left) {
            const V before = node_.accumulate ? lanes::load_part(out + i, left) : V{};
            lanes::store_part(out + i, act(i, lanes::load_part(input + i, left), before), left);
          });
    }
  }

  static constexpr int ROWS_KEPT = 4;
  const Node<T>& node_;
  const int64_t plane_, run_, out_height_, out_run_, half_, row_, gradient_row_;
  T *scale_, *shift_, *centre_, *plain_, *weighted_, *rows_, *gradient_rows_, *masked_, *even_, *odd_;
};

// Whether every channel was done; false where memory ran out.
template <typename T>
bool run_node(const Node<T>& node, bool backward) {
  bool done = true;
#pragma omp parallel for schedule(static) num_threads(node.threads) reduction(&& : done)
  for (int64_t channel = 0; channel < node.channels; channel++) {
    static thread_local Scratch scratch;
    try {
      NodeWorker<T> worker(node, scratch);
      backward ? worker.backward(channel) : worker.forward(channel);
    } catch (const std::bad_alloc&) {
      done = false;
    }
  }
  return done;
}

}  // namespace training
