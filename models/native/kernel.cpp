// Runs a channel graph on the CPU in fp32: every node sums its edges over planes, then applies its own operations.
//
// The plan (models/sparse/plan.py) says where each plane lies, in which order edges are summed, and who computes what.
// Planes are contiguous, rows without gaps, so that a sum knows nothing of rows. A tile of a node's plane stays in registers
// while the node's edges of one block of sources stream past; nodes with equally many edges follow one another, so that
// the number of edges is no surprise to the processor. Rows matter in the depthwise convolution only.
//
// Plain GCC/Clang vector types: the same source compiles to AVX-512, AVX2, SSE and NEON.

#include <algorithm>
#include <atomic>
#include <cmath>
#include <condition_variable>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <memory>
#include <mutex>
#include <new>
#include <thread>
#include <vector>

#if defined(__linux__)
#include <sys/mman.h>
#endif
#include <unistd.h>

#define INLINE inline __attribute__((always_inline))

namespace {

// ---------------------------------------------------------------------------------------------------- vectors

#if defined(__AVX512F__)
constexpr int LANES = 16, REGISTERS = 32;
#elif defined(__AVX__)
constexpr int LANES = 8, REGISTERS = 16;
#elif defined(__aarch64__)
constexpr int LANES = 4, REGISTERS = 32;
#else
constexpr int LANES = 4, REGISTERS = 16;
#endif
constexpr int UNIT = 16;    // floats: lengths of planes and tiles are multiples of it, whatever the vectors' width
constexpr int ROWS_AT_ONCE = 8;  // of sums, whose source rows are dealt out together
constexpr int BAND = 4;     // rows of a dense matrix that are multiplied together
constexpr int QUARTER = 4;  // floats: what a plane needs of its last unit, if no more
constexpr int MAX_TILE = std::min(8, (REGISTERS - 3) * LANES / UNIT);  // units whose sums registers can hold
constexpr int MAX_SHARED_TILE = std::min(8, std::max(1, (REGISTERS - 4) / 3 * LANES / UNIT));  // of three nodes at once

template <int N>
struct Vector;

#define DEFINE_VECTOR(N)                                                     \
  template <>                                                                \
  struct Vector<N> {                                                         \
    typedef float F __attribute__((vector_size(4 * N)));                     \
    typedef int32_t I __attribute__((vector_size(4 * N)));                   \
    typedef float Loose __attribute__((vector_size(4 * N), aligned(4), may_alias)); \
    static INLINE F up(F v, F first = F{});                                           \
    static INLINE F down(F v);                                               \
    static INLINE F even(F a, F b);                                          \
    static INLINE F odd(F a, F b);                                           \
  };
DEFINE_VECTOR(4)
DEFINE_VECTOR(8)
DEFINE_VECTOR(16)

#if defined(__clang__)
#define SHUFFLE(N, a, b, ...) __builtin_shufflevector(a, b, __VA_ARGS__)
#else
#define SHUFFLE(N, a, b, ...) __builtin_shuffle(a, b, (Vector<N>::I){__VA_ARGS__})
#endif
// up: `first` enters at lane 0; down: a zero enters at the last lane; even, odd: of the lanes of a and b in a row.
#define DEFINE_SHUFFLES(N, UP, DOWN, EVEN, ODD)                                                       \
  INLINE Vector<N>::F Vector<N>::up(F v, F first) { return SHUFFLE(N, v, first, UP); }                \
  INLINE Vector<N>::F Vector<N>::down(F v) { return SHUFFLE(N, v, F{}, DOWN); }                       \
  INLINE Vector<N>::F Vector<N>::even(F a, F b) { return SHUFFLE(N, a, b, EVEN); }                    \
  INLINE Vector<N>::F Vector<N>::odd(F a, F b) { return SHUFFLE(N, a, b, ODD); }
#define LIST(...) __VA_ARGS__
DEFINE_SHUFFLES(4, LIST(4, 0, 1, 2), LIST(1, 2, 3, 4), LIST(0, 2, 4, 6), LIST(1, 3, 5, 7))
DEFINE_SHUFFLES(8, LIST(8, 0, 1, 2, 3, 4, 5, 6), LIST(1, 2, 3, 4, 5, 6, 7, 8),
                LIST(0, 2, 4, 6, 8, 10, 12, 14), LIST(1, 3, 5, 7, 9, 11, 13, 15))
DEFINE_SHUFFLES(16, LIST(16, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14),
                LIST(1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16),
                LIST(0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30),
                LIST(1, 3, 5, 7, 9, 11, 13, 15, 17, 19, 21, 23, 25, 27, 29, 31))

template <int N>
using F = typename Vector<N>::F;
template <int N>
using I = typename Vector<N>::I;

template <int N>
INLINE F<N> splat(float x) {
  return x - F<N>{};
}
template <int N>
INLINE F<N> load(const float* p) {
  return *reinterpret_cast<const typename Vector<N>::Loose*>(p);
}
template <int N>
INLINE void store(float* p, F<N> v) {
  *reinterpret_cast<typename Vector<N>::Loose*>(p) = v;
}
template <int N>
INLINE F<N> relu(F<N> v) {
  return v < F<N>{} ? F<N>{} : v;
}
template <int N>
INLINE I<N> first_lanes(int n) {
  I<N> lane;
  for (int i = 0; i < N; i++) lane[i] = i;
  return lane < (n - I<N>{});
}
template <int N>
INLINE F<N> masked(F<N> v, I<N> mask) {
  return reinterpret_cast<F<N>>(reinterpret_cast<I<N>>(v) & mask);
}

// The sum of n floats, in an order that depends on n and the vectors' width alone.
float sum(const float* p, int n) {
  F<LANES> total{};
  int i = 0;
  for (; i + LANES <= n; i += LANES) total += load<LANES>(p + i);
  float result = 0;
  for (; i < n; i++) result += p[i];
  for (int lane = 0; lane < LANES; lane++) result += total[lane];
  return result;
}

float sum_of_squares(const float* p, int n, float centre) {
  F<LANES> total{};
  int i = 0;
  for (; i + LANES <= n; i += LANES) {
    F<LANES> d = load<LANES>(p + i) - splat<LANES>(centre);
    total += d * d;
  }
  float result = 0;
  for (; i < n; i++) result += (p[i] - centre) * (p[i] - centre);
  for (int lane = 0; lane < LANES; lane++) result += total[lane];
  return result;
}

// ---------------------------------------------------------------------------------------------------- the plan

struct Edge {
  uint32_t offset;  // of the source's plane, in floats
  float weight;
};

struct Run {
  int32_t edges;  // of each of these nodes in this block
  int32_t nodes;
  int32_t same;  // they all have the same sources
};

}  // namespace

