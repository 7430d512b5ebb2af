// A pool of threads, and parts of a job that its threads take as they come.
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <mutex>
#include <thread>
#include <vector>

#include "vectors.h"

namespace {

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

}  // namespace
