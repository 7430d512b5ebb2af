// Runs a channel graph on the CPU: every node sums its edges over planes, then applies its own operations. In fp32 or,
// compiled with WIRINGS_HALF, in half precision (numbers.h).
//
// The plan (models/sparse/plan.py) says where each plane lies, in which order edges are summed, and who computes what.
// Planes are contiguous, rows without gaps, so that a sum knows nothing of rows. A tile of a node's plane stays in
// registers while the node's edges of one block of sources stream past; nodes with equally many edges follow one
// another, so that the processor predicts their number. Rows matter in the depthwise convolution only.
//
// One translation unit: everything but the exported functions has internal linkage, so that the compiler may inline
// it, and libraries built with other flags share nothing with this one.

#include <cstdint>
#include <exception>
#include <string>

#include "evaluation/engine.h"
#include "evaluation/plan_spec.h"
#include "evaluation/stopwatch.h"
#include "evaluation/sums.h"
#include "vectors.h"

extern "C" {

int wirings_lanes() { return LANES; }
int wirings_computes_in_half() { return sizeof(Lane) == 2; }
int wirings_max_tile() { return MAX_TILE; }
int wirings_max_shared_tile() { return MAX_SHARED_TILE; }

// The structs and constants of plan_spec.h, as layout.h describes them.
const char* wirings_layout() {
  static const std::string text = plan_layout();
  return text.c_str();
}

// A new engine, or null where memory is short.
void* wirings_create(const PlanSpec* plan, const LevelSpec* level, int levels) {
  try {
    return new Engine(*plan, level, levels);
  } catch (const std::exception&) {
    return nullptr;
  }
}

void wirings_destroy(void* engine) { delete static_cast<Engine*>(engine); }

// images: [batch, planes, height, width]; out: [batch, nodes] or [batch, nodes, height, width]. Gives 0, 1 where
// memory is short, or 2 where a number of a plane was beyond half precision. Where `seconds` [levels + 1, PHASES] is
// not null, the processor time of all threads is added to it by level and phase; level 0 is the image.
int wirings_run(void* engine, const float* images, int64_t batch, float* out, double* seconds) {
  try {
    return static_cast<Engine*>(engine)->run(images, batch, out, seconds) ? 0 : 2;
  } catch (const std::exception&) {
    return 1;
  }
}

// Multiply-adds in registers, `rounds` times 12 vectors: what one thread of the processor can do at most. The result is
// there to keep the work from vanishing.
float wirings_peak(int64_t rounds) {
  F<LANES> a[12], w = splat<LANES>(Lane(0.999f)), b = splat<LANES>(Lane(0.001f)), total{};
  for (int i = 0; i < 12; i++) a[i] = splat<LANES>(Lane(i));
  for (int64_t r = 0; r < rounds; r++) {
#pragma GCC unroll 12
    for (int i = 0; i < 12; i++) a[i] = a[i] * w + b;
  }
#pragma GCC unroll 12
  for (int i = 0; i < 12; i++) total += a[i];
  return total[0];
}
}