extern "C" {

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

// One way of cutting a level into chunks: share s, for one thread, has the chunks share_begin[s] .. share_begin[s + 1] - 1.
struct ScheduleSpec {
  int32_t shares, chunks, blocks, runs;
  int64_t order_length, edges;
  const int32_t* share_begin;
  const ChunkSpec* chunk;
  const BlockSpec* block;
  const Run* run;
  const int32_t* order;  // nodes within their chunk
  const Edge* edge;
};

// Over planes; over shifted copies of planes, for edges with kernels; over rows of planes, for complete graphs of such edges;
// over single values.
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
  // SUM_ROWS: each source row is dealt out into `copy_stride` rows, column by column in turn, of this length and with so
  // many zeros before and, at least, behind; an edge's offset counts from the first of them that an output row needs
  int32_t kernel_rows, row_length, row_border;
  // SUM_VALUES_*: rows over the values
  int32_t columns;
  int64_t column_begin;           // dense: first value
  const float* dense;             // [nodes, columns]
  const int64_t* indptr;          // sparse
  const int32_t* index;           // offsets among the values
  const float* weight;
  ScheduleSpec schedule[2];  // whole image on one thread; one image on all threads
};

struct PlanSpec {
  int32_t threads;
  int32_t input_planes, input_height, input_width;
  int64_t input_plane, input_stride;  // where the input is copied to in the arena; -1: nowhere
  int64_t input_value;
  int64_t arena, values;  // floats
  int32_t output_planes, output_size;
  int64_t output_value;  // where the output is among the values; -1: planes
  int32_t constants;
  const int64_t* constant_plane;
  const int32_t* constant_length;
  const float* constant;  // one after another
};
}

namespace {

template <class T>
std::vector<T> copied(const T* p, int64_t n) {
  return p ? std::vector<T>(p, p + n) : std::vector<T>();
}

struct Schedule {
  std::vector<int32_t> share_begin;
  std::vector<ChunkSpec> chunk;
  std::vector<BlockSpec> block;
  std::vector<Run> run;
  std::vector<int32_t> order;
  std::vector<Edge> edge;
  int32_t largest_chunk = 0;

  explicit Schedule(const ScheduleSpec& s)
      : share_begin(copied(s.share_begin, s.shares + 1)),
        chunk(copied(s.chunk, s.chunks)),
        block(copied(s.block, s.blocks)),
        run(copied(s.run, s.runs)),
        order(copied(s.order, s.order_length)),
        edge(copied(s.edge, s.edges)) {
    for (const ChunkSpec& c : chunk) largest_chunk = std::max(largest_chunk, c.node_end - c.node_begin);
  }
};

int round_up(int n, int unit) { return (n + unit - 1) / unit * unit; }

// A tap of a kernel: its place, and the outputs x of a row, first .. end - 1, that it sees the source at.
struct Tap {
  int y, x, first, end;

  Tap(int tap_y, int tap_x, int stride, int padding, int source_width, int width) : y(tap_y - padding), x(tap_x - padding) {
    first = std::min(width, x >= 0 ? 0 : (-x + stride - 1) / stride);
    end = source_width <= x ? 0 : std::min(width, (source_width - x - 1) / stride + 1);
    end = std::max(first, end);
  }
};

struct Level : LevelSpec {
  std::vector<float> bias_, norm_weight_, norm_bias_, kernel_, kernel_bias_, dense_, weight_;
  std::vector<int64_t> copy_source_, indptr_;
  std::vector<int32_t> index_;
  std::vector<Tap> taps_;
  std::vector<Schedule> schedules;
  int units;     // of a plane of sums
  int y_stride;  // floats of a node's sums in the scratch

  // SUM_ROWS: source rows that are dealt out at once.
  int rows_dealt() const { return (ROWS_AT_ONCE - 1) * copy_stride + kernel_rows; }

