// A persistent pool of threads that run the chunks of one loop at a time.
//
// The caller always takes chunks itself and only ever waits for chunks that somebody has claimed: a worker that the
// operating system has not woken yet, or that a busy neighbor keeps off its core, costs nothing. Chunks are claimed one
// by one, so a slow core simply does fewer.
#pragma once

#include <atomic>
#include <cstdint>

namespace imn {

using ChunkFn = void (*)(const void* context, int chunk);

void run_chunks(int count, ChunkFn fn, const void* context);

// Runs fn(chunk) for 0 <= chunk < count on the pool and returns when all are done; if some threw (no memory), the first
// one's exception is thrown then. A call from inside a chunk, or while another thread uses the pool, runs on the calling
// thread alone.
template <typename F>
void parallel_for(int count, const F& fn) {
  run_chunks(count, [](const void* context, int chunk) { (*static_cast<const F*>(context))(chunk); }, &fn);
}

// Pieces of a loop, of which every thread takes its own share in order, so that the processor's prefetching is not broken
// off, and then, from the far end, what others have not begun.
class Shares {
 public:
  static constexpr int kMax = 256;

  Shares(int pieces, int threads) : count_(threads < kMax ? threads : kMax) {
    if (pieces < count_) count_ = pieces;
    for (int i = 0; i < count_; ++i) {
      const uint64_t first = uint64_t(pieces) * uint64_t(i) / uint64_t(count_);
      const uint64_t end = uint64_t(pieces) * uint64_t(i + 1) / uint64_t(count_);
      left_[i].range.store(first << 32 | end, std::memory_order_relaxed);
    }
  }
  int count() const { return count_; }

  // Runs fn(piece) for the pieces of share `mine`, then for those left of the others.
  template <typename F>
  void run(int mine, const F& fn) {
    for (int turn = 0; turn < count_; ++turn) {
      std::atomic<uint64_t>& range = left_[(mine + turn) % count_].range;
      uint64_t seen = range.load(std::memory_order_relaxed);
      while (first(seen) < end(seen)) {
        const uint64_t rest = turn == 0 ? seen + (uint64_t(1) << 32) : seen - 1;
        if (!range.compare_exchange_weak(seen, rest, std::memory_order_relaxed)) continue;
        fn(int(turn == 0 ? first(seen) : end(seen) - 1));
        seen = range.load(std::memory_order_relaxed);
      }
    }
  }

 private:
  static uint32_t first(uint64_t range) { return uint32_t(range >> 32); }
  static uint32_t end(uint64_t range) { return uint32_t(range); }

  struct alignas(64) Left {
    std::atomic<uint64_t> range;  // first << 32 | end of the pieces nobody has taken
  };
  int count_;
  Left left_[kMax];
};

// Threads that take part, the caller included: INSTRUCT_MUSICGEN_THREADS, else the cores this process may use.
int thread_count();
void set_thread_count(int count);  // 0 for the default

// parallel_for over pieces that lie side by side in memory: see Shares.
template <typename F>
void parallel_shares(int pieces, const F& fn) {
  Shares shares(pieces, thread_count());
  parallel_for(shares.count(), [&](int mine) { shares.run(mine, fn); });
}

// Joins the workers; the next loop starts them again.
void stop_pool();

}  // namespace imn
