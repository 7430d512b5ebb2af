// torch's allocator of CPU memory, which keeps large blocks for those who ask next: in a training they are asked for
// again in every step, and the system clears pages that it gives out, which can take longer than the arithmetic on them.
//
// What lives and what is kept is together little more than what has lived at once: beyond that, blocks are given back,
// those first that were freed first.
#include <c10/core/Allocator.h>
#include <c10/core/CPUAllocator.h>
#include <c10/core/impl/alloc_cpu.h>
#include <pthread.h>
#include <sys/mman.h>

#include <algorithm>
#include <cstdint>
#include <list>
#include <map>
#include <mutex>
#include <unordered_map>

namespace {

constexpr size_t PAGE = size_t(1) << 12, HUGE_PAGE = size_t(1) << 21;
// Bytes from which blocks are kept, and those from which they are of huge pages.
constexpr size_t LARGE = size_t(1) << 20, HUGE_BLOCK = 8 * HUGE_PAGE;
// Numbers of a block begin at one of so many lines of its first page: were it the same line of a page in all blocks,
// then what is read from one would wait for what was just written to another.
constexpr size_t LINE = 64, LINES = PAGE / LINE, NEXT_LINE = 17;
// What lives and what is kept is at most this part more than what has lived at once.
constexpr size_t MORE = 8;

size_t round_up(size_t n, size_t unit) { return (n + unit - 1) / unit * unit; }

// From the system; null where it has none. Of huge pages, where there are some.
char* map_block(size_t size) {
  const size_t unit = size >= HUGE_BLOCK ? HUGE_PAGE : PAGE, more = unit == PAGE ? 0 : unit;
  void* mapped = mmap(nullptr, size + more, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (mapped == MAP_FAILED) return nullptr;
  char* start = static_cast<char*>(mapped);
  if (!more) return start;
  char* block = reinterpret_cast<char*>(round_up(reinterpret_cast<uintptr_t>(start), unit));
  if (block > start) munmap(start, block - start);
  if (start + more > block) munmap(block + size, start + more - block);
  madvise(block, size, MADV_HUGEPAGE);
  return block;
}

struct Block {
  char* start;
  size_t size;
};

class Blocks {
 public:
  // Room for n bytes; null where the system has none.
  char* take(size_t n) {
    const size_t size = round_up(n + PAGE, n >= HUGE_BLOCK ? HUGE_PAGE : PAGE);
    const std::lock_guard<std::mutex> guard(lock_);
    char* data = reuse(size);
    if (!data) {
      const size_t most = most_ + most_ / MORE;
      give_back(most > alive_ + size ? most - alive_ - size : 0);
      char* start = map_block(size);
      if (!start && kept_) {
        give_back(0);
        start = map_block(size);
      }
      if (!start) return nullptr;
      data = start + mapped_++ * NEXT_LINE % LINES * LINE;
      blocks_[data] = {start, size};
    }
    alive_ += blocks_[data].size;
    most_ = std::max(most_, alive_);
    return data;
  }

  // Keeps the block of some data, unless it is of others; whether it was of these.
  bool free(char* data) {
    const std::lock_guard<std::mutex> guard(lock_);
    const auto found = blocks_.find(data);
    if (found == blocks_.end()) return false;
    const size_t size = found->second.size;
    alive_ -= size;
    kept_ += size;
    by_size_.emplace(size, data);
    by_age_.push_back(data);
    ages_[data] = std::prev(by_age_.end());
    if (!keeping_) give_back(0);
    return true;
  }

  // From now on blocks are kept, or else all that nobody uses goes back to the system.
  void keep(bool keeping) {
    const std::lock_guard<std::mutex> guard(lock_);
    keeping_ = keeping;
    if (!keeping) give_back(0);
    most_ = alive_;
  }

  bool keeping() {
    const std::lock_guard<std::mutex> guard(lock_);
    return keeping_;
  }

  size_t kept() {
    const std::lock_guard<std::mutex> guard(lock_);
    return kept_;
  }

  size_t alive() {
    const std::lock_guard<std::mutex> guard(lock_);
    return alive_;
  }

  std::mutex& lock() { return lock_; }

 private:
  // Of the kept blocks the smallest that is large enough and not much larger.
  char* reuse(size_t size) {
    const auto found = by_size_.lower_bound(size);
    if (found == by_size_.end() || found->first > size + size / 8) return nullptr;
    char* data = found->second;
    by_size_.erase(found);
    no_longer_kept(data);
    return data;
  }

  // Gives blocks back to the system until at most so many bytes are kept.
  void give_back(size_t at_most) {
    while (kept_ > at_most) {
      char* data = by_age_.front();
      const Block block = blocks_[data];
      const auto [first, last] = by_size_.equal_range(block.size);
      by_size_.erase(std::find_if(first, last, [&](const auto& one) { return one.second == data; }));
      no_longer_kept(data);
      blocks_.erase(data);
      munmap(block.start, block.size);
    }
  }

  void no_longer_kept(char* data) {
    kept_ -= blocks_[data].size;
    by_age_.erase(ages_[data]);
    ages_.erase(data);
  }

  std::mutex lock_;
  std::unordered_map<char*, Block> blocks_;  // all, by where their data begin
  std::multimap<size_t, char*> by_size_;     // of those that are kept, as are the next two
  std::list<char*> by_age_;                  // those first that were freed first
  std::unordered_map<char*, std::list<char*>::iterator> ages_;
  size_t alive_ = 0, kept_ = 0, most_ = 0;  // bytes
  size_t mapped_ = 0;
  bool keeping_ = false;
};

// Never destroyed: tensors may outlive all else at the end of the process.
Blocks& blocks() {
  static Blocks* const all = new Blocks;
  return *all;
}

void deallocate(void* data) {
  if (!data) return;
  c10::profiledCPUMemoryReporter().Delete(data);
  if (!blocks().free(static_cast<char*>(data))) c10::free_cpu(data);
}

class KeepingAllocator final : public c10::Allocator {
 public:
  c10::DataPtr allocate(size_t n) override {
    void* data = n >= LARGE ? blocks().take(n) : nullptr;
    if (!data) data = c10::alloc_cpu(n);  // which says so where there is no memory
    if (data) c10::profiledCPUMemoryReporter().New(data, n);
    return {data, data, &deallocate, c10::Device(c10::DeviceType::CPU)};
  }
  c10::DeleterFnPtr raw_deleter() const override { return &deallocate; }
  void copy_data(void* to, const void* from, size_t n) const override { default_copy_data(to, from, n); }
};

}  // namespace

extern "C" {

// Lets torch's CPU memory be allocated here from now on, or else by its own allocator. What was allocated otherwise is
// freed as it was allocated.
void wirings_keep_memory(int keep) {
  static KeepingAllocator* const keeping = [] {
    pthread_atfork([] { blocks().lock().lock(); }, [] { blocks().lock().unlock(); }, [] { blocks().lock().unlock(); });
    return new KeepingAllocator;
  }();
  blocks().keep(keep);
  c10::SetCPUAllocator(keep ? keeping : c10::GetDefaultCPUAllocator(), 1);
}

int wirings_keeps_memory() { return blocks().keeping(); }

// Bytes that are kept and that nobody uses.
int64_t wirings_kept_bytes() { return static_cast<int64_t>(blocks().kept()); }

// Bytes of the blocks that are in use.
int64_t wirings_used_bytes() { return static_cast<int64_t>(blocks().alive()); }
}
