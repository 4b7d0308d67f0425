#include "pool.h"

#include <pthread.h>

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <cstdlib>
#include <exception>
#include <list>
#include <mutex>
#include <new>
#include <system_error>
#include <thread>
#include <utility>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

#include "affinity.h"

namespace imn {
namespace {

constexpr int kSpins = 4000;  // about 100 us: the gap between two operations of a graph, not between two requests

inline void relax() {
#if defined(__x86_64__)
  _mm_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

// One word says everything a claimant must know, so that a latecomer can never claim a chunk of a loop that is over:
// generation (24 bits) | chunks (20 bits) | next unclaimed chunk (20 bits).
constexpr int kBits = 20;
constexpr uint64_t kMask = (uint64_t(1) << kBits) - 1;
constexpr int kMaxChunks = int(kMask);

inline uint64_t ticket_of(uint64_t generation, uint64_t count) { return (generation << (2 * kBits)) | (count << kBits); }
inline bool has_work(uint64_t ticket) { return (ticket & kMask) < ((ticket >> kBits) & kMask); }

thread_local bool inside_chunk = false;

int default_threads() {
  if (const char* text = std::getenv("INSTRUCT_MUSICGEN_THREADS")) {
    int n = std::atoi(text);
    if (n > 0) return std::min(n, 1024);
  }
  if (int cores = usable_cores()) return cores;
  return std::max(1, int(std::thread::hardware_concurrency()));
}

class Pool {
  struct Worker {
    std::thread thread;
    bool asleep = false;  // with sleep_ held
    Affinity affinity;
  };

 public:
  int size() {
    int n = size_.load(std::memory_order_relaxed);
    if (n == 0) {
      n = default_threads();
      size_.store(n, std::memory_order_relaxed);
    }
    return n;
  }

  void resize(int n) {
    std::lock_guard<std::mutex> owner(owner_);
    stop_workers();
    size_.store(n, std::memory_order_relaxed);
  }

  void stop() {
    std::lock_guard<std::mutex> owner(owner_);
    stop_workers();
  }

  void run(int count, ChunkFn fn, const void* context) {
    if (count > 1 && size() > 1 && !inside_chunk && owner_.try_lock()) {
      std::lock_guard<std::mutex> owner(owner_, std::adopt_lock);
      for (int begin = 0; begin < count; begin += kMaxChunks) {
        share(std::min(count - begin, kMaxChunks), begin, fn, context);
      }
      return;
    }
    struct Nested {
      const bool before = std::exchange(inside_chunk, true);
      ~Nested() { inside_chunk = before; }
    } nested;
    for (int i = 0; i < count; ++i) fn(context, i);
  }

 private:
  void share(int count, int begin, ChunkFn fn, const void* context) {
    if (workers_.empty()) start_workers();
    fn_.store(fn, std::memory_order_relaxed);
    context_.store(context, std::memory_order_relaxed);
    begin_.store(begin, std::memory_order_relaxed);
    done_.store(0, std::memory_order_relaxed);
    ticket_.store(ticket_of(++generation_ & 0xFFFFFF, count));
    const bool sleepers = sleepers_.load() > 0;
    if (sleepers || on_this_core()) {
      std::lock_guard<std::mutex> lock(sleep_);
      keep_off_this_core();
    }
    if (sleepers) wake_.notify_all();
    take_chunks();
    for (int spin = 0; done_.load(std::memory_order_acquire) < count; ++spin) {
      if (spin < kSpins)
        relax();
      else
        std::this_thread::yield();  // a claimed chunk whose thread lost its core: give it this one
    }
    if (failed_.load(std::memory_order_acquire)) {
      failed_.store(false, std::memory_order_relaxed);
      std::rethrow_exception(std::exchange(error_, nullptr));
    }
  }

  void take_chunks() {
    uint64_t ticket = ticket_.load(std::memory_order_acquire);
    while (has_work(ticket)) {
      if (!ticket_.compare_exchange_weak(ticket, ticket + 1, std::memory_order_acq_rel, std::memory_order_acquire)) {
        continue;
      }
      // The claim keeps the loop open until done_ counts it, so these cannot change under us.
      const ChunkFn fn = fn_.load(std::memory_order_relaxed);
      const void* context = context_.load(std::memory_order_relaxed);
      inside_chunk = true;
      try {
        fn(context, begin_.load(std::memory_order_relaxed) + int(ticket & kMask));
      } catch (...) {  // no memory; the caller hears of the first one when no thread works on its data any more
        if (!failed_.exchange(true, std::memory_order_relaxed)) error_ = std::current_exception();
      }
      inside_chunk = false;
      done_.fetch_add(1, std::memory_order_release);
      ticket = ticket_.load(std::memory_order_acquire);
    }
  }

  bool on_this_core() const {
    const int here = current_core();
    if (here < 0) return false;
    return std::any_of(workers_.begin(), workers_.end(), [&](const Worker& w) { return w.affinity.ran_on(here); });
  }

  // With sleep_ held: see affinity.h.
  void keep_off_this_core() {
    const int here = current_core();
    for (Worker& worker : workers_) {
      if (worker.asleep || worker.affinity.ran_on(here)) worker.affinity.keep_off(here, worker.thread.native_handle());
    }
  }

  // By the worker itself, whenever it runs without work.
  void restore_affinity(Worker& worker) {
    if (!worker.affinity.note_core()) return;
    std::lock_guard<std::mutex> lock(sleep_);
    worker.affinity.restore();
  }

  void sleep(Worker& worker) {
    std::unique_lock<std::mutex> lock(sleep_);
    worker.asleep = true;
    sleepers_.fetch_add(1);
    while (!has_work(ticket_.load()) && !stopping_.load()) {
      wake_.wait(lock);
      if (worker.affinity.note_core()) worker.affinity.restore();
    }
    sleepers_.fetch_sub(1);
    worker.asleep = false;
  }

  void work(Worker& worker) {
    for (int spin = 0;;) {
      restore_affinity(worker);
      if (has_work(ticket_.load(std::memory_order_acquire))) {
        take_chunks();
        spin = 0;
      } else if (stopping_.load(std::memory_order_acquire)) {
        return;
      } else if (++spin < kSpins) {
        relax();
      } else {
        sleep(worker);
        spin = 0;
      }
    }
  }

  void start_workers() {
    stopping_.store(false);
    try {
      for (int i = 1; i < size(); ++i) {
        Worker& worker = workers_.emplace_back();
        worker.thread = std::thread([this, &worker] { work(worker); });
      }
    } catch (const std::system_error&) {
      workers_.pop_back();
      // The system gives no more threads: those there are, and the caller, do the work.
    }
  }

  void stop_workers() {
    {
      std::lock_guard<std::mutex> lock(sleep_);
      stopping_.store(true);
    }
    wake_.notify_all();
    for (Worker& worker : workers_) worker.thread.join();
    workers_.clear();
  }

  std::mutex owner_;  // held by the thread whose loop is running
  std::mutex sleep_;
  std::condition_variable wake_;
  std::list<Worker> workers_;  // whose threads keep references
  uint64_t generation_ = 0;
  std::atomic<int> size_{0};
  std::atomic<int> sleepers_{0};
  std::atomic<bool> stopping_{false};
  std::atomic<bool> failed_{false};
  std::exception_ptr error_;  // of the first chunk that failed; written by its thread before done_ counts the chunk
  std::atomic<ChunkFn> fn_{nullptr};
  std::atomic<const void*> context_{nullptr};
  std::atomic<int> begin_{0};
  alignas(64) std::atomic<uint64_t> ticket_{0};
  alignas(64) std::atomic<int> done_{0};
};

// Never destroyed: a stream of MLX may still be running when static destructors do.
alignas(Pool) unsigned char storage[sizeof(Pool)];

Pool* make_pool() {
  Pool* made = new (storage) Pool;
  // The child of a fork has none of its parent's threads, and locks in an unknown state: begin afresh, keep the size.
  pthread_atfork(nullptr, nullptr, [] {
    const int size = reinterpret_cast<Pool*>(storage)->size();
    (new (storage) Pool)->resize(size);
    inside_chunk = false;
  });
  std::atexit([] { reinterpret_cast<Pool*>(storage)->stop(); });
  return made;
}

Pool& pool() {
  static Pool* the = make_pool();
  return *the;
}

}  // namespace

void run_chunks(int count, ChunkFn fn, const void* context) { pool().run(count, fn, context); }
int thread_count() { return pool().size(); }
void set_thread_count(int count) { pool().resize(count); }
void stop_pool() { pool().stop(); }

}  // namespace imn
