// Where the pool's workers may run, and for a moment may not.
//
// The scheduler may put the thread that hands out work on the core of a worker, or wake a worker on its core, and leave the
// core that falls idle a moment later (of the thread that waits for this very result) idle for milliseconds, in a row of
// short graphs for seconds. So a worker that sleeps or shares that core is forbidden it until it runs again. Only Linux
// says where threads run; elsewhere all of this does nothing.
#pragma once

#include <pthread.h>

#include <atomic>

#if defined(__linux__)
#include <sched.h>
#endif

namespace imn {

// Cores that this process may use, 0 where the system does not say.
int usable_cores();

// The core that the calling thread runs on, -1 where the system does not say.
int current_core();

// What is known of one worker.
class Affinity {
 public:
  // Whether the worker ran on `core` last. Any thread may ask.
  bool ran_on(int core) const;
  // Forbids `core` to the worker, unless it may use no other. The caller holds the lock that guards `keep_off` and
  // `restore`.
  void keep_off(int core, pthread_t worker);
  // The worker's own: notes the core it runs on; true if it was kept off one and should call `restore` under the lock.
  bool note_core();
  // The worker's own: allows itself the cores it had before.
  void restore();

#if defined(__linux__)
 private:
  std::atomic<int> core_{-1};
  std::atomic<bool> kept_off_{false};
  cpu_set_t before_;  // the cores it might use before it was kept off one
#endif
};

}  // namespace imn
