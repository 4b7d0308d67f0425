// A persistent pool of threads that run the chunks of one loop at a time.
//
// The caller always takes chunks itself and only ever waits for chunks that somebody has claimed: a worker that the
// operating system has not woken yet, or that a busy neighbour keeps off its core, costs nothing. Chunks are claimed one
// by one, so a slow core simply does fewer.
#pragma once

#include <type_traits>

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

// Threads that take part, the caller included: INSTRUCT_MUSICGEN_THREADS, else the cores this process may use.
int thread_count();
void set_thread_count(int count);  // 0 for the default
// Joins the workers; the next loop starts them again.
void stop_pool();

}  // namespace imn
