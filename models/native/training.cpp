// Training at the cost of the edges that act: what models/native/training.py calls.

#include <string>

#include "layout.h"
#include "selection.h"
#include "training_gradient.h"
#include "training_products.h"
#include "training_rows.h"
#include "training_sums.h"

namespace {

using training::EdgeList;
using training::Node;
using training::Term;

// planes[channel][place][image] from images[image][channel][place] with these distances, or back.
template <typename T, bool IN>
void transpose(T* planes, int64_t row, T* images, int64_t image_stride, int64_t channel_stride, int64_t place_stride,
               int64_t channels, int64_t places, int64_t count, int threads) {
  // few images and a run of neighbouring numbers of each at a time, so that few pages of memory are gone to and fro between
  constexpr int64_t SIDE = 16, NEIGHBOURS = 512;
  const bool by_place = place_stride == 1;
  const int64_t inner = by_place ? places : channels, outer = by_place ? channels : places;
  const int64_t step = by_place ? place_stride : channel_stride, outer_step = by_place ? channel_stride : place_stride;
  const int64_t plane_step = by_place ? count : row, outer_plane_step = by_place ? row : count;
  const int64_t length = std::max<int64_t>(1, NEIGHBOURS / inner), runs = (outer + length - 1) / length;
  const int64_t groups = (count + SIDE - 1) / SIDE;
#pragma omp parallel for schedule(static) num_threads(threads)
  for (int64_t item = 0; item < runs * groups; item++) {
    const int64_t n0 = item % groups * SIDE, here = std::min(SIDE, count - n0);
    const int64_t start = item / groups * length, stop = std::min(outer, start + length);
    for (int64_t o = start; o < stop; o++)
      for (int64_t first = 0; first < inner; first += SIDE) {
        const int64_t wide = std::min(SIDE, inner - first);
        T* const rows = planes + o * outer_plane_step + first * plane_step + n0;
        T* const pixels = images + n0 * image_stride + o * outer_step + first * step;
        // through a tile of their own, for images lie powers of two apart and would push one another out of the cache
        T tile[SIDE][SIDE];
        if (IN) {
          for (int64_t n = 0; n < here; n++)
            for (int64_t i = 0; i < wide; i++) tile[i][n] = pixels[n * image_stride + i * step];
          for (int64_t i = 0; i < wide; i++) std::copy_n(tile[i], here, rows + i * plane_step);
        } else {
          for (int64_t i = 0; i < wide; i++)
            for (int64_t n = 0; n < here; n++) tile[n][i] = rows[i * plane_step + n];
          for (int64_t n = 0; n < here; n++)
            for (int64_t i = 0; i < wide; i++) pixels[n * image_stride + i * step] = tile[n][i];
        }
      }
  }
}

// The structs that Python fills in, of floats; those of doubles differ in what their pointers point to.
std::string training_layout() {
  using EdgeList = training::EdgeList<float>;
  using Node = training::Node<float>;
  using Term = training::Term<float>;
  using namespace training;
  Layout layout;
  LAYOUT_CONSTANTS(layout, ROW_UNIT, NO_NORM, BATCH_NORM, INSTANCE_NORM, FIXED_NORM)
  LAYOUT_STRUCT(layout, EdgeList, nodes, sources, block, blocks, begin, source, weight);
  LAYOUT_STRUCT(layout, Term, edges, planes, stride, first);
  LAYOUT_STRUCT(layout, Node, channels, images, height, width, stride, input_stride, output_stride, norm, relu, threads,
                accumulate, epsilon, input, gamma, beta, kernel, output, mean, deviation, variance, gradient, to_input,
                to_gamma, to_beta, to_kernel);
  return layout.text();
}

}  // namespace

extern "C" const char* wirings_layout() {
  static const std::string text = training_layout();
  return text.c_str();
}

