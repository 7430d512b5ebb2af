// A plan as Python hands it over: models/sparse/plan.py makes it, models/sparse/native.py fills these structs.
#pragma once

#include <cstdint>
#include <string>

#include "../layout.h"
#include "../numbers.h"
#include "stopwatch.h"

namespace {

// Of 64 bytes, 16 floats or 32 halves: lengths of planes and tiles are multiples of it, whatever the vectors' width.
constexpr int UNIT = 64 / sizeof(Number);
constexpr int ROWS_AT_ONCE = 8;  // of sums, whose source rows are dealt out together

struct EdgeSpec {
  uint32_t offset;  // of the source's plane, in numbers
  float weight;
};

struct RunSpec {
  int32_t edges;  // of each of these nodes in this block
  int32_t nodes;
  int32_t same;  // they all have the same sources
};

// Edges of a chunk's nodes from one block of sources.
struct BlockSpec {
  int32_t run_begin, run_end;
  int64_t node_begin, edge_begin;
};

// Nodes computed together by one thread, and which rows of what they give.
struct ChunkSpec {
  int32_t node_begin, node_end;
  int32_t block_begin, block_end;
  int32_t row_begin, row_end;
};

// One way of cutting a level into chunks: share s, for one thread, has the chunks from share_begin[s] to
// share_begin[s + 1] - 1.
struct ScheduleSpec {
  int32_t shares, chunks, blocks, runs;
  int64_t order_length, edges;
  const int32_t* share_begin;
  const ChunkSpec* chunk;
  const BlockSpec* block;
  const RunSpec* run;
  const int32_t* order;  // nodes within their chunk
  const EdgeSpec* edge;
};

// Over planes; over shifted copies of planes, for edges with kernels; over rows of planes, for complete graphs of such
// edges; over single values.
enum LevelKind : int32_t { SUM_PLANES, SUM_COPIES, SUM_ROWS, SUM_VALUES_DENSE, SUM_VALUES_SPARSE };
enum Destination : int32_t { TO_ARENA, TO_VALUES, TO_OUTPUT };

struct LevelSpec {
  int32_t kind, destination;
  int32_t nodes;
  int32_t height, width;          // of the sums
  int32_t out_height, out_width;  // after the depthwise convolution
  int32_t tile;                   // units of a plane that stay in registers
  int32_t strip_rows;             // rows of sums before the nodes' operations follow
  int32_t relu, mean;
  int32_t window[4];
  int64_t plane, plane_stride;  // destination in the arena, or offset among the values
  const float* bias;
  // instance norm, or null
  const float *norm_weight, *norm_bias;
  float eps;
  // depthwise convolution, or null
  const float *kernel, *kernel_bias;
  int32_t kernel_height, kernel_width, kernel_stride, kernel_padding;
  // SUM_COPIES: sources are shifted copies of planes: copy j is plane copy_source[j] shifted by a tap of a kernel
  int32_t copies, copy_height, copy_width, copy_stride, copy_padding;
  int32_t copy_input;          // of the image itself rather than the arena
  const int64_t* copy_source;  // offset
  const int32_t *copy_y, *copy_x;
  // SUM_ROWS: each source row is dealt out into `copy_stride` rows, column by column in turn, of this length and with
  // so many zeros before and, at least, behind; an edge's offset counts from the first of them that an output row needs
  int32_t kernel_rows, row_length, row_border;
  // SUM_VALUES_*: rows over the values
  int32_t columns;
  int64_t column_begin;   // dense: first value
  const float* dense;     // [nodes, columns]
  const int64_t* indptr;  // sparse
  const int32_t* index;   // offsets among the values
  const float* weight;
  ScheduleSpec schedule[2];  // whole image on one thread; one image on all threads
};

struct PlanSpec {
  int32_t threads;
  int32_t input_planes, input_height, input_width;
  int64_t input_plane, input_stride;  // where the input is copied to in the arena; -1: nowhere
  int64_t input_value;
  int64_t arena, values;  // numbers
  int32_t output_planes, output_size;
  int64_t output_value;  // where the output is among the values; -1: planes
  int32_t constants;
  const int64_t* constant_plane;
  const int32_t* constant_length;
  const float* constant;  // one after another
};

// What models/sparse/native.py must agree with.
std::string plan_layout() {
  Layout layout;
  LAYOUT_CONSTANTS(layout, UNIT, ROWS_AT_ONCE, SUM_PLANES, SUM_COPIES, SUM_ROWS, SUM_VALUES_DENSE, SUM_VALUES_SPARSE,
                   TO_ARENA, TO_VALUES, TO_OUTPUT, COPIES, SUMS, NODES);
  LAYOUT_STRUCT(layout, EdgeSpec, offset, weight);
  LAYOUT_STRUCT(layout, RunSpec, edges, nodes, same);
  LAYOUT_STRUCT(layout, BlockSpec, run_begin, run_end, node_begin, edge_begin);
  LAYOUT_STRUCT(layout, ChunkSpec, node_begin, node_end, block_begin, block_end, row_begin, row_end);
  LAYOUT_STRUCT(layout, ScheduleSpec, shares, chunks, blocks, runs, order_length, edges, share_begin, chunk, block, run,
                order, edge);
  LAYOUT_STRUCT(layout, LevelSpec, kind, destination, nodes, height, width, out_height, out_width, tile, strip_rows,
                relu, mean, window, plane, plane_stride, bias, norm_weight, norm_bias, eps, kernel, kernel_bias,
                kernel_height, kernel_width, kernel_stride, kernel_padding, copies, copy_height, copy_width,
                copy_stride, copy_padding, copy_input, copy_source, copy_y, copy_x, kernel_rows, row_length, row_border,
                columns, column_begin, dense, indptr, index, weight, schedule);
  LAYOUT_STRUCT(layout, PlanSpec, threads, input_planes, input_height, input_width, input_plane, input_stride,
                input_value, arena, values, output_planes, output_size, output_value, constants, constant_plane,
                constant_length, constant);
  return layout.text();
}

}  // namespace
