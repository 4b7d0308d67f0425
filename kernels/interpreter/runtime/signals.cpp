// A kernel that crashes must not take Python down: these signals on the thread that runs it end the launch and become an
// issue. SIGILL and SIGTRAP come from the instruction that compilers leave where they see that behavior is undefined.
//
// Nor must one that never ends: a clock of the thread's CPU time ticks every second, and a threadgroup that sees too many
// ticks ends the launch, at its next access in check mode or at the next tick that finds it in the kernel's own code. (In
// the runtime or the C library it might hold a lock.)
#include <csetjmp>
#include <csignal>
#include <ctime>
#include <pthread.h>
#include <ucontext.h>
#if defined(__linux__)
#include <sys/syscall.h>
#include <unistd.h>
#endif

#include "check/issues.h"
#include "signals.h"

sigjmp_buf crash_trap;

namespace {
pthread_t runner;
const int kSignals[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP, SIGXCPU};
constexpr int kCount = sizeof kSignals / sizeof *kSignals;
struct sigaction old_actions[kCount];
stack_t old_stack;
bool ticking;
unsigned ticks, ticked_group;

#if defined(__linux__)
timer_t clock_timer;

void tick_every(long nanoseconds) {
  const timespec t = {nanoseconds / 1000000000, nanoseconds % 1000000000};
  const itimerspec every = {t, t};
  timer_settime(clock_timer, 0, &every, nullptr);
}

void start_clock() {
  ticks = 0, rt.overdue = false, ticking = false;
  if (!rt.launch->seconds) return;
  sigevent to = {};
  to.sigev_notify = SIGEV_THREAD_ID;
  to.sigev_signo = SIGXCPU;
  to._sigev_un._tid = (int)syscall(SYS_gettid);
  ticking = timer_create(CLOCK_THREAD_CPUTIME_ID, &to, &clock_timer) == 0;
  if (ticking) tick_every(1000000000);
}

void stop_clock() {
  if (ticking) timer_delete(clock_timer);
}
#else  // no clock of one thread that signals: no limit
void tick_every(long) {}
void start_clock() { rt.overdue = false; }
void stop_clock() {}
#endif

// Has the threadgroup that runs had its time?
bool tick() {
  if (ticked_group != mtl_now.generation) ticked_group = mtl_now.generation, ticks = 0;
  if (++ticks == rt.launch->seconds) rt.overdue = true, tick_every(10000000);
  return rt.overdue;
}

void on_signal(int signal, siginfo_t* info, void* context) {
  if (signal == SIGXCPU && info->si_code == SI_TIMER && !rt.running) return;  // a late tick
  if (!rt.running || !pthread_equal(pthread_self(), runner)) {
    // Not ours: hand back to the handler before us, and fault again.
    for (int i = 0; i < kCount; i++)
      if (kSignals[i] == signal) sigaction(signal, &old_actions[i], nullptr);
    return;
  }
  uintptr_t pc = 0;
#if defined(__linux__) && defined(__x86_64__)
  pc = (uintptr_t)((ucontext_t*)context)->uc_mcontext.gregs[REG_RIP];
#elif defined(__linux__) && defined(__aarch64__)
  pc = (uintptr_t)((ucontext_t*)context)->uc_mcontext.pc;
#else
  (void)context;
#endif
  const bool late = signal == SIGXCPU;
  if (late && (!tick() || pc < image || pc >= image_end)) return;
  mtl_issue i = {};
  i.fault = late ? MTL_NO_PROGRESS : MTL_CRASH;
  i.region = -1;
  i.pc = pc;
  i.size = late ? rt.launch->seconds : 0;
  i.lanes = (uint32_t)signal;
  i.offset = signal == SIGSEGV || signal == SIGBUS ? (int64_t)(uintptr_t)info->si_addr : 0;
  if (rt.current)
    for (int d = 0; d < 3; d++)
      i.thread[d] = rt.current->self.position_in_grid[d], i.group[d] = rt.current->self.threadgroup_position[d];
  add_issue(i);
  rt.abort = true;
  rt.status = MTL_SIGNAL;
  siglongjmp(crash_trap, 1);
}
}  // namespace

void catch_signals() {
  alignas(16) static char memory[64 << 10];
  runner = pthread_self();
  stack_t alternate = {};
  alternate.ss_sp = memory;
  alternate.ss_size = sizeof memory;
  sigaltstack(&alternate, &old_stack);
  struct sigaction action = {};
  action.sa_sigaction = on_signal;
  action.sa_flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER;
  for (int i = 0; i < kCount; i++) sigaction(kSignals[i], &action, &old_actions[i]);
  start_clock();
}

void release_signals() {
  stop_clock();
  for (int i = 0; i < kCount; i++) sigaction(kSignals[i], &old_actions[i], nullptr);
  sigaltstack(&old_stack, nullptr);
}
