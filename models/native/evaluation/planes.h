// A level over planes: the sums of chunks of its nodes, strip by strip, then the nodes' own operations.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>

#include "../memory.h"
#include "../vectors.h"
#include "copies.h"
#include "depthwise.h"
#include "plan.h"
#include "stopwatch.h"
#include "sums.h"

namespace {

struct Scratch {  // of one thread
  Buffer<Number> y, copies, zero, plane;
  bool beyond = false;  // a number of a plane was beyond those of half precision
  explicit Scratch(const Plan& plan)
      : y(plan.y_length), copies(plan.copy_length), zero(plan.zero_length + 2 * UNIT), plane(plan.zero_length) {}
};

// Sums of a chunk: y holds each node's positions from `origin` on.
struct Window {
  Number* y;
  int64_t origin;
};

class Worker {
 public:
  Worker(const Level& level, Scratch& scratch, const Number* image, Number* arena, float* values, float* output,
         Stopwatch* watch)
      : l_(level), scratch_(scratch), image_(image), arena_(arena), values_(values), output_(output), watch_(watch) {}

  void run(const Schedule& schedule, int share) {
    for (int c = schedule.share_begin[share]; c < schedule.share_begin[share + 1]; c++)
      run_chunk(schedule, schedule.chunk[c]);
  }

 private:
  void run_chunk(const Schedule& schedule, const ChunkSpec& chunk) {
    const int stop = rows_needed(chunk.row_end), width = l_.width;
    int row = first_row_needed(chunk.row_begin), out_row = chunk.row_begin;
    Window window{scratch_.y.get(), int64_t(row) * width / UNIT * UNIT};
    int64_t done = window.origin;  // positions
    while (row < stop) {
      const int first = row;
      row = std::min(stop, row + l_.strip_rows);
      if (l_.kind == SUM_ROWS) {
        sum_rows(schedule, chunk, window, first, row);
        done = int64_t(row) * width;
      } else {
        const int end = round_up(row * width, UNIT) / UNIT;
        sum_units(schedule, chunk, window, int(done / UNIT), end);
        done = int64_t(end) * UNIT;
      }
      const int out_end = row == stop ? chunk.row_end : std::min(finished_rows(row), chunk.row_end);
      for (int n = chunk.node_begin; n < chunk.node_end; n++) {
        Number* y = window.y + int64_t(n - chunk.node_begin) * l_.y_stride;
        finish(n, y, window.origin, out_row, out_end);
      }
      out_row = out_end;
      if (row < stop) slide(window, chunk.node_end - chunk.node_begin, out_row, done);
      lap(watch_, NODES);
    }
  }

  // The first row of sums that output rows from `out_row` on need.
  int first_row_needed(int out_row) const {
    return l_.kernel_.empty() ? out_row
                              : std::min(l_.height, std::max(0, out_row * l_.kernel_stride - l_.kernel_padding));
  }

  // How many rows of sums the output rows before `out_end` need.
  int rows_needed(int out_end) const {
    if (l_.kernel_.empty() || out_end == l_.out_height) return l_.kernel_.empty() ? out_end : l_.height;
    return std::min(l_.height, (out_end - 1) * l_.kernel_stride - l_.kernel_padding + l_.kernel_height);
  }

  // Output rows that need no row of sums from `rows` on.
  int finished_rows(int rows) const {
    if (l_.kernel_.empty()) return rows;
    const int spare = rows - l_.kernel_height + l_.kernel_padding;
    return spare < 0 ? 0 : std::min(l_.out_height, spare / l_.kernel_stride + 1);
  }