  // The dense matrix in bands of BAND rows, UNIT columns of each in turn: the order in which they are read.
  void pack(const float* dense) {
    dense_.assign(int64_t(round_up(nodes, BAND)) * columns, 0.f);
    for (int64_t n = 0; n < nodes; n++)
      for (int64_t c = 0; c < columns; c++)
        dense_[((n / BAND * (columns / UNIT) + c / UNIT) * BAND + n % BAND) * UNIT + c % UNIT] = dense[n * columns + c];
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

// ---------------------------------------------------------------------------------------------------- sums of edges

// Adds to a tile of the sums of G nodes, which have the same sources, the edges of one block. A tile has T units and, with
// TAIL, TAIL more floats.
template <int T, int TAIL, int G>
INLINE void sum_nodes(const int32_t* order, int edges, const Edge* edge, const float* source, float* y, int64_t y_stride,
                      const float* start, bool rectify) {
  constexpr int N = T * UNIT / LANES;
  F<LANES> a[G][N + 1];
  F<QUARTER> tail[G];
#pragma GCC unroll 4
  for (int g = 0; g < G; g++) {
    const float* sums = y + order[g] * y_stride;
#pragma GCC unroll 32
    for (int i = 0; i < N; i++) a[g][i] = start ? splat<LANES>(start[order[g]]) : load<LANES>(sums + i * LANES);
    if (TAIL) tail[g] = start ? splat<QUARTER>(start[order[g]]) : load<QUARTER>(sums + N * LANES);
  }
#pragma GCC unroll 4
  for (int e = 0; e < edges; e++) {
    const float* p = source + edge[e].offset;
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
    float* sums = y + order[g] * y_stride;
#pragma GCC unroll 32
    for (int i = 0; i < N; i++) store<LANES>(sums + i * LANES, rectify ? relu<LANES>(a[g][i]) : a[g][i]);
    if (TAIL) store<QUARTER>(sums + N * LANES, rectify ? relu<QUARTER>(tail[g]) : tail[g]);
  }
}

template <int T, int TAIL>
INLINE void sum_run(const int32_t* order, Run run, const Edge* edge, const float* source, float* y, int64_t y_stride,
                    const float* start, bool rectify) {
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
void sum_tile(const Schedule& s, const ChunkSpec& chunk, const float* source, float* y, int64_t y_stride,
              const float* bias, bool rectify) {
  for (int b = chunk.block_begin; b < chunk.block_end; b++) {
    const BlockSpec& block = s.block[b];
    const int32_t* order = s.order.data() + block.node_begin;
    const Edge* edge = s.edge.data() + block.edge_begin;
    const float* start = b == chunk.block_begin ? bias : nullptr;
    const bool last = rectify && b + 1 == chunk.block_end;
    for (int r = block.run_begin; r < block.run_end; r++) {
      const Run run = s.run[r];
      sum_run<T, TAIL>(order, run, edge, source, y, y_stride, start, last);
      order += run.nodes;
      edge += int64_t(run.nodes) * run.edges;
    }
  }
}

typedef void (*SumTile)(const Schedule&, const ChunkSpec&, const float*, float*, int64_t, const float*, bool);
#define TILES(tail)                                                                                                    \
  {                                                                                                                    \
    sum_tile<0, tail>, sum_tile<1, tail>, sum_tile<2, tail>, sum_tile<3, tail>, sum_tile<4, tail>, sum_tile<5, tail>,  \
        sum_tile<6, tail>, sum_tile<7, tail>, sum_tile<8, tail>                                                        \
  }
constexpr SumTile SUM_TILE[2][9] = {TILES(0), TILES(QUARTER)};

// ---------------------------------------------------------------------------------------------------- shifted copies

// q[i] = p[2 * i] for i < n, reading within begin .. end only.
INLINE void copy_every_second(const float* p, int n, float* q, const float* begin, const float* end) {
  const int shift = p > begin;  // a vector earlier: then the wanted floats are at odd places
  if (n >= LANES && p - shift + 2 * n <= end) {
    p -= shift;
    for (int i = 0;; i = std::min(i + LANES, n - LANES)) {
      const F<LANES> low = load<LANES>(p + 2 * i), high = load<LANES>(p + 2 * i + LANES);
      store<LANES>(q + i, shift ? Vector<LANES>::odd(low, high) : Vector<LANES>::even(low, high));
      if (i == n - LANES) return;
    }
  }
  for (int i = 0; i < n; i++) q[i] = p[2 * i];
}

// Writes n floats of a row of outputs, from output x on: what the tap sees of that row of the source (null: outside).
INLINE void copy_row(const Tap& tap, const float* row, int source_width, int stride, int x, int n, float* out) {
  const int first = row ? std::min(std::max(tap.first, x), x + n) : x;
  const int end = row ? std::min(std::max(tap.end, first), x + n) : x;
  for (int i = x; i < first; i++) out[i - x] = 0;
  for (int i = end; i < x + n; i++) out[i - x] = 0;
  if (first == end) return;
  const float* p = row + int64_t(first) * stride + tap.x;
  float* q = out + (first - x);
  const int m = end - first;
  if (stride == 1)
    std::memcpy(q, p, sizeof(float) * m);
  else if (stride == 2)
    copy_every_second(p, m, q, row, row + source_width);
  else
    for (int i = 0; i < m; i++) q[i] = p[int64_t(i) * stride];
}

// ---------------------------------------------------------------------------------------------------- depthwise

// A window of rows of one plane; rows outside the plane are zero.
struct Rows {
  const float* p;  // row 0, were it in the window
  int height, width;
  const float* zero;  // width + 2 * LANES zeros around this point

  INLINE const float* at(int y) const { return y < 0 || y >= height ? zero : p + int64_t(y) * width; }
};

enum Side { FIRST = 1, LAST = 2, PART = 4 };  // of a chunk of a row's outputs; PART: fewer outputs than lanes

// 3x3, stride 1, padding 1: N outputs from column x on, of rows o0 .. o1 - 1.
template <int N, int SIDE>
INLINE void depthwise_1(const Rows& rows, int o0, int o1, const float* k, float bias, float* out, int x) {
  const I<N> mask = first_lanes<N>(rows.width);
  F<N> w[9];
  for (int i = 0; i < 9; i++) w[i] = splat<N>(k[i]);
  const F<N> b = splat<N>(bias);
  F<N> left, here, right;
  auto take = [&](int y) __attribute__((always_inline)) {
    const float* p = rows.at(y) + x;
    here = load<N>(p);
    if (SIDE & PART) here = masked<N>(here, mask);
    left = SIDE & FIRST ? Vector<N>::up(here) : load<N>(p - 1);
    right = SIDE & LAST ? Vector<N>::down(here) : load<N>(p + 1);
  };
  take(o0 - 1);
  F<N> above = b + left * w[0] + here * w[1] + right * w[2];
  take(o0);
  above = above + left * w[3] + here * w[4] + right * w[5];
  F<N> at = b + left * w[0] + here * w[1] + right * w[2];
  out += int64_t(o0) * rows.width + x;
  for (int o = o0; o < o1; o++) {
    take(o + 1);
    store<N>(out, above + left * w[6] + here * w[7] + right * w[8]);
    above = at + left * w[3] + here * w[4] + right * w[5];
    at = b + left * w[0] + here * w[1] + right * w[2];
    out += rows.width;
  }
}

// 3x3, stride 2, padding 1: N outputs from output column x on, of output rows o0 .. o1 - 1.
template <int N, int SIDE>
INLINE void depthwise_2(const Rows& rows, int o0, int o1, const float* k, float bias, float* out, int x, int out_width) {
  const int from = 2 * x, lanes_left = rows.width - from;
  const I<N> mask_a = first_lanes<N>(lanes_left), mask_b = first_lanes<N>(lanes_left - N);
  F<N> w[9];
  for (int i = 0; i < 9; i++) w[i] = splat<N>(k[i]);
  const F<N> b = splat<N>(bias);
  F<N> left, here, right;
  auto take = [&](int y) __attribute__((always_inline)) {
    const float* p = rows.at(y) + from;
    F<N> low = load<N>(p), high = load<N>(p + N);
    if (SIDE & LAST) low = masked<N>(low, mask_a), high = masked<N>(high, mask_b);
    here = Vector<N>::even(low, high);
    right = Vector<N>::odd(low, high);
    left = Vector<N>::up(right, SIDE & FIRST ? F<N>{} : splat<N>(p[-1]));
  };
  take(2 * o0 - 1);
  F<N> above = b + left * w[0] + here * w[1] + right * w[2];
  out += int64_t(o0) * out_width + x;
  for (int o = o0; o < o1; o++) {
    take(2 * o);
    F<N> total = above + left * w[3] + here * w[4] + right * w[5];
    take(2 * o + 1);
    store<N>(out, total + left * w[6] + here * w[7] + right * w[8]);
    above = b + left * w[0] + here * w[1] + right * w[2];
    out += out_width;
  }
}

template <int N>
void depthwise_rows(const Rows& rows, int stride, int o0, int o1, const float* k, float bias, float* out, int out_width) {
  if (stride == 1) {
    if (out_width < N) return depthwise_1<N, FIRST | LAST | PART>(rows, o0, o1, k, bias, out, 0);
    if (out_width == N) return depthwise_1<N, FIRST | LAST>(rows, o0, o1, k, bias, out, 0);
    depthwise_1<N, FIRST>(rows, o0, o1, k, bias, out, 0);
    int x = N;
    for (; x + N < out_width; x += N) depthwise_1<N, 0>(rows, o0, o1, k, bias, out, x);
    return depthwise_1<N, LAST>(rows, o0, o1, k, bias, out, out_width - N);
  }
  if (out_width <= N) return depthwise_2<N, FIRST | LAST>(rows, o0, o1, k, bias, out, 0, out_width);
  depthwise_2<N, FIRST>(rows, o0, o1, k, bias, out, 0, out_width);
  int x = N;
  for (; x + N < out_width; x += N) depthwise_2<N, 0>(rows, o0, o1, k, bias, out, x, out_width);
  depthwise_2<N, LAST>(rows, o0, o1, k, bias, out, out_width - N, out_width);
}

// Any kernel, stride and padding.
void depthwise_any(const Level& l, const Rows& rows, int o0, int o1, const float* k, float bias, float* out) {
  const int stride = l.kernel_stride, padding = l.kernel_padding;
  for (int o = o0; o < o1; o++) {
    float* q = out + int64_t(o) * l.out_width;
    std::fill(q, q + l.out_width, bias);
    for (int i = 0; i < l.kernel_height; i++) {
      const int y = o * stride + i - padding;
      if (y < 0 || y >= rows.height) continue;
      const float* p = rows.at(y);
      for (int j = 0; j < l.kernel_width; j++) {
        const int shift = j - padding;
        const int first = shift >= 0 ? 0 : (-shift + stride - 1) / stride;
        const int end = rows.width - shift <= 0 ? 0 : (rows.width - shift - 1) / stride + 1;
        const float w = k[i * l.kernel_width + j];
        for (int x = first; x < std::min(end, l.out_width); x++) q[x] += w * p[x * stride + shift];
      }
    }
  }
}

// Rows may end in up to UNIT floats of noise, which the next row or the padding of the plane takes.
void depthwise(const Level& l, const Rows& rows, int o0, int o1, const float* k, float bias, float* out) {
  const bool usual = l.kernel_height == 3 && l.kernel_width == 3 && l.kernel_padding == 1 && l.kernel_stride <= 2;
  if (!usual) return depthwise_any(l, rows, o0, o1, k, bias, out);
  if (LANES == 16 && l.out_width > 8) return depthwise_rows<16>(rows, l.kernel_stride, o0, o1, k, bias, out, l.out_width);
  if (LANES >= 8 && l.out_width > 4) return depthwise_rows<8>(rows, l.kernel_stride, o0, o1, k, bias, out, l.out_width);
  depthwise_rows<4>(rows, l.kernel_stride, o0, o1, k, bias, out, l.out_width);
}

// ---------------------------------------------------------------------------------------------------- memory, threads

class Floats {  // zeroed, on large pages where the system has them
 public:
  Floats() = default;
  explicit Floats(int64_t n) {
    const size_t page = n >= (1 << 19) ? size_t(1) << 21 : 64;
    const size_t bytes = (size_t(n) * sizeof(float) + page - 1) / page * page;
    void* p = nullptr;
    if (posix_memalign(&p, page, std::max(bytes, page))) throw std::bad_alloc();
#if defined(__linux__)
    if (page > 64) madvise(p, bytes, MADV_HUGEPAGE);
#endif
    std::memset(p, 0, std::max(bytes, page));
    p_.reset(static_cast<float*>(p));
  }
  float* get() const { return p_.get(); }

 private:
  struct Free {
    void operator()(float* p) const { free(p); }
  };
  std::unique_ptr<float, Free> p_;
};

INLINE void pause() {
#if defined(__x86_64__) || defined(__i386__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

// Waits until `ready` holds: on the spot for a moment, then leaving the processor to others.
template <class Ready>
INLINE void wait_until(const Ready& ready) {
  for (int spins = 0; !ready(); spins++) {
    if (spins < 2000)
      pause();
    else
      std::this_thread::yield();
  }
}

// Parts of a job that threads take as they come. One that comes late finds nothing left, and nobody waits for it.
class Parts {
 public:
  void reset(int64_t count) {
    count_ = count;
    taken_.store(0, std::memory_order_relaxed);
    done_.store(0, std::memory_order_relaxed);
  }
  template <class Work>
  INLINE void take(const Work& work) {
    for (int64_t part; (part = taken_.fetch_add(1, std::memory_order_relaxed)) < count_;) {
      work(part);
      done_.fetch_add(1, std::memory_order_release);
    }
    wait_until([this] { return done_.load(std::memory_order_acquire) >= count_; });
  }

 private:
  int64_t count_ = 0;
  std::atomic<int64_t> taken_{0}, done_{0};
};

// The caller's thread and helpers of its own. A helper that the system has not woken when the work is done is left out.
class Pool {
 public:
  explicit Pool(int threads) {
    try {
      for (int t = 1; t < threads; t++) helpers_.emplace_back([this, t] { help(t); });
    } catch (...) {  // the system starts no more threads: those that it started must end before they are destroyed
      stop();
      throw;
    }
  }
  ~Pool() { stop(); }

  // work(t) on thread t of the pool, for some t; on the caller's, t = 0, in any case.
  void run(const std::function<void(int)>& work) {
    if (helpers_.empty()) return work(0);
    work_ = &work;
    inside_.store(0, std::memory_order_release);  // opens
    {
      std::lock_guard<std::mutex> lock(mutex_);
      turn_.fetch_add(1, std::memory_order_release);
    }
    if (asleep_.load() > 0) wake_.notify_all();
    work(0);
    inside_.fetch_or(CLOSED, std::memory_order_acq_rel);
    wait_until([this] { return inside_.load(std::memory_order_acquire) == CLOSED; });
  }

 private:
  static constexpr int CLOSED = 1 << 30;

  void stop() {
    {
      std::lock_guard<std::mutex> lock(mutex_);
      stop_ = true;
      turn_.fetch_add(1);
    }
    wake_.notify_all();
    for (std::thread& helper : helpers_) helper.join();
  }

  bool enter() {
    int inside = inside_.load(std::memory_order_acquire);
    while (!(inside & CLOSED))
      if (inside_.compare_exchange_weak(inside, inside + 1, std::memory_order_acq_rel)) return true;
    return false;
  }

  void help(int t) {
    uint32_t seen = 0;
    while (true) {
      for (int spins = 0; spins < 2000 && turn_.load(std::memory_order_acquire) == seen; spins++) pause();
      if (turn_.load(std::memory_order_acquire) == seen) {
        std::unique_lock<std::mutex> lock(mutex_);
        asleep_.fetch_add(1);
        wake_.wait(lock, [&] { return turn_.load(std::memory_order_acquire) != seen; });
        asleep_.fetch_sub(1);
      }
      seen = turn_.load(std::memory_order_acquire);
      if (stop_) return;
      if (!enter()) continue;
      (*work_)(t);
      inside_.fetch_sub(1, std::memory_order_release);
    }
  }

  std::vector<std::thread> helpers_;
  std::mutex mutex_;
  std::condition_variable wake_;
  std::atomic<uint32_t> turn_{0};
  std::atomic<int> inside_{CLOSED}, asleep_{0};
  std::atomic<bool> stop_{false};
  const std::function<void(int)>* work_ = nullptr;
};

// ---------------------------------------------------------------------------------------------------- running a plan

struct Plan : PlanSpec {
  std::vector<Level> levels;
  std::vector<int64_t> constant_plane_;
  std::vector<int32_t> constant_length_;
  std::vector<float> constant_;
  int64_t y_floats = 0, copy_floats = 0, zero_floats = 0;
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
        y_floats = std::max<int64_t>(y_floats, int64_t(schedule.largest_chunk) * l.y_stride + 4 * UNIT);
      const int64_t copy = l.kind == SUM_ROWS ? int64_t(l.rows_dealt()) * l.copy_stride * l.row_length : (l.tile + 1) * UNIT;
      copy_floats = std::max<int64_t>(copy_floats, l.copies * copy + 2 * UNIT);
      const int64_t out = int64_t(l.out_height) * l.out_width + 2 * UNIT;
      zero_floats = std::max<int64_t>({zero_floats, int64_t(l.width) + 4 * UNIT, out});
    }
  }
};

struct Scratch {  // of one thread
  Floats y, copies, zero, plane;
  explicit Scratch(const Plan& plan)
      : y(plan.y_floats), copies(plan.copy_floats), zero(plan.zero_floats + 2 * UNIT), plane(plan.zero_floats) {}
};

// Sums of a chunk: y holds each node's positions from `origin` on.
struct Window {
  float* y;
  int64_t origin;
};

class Worker {
 public:
  Worker(const Level& level, Scratch& scratch, const float* image, float* arena, float* values, float* output)
      : l_(level), scratch_(scratch), image_(image), arena_(arena), values_(values), output_(output) {}

  void run(const Schedule& schedule, int share) {
    for (int c = schedule.share_begin[share]; c < schedule.share_begin[share + 1]; c++) run_chunk(schedule, schedule.chunk[c]);
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
        float* y = window.y + int64_t(n - chunk.node_begin) * l_.y_stride;
        finish(n, y, window.origin, out_row, out_end);
      }
      out_row = out_end;
      if (row < stop) slide(window, chunk.node_end - chunk.node_begin, out_row, done);
    }
  }

