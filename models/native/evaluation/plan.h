// A plan as the kernel keeps it: its own copy of all that Python handed over, in the order in which it is read.
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include "plan_spec.h"

namespace {

constexpr int BAND = 4;  // rows of a dense matrix that are multiplied together

template <class T>
std::vector<T> copied(const T* p, int64_t n) {
  return p ? std::vector<T>(p, p + n) : std::vector<T>();
}

// An edge as the sums read it.
struct Edge {
  uint32_t offset;
  Lane weight;

  explicit Edge(const EdgeSpec& s) : offset(s.offset), weight(Lane(s.weight)) {}
};

struct Schedule {
  std::vector<int32_t> share_begin;
  std::vector<ChunkSpec> chunk;
  std::vector<BlockSpec> block;
  std::vector<RunSpec> run;
  std::vector<int32_t> order;
  std::vector<Edge> edge;
  int32_t largest_chunk = 0;

  explicit Schedule(const ScheduleSpec& s)
      : share_begin(copied(s.share_begin, s.shares + 1)),
        chunk(copied(s.chunk, s.chunks)),
        block(copied(s.block, s.blocks)),
        run(copied(s.run, s.runs)),
        order(copied(s.order, s.order_length)),
        edge(s.edge, s.edge + s.edges) {
    for (const ChunkSpec& c : chunk) largest_chunk = std::max(largest_chunk, c.node_end - c.node_begin);
  }
};

int round_up(int n, int unit) { return (n + unit - 1) / unit * unit; }

// A tap of a kernel: its place, and the outputs x of a row, first .. end - 1, that it sees the source at.
struct Tap {
  int y, x, first, end;

  Tap(int tap_y, int tap_x, int stride, int padding, int source_width, int width)
      : y(tap_y - padding), x(tap_x - padding) {
    first = std::min(width, x >= 0 ? 0 : (-x + stride - 1) / stride);
    end = source_width <= x ? 0 : std::min(width, (source_width - x - 1) / stride + 1);
    end = std::max(first, end);
  }
};

struct Level : LevelSpec {
  std::vector<float> bias_, norm_weight_, norm_bias_, kernel_, kernel_bias_, weight_;
  std::vector<Number> dense_;
  std::vector<int64_t> copy_source_, indptr_;
  std::vector<int32_t> index_;
  std::vector<Tap> taps_;
  std::vector<Schedule> schedules;
  int units;     // of a plane of sums
  int y_stride;  // numbers of a node's sums in the scratch

  // SUM_ROWS: source rows that are dealt out at once.
  int rows_dealt() const { return (ROWS_AT_ONCE - 1) * copy_stride + kernel_rows; }

  // The dense matrix in bands of BAND rows, UNIT columns of each in turn: the order in which they are read.
  void pack(const float* dense) {
    dense_.assign(int64_t(round_up(nodes, BAND)) * columns, Number(0));
    for (int64_t n = 0; n < nodes; n++)
      for (int64_t c = 0; c < columns; c++)
        dense_[((n / BAND * (columns / UNIT) + c / UNIT) * BAND + n % BAND) * UNIT + c % UNIT] =
            Number(dense[n * columns + c]);
  }

  explicit Level(const LevelSpec& s) : LevelSpec(s) {
    const bool planes = kind <= SUM_ROWS;
    bias_ = copied(s.bias, nodes);
    norm_weight_ = copied(s.norm_weight, nodes);
    norm_bias_ = copied(s.norm_bias, nodes);
    kernel_ = copied(s.kernel, int64_t(nodes) * kernel_height * kernel_width);
    kernel_bias_ = copied(s.kernel_bias, nodes);
    copy_source_ = copied(s.copy_source, copies);
    for (int j = 0; kind == SUM_COPIES && j < copies; j++)
      taps_.emplace_back(s.copy_y[j], s.copy_x[j], copy_stride, copy_padding, copy_width, width);
    if (s.dense) pack(s.dense);
    indptr_ = copied(s.indptr, nodes + 1);
    index_ = copied(s.index, indptr_.empty() ? 0 : indptr_.back());
    weight_ = copied(s.weight, indptr_.empty() ? 0 : indptr_.back());
    units = round_up(height * width, UNIT) / UNIT;
    y_stride = 0;
    if (!planes) return;
    for (const ScheduleSpec& schedule : s.schedule)
      if (schedule.shares) schedules.emplace_back(schedule);
    int rows = std::min(height, strip_rows + (kernel_.empty() ? 0 : kernel_height + kernel_stride));
    y_stride = round_up(rows * width, UNIT) + 4 * UNIT;
    if (y_stride / UNIT % 2 == 0) y_stride += UNIT;
  }
};

struct Plan : PlanSpec {
  std::vector<Level> levels;
  std::vector<int64_t> constant_plane_;
  std::vector<int32_t> constant_length_;
  std::vector<float> constant_;
  int64_t y_length = 0, copy_length = 0, zero_length = 0;
  int plane_levels = 0;

  Plan(const PlanSpec& s, const LevelSpec* level, int n) : PlanSpec(s) {
    constant_plane_ = copied(s.constant_plane, constants);
    constant_length_ = copied(s.constant_length, constants);
    int64_t length = 0;
    for (int32_t c : constant_length_) length += c;
    constant_ = copied(s.constant, length);
    for (int i = 0; i < n; i++) levels.emplace_back(level[i]);
    for (const Level& l : levels) {
      plane_levels += l.kind <= SUM_ROWS;
      for (const Schedule& schedule : l.schedules)
        y_length = std::max<int64_t>(y_length, int64_t(schedule.largest_chunk) * l.y_stride + 4 * UNIT);
      const int64_t copy =
          l.kind == SUM_ROWS ? int64_t(l.rows_dealt()) * l.copy_stride * l.row_length : (l.tile + 1) * UNIT;
      copy_length = std::max<int64_t>(copy_length, l.copies * copy + 2 * UNIT);
      const int64_t out = int64_t(l.out_height) * l.out_width + 2 * UNIT;
      zero_length = std::max<int64_t>({zero_length, int64_t(l.width) + 4 * UNIT, out});
    }
  }
};

}  // namespace
