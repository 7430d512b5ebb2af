// Sums over edges, for training: planes of nodes from planes of their sources, over the edges that act.
//
// A plane is a row of `positions` numbers (y, x, image). Rows lie an odd number of tiles apart, so that the same tile of many
// rows fills a cache evenly. A tile of a node's row stays in registers while the edges from one block of sources, whose tiles
// fit the first-level cache, stream past. Every number is summed by one thread in an order that depends on neither the
// number of threads nor the place of the tile.
#pragma once

#include <omp.h>

#include <algorithm>
#include <cmath>

#include "lanes.h"
#include "scratch.h"

namespace training {

constexpr int TILE_VECTORS = 8;   // sums of a tile, which registers hold
constexpr int ROW_UNIT = 512;     // bytes: rows are an odd multiple of it long
constexpr int PACKED_FROM = 4;    // edges a source from which copying its tile pays
constexpr int PACKED_AHEAD = 4;   // rows that are fetched ahead of the one copied

// Edges by block of sources, then by node: those of node i in block b are begin[b * (nodes + 1) + i] and so on.
template <typename T>
struct EdgeList {
  int64_t nodes, sources, block, blocks;
  const int32_t* begin;
  const int32_t* source;
  const T* weight;
};

// What is summed: planes over edges.
template <typename T>
struct Term {
  EdgeList<T> edges;
  const T* planes;
  int64_t stride;  // from plane to plane
  int64_t first;   // the node of the edges that the first sums are of
};

template <typename T>
constexpr int64_t TILE = TILE_VECTORS * lanes::COUNT<T>;

// Tiles of sources one after another, so that they lie near and without gaps while edges go to and fro among them.
template <typename T>
void pack_tiles(const T* planes, int64_t stride, int64_t count, T* packed) {
  for (int64_t i = 0; i < count; i++, planes += stride, packed += TILE<T>)
    for (int k = 0; k < TILE<T>; k += lanes::COUNT<T>) {
      __builtin_prefetch(planes + PACKED_AHEAD * stride + k);
      lanes::store(packed + k, lanes::load(planes + k));
    }
}

// One tile of the sums of `nodes` nodes, from its position on in every row. `packed` has room for the sources of a block,
// `held` for the nodes.
template <typename T>
void sum_tile(const Term<T>* terms, int64_t count, int64_t from, int64_t nodes, T* sums, int64_t sum_stride,
              int64_t position, bool accumulate, T* packed, T* held) {
  using V = lanes::Vector<T>;
  constexpr int L = lanes::COUNT<T>;
  for (int64_t t = 0; t < count; t++) {
    const EdgeList<T>& edges = terms[t].edges;
    for (int64_t b = 0; b < edges.blocks; b++) {
      const int32_t* begin = edges.begin + b * (edges.nodes + 1) + terms[t].first + from;
      const bool begins = t == 0 && b == 0, ends = t + 1 == count && b + 1 == edges.blocks;
      const int64_t base = b * edges.block, sources = std::min(edges.block, edges.sources - base);
      const T* planes = terms[t].planes + position;
      int64_t stride = terms[t].stride;
      if (begin[nodes] - begin[0] >= PACKED_FROM * sources) {
        pack_tiles(planes + base * stride, stride, sources, packed);
        planes = packed - base * TILE<T>;
        stride = TILE<T>;
      }
      for (int64_t node = 0; node < nodes; node++) {
        int32_t edge = begin[node];
        const int32_t end = begin[node + 1];
        if (edge == end && !begins && !ends) continue;
        T* const row = sums + node * sum_stride + position;
        T* const partial = held + node * TILE<T>;
        V sum[TILE_VECTORS];
        if (begins && !accumulate)
          for (int i = 0; i < TILE_VECTORS; i++) sum[i] = V{};
        else
          for (int i = 0; i < TILE_VECTORS; i++) sum[i] = lanes::load((begins ? row : partial) + i * L);
        for (; edge < end; edge++) {
          const T* plane = planes + edges.source[edge] * stride;
          const V weight = lanes::splat(edges.weight[edge]);
          for (int i = 0; i < TILE_VECTORS; i++) sum[i] += weight * lanes::load(plane + i * L);
        }
        T* const to = ends ? row : partial;
        for (int i = 0; i < TILE_VECTORS; i++) lanes::store(to + i * L, sum[i]);
      }
    }
  }
}

// sums[node] = (accumulate ? sums[node] : 0) + sum over terms and their edges of weight * plane of the source, for `nodes`
// nodes. There is a term with a block at least. False where memory ran out.
template <typename T>
bool sum_over_edges(const Term<T>* terms, int64_t count, int64_t nodes, int64_t positions, T* sums, int64_t sum_stride,
                    bool accumulate, int threads) {
  const int64_t tiles = (positions + TILE<T> - 1) / TILE<T>;
  if (nodes == 0 || tiles == 0) return true;
  // few tiles are cut into parts of their nodes, so that no thread waits long
  const int64_t parts = tiles >= 8 * threads ? 1 : std::min<int64_t>(nodes, (8 * threads + tiles - 1) / tiles);
  int64_t block = 0;
  for (int64_t t = 0; t < count; t++) block = std::max(block, terms[t].edges.block);
  bool done = true;
#pragma omp parallel num_threads(threads) reduction(&& : done)
  {
    static thread_local Scratch scratch;
    const int64_t held = (nodes + parts - 1) / parts;
    try {
      scratch.reserve(Scratch::bytes<T>(block * TILE<T>) + Scratch::bytes<T>(held * TILE<T>));
    } catch (const std::bad_alloc&) {
      done = false;
    }
    const bool fits = done;
    T* packed = scratch.take<T>(block * TILE<T>);
    T* partial = scratch.take<T>(held * TILE<T>);
#pragma omp for schedule(dynamic)
    for (int64_t item = 0; item < tiles * parts; item++) {
      const int64_t part = item % parts, from = nodes * part / parts, to = nodes * (part + 1) / parts;
      if (fits)
        sum_tile(terms, count, from, to - from, sums + from * sum_stride, sum_stride, item / parts * TILE<T>, accumulate,
                 packed, partial);
    }
  }
  return done;
}

// Whether a weight is an edge: where it is not 0, and if asked for, also where it is -0.
template <typename T>
LANES_INLINE bool is_edge(T weight, bool marked) {
  return (weight != 0) | (marked & std::signbit(weight));
}

// The edges of weight [nodes, sources] (rows `stride` apart), see is_edge, counted by block of sources and node. A block has a
// multiple of `near` sources, so many that a node has about `wanted` edges in it; `block` says how many. `begin` has room
// for blocks of `near`.
template <typename T>
int64_t count_edges(const T* weight, int64_t nodes, int64_t sources, int64_t stride, int64_t near, int64_t wanted,
                    int32_t* begin, int64_t* block, bool marked, int threads) {
  const int64_t fine = (sources + near - 1) / near, row_length = nodes + 1;
  int64_t edges = 0;
#pragma omp parallel for schedule(static) num_threads(threads) reduction(+ : edges)
  for (int64_t node = 0; node < nodes; node++)
    for (int64_t b = 0; b < fine; b++) {
      const T* row = weight + node * stride;
      const int64_t end = std::min(sources, (b + 1) * near);
      int32_t count = 0;
      for (int64_t s = b * near; s < end; s++) count += is_edge(row[s], marked);
      begin[b * row_length + node] = count;
      edges += count;
    }
  const double each = double(edges) / std::max<int64_t>(1, nodes * fine);  // edges of a node in a block of `near`
  const int64_t merged = std::max<int64_t>(1, each > 0 ? std::min<double>(fine, std::ceil(wanted / each)) : fine);
  *block = std::min(sources, merged * near);
  int64_t before = 0;
  for (int64_t to = 0; to * merged < fine; to++) {
    int32_t* const row = begin + to * row_length;
    for (int64_t node = 0; node < nodes; node++) {
      int32_t count = 0;
      for (int64_t b = to * merged; b < std::min(fine, (to + 1) * merged); b++) count += begin[b * row_length + node];
      row[node] = static_cast<int32_t>(before);
      before += count;
    }
    row[nodes] = static_cast<int32_t>(before);
  }
  return edges;
}

// The edges that `begin` of count_edges counts, in its order.
template <typename T>
void list_edges(const T* weight, int64_t nodes, int64_t sources, int64_t stride, int64_t block, const int32_t* begin,
                int32_t* source, T* value, bool marked, int threads) {
  const int64_t blocks = (sources + block - 1) / block;
#pragma omp parallel for schedule(static) num_threads(threads)
  for (int64_t node = 0; node < nodes; node++)
    for (int64_t b = 0; b < blocks; b++) {
      const T* row = weight + node * stride;
      const int64_t end = std::min(sources, (b + 1) * block);
      int64_t edge = begin[b * (nodes + 1) + node];
      for (int64_t s = b * block; s < end; s++)
        if (is_edge(row[s], marked)) {
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