  // Sums of the positions from begin * UNIT to end * UNIT - 1.
  void sum_units(const Schedule& schedule, const ChunkSpec& chunk, const Window& window, int begin, int end) {
    const bool tail = end == l_.units && l_.height * l_.width + UNIT - QUARTER <= l_.units * UNIT;
    const int full = end - begin - tail, tiles = std::max(1, (full + l_.tile - 1) / l_.tile);
    for (int t = 0; t < tiles; t++) {
      const int from = begin + int(int64_t(full) * t / tiles), to = begin + int(int64_t(full) * (t + 1) / tiles);
      const bool with_tail = tail && t + 1 == tiles;
      const Number* source = arena_ + int64_t(from) * UNIT;
      if (l_.kind == SUM_COPIES) source = copy_sources(from, to + with_tail);
      lap(watch_, COPIES);
      Number* y = window.y + int64_t(from) * UNIT - window.origin;
      SUM_TILE[with_tail][to - from](schedule, chunk, source, y, l_.y_stride, bias(chunk), rectify());
      lap(watch_, SUMS);
    }
  }

  // Sums of the rows from begin to end - 1. A row's last tile may end in noise on the next row, which comes later.
  void sum_rows(const Schedule& schedule, const ChunkSpec& chunk, const Window& window, int begin, int end) {
    const int units = (l_.width + UNIT - 1) / UNIT, tiles = (units + l_.tile - 1) / l_.tile;
    const int64_t step = int64_t(l_.copy_stride) * l_.copy_stride * l_.row_length;
    for (int batch = begin; batch < end; batch += ROWS_AT_ONCE) {
      const int stop = std::min(end, batch + ROWS_AT_ONCE);
      deal_out_rows(batch, (stop - 1 - batch) * l_.copy_stride + l_.kernel_rows);
      lap(watch_, COPIES);
      for (int row = batch; row < stop; row++)
        for (int t = 0; t < tiles; t++) {
          const int from = units * t / tiles, to = units * (t + 1) / tiles;
          const Number* source = scratch_.copies.get() + (row - batch) * step + from * UNIT;
          Number* y = window.y + int64_t(row) * l_.width + from * UNIT - window.origin;
          SUM_TILE[0][to - from](schedule, chunk, source, y, l_.y_stride, bias(chunk), rectify());
        }
      lap(watch_, SUMS);
    }
  }

  // Deals out `rows` rows of every source plane from the first one on that row `row` of the sums needs.
  void deal_out_rows(int row, int rows) {
    const int stride = l_.copy_stride, width = l_.copy_width;
    for (int j = 0; j < l_.copies; j++) {
      const Number* plane = (l_.copy_input ? image_ : arena_) + l_.copy_source_[j];
      Number* out = scratch_.copies.get() + int64_t(j) * l_.rows_dealt() * stride * l_.row_length + l_.row_border;
      for (int i = 0; i < rows; i++, out += stride * l_.row_length) {
        const int y = row * stride - l_.copy_padding + i;
        const Number* p = plane + int64_t(y) * width;
        for (int phase = 0; phase < stride; phase++) {
          const int n = phase < width ? (width - phase - 1) / stride + 1 : 0;
          Number* q = out + phase * l_.row_length;
          std::fill(q - l_.row_border, q, Number(0));
          std::fill(q + n, q - l_.row_border + l_.row_length, Number(0));
          if (y < 0 || y >= l_.copy_height)
            std::fill(q, q + n, Number(0));
          else if (stride == 1)
            std::memcpy(q, p, sizeof(Number) * n);
          else if (stride == 2)
            copy_every_second(p + phase, n, q, p, p + width);
          else
            for (int x = 0; x < n; x++) q[x] = p[x * stride + phase];
        }
      }
    }
  }

  bool rectify() const { return l_.relu && l_.norm_weight_.empty(); }
  const float* bias(const ChunkSpec& chunk) const { return l_.bias_.data() + chunk.node_begin; }

