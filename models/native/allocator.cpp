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
#include <new>
#include <unordered_map>
#include <utility>

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

// What notes a block that is kept is made with it, and lies in the block while it is in use: to free needs no memory.
using BySize = std::multimap<size_t, char*>;
using ByAge = std::list<char*>;
struct Block {
  char* start;
  size_t size;
  ByAge::iterator place;
  BySize::node_type sized;  // empty while it is kept
};

class Blocks {
 public:
  // Room for n bytes; null where the system has none.
  char* take(size_t n) {
    const size_t size = round_up(n + PAGE, PAGE);
    const std::lock_guard<std::mutex> guard(lock_);
    char* data = reuse(size);
    if (!data) data = add(size);
    if (!data) return nullptr;
    alive_ += blocks_.at(data).size;
    most_ = std::max(most_, alive_);
    return data;
  }

  // Keeps the block of some data, unless it is of others; whether it was of these.
  bool free(char* data) {
    const std::lock_guard<std::mutex> guard(lock_);
    const auto found = blocks_.find(data);
    if (found == blocks_.end()) return false;
    Block& block = found->second;
    alive_ -= block.size;
    kept_ += block.size;
    by_size_.insert(std::move(block.sized));
    by_age_.splice(by_age_.end(), used_, block.place);
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

  // Gives all that is kept back to the system; whether there was something.
  bool give_all_back() {
    const std::lock_guard<std::mutex> guard(lock_);
    const bool some = kept_ > 0;
    give_back(0);
    return some;
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
    Block& block = blocks_.at(data);
    block.sized = by_size_.extract(found);
    used_.splice(used_.end(), by_age_, block.place);
    kept_ -= block.size;
    return data;
  }

  // A new block; null where the system has none.
  char* add(size_t size) {
    const size_t most = most_ + most_ / MORE;
    give_back(most > alive_ + size ? most - alive_ - size : 0);
    char* start = map_block(size);
    if (!start && kept_) {
      give_back(0);
      start = map_block(size);
    }
    if (!start) return nullptr;
    char* data = start + mapped_++ * NEXT_LINE % LINES * LINE;
    try {
      BySize sized{{size, data}};
      ByAge place{data};
      blocks_.emplace(data, Block{start, size, place.begin(), sized.extract(sized.begin())});
      used_.splice(used_.end(), place);
    } catch (const std::bad_alloc&) {
      munmap(start, size);
      return nullptr;
    }
    return data;
  }

  // Gives blocks back to the system until at most so many bytes are kept.
  void give_back(size_t at_most) {
    while (kept_ > at_most) {
      const auto found = blocks_.find(by_age_.front());
      const auto [start, size] = std::pair(found->second.start, found->second.size);
      const auto [first, last] = by_size_.equal_range(size);
      by_size_.erase(std::find_if(first, last, [&](const auto& one) { return one.second == found->first; }));
      by_age_.pop_front();
      blocks_.erase(found);
      kept_ -= size;
      munmap(start, size);
    }
  }

  std::mutex lock_;
  std::unordered_map<char*, Block> blocks_;  // all, by where their data begin
  BySize by_size_;                           // of those that are kept
  ByAge by_age_, used_;                      // those that are kept, the one first that was freed first; the others
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

// From torch's own allocator, which says so where there is no memory, also after all that is kept was given back.
void* allocate_elsewhere(size_t n) {
  try {
    return c10::alloc_cpu(n);
  } catch (const c10::Error&) {
    if (!blocks().give_all_back()) throw;
  }
  return c10::alloc_cpu(n);
}

class KeepingAllocator final : public c10::Allocator {
 public:
  c10::DataPtr allocate(size_t n) override {
    void* data = n >= LARGE && n <= PTRDIFF_MAX ? blocks().take(n) : nullptr;
    if (!data) data = allocate_elsewhere(n);
    if (data) c10::profiledCPUMemoryReporter().New(data, n);
    return {data, data, &deallocate, c10::Device(c10::DeviceType::CPU)};
  }
  c10::DeleterFnPtr raw_deleter() const override { return &deallocate; }
  void copy_data(void* to, const void* from, size_t n) const override { default_copy_data(to, from, n); }
};

}  // namespace

extern "C" {

// Lets torch's CPU memory be allocated here from now on, or else as it was before. What was allocated otherwise is freed
// as it was allocated. Whether it is so from now on: another allocator may have precedence.
int wirings_keep_memory(int keep) {
  static KeepingAllocator* const keeping = [] {
    pthread_atfork([] { blocks().lock().lock(); }, [] { blocks().lock().unlock(); }, [] { blocks().lock().unlock(); });
    return new KeepingAllocator;
  }();
  static c10::Allocator* before = nullptr;
  c10::Allocator* const now = c10::GetCPUAllocator();
  if (keep && now != keeping) {
    before = now;
    c10::SetCPUAllocator(keeping);
  } else if (!keep && now == keeping) {
    c10::SetCPUAllocator(before);
  }
  const bool is_so = c10::GetCPUAllocator() == keeping;
  blocks().keep(is_so);
  return is_so;
}

int wirings_keeps_memory() { return blocks().keeping(); }

// Bytes that are kept and that nobody uses.
int64_t wirings_kept_bytes() { return static_cast<int64_t>(blocks().kept()); }

// Bytes of the blocks that are in use.
int64_t wirings_used_bytes() { return static_cast<int64_t>(blocks().alive()); }
}