  // The first row of sums that output rows from `out_row` on need.
  int first_row_needed(int out_row) const {
    return l_.kernel_.empty() ? out_row : std::min(l_.height, std::max(0, out_row * l_.kernel_stride - l_.kernel_padding));
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
      const float* source = arena_ + int64_t(from) * UNIT;
      if (l_.kind == SUM_COPIES) source = copy_sources(from, to + with_tail);
      float* y = window.y + int64_t(from) * UNIT - window.origin;
      SUM_TILE[with_tail][to - from](schedule, chunk, source, y, l_.y_stride, bias(chunk), rectify());
    }
  }

  // Sums of the rows from begin to end - 1. A row's last tile may end in noise on the next row, which comes later.
  void sum_rows(const Schedule& schedule, const ChunkSpec& chunk, const Window& window, int begin, int end) {
    const int units = (l_.width + UNIT - 1) / UNIT, tiles = (units + l_.tile - 1) / l_.tile;
    const int64_t step = int64_t(l_.copy_stride) * l_.copy_stride * l_.row_length;
    for (int batch = begin; batch < end; batch += ROWS_AT_ONCE) {
      const int stop = std::min(end, batch + ROWS_AT_ONCE);
      deal_out_rows(batch, (stop - 1 - batch) * l_.copy_stride + l_.kernel_rows);
      for (int row = batch; row < stop; row++)
        for (int t = 0; t < tiles; t++) {
          const int from = units * t / tiles, to = units * (t + 1) / tiles;
          const float* source = scratch_.copies.get() + (row - batch) * step + from * UNIT;
          float* y = window.y + int64_t(row) * l_.width + from * UNIT - window.origin;
          SUM_TILE[0][to - from](schedule, chunk, source, y, l_.y_stride, bias(chunk), rectify());
        }
    }
  }

