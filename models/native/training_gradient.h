// A node for training, back: from the gradient of its output to those of its planes, of its norm and of its kernel.
#pragma once

#include "training_node.h"

namespace training {

template <typename T>
class NodeGradient : public NodeWorker<T> {
  using Base = NodeWorker<T>;
  using typename Base::V;
  using Base::L;
  using Base::activated, Base::gradient_row, Base::make_row, Base::repeat, Base::row, Base::spread_norm, Base::tap;
  using Base::node_, Base::plane_, Base::run_, Base::out_height_, Base::out_run_, Base::half_, Base::gradient_row_;
  using Base::scale_, Base::centre_, Base::plain_, Base::weighted_, Base::masked_, Base::even_, Base::odd_;

 public:
  using Base::Base;

  void backward(int64_t channel) {
    if (lanes::all_zero(node_.gradient + channel * node_.output_stride, out_height_ * out_run_)) {
      nothing(channel);
      return;
    }
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
  // What is left of a gradient of 0: nodes that lead nowhere have one.
  void nothing(int64_t channel) {
    if (!node_.accumulate) {
      T* out = node_.to_input + channel * node_.input_stride;
      std::fill(out, out + plane_, T(0));
    }
    if (node_.to_gamma) node_.to_gamma[channel] = 0;
    if (node_.to_beta) node_.to_beta[channel] = 0;
    if (node_.kernel) std::fill_n(node_.to_kernel + 9 * channel, 9, T(0));
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

};

// Whether every channel was done; false where memory ran out.
template <typename T>
bool run_node(const Node<T>& node, bool backward) {
  bool done = true;
#pragma omp parallel for schedule(static) num_threads(node.threads) reduction(&& : done)
  for (int64_t channel = 0; channel < node.channels; channel++) {
    static thread_local Scratch scratch;
    try {
      NodeGradient<T> worker(node, scratch);
      backward ? worker.backward(channel) : worker.forward(channel);
    } catch (const std::bad_alloc&) {
      done = false;
    }
  }
  return done;
}

}  // namespace training