#define EXPORT(T, NAME)                                                                                              \
  extern "C" int wirings_node_forward_##NAME(const Node<T>* node) { return training::run_node(*node, false); }       \
  extern "C" int wirings_node_backward_##NAME(const Node<T>* node) { return training::run_node(*node, true); }       \
  extern "C" int64_t wirings_count_edges_##NAME(const T* weight, int64_t nodes, int64_t sources, int64_t stride,     \
                                                int64_t near, int64_t wanted, int32_t* begin, int64_t* block,        \
                                                int marked, int threads) {                                           \
    return training::count_edges(weight, nodes, sources, stride, near, wanted, begin, block, marked, threads);       \
  }                                                                                                                  \
  extern "C" void wirings_list_edges_##NAME(const T* weight, int64_t nodes, int64_t sources, int64_t stride,         \
                                            int64_t block, const int32_t* begin, int32_t* source, T* value,          \
                                            int marked, int threads) {                                               \
    training::list_edges(weight, nodes, sources, stride, block, begin, source, value, marked, threads);              \
  }                                                                                                                  \
  extern "C" void wirings_turn_edges_##NAME(const EdgeList<T>* edges, int64_t sources, int64_t block,                \
                                            int32_t* begin, int32_t* node, T* value) {                               \
    training::turn_edges(*edges, sources, block, begin, node, value);                                                \
  }                                                                                                                  \
  extern "C" int wirings_sum_over_edges_##NAME(const Term<T>* terms, int64_t count, int64_t nodes,                   \
                                               int64_t positions, T* sums, int64_t sum_stride, int accumulate,       \
                                               int threads) {                                                        \
    return training::sum_over_edges(terms, count, nodes, positions, sums, sum_stride, accumulate != 0, threads);     \
  }                                                                                                                  \
  extern "C" int wirings_product_at_edges_##NAME(const EdgeList<T>* edges, const T* gradient, int64_t gradient_stride, \
                                                 const T* planes, int64_t stride, int64_t positions, T* matrix,        \
                                                 int64_t matrix_stride, int threads) {                                 \
    return training::product_at_edges(*edges, gradient, gradient_stride, planes, stride, positions, matrix,             \
                                      matrix_stride, threads);                                                          \
  }                                                                                                                    \
  extern "C" int wirings_keep_largest_##NAME(const T* weight, int64_t n, int64_t k, T low, T high, uint8_t* mask,     \
                                             int threads) {                                                          \
    return training::keep_largest(weight, n, k, low, high, mask, threads);                                           \
  }                                                                                                                  \
  extern "C" void wirings_zero_rows_##NAME(const T* planes, int64_t stride, int64_t rows, int64_t positions,          \
                                           uint8_t* zero, int threads) {                                             \
    training::zero_rows(planes, stride, rows, positions, zero, threads);                                             \
  }                                                                                                                  \
  extern "C" void wirings_copy_rows_##NAME(const T* planes, int64_t stride, const int64_t* index, int64_t count,      \
                                           int64_t positions, int64_t images, T* copies, T* sums, int threads) {     \
    training::copy_rows(planes, stride, index, count, positions, images, copies, sums, threads);                     \
  }                                                                                                                  \
  extern "C" void wirings_place_##NAME(const T* values, T* matrix, int64_t stride, const int64_t* rows,               \
                                       const int64_t* columns, int64_t height, int64_t width, int threads) {         \
    training::place(values, matrix, stride, rows, columns, height, width, threads);                                  \
  }                                                                                                                  \
  extern "C" void wirings_to_planes_##NAME(T* planes, int64_t row, T* images, int64_t image_stride,                  \
                                           int64_t channel_stride, int64_t place_stride, int64_t channels,           \
                                           int64_t places, int64_t count, int threads) {                             \
    transpose<T, true>(planes, row, images, image_stride, channel_stride, place_stride, channels, places, count,     \
                       threads);                                                                                     \
  }                                                                                                                  \
  extern "C" void wirings_from_planes_##NAME(T* planes, int64_t row, T* images, int64_t image_stride,                \
                                             int64_t channel_stride, int64_t place_stride, int64_t channels,         \
                                             int64_t places, int64_t count, int threads) {                           \
    transpose<T, false>(planes, row, images, image_stride, channel_stride, place_stride, channels, places, count,    \
                        threads);                                                                                    \
  }

EXPORT(float, float)
EXPORT(double, double)