  // Deals out `rows` rows of every source plane from the first one on that row `row` of the sums needs.
  void deal_out_rows(int row, int rows) {
    const int stride = l_.copy_stride, width = l_.copy_width;
    for (int j = 0; j < l_.copies; j++) {
      const float* plane = (l_.copy_input ? image_ : arena_) + l_.copy_source_[j];
      float* out = scratch_.copies.get() + int64_t(j) * l_.rows_dealt() * stride * l_.row_length + l_.row_border;
      for (int i = 0; i < rows; i++, out += stride * l_.row_length) {
        const int y = row * stride - l_.copy_padding + i;
        const float* p = plane + int64_t(y) * width;
        for (int phase = 0; phase < stride; phase++) {
          const int n = phase < width ? (width - phase - 1) / stride + 1 : 0;
          float* q = out + phase * l_.row_length;
          std::fill(q - l_.row_border, q, 0.f);
          std::fill(q + n, q - l_.row_border + l_.row_length, 0.f);
          if (y < 0 || y >= l_.copy_height)
            std::fill(q, q + n, 0.f);
          else if (stride == 1)
            std::memcpy(q, p, sizeof(float) * n);
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
  const float* copy_sources(int from, int to) {
    float* out = scratch_.copies.get();
    const int total = l_.height * l_.width, stop = std::min(total, to * UNIT);
    for (int at = from * UNIT; at < stop;) {
      const int y = at / l_.width, x = at % l_.width, n = std::min(stop - at, l_.width - x);
      for (int j = 0; j < l_.copies; j++) {
        const Tap& tap = l_.taps_[j];
        const int row = y * l_.copy_stride + tap.y;
        const float* plane = (l_.copy_input ? image_ : arena_) + l_.copy_source_[j];
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
      float* y = window.y + int64_t(n) * l_.y_stride;
      std::memmove(y, y + (origin - window.origin), sizeof(float) * (end - origin));
    }
    window.origin = origin;
  }

  // A node's own operations on rows of its sums.
  void finish(int node, float* y, int64_t origin, int out_row, int out_end) {
    const int pixels = l_.height * l_.width;
    if (!l_.norm_weight_.empty()) normalise(node, y, pixels);
    const int out_pixels = l_.out_height * l_.out_width;
    float* out = l_.mean                          ? scratch_.plane.get()
                 : l_.destination == TO_OUTPUT ? scratch_.plane.get()
                                               : arena_ + l_.plane + node * l_.plane_stride;
    if (!l_.kernel_.empty()) {
      const Rows rows{y - origin, l_.height, l_.width, scratch_.zero.get() + UNIT};
      const float* k = l_.kernel_.data() + int64_t(node) * l_.kernel_height * l_.kernel_width;
      depthwise(l_, rows, out_row, out_end, k, l_.kernel_bias_[node], out);
    } else if (l_.mean) {
      out = y;
    } else {
      const int64_t from = int64_t(out_row) * l_.out_width, to = int64_t(out_end) * l_.out_width;
      std::memcpy(out + from, y + (from - origin), sizeof(float) * (to - from));
    }
    if (l_.mean)
      values_[l_.plane + node] = mean(out);
    else if (l_.destination == TO_OUTPUT && out_end > out_row)
      std::memcpy(output_ + int64_t(node) * out_pixels + int64_t(out_row) * l_.out_width, out + int64_t(out_row) * l_.out_width,
                  sizeof(float) * (out_end - out_row) * l_.out_width);
  }

  void normalise(int node, float* y, int pixels) const {
    const float centre = sum(y, pixels) / pixels;
    const float variance = sum_of_squares(y, pixels, centre) / pixels;
    const float scale = l_.norm_weight_[node] / std::sqrt(variance + l_.eps), shift = l_.norm_bias_[node];
    for (int i = 0; i < pixels; i++) y[i] = (y[i] - centre) * scale + shift;
    if (l_.relu)
      for (int i = 0; i < pixels; i++) y[i] = y[i] < 0 ? 0 : y[i];
  }

  float mean(const float* plane) const {
    const int32_t* w = l_.window;
    const int width = w[3] - w[2];
    if (width == l_.out_width) return sum(plane + int64_t(w[0]) * width, (w[1] - w[0]) * width) / ((w[1] - w[0]) * width);
    float total = 0;
    for (int y = w[0]; y < w[1]; y++) total += sum(plane + int64_t(y) * l_.out_width + w[2], width);
    return total / ((w[1] - w[0]) * width);
  }

  const Level& l_;
  Scratch& scratch_;
  const float* image_;
  float* arena_;
  float* values_;
  float* output_;
};

// A band of nodes of IMAGES images: dot products of dense rows with values; each sum's order is the same for any IMAGES.
template <int IMAGES>
INLINE void dense_band(const Level& l, int node, float* values, int64_t stride) {
  constexpr int N = UNIT / LANES;
  const float* dense = l.dense_.data() + int64_t(node) * l.columns;
  F<LANES> a[BAND][IMAGES] = {};
  for (int c = 0; c < l.columns; c += UNIT, dense += BAND * UNIT)
#pragma GCC unroll 4
    for (int v = 0; v < N; v++) {
      F<LANES> x[IMAGES];
#pragma GCC unroll 4
      for (int i = 0; i < IMAGES; i++) x[i] = load<LANES>(values + l.column_begin + i * stride + c + v * LANES);
#pragma GCC unroll 4
      for (int r = 0; r < BAND; r++) {
        const F<LANES> w = load<LANES>(dense + r * UNIT + v * LANES);
#pragma GCC unroll 4
        for (int i = 0; i < IMAGES; i++) a[r][i] += w * x[i];
      }
    }
#pragma GCC unroll 4
  for (int r = 0; r < BAND; r++)
#pragma GCC unroll 4
    for (int i = 0; i < IMAGES; i++) {
      if (node + r >= l.nodes) continue;
      float total = 0;
      for (int lane = 0; lane < LANES; lane++) total += a[r][i][lane];
      const float v = total + l.bias_[node + r];
      values[i * stride + l.plane + node + r] = l.relu && v < 0 ? 0 : v;
    }
}

void sparse_nodes(const Level& l, int begin, int end, float* values) {
  for (int n = begin; n < end; n++) {
    float a[4] = {};
    int64_t e = l.indptr_[n];
    const int64_t stop = l.indptr_[n + 1];
    for (; e + 4 <= stop; e += 4)
      for (int j = 0; j < 4; j++) a[j] += l.weight_[e + j] * values[l.index_[e + j]];
    for (; e < stop; e++) a[0] += l.weight_[e] * values[l.index_[e]];
    const float v = (a[0] + a[1]) + (a[2] + a[3]) + l.bias_[n];
    values[l.plane + n] = l.relu && v < 0 ? 0 : v;
  }
}

// The nodes of part `part` of `parts`, of all images.
void run_values(const Level& l, int64_t part, int64_t parts, int64_t images, float* values, int64_t stride) {
  const int bands = (l.nodes + BAND - 1) / BAND;
  const int begin = int(bands * part / parts) * BAND, end = int(bands * (part + 1) / parts) * BAND;
  int64_t i = 0;
  if (l.kind == SUM_VALUES_SPARSE) {
    for (; i < images; i++) sparse_nodes(l, begin, std::min(end, l.nodes), values + i * stride);
    return;
  }
  constexpr int NEAR = 8 * BAND;  // rows that stay in the cache while the images pass
  for (int near = begin; near < end; near += NEAR) {
    const int stop = std::min(end, near + NEAR);
    for (i = 0; i + 4 <= images; i += 4)
      for (int n = near; n < stop; n += BAND) dense_band<4>(l, n, values + i * stride, stride);
    for (; i < images; i++)
      for (int n = near; n < stop; n += BAND) dense_band<1>(l, n, values + i * stride, stride);
  }
}

// Memory and threads for one call at a time.
class Workspace {
 public:
  explicit Workspace(const Plan& plan)
      : plan_(plan), arena_(plan.threads), shares_(plan.threads * (plan.levels.size() + 1)), pool_(plan.threads) {
    for (int t = 0; t < plan.threads; t++) scratch_.emplace_back(plan);
  }

  void run(const float* images, int64_t batch, float* out) {
    const int64_t stride = plan_.values;
    if (batch > values_batch_) {
      values_ = Floats(batch * stride + 2 * UNIT);
      values_batch_ = batch;
    }
    const int threads = plan_.threads;
    const int64_t whole = plan_.plane_levels ? batch - batch % threads : batch;
    if (plan_.plane_levels)
      for (int t = 0; t < (whole ? threads : 1); t++) prepare_arena(t);
    whole_.reset(whole);
    for (Parts& parts : shares_) parts.reset(threads);
    pool_.run([&](int t) {
      whole_.take([&](int64_t b) { run_whole(t, images, b, out); });
      for (int64_t b = whole; b < batch; b++) run_shared(t, images, b, out, shares(b - whole));
      Parts* parts = shares(threads - 1);
      for (const Level& l : plan_.levels)
        if (l.kind > SUM_ROWS)
          (parts++)->take([&](int64_t part) { run_values(l, part, threads, batch, values_.get(), stride); });
    });
    if (plan_.output_value < 0) return;
    for (int64_t b = 0; b < batch; b++)
      std::memcpy(out + b * plan_.output_planes, values_.get() + b * stride + plan_.output_value,
                  sizeof(float) * plan_.output_planes);
  }

 private:
  // An image on one thread.
  void run_whole(int t, const float* images, int64_t b, float* out) {
    float* own = arena_[t].get();
    take_input(own, images, b, 0, 1);
    for (const Level& l : plan_.levels)
      if (l.kind <= SUM_ROWS) worker(l, t, own, images, b, out).run(l.schedules[0], 0);
  }

  // An image with every level shared among the threads.
  void run_shared(int t, const float* images, int64_t b, float* out, Parts* parts) {
    float* common = arena_[0].get();
    (parts++)->take([&](int64_t part) { take_input(common, images, b, part, plan_.threads); });
    for (const Level& l : plan_.levels)
      if (l.kind <= SUM_ROWS)
        (parts++)->take([&](int64_t part) { worker(l, t, common, images, b, out).run(l.schedules[1], int(part)); });
  }

  // What the threads share of the i-th image that they share; of the levels over values for i = threads - 1.
  Parts* shares(int64_t i) { return shares_.data() + i * (plan_.levels.size() + 1); }

  void prepare_arena(int t) {
    if (arena_[t].get()) return;
    arena_[t] = Floats(plan_.arena);
    const float* constant = plan_.constant_.data();
    for (int i = 0; i < plan_.constants; i++) {
      std::memcpy(arena_[t].get() + plan_.constant_plane_[i], constant, sizeof(float) * plan_.constant_length_[i]);
      constant += plan_.constant_length_[i];
    }
  }

  // Copies part `part` of `parts` of an image to where its first readers expect it.
  void take_input(float* arena, const float* images, int64_t image, int64_t part, int64_t parts) {
    const int64_t pixels = int64_t(plan_.input_height) * plan_.input_width, planes = plan_.input_planes;
    for (int64_t c = planes * part / parts; c < planes * (part + 1) / parts; c++) {
      const float* from = images + (image * planes + c) * pixels;
      if (plan_.input_plane >= 0)
        std::memcpy(arena + plan_.input_plane + c * plan_.input_stride, from, sizeof(float) * pixels);
      else if (plan_.input_value >= 0)
        values_.get()[image * plan_.values + plan_.input_value + c] = *from;
    }
  }

  Worker worker(const Level& l, int t, float* arena, const float* images, int64_t image, float* out) {
    const int64_t planes = int64_t(plan_.output_planes) * plan_.output_size;
    const int64_t pixels = int64_t(plan_.input_planes) * plan_.input_height * plan_.input_width;
    return Worker(l, scratch_[t], images + image * pixels, arena, values_.get() + image * plan_.values, out + image * planes);
  }

  const Plan& plan_;
  std::vector<Floats> arena_;
  std::vector<Scratch> scratch_;
  Floats values_;
  int64_t values_batch_ = 0;
  Parts whole_;
  std::vector<Parts> shares_;
  Pool pool_;
};

// Workspaces of a plan: calls at the same time take one each. A forked child starts with none, for threads do not survive a fork.
class Engine {
 public:
  Engine(const PlanSpec& spec, const LevelSpec* level, int levels) : plan_(spec, level, levels) { reset(); }
  ~Engine() {
    if (owner_ == getpid()) delete state_;
  }

  void run(const float* images, int64_t batch, float* out) {
    own();
    std::unique_ptr<Workspace> workspace;
    {
      std::lock_guard<std::mutex> lock(state_->mutex);
      if (!state_->idle.empty()) {
        workspace = std::move(state_->idle.back());
        state_->idle.pop_back();
      }
    }
    if (!workspace) workspace = std::make_unique<Workspace>(plan_);
    workspace->run(images, batch, out);
    std::lock_guard<std::mutex> lock(state_->mutex);
    state_->idle.push_back(std::move(workspace));
  }

 private:
  struct State {
    std::mutex mutex;
    std::vector<std::unique_ptr<Workspace>> idle;
  };

  void reset() {
    state_ = new State;
    owner_ = getpid();
  }

  // What the parent of a forked process left, threads and locks, is neither joined nor freed.
  void own() {
    const pid_t me = getpid();
    for (pid_t owner = owner_; owner != me; owner = owner_) {
      if (owner == BUSY)
        std::this_thread::yield();
      else if (owner_.compare_exchange_strong(owner, BUSY))
        reset();
    }
  }

  Plan plan_;
  State* state_ = nullptr;
  static constexpr pid_t BUSY = -1;
  std::atomic<pid_t> owner_{0};
};

}  // namespace

extern "C" {

int wirings_lanes() { return LANES; }
int wirings_max_tile() { return MAX_TILE; }
int wirings_max_shared_tile() { return MAX_SHARED_TILE; }

// A new engine, or null where memory is short.
void* wirings_create(const PlanSpec* plan, const LevelSpec* level, int levels) {
  try {
    return new Engine(*plan, level, levels);
  } catch (const std::exception&) {
    return nullptr;
  }
}

void wirings_destroy(void* engine) { delete static_cast<Engine*>(engine); }

// images: [batch, planes, height, width]; out: [batch, nodes] or [batch, nodes, height, width]. 0, or 1 where memory is short.
int wirings_run(void* engine, const float* images, int64_t batch, float* out) {
  try {
    static_cast<Engine*>(engine)->run(images, batch, out);
    return 0;
  } catch (const std::exception&) {
    return 1;
  }
}

// Multiply-adds in registers, `rounds` times 12 vectors: what one thread of the processor can do at most. The result is
// there to keep the work from vanishing.
float wirings_peak(int64_t rounds) {
  F<LANES> a[12], w = splat<LANES>(0.999f), b = splat<LANES>(0.001f), total{};
  for (int i = 0; i < 12; i++) a[i] = splat<LANES>(float(i));
  for (int64_t r = 0; r < rounds; r++) {
#pragma GCC unroll 12
    for (int i = 0; i < 12; i++) a[i] = a[i] * w + b;
  }
#pragma GCC unroll 12
  for (int i = 0; i < 12; i++) total += a[i];
  return total[0];
}
}
