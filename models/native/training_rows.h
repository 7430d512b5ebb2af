// Rows of planes: which are 0, and products of the others alone.
#pragma once

#include <algorithm>

#include "lanes.h"

namespace training {

// Which rows of planes are 0 throughout.
template <typename T>
void zero_rows(const T* planes, int64_t stride, int64_t rows, int64_t positions, uint8_t* zero, int threads) {
#pragma omp parallel for schedule(static) num_threads(threads)
  for (int64_t row = 0; row < rows; row++) zero[row] = lanes::all_zero(planes + row * stride, positions);
}

// The rows of planes that `index` names, close together in `copies`; and, where there are `images`, the sums of every
// `images` neighbours of them.
template <typename T>
void copy_rows(const T* planes, int64_t stride, const int64_t* index, int64_t count, int64_t positions, int64_t images,
               T* copies, T* sums, int threads) {
  const int64_t places = images ? positions / images : 0;
#pragma omp parallel for schedule(static) num_threads(threads)
  for (int64_t row = 0; row < count; row++) {
    const T* from = planes + index[row] * stride;
    std::copy_n(from, positions, copies + row * positions);
    for (int64_t place = 0; place < places; place++) sums[row * places + place] = lanes::sum(from + place * images, images);
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