  // Fills a tile of every shifted copy: positions from * UNIT .. to * UNIT - 1 of the sums' plane.
  const Number* copy_sources(int from, int to) {
    Number* out = scratch_.copies.get();
    const int total = l_.height * l_.width, stop = std::min(total, to * UNIT);
    for (int at = from * UNIT; at < stop;) {
      const int y = at / l_.width, x = at % l_.width, n = std::min(stop - at, l_.width - x);
      for (int j = 0; j < l_.copies; j++) {
        const Tap& tap = l_.taps_[j];
        const int row = y * l_.copy_stride + tap.y;
        const Number* plane = (l_.copy_input ? image_ : arena_) + l_.copy_source_[j];
        copy_row(tap, row < 0 || row >= l_.copy_height ? nullptr : plane + int64_t(row) * l_.copy_width, l_.copy_width,
                 l_.copy_stride, x, n, out + int64_t(j) * (l_.tile + 1) * UNIT + (at - from * UNIT));
      }
      at += n;
    }
    return out;
  }

  // Moves the rows that are needed again to the front of the window.
  void slide(Window& window, int nodes, int out_row, int64_t end) {
    const int64_t origin = std::min(int64_t(first_row_needed(out_row)) * l_.width / UNIT * UNIT, end);
    for (int n = 0; n < nodes; n++) {
      Number* y = window.y + int64_t(n) * l_.y_stride;
      std::memmove(y, y + (origin - window.origin), sizeof(Number) * (end - origin));
    }
    window.origin = origin;
  }

  // A node's own operations on rows of its sums.
  void finish(int node, Number* y, int64_t origin, int out_row, int out_end) {
    const int pixels = l_.height * l_.width;
    if (!l_.norm_weight_.empty()) normalise(node, y, pixels);
    const int out_pixels = l_.out_height * l_.out_width;
    const int64_t from = int64_t(out_row) * l_.out_width, count = int64_t(out_end - out_row) * l_.out_width;
    Number* out = l_.mean                       ? scratch_.plane.get()
                 : l_.destination == TO_OUTPUT ? scratch_.plane.get()
                                               : arena_ + l_.plane + node * l_.plane_stride;
    if (!l_.kernel_.empty()) {
      const Rows rows{y - origin, l_.height, l_.width, scratch_.zero.get() + UNIT};
      const float* k = l_.kernel_.data() + int64_t(node) * l_.kernel_height * l_.kernel_width;
      depthwise(l_, rows, out_row, out_end, k, l_.kernel_bias_[node], out);
    } else if (l_.mean) {
      out = y;
    } else {
      std::memcpy(out + from, y + (from - origin), sizeof(Number) * count);
    }
    if (l_.mean) {
      const float value = mean(out);
      values_[l_.plane + node] = value;
      if (HALF && !std::isfinite(value)) scratch_.beyond = true;
      return;
    }
    if (HALF && any_beyond(out + from, count)) scratch_.beyond = true;
    if (l_.destination == TO_OUTPUT && out_end > out_row)
      copy_numbers(out + from, count, output_ + int64_t(node) * out_pixels + from);
  }

  void normalise(int node, Number* y, int pixels) const {
    const float centre = sum(y, pixels) / pixels;
    const float variance = sum_of_squares(y, pixels, centre) / pixels;
    const float scale = l_.norm_weight_[node] / std::sqrt(variance + l_.eps), shift = l_.norm_bias_[node];
    standardise(y, pixels, centre, scale, shift, l_.relu);
  }

  float mean(const Number* plane) const {
    const int32_t* w = l_.window;
    const int width = w[3] - w[2];
    if (width == l_.out_width)
      return sum(plane + int64_t(w[0]) * width, (w[1] - w[0]) * width) / ((w[1] - w[0]) * width);
    float total = 0;
    for (int y = w[0]; y < w[1]; y++) total += sum(plane + int64_t(y) * l_.out_width + w[2], width);
    return total / ((w[1] - w[0]) * width);
  }

  const Level& l_;
  Scratch& scratch_;
  const Number* image_;
  Number* arena_;
  float* values_;
  float* output_;
  Stopwatch* watch_;
};

}  // namespace
