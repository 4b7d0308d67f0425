// Loops for tests of the pool, around its own sources (test_threads.py compiles
// them together): see pool_hooks.py.
#include <atomic>
#include <cstdint>
#include <new>
#include <vector>

#include "pool.h"

extern "C" {

// The sum of 0..count-1, each added by the chunk of that number.
int64_t pool_sum(int count) {
  std::atomic<int64_t> sum{0};
  imn::parallel_for(count, [&](int i) { sum.fetch_add(i, std::memory_order_relaxed); });
  return sum.load();
}

// How many of 0..count-1 were not run exactly once when every thread takes its share and helps the others.
int pool_shares_wrong(int count) {
  std::vector<std::atomic<int>> runs(static_cast<size_t>(count));
  imn::parallel_shares(count, [&](int i) { runs[static_cast<size_t>(i)].fetch_add(1, std::memory_order_relaxed); });
  int wrong = 0;
  for (const auto& n : runs) wrong += n.load() != 1;
  return wrong;
}

// Whether the loop throws std::bad_alloc when every second chunk does.
int pool_fails_for_lack_of_memory(int count) {
  try {
    imn::parallel_for(count, [](int i) {
      if (i % 2 == 1) throw std::bad_alloc();
    });
  } catch (const std::bad_alloc&) {
    return 1;
  }
  return 0;
}

int pool_threads() { return imn::thread_count(); }
void pool_set_threads(int count) { imn::set_thread_count(count); }
void pool_stop() { imn::stop_pool(); }
}
