// Sums over edges, for training: planes of nodes from planes of their sources, over the edges that act.
//
// A plane is a row of `positions` numbers (y, x, image). Rows lie an odd number of tiles apart, so that the same tile of many
// rows fills a cache evenly. A tile of a node's row stays in registers while the edges from one block of sources, whose tiles
// fit the first-level cache, stream past. Every number is summed by one thread in an order that depends on neither the
// number of threads nor the place of the tile.
#pragma once

#include <omp.h>

#include <algorithm>

#include "lanes.h"

namespace training {

constexpr int TILE_VECTORS = 8;  // sums of a tile, which registers hold
constexpr int ROW_UNIT = 512;    // bytes: rows are an odd multiple of it long

// Edges by block of sources, then by node: those of node i in block b are begin[b * (nodes + 1) + i] and so on.
template <typename T>
struct EdgeList {
  int64_t nodes, blocks;
  const int32_t* begin;
  const int32_t* source;
  const T* weight;
};

template <typename T>
void sum_tile(const EdgeList<T>& edges, int64_t first, int64_t last, const T* sources, int64_t source_stride, T* sums,
              int64_t sum_stride, int64_t position, bool accumulate) {
  using V = lanes::Vector<T>;
  constexpr int L = lanes::COUNT<T>;
  for (int64_t block = 0; block < edges.blocks; block++) {
    const int32_t* begin = edges.begin + block * (edges.nodes + 1);
    for (int64_t node = first; node < last; node++) {
      int32_t edge = begin[node];
      const int32_t end = begin[node + 1];
      const bool fresh = block == 0 && !accumulate;
      if (edge == end && !fresh) continue;
      T* row = sums + node * sum_stride + position;
      V sum[TILE_VECTORS];
      for (int i = 0; i < TILE_VECTORS; i++) sum[i] = fresh ? V{} : lanes::load(row + i * L);
      for (; edge < end; edge++) {
        const T* plane = sources + edges.source[edge] * source_stride + position;
        const V weight = lanes::splat(edges.weight[edge]);
        for (int i = 0; i < TILE_VECTORS; i++) sum[i] += weight * lanes::load(plane + i * L);
      }
      for (int i = 0; i < TILE_VECTORS; i++) lanes::store(row + i * L, sum[i]);
    }
  }
}

// sums[node] = (accumulate ? sums[node] : 0) + sum over edges of weight * sources[source], for nodes first to last - 1.
template <typename T>
void sum_over_edges(const EdgeList<T>& edges, int64_t first, int64_t last, int64_t positions, const T* sources,
                    int64_t source_stride, T* sums, int64_t sum_stride, bool accumulate, int threads) {
  constexpr int64_t TILE = TILE_VECTORS * lanes::COUNT<T>;
  const int64_t tiles = (positions + TILE - 1) / TILE, nodes = last - first;
  if (nodes == 0 || tiles == 0) return;
  // few tiles are cut into parts of their nodes, so that no thread waits long
  const int64_t parts = tiles >= 8 * threads ? 1 : std::min<int64_t>(nodes, (8 * threads + tiles - 1) / tiles);
#pragma omp parallel for schedule(dynamic) num_threads(threads)
  for (int64_t item = 0; item < tiles * parts; item++) {
    const int64_t part = item % parts;
    sum_tile(edges, first + nodes * part / parts, first + nodes * (part + 1) / parts, sources, source_stride,
             sums - first * sum_stride, sum_stride, item / parts * TILE, accumulate);
  }
}

// The nonzero entries of weight [nodes, sources] (rows `stride` apart) counted by block of sources and node.
template <typename T>
int64_t count_edges(const T* weight, int64_t nodes, int64_t sources, int64_t stride, int64_t block, int32_t* begin,
                    int threads) {
  const int64_t blocks = (sources + block - 1) / block;
#pragma omp parallel for schedule(static) num_threads(threads)
  for (int64_t node = 0; node < nodes; node++)
    for (int64_t b = 0; b < blocks; b++) {
      const T* row = weight + node * stride;
      const int64_t end = std::min(sources, (b + 1) * block);
      int32_t count = 0;
      for (int64_t s = b * block; s < end; s++) count += row[s] != 0;
      begin[b * (nodes + 1) + node] = count;
    }
  int64_t edges = 0;
  for (int64_t b = 0; b < blocks; b++) {
    for (int64_t node = 0; node < nodes; node++) {
      const int32_t count = begin[b * (nodes + 1) + node];
      begin[b * (nodes + 1) + node] = static_cast<int32_t>(edges);
      edges += count;
    }
    begin[b * (nodes + 1) + nodes] = static_cast<int32_t>(edges);
  }
  return edges;
}

// The edges that `begin` of count_edges counts, in its order.
template <typename T>
void list_edges(const T* weight, int64_t nodes, int64_t sources, int64_t stride, int64_t block, const int32_t* begin,
                int32_t* source, T* value, int threads) {
  const int64_t blocks = (sources + block - 1) / block;
#pragma omp parallel for schedule(static) num_threads(threads)
  for (int64_t node = 0; node < nodes; node++)
    for (int64_t b = 0; b < blocks; b++) {
      const T* row = weight + node * stride;
      const int64_t end = std::min(sources, (b + 1) * block);
      int64_t edge = begin[b * (nodes + 1) + node];
      for (int64_t s = b * block; s < end; s++)
        if (row[s] != 0) {
          source[edge] = static_cast<int32_t>(s);
          value[edge++] = row[s];
        }
    }
}

// The same edges the other way round: from every node to its sources, by block of nodes, then by source.
template <typename T>
void turn_edges(const EdgeList<T>& edges, int64_t sources, int64_t block, int32_t* begin, int32_t* node_of, T* value) {
  const int64_t blocks = (edges.nodes + block - 1) / block;
  std::fill(begin, begin + blocks * (sources + 1), 0);
  auto each = [&](auto act) {
    for (int64_t node = 0; node < edges.nodes; node++)
      for (int64_t b = 0; b < edges.blocks; b++) {
        const int32_t* at = edges.begin + b * (edges.nodes + 1) + node;
        for (int32_t e = at[0]; e < at[1]; e++) act(node, begin + node / block * (sources + 1) + edges.source[e], e);
      }
  };
  each([](int64_t, int32_t* count, int32_t) { ++*count; });
  int32_t total = 0;
  for (int64_t i = 0; i < blocks * (sources + 1); i++) {
    const int32_t count = begin[i];
    begin[i] = total;
    total += count;
  }
  each([&](int64_t node, int32_t* at, int32_t e) {
    node_of[*at] = static_cast<int32_t>(node);
    value[(*at)++] = edges.weight[e];
  });
  // every entry now says where its edges end, which is where those of the next one begin
  for (int64_t b = 0; b < blocks; b++) {
    int32_t* row = begin + b * (sources + 1);
    const int32_t end = sources ? row[sources - 1] : row[sources];
    for (int64_t s = sources - 1; s > 0; s--) row[s] = row[s - 1];
    row[sources] = end;
    row[0] = b ? begin[b * (sources + 1) - 1] : 0;
  }
}

}  // namespace training
