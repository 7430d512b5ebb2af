// Runs a plan on a batch of images, on several threads.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <cstring>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

#include <unistd.h>

#include "../memory.h"
#include "../threads.h"
#include "plan.h"
#include "planes.h"
#include "stopwatch.h"
#include "values.h"

namespace {

// Memory and threads for one call at a time.
class Workspace {
 public:
  explicit Workspace(const Plan& plan)
      : plan_(plan), arena_(plan.threads), shares_(plan.threads * (plan.levels.size() + 1)), pool_(plan.threads) {
    for (int t = 0; t < plan.threads; t++) scratch_.emplace_back(plan);
  }

  // Whether all numbers of planes were within the range of half precision; floats are not watched.
  bool run(const float* images, int64_t batch, float* out) {
    for (Scratch& scratch : scratch_) scratch.beyond = false;
    const int64_t stride = plan_.values;
    if (batch > values_batch_) {
      values_ = Buffer<float>(batch * stride + 2 * UNIT);
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
          (parts++)->take([&](int64_t part) {
            begin(watch(t), number(l));
            run_values(l, part, threads, batch, values_.get(), stride);
            lap(watch(t), SUMS);
          });
    });
    for (int64_t b = 0; plan_.output_value >= 0 && b < batch; b++)
      std::memcpy(out + b * plan_.output_planes, values_.get() + b * stride + plan_.output_value,
                  sizeof(float) * plan_.output_planes);
    return std::none_of(scratch_.begin(), scratch_.end(), [](const Scratch& scratch) { return scratch.beyond; });
  }

  // The same; adds the seconds of all threads to seconds[level][phase], where level 0 is the image.
  bool time(const float* images, int64_t batch, float* out, double* seconds) {
    watches_.assign(plan_.threads, Stopwatch(plan_.levels.size() + 1));
    const bool within = run(images, batch, out);
    for (const Stopwatch& watch : watches_)
      for (size_t i = 0; i < watch.seconds().size(); i++) seconds[i] += watch.seconds()[i];
    watches_.clear();
    return within;
  }

 private:
  Stopwatch* watch(int t) { return watches_.empty() ? nullptr : &watches_[t]; }
  size_t number(const Level& l) const { return &l - plan_.levels.data() + 1; }

  // An image on one thread.
  void run_whole(int t, const float* images, int64_t b, float* out) {
    Number* own = arena_[t].get();
    take_input(t, own, images, b, 0, 1);
    for (const Level& l : plan_.levels)
      if (l.kind <= SUM_ROWS) worker(l, t, own, images, b, out).run(l.schedules[0], 0);
  }

  // An image with every level shared among the threads.
  void run_shared(int t, const float* images, int64_t b, float* out, Parts* parts) {
    Number* common = arena_[0].get();
    (parts++)->take([&](int64_t part) { take_input(t, common, images, b, part, plan_.threads); });
    for (const Level& l : plan_.levels)
      if (l.kind <= SUM_ROWS)
        (parts++)->take([&](int64_t part) { worker(l, t, common, images, b, out).run(l.schedules[1], int(part)); });
  }

  // What the threads share of the i-th image that they share; of the levels over values for i = threads - 1.
  Parts* shares(int64_t i) { return shares_.data() + i * (plan_.levels.size() + 1); }

  void prepare_arena(int t) {
    if (arena_[t].get()) return;
    arena_[t] = Buffer<Number>(plan_.arena);
    const float* constant = plan_.constant_.data();
    for (int i = 0; i < plan_.constants; i++) {
      copy_numbers(constant, plan_.constant_length_[i], arena_[t].get() + plan_.constant_plane_[i]);
      constant += plan_.constant_length_[i];
    }
  }

  // Copies part `part` of `parts` of an image to where its first readers expect it.
  void take_input(int t, Number* arena, const float* images, int64_t image, int64_t part, int64_t parts) {
    begin(watch(t), 0);
    const int64_t pixels = int64_t(plan_.input_height) * plan_.input_width, planes = plan_.input_planes;
    for (int64_t c = planes * part / parts; c < planes * (part + 1) / parts; c++) {
      const float* from = images + (image * planes + c) * pixels;
      if (plan_.input_plane >= 0) {
        Number* const plane = arena + plan_.input_plane + c * plan_.input_stride;
        copy_numbers(from, pixels, plane);
        if (HALF && any_beyond(plane, pixels)) scratch_[t].beyond = true;
      } else if (plan_.input_value >= 0) {
        values_.get()[image * plan_.values + plan_.input_value + c] = *from;
      }
    }
    lap(watch(t), COPIES);
  }

  Worker worker(const Level& l, int t, Number* arena, const float* images, int64_t image, float* out) {
    begin(watch(t), number(l));
    const int64_t planes = int64_t(plan_.output_planes) * plan_.output_size;
    const int64_t pixels = int64_t(plan_.input_planes) * plan_.input_height * plan_.input_width;
    return Worker(l, scratch_[t], as_planes(images + image * pixels), arena, values_.get() + image * plan_.values,
                  out + image * planes, watch(t));
  }

  const Plan& plan_;
  std::vector<Buffer<Number>> arena_;
  std::vector<Scratch> scratch_;
  std::vector<Stopwatch> watches_;  // none, unless somebody wants to know
  Buffer<float> values_;
  int64_t values_batch_ = 0;
  Parts whole_;
  std::vector<Parts> shares_;
  Pool pool_;
};

// Workspaces of a plan: calls at the same time take one each. A forked child starts with none, for threads do not
// survive a fork.
class Engine {
 public:
  Engine(const PlanSpec& spec, const LevelSpec* level, int levels) : plan_(spec, level, levels) { reset(); }
  ~Engine() {
    if (owner_ == getpid()) delete state_;
  }

  // What Workspace::run gives; where `seconds` is given, adds to it what Workspace::time says.
  bool run(const float* images, int64_t batch, float* out, double* seconds = nullptr) {
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
    const bool within = seconds ? workspace->time(images, batch, out, seconds) : workspace->run(images, batch, out);
    std::lock_guard<std::mutex> lock(state_->mutex);
    state_->idle.push_back(std::move(workspace));
    return within;
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
