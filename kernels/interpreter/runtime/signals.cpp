// A kernel that crashes must not take Python down: these signals on the thread that runs it end the launch and become an
// issue. SIGILL and SIGTRAP come from the instruction that compilers leave where they see that behaviour is undefined.
#include <csetjmp>
#include <csignal>
#include <pthread.h>
#include <ucontext.h>

#include "issues.h"
#include "signals.h"

sigjmp_buf crash_trap;

namespace {
pthread_t runner;
const int kSignals[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP};
constexpr int kCount = sizeof kSignals / sizeof *kSignals;
struct sigaction old_actions[kCount];
stack_t old_stack;

void on_signal(int signal, siginfo_t* info, void* context) {
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
  mtl_issue i = {};
  i.fault = MTL_CRASH;
  i.region = -1;
  i.pc = pc;
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
}

void release_signals() {
  for (int i = 0; i < kCount; i++) sigaction(kSignals[i], &old_actions[i], nullptr);
  sigaltstack(&old_stack, nullptr);
}
