// Which of many numbers are largest in magnitude, in two passes over them.
#pragma once

#include <omp.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <new>
#include <vector>

#include "lanes.h"

namespace training {

constexpr int64_t SELECTION_STRIP = 4096;  // numbers that are looked at twice while they are near

// How many magnitudes lie above `high`, and those from `low` to `high`. False where one is not a number.
template <typename T>
bool tally(const T* weight, int64_t n, T low, T high, int64_t& above, std::vector<T>& between) {
  T found[SELECTION_STRIP];
  int64_t larger = 0, odd = 0;
  for (int64_t start = 0; start < n; start += SELECTION_STRIP) {
    const T* strip = weight + start;
    const int64_t count = std::min(SELECTION_STRIP, n - start);
    for (int64_t i = 0; i < count; i++) {
      larger += std::abs(strip[i]) > high;
      odd += strip[i] != strip[i];
    }
    int64_t taken = 0;
    for (int64_t i = 0; i < count; i++) {
      const T magnitude = std::abs(strip[i]);
      found[taken] = magnitude;
      taken += (magnitude >= low) & (magnitude <= high);
    }
    between.insert(between.end(), found, found + taken);
  }
  above = larger;
  return odd == 0;
}

// mask[i]: whether |weight[i]| is among the k largest; of equal ones those of lower index are. `low` and `high` are a guess
// of what the k-th largest lies between. False where it does not, or where a weight is not a number; the mask is undefined
// then.
template <typename T>
bool keep_largest(const T* weight, int64_t n, int64_t k, T low, T high, uint8_t* mask, int threads) {
  std::vector<int64_t> above(threads);
  std::vector<std::vector<T>> between(threads);
  bool sound = true;
#pragma omp parallel for schedule(static) num_threads(threads) reduction(&& : sound)
  for (int part = 0; part < threads; part++) {
    const int64_t first = n * part / threads, last = n * (part + 1) / threads;
    try {
      sound = tally(weight + first, last - first, low, high, above[part], between[part]) && sound;
    } catch (const std::bad_alloc&) {
      sound = false;
    }
  }
  if (!sound) return false;
  int64_t rank = k;  // of the k-th largest among those between
  std::vector<T> near = std::move(between[0]);
  for (int part = 0; part < threads; part++) rank -= above[part];
  for (int part = 1; part < threads; part++) near.insert(near.end(), between[part].begin(), between[part].end());
  if (rank < 1 || rank > static_cast<int64_t>(near.size())) return false;
  std::nth_element(near.begin(), near.begin() + (rank - 1), near.end(), std::greater<T>());
  const T threshold = near[rank - 1];
  const int64_t larger = std::count_if(near.begin(), near.end(), [&](T value) { return value > threshold; });
  const int64_t equal = std::count(near.begin(), near.end(), threshold);
  int64_t spare = rank - larger;  // of the equal ones, so many are kept
  const bool all = spare == equal;
#pragma omp parallel for schedule(static) num_threads(threads)
  for (int64_t strip = 0; strip < n; strip += SELECTION_STRIP) {
    const int64_t end = std::min(n, strip + SELECTION_STRIP);
    if (all)
      for (int64_t i = strip; i < end; i++) mask[i] = std::abs(weight[i]) >= threshold;
    else
      for (int64_t i = strip; i < end; i++) mask[i] = std::abs(weight[i]) > threshold;
  }
  for (int64_t i = 0; !all && spare > 0; i++)
    if (std::abs(weight[i]) == threshold) {
      mask[i] = 1;
      spare--;
    }
  return true;
}

}  // namespace training
