// Sums over edges of a tile of planes.
#pragma once

#include <algorithm>
#include <cstdint>

#include "../vectors.h"
#include "plan.h"

namespace {

constexpr int QUARTER = UNIT / 4;  // what a plane needs of its last unit, if no more
constexpr int MAX_TILE = std::min(8, (REGISTERS - 3) * LANES / UNIT);  // units whose sums registers can hold
constexpr int MAX_SHARED_TILE = std::min(8, std::max(1, (REGISTERS - 4) / 3 * LANES / UNIT));  // of three nodes at once

// Adds to a tile of the sums of G nodes, which have the same sources, the edges of one block. A tile has T units and,
// with TAIL, TAIL more numbers.
template <int T, int TAIL, int G>
INLINE void sum_nodes(const int32_t* order, int edges, const Edge* edge, const Number* source, Number* y,
                      int64_t y_stride, const float* start, bool rectify) {
  constexpr int N = T * UNIT / LANES;
  F<LANES> a[G][N + 1];
  F<QUARTER> tail[G];
#pragma GCC unroll 4
  for (int g = 0; g < G; g++) {
    const Number* sums = y + order[g] * y_stride;
#pragma GCC unroll 32
    for (int i = 0; i < N; i++) a[g][i] = start ? splat<LANES>(start[order[g]]) : load<LANES>(sums + i * LANES);
    if (TAIL) tail[g] = start ? splat<QUARTER>(start[order[g]]) : load<QUARTER>(sums + N * LANES);
  }
#pragma GCC unroll 4
  for (int e = 0; e < edges; e++) {
    const Number* p = source + edge[e].offset;
    F<LANES> w[G];
#pragma GCC unroll 4
    for (int g = 0; g < G; g++) w[g] = splat<LANES>(edge[g * edges + e].weight);
#pragma GCC unroll 32
    for (int i = 0; i < N; i++) {
      const F<LANES> x = load<LANES>(p + i * LANES);
#pragma GCC unroll 4
      for (int g = 0; g < G; g++) a[g][i] += w[g] * x;
    }
    if (TAIL) {
      const F<QUARTER> x = load<QUARTER>(p + N * LANES);
#pragma GCC unroll 4
      for (int g = 0; g < G; g++) tail[g] += splat<QUARTER>(edge[g * edges + e].weight) * x;
    }
  }
#pragma GCC unroll 4
  for (int g = 0; g < G; g++) {
    Number* sums = y + order[g] * y_stride;
#pragma GCC unroll 32
    for (int i = 0; i < N; i++) store<LANES>(sums + i * LANES, rectify ? relu<LANES>(a[g][i]) : a[g][i]);
    if (TAIL) store<QUARTER>(sums + N * LANES, rectify ? relu<QUARTER>(tail[g]) : tail[g]);
  }
}

template <int T, int TAIL>
INLINE void sum_run(const int32_t* order, RunSpec run, const Edge* edge, const Number* source, Number* y,
                    int64_t y_stride, const float* start, bool rectify) {
  constexpr int G = T * UNIT / LANES * 3 + 4 <= REGISTERS ? 3 : 1;
  int k = 0;
  if (G > 1 && run.same)
    for (; k + G <= run.nodes; k += G, edge += G * int64_t(run.edges))
      sum_nodes<T, TAIL, G>(order + k, run.edges, edge, source, y, y_stride, start, rectify);
  for (; k < run.nodes; k++, edge += run.edges)
    sum_nodes<T, TAIL, 1>(order + k, run.edges, edge, source, y, y_stride, start, rectify);
}

// A tile of all nodes of a chunk: the first block starts from the bias, the last one may apply the ReLU.
template <int T, int TAIL>
void sum_tile(const Schedule& s, const ChunkSpec& chunk, const Number* source, Number* y, int64_t y_stride,
              const float* bias, bool rectify) {
  for (int b = chunk.block_begin; b < chunk.block_end; b++) {
    const BlockSpec& block = s.block[b];
    const int32_t* order = s.order.data() + block.node_begin;
    const Edge* edge = s.edge.data() + block.edge_begin;
    const float* start = b == chunk.block_begin ? bias : nullptr;
    const bool last = rectify && b + 1 == chunk.block_end;
    for (int r = block.run_begin; r < block.run_end; r++) {
      const RunSpec run = s.run[r];
      sum_run<T, TAIL>(order, run, edge, source, y, y_stride, start, last);
      order += run.nodes;
      edge += int64_t(run.nodes) * run.edges;
    }
  }
}

typedef void (*SumTile)(const Schedule&, const ChunkSpec&, const Number*, Number*, int64_t, const float*, bool);
#define TILES(tail)                                                                               \
  {sum_tile<0, tail>, sum_tile<1, tail>, sum_tile<2, tail>, sum_tile<3, tail>, sum_tile<4, tail>, \
   sum_tile<5, tail>, sum_tile<6, tail>, sum_tile<7, tail>, sum_tile<8, tail>}
constexpr SumTile SUM_TILE[2][9] = {TILES(0), TILES(QUARTER)};

}  // namespace
