// Where the time goes: by level and phase. Without a stopwatch, a run pays one test a tile of a level.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <vector>

namespace {

// Making copies of sources (of the image, for level 0); summing edges; the nodes' own operations.
enum Phase : int32_t { COPIES, SUMS, NODES, PHASES };

class alignas(64) Stopwatch {  // of one thread, on cache lines of its own
 public:
  explicit Stopwatch(size_t levels) : seconds_(levels * PHASES) {}

  void begin(size_t level) {
    level_ = level;
    last_ = Clock::now();
  }
  // What has passed since the last call of begin or lap was this phase of the level.
  void lap(Phase phase) {
    const Clock::time_point now = Clock::now();
    seconds_[level_ * PHASES + phase] += std::chrono::duration<double>(now - last_).count();
    last_ = now;
  }
  const std::vector<double>& seconds() const { return seconds_; }

 private:
  using Clock = std::chrono::steady_clock;
  std::vector<double> seconds_;
  size_t level_ = 0;
  Clock::time_point last_;
};

inline void begin(Stopwatch* watch, size_t level) {
  if (watch) watch->begin(level);
}
inline void lap(Stopwatch* watch, Phase phase) {
  if (watch) watch->lap(phase);
}

}  // namespace
