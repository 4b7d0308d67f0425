#include "affinity.h"

namespace imn {

#if defined(__linux__)

int usable_cores() {
  cpu_set_t set;
  return sched_getaffinity(0, sizeof set, &set) == 0 ? CPU_COUNT(&set) : 0;
}

int current_core() { return sched_getcpu(); }

bool Affinity::ran_on(int core) const { return core_.load(std::memory_order_relaxed) == core; }

void Affinity::keep_off(int core, pthread_t worker) {
  if (core < 0 || core >= CPU_SETSIZE) return;
  if (!kept_off_ && pthread_getaffinity_np(worker, sizeof before_, &before_) != 0) return;
  cpu_set_t elsewhere = before_;
  CPU_CLR(core, &elsewhere);
  if (CPU_COUNT(&elsewhere) == 0) return;
  if (pthread_setaffinity_np(worker, sizeof elsewhere, &elsewhere) == 0) kept_off_ = true;
}

bool Affinity::note_core() {
  const int here = sched_getcpu();
  if (core_.load(std::memory_order_relaxed) != here) core_.store(here, std::memory_order_relaxed);
  return kept_off_.load(std::memory_order_relaxed);
}

void Affinity::restore() {
  sched_setaffinity(0, sizeof before_, &before_);
  kept_off_ = false;
}

#else

int usable_cores() { return 0; }
int current_core() { return -1; }
bool Affinity::ran_on(int) const { return false; }
void Affinity::keep_off(int, pthread_t) {}
bool Affinity::note_core() { return false; }
void Affinity::restore() {}

#endif

}  // namespace imn
