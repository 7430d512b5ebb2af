// The gradient of the weights of the edges that act, for training: a product of two planes an edge.
#pragma once

#include <omp.h>

#include <algorithm>
#include <cstring>
#include <vector>

#include "lanes.h"
#include "scratch.h"
#include "training_sums.h"

namespace training {

constexpr int64_t GRADIENT_BYTES = 1 << 21;  // of the nodes' tiles that are read for every block of sources, from a cache
constexpr int64_t LEAST_TILES = 8;           // that a total is made of, which costs as much as a tile

// A tile of a plane, of which `left` numbers count: copied, with zeros behind them.
template <typename T>
void copy_tile(const T* plane, int64_t left, T* tile) {
  std::memcpy(tile, plane, left * sizeof(T));
  std::memset(tile + left, 0, (TILE<T> - left) * sizeof(T));
}

// Adds to the partial sums of edges, a vector each, the products of one tile: of the gradient of every node that is not
// `idle`, and of the planes of the sources in block b. Of the tile `left` numbers count. `packed` has room for the tiles of
// a block, and one more.
template <typename T>
void multiply_tile(const EdgeList<T>& edges, int64_t b, const T* gradient, int64_t gradient_stride, const T* planes,
                   int64_t stride, int64_t left, const uint8_t* idle, T* packed, T* partial) {
  using V = lanes::Vector<T>;
  constexpr int L = lanes::COUNT<T>;
  const int32_t* begin = edges.begin + b * (edges.nodes + 1);
  const int64_t base = b * edges.block, sources = std::min(edges.block, edges.sources - base);
  const bool whole = left == TILE<T>;
  T* const own = packed + edges.block * TILE<T>;
  if (!whole) {
    for (int64_t i = 0; i < sources; i++) copy_tile(planes + (base + i) * stride, left, packed + i * TILE<T>);
  } else if (begin[edges.nodes] - begin[0] >= PACKED_FROM * sources) {
    pack_tiles(planes + base * stride, stride, sources, packed);
  } else {
    packed = nullptr;
  }
  if (packed) planes = packed - base * TILE<T>, stride = TILE<T>;
  for (int64_t node = 0; node < edges.nodes; node++) {
    const int32_t end = begin[node + 1];
    if (begin[node] == end || idle[node]) continue;
    const T* row = gradient + node * gradient_stride;
    if (!whole) copy_tile(row, left, own), row = own;
    V given[TILE_VECTORS];
    for (int i = 0; i < TILE_VECTORS; i++) {
      given[i] = lanes::load(row + i * L);
      __builtin_prefetch(row + PACKED_AHEAD * gradient_stride + i * L);
    }
    for (int32_t edge = begin[node]; edge < end; edge++) {
      const T* plane = planes + edges.source[edge] * stride;
      T* const sum = partial + (edge - begin[0]) * L;
      V even = lanes::load(sum), odd{};
      for (int i = 0; i < TILE_VECTORS; i += 2) {
        even += given[i] * lanes::load(plane + i * L);
        odd += given[i + 1] * lanes::load(plane + (i + 1) * L);
      }
      lanes::store(sum, even + odd);
    }
  }
}

// matrix[node][source] of every edge = the sum over positions of the node's gradient times the source's plane; what else the
// matrix holds stays. A sum's order depends on the number of threads, each of which has a run of tiles. It takes part of the
// run after part, and in a part block after block. False where memory ran out.
template <typename T>
bool product_at_edges(const EdgeList<T>& edges, const T* gradient, int64_t gradient_stride, const T* planes, int64_t stride,
                      int64_t positions, T* matrix, int64_t matrix_stride, int threads) {
  constexpr int L = lanes::COUNT<T>;
  const int64_t tiles = (positions + TILE<T> - 1) / TILE<T>, total = edges.begin[edges.blocks * (edges.nodes + 1) - 1];
  if (total == 0) return true;
  const int64_t part = std::max(LEAST_TILES, GRADIENT_BYTES / int64_t(edges.nodes * TILE<T> * sizeof(T)));
  int64_t most = 0;  // edges of a block
  for (int64_t b = 0; b < edges.blocks; b++) {
    const int32_t* begin = edges.begin + b * (edges.nodes + 1);
    most = std::max<int64_t>(most, begin[edges.nodes] - begin[0]);
  }
  std::vector<uint8_t> idle;
  std::vector<T> sums;  // [threads][edges]
  try {
    idle.resize(edges.nodes);
    sums.resize(threads * total);
  } catch (const std::bad_alloc&) {
    return false;
  }
  bool done = true;
#pragma omp parallel num_threads(threads) reduction(&& : done)
  {
    static thread_local Scratch scratch;
    try {
      scratch.reserve(Scratch::bytes<T>((edges.block + 1) * TILE<T>) + Scratch::bytes<T>(most * L));
    } catch (const std::bad_alloc&) {
      done = false;
    }
    const bool fits = done;
    T* packed = scratch.take<T>((edges.block + 1) * TILE<T>);
    T* partial = scratch.take<T>(most * L);
#pragma omp for schedule(static)
    for (int64_t node = 0; node < edges.nodes; node++)
      idle[node] = lanes::all_zero(gradient + node * gradient_stride, positions);
#pragma omp for schedule(static)
    for (int thread = 0; thread < threads; thread++) {
      const int64_t last = tiles * (thread + 1) / threads;
      for (int64_t first = tiles * thread / threads; fits && first < last; first += part)
        for (int64_t b = 0; b < edges.blocks; b++) {
          const int32_t* begin = edges.begin + b * (edges.nodes + 1);
          const int64_t here = begin[edges.nodes] - begin[0];
          T* const sum = sums.data() + thread * total + begin[0];
          std::fill_n(partial, here * L, T(0));
          for (int64_t tile = first; tile < std::min(last, first + part); tile++) {
            const int64_t at = tile * TILE<T>;
            multiply_tile(edges, b, gradient + at, gradient_stride, planes + at, stride, std::min(TILE<T>, positions - at),
                          idle.data(), packed, partial);
          }
          for (int64_t e = 0; e < here; e++) sum[e] += lanes::total<T>(lanes::load(partial + e * L));
        }
    }
#pragma omp for schedule(static)
    for (int64_t node = 0; node < edges.nodes; node++)
      for (int64_t b = 0; b < edges.blocks; b++) {
        const int32_t* begin = edges.begin + b * (edges.nodes + 1) + node;
        for (int32_t edge = begin[0]; edge < begin[1]; edge++) {
          T sum = 0;
          for (int thread = 0; thread < threads; thread++) sum += sums[thread * total + edge];
          matrix[node * matrix_stride + edges.source[edge]] = sum;
        }
      }
  }
  return done;
}

}  // namespace training
