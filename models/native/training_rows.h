// Rows of planes: which are 0, and products of the others alone.
#pragma once

#include <algorithm>
#include <cstring>

#include "lanes.h"

namespace training {

using Bfloat16 = uint16_t;  // its bits: compilers that know such numbers are recent

// The nearest number, and of two that are as near the even one.
inline void assign(float x, Bfloat16& y) {
  constexpr uint32_t BELOW_HALF = 0x7fff, QUIET = 0x7fc0;
  uint32_t bits;
  std::memcpy(&bits, &x, sizeof bits);
  y = x == x ? (bits + BELOW_HALF + (bits >> 16 & 1)) >> 16 : QUIET;
}
template <typename T>
inline void assign(T x, T& y) {
  y = x;
}

// Which rows of planes are 0 throughout.
template <typename T>
void zero_rows(const T* planes, int64_t stride, int64_t rows, int64_t positions, uint8_t* zero, int threads) {
#pragma omp parallel for schedule(static) num_threads(threads)
  for (int64_t row = 0; row < rows; row++) zero[row] = lanes::all_zero(planes + row * stride, positions);
}

constexpr int64_t REGIONS = 9;

// Planes of height * width places, each of `images` numbers, and the REGIONS of their places: the corners, the sides and the
// places between, by whether the row is the first (0), the last (2) or another (1), and the column likewise. A single one is
// the first.
struct Regions {
  int64_t height, width, images;

  // Adds the numbers from `first` to `last` of a plane to the sums of the regions that they lie in.
  template <typename T>
  void sum(const T* plane, int64_t first, int64_t last, T* sums) const {
    const int64_t run = width * images;
    for (int64_t y = first / run; y * run < last; y++) {
      T* const of_row = sums + 3 * region(y, height);
      const int64_t bounds[4] = {y * run, y * run + images, std::max(y * run + images, (y + 1) * run - images), (y + 1) * run};
      for (int column = 0; column < 3; column++) {
        const int64_t from = std::max(first, bounds[column]), to = std::min(last, bounds[column + 1]);
        if (from < to) of_row[column] += lanes::sum(plane + from, to - from);
      }
    }
  }

  static int64_t region(int64_t i, int64_t count) { return i == 0 ? 0 : i == count - 1 ? 2 : 1; }
};

// The numbers from `first` to `last` of the rows of planes that `index` names, close together in `copies`; and, where there
// are `sums`, REGIONS for each row, what lies in each of the regions is added to them, and not rounded.
template <typename T, typename Copy>
void copy_rows(const T* planes, int64_t stride, const int64_t* index, int64_t count, int64_t first, int64_t last,
               const Regions& regions, Copy* copies, T* sums, int threads) {
#pragma omp parallel for schedule(static) num_threads(threads)
  for (int64_t row = 0; row < count; row++) {
    const T* from = planes + index[row] * stride;
    Copy* const copy = copies + row * (last - first);
    for (int64_t i = first; i < last; i++) assign(from[i], copy[i - first]);
    if (sums) regions.sum(from, first, last, sums + REGIONS * row);
  }
}

// Puts values [height][width] where these rows and columns of a matrix meet.
template <typename T>
void place(const T* values, T* matrix, int64_t stride, const int64_t* rows, const int64_t* columns, int64_t height,
           int64_t width, int threads) {
#pragma omp parallel for schedule(static) num_threads(threads)
  for (int64_t i = 0; i < height; i++) {
    T* const row = matrix + rows[i] * stride;
    for (int64_t k = 0; k < width; k++) row[columns[k]] = values[i * width + k];
  }
}

}  // namespace training
