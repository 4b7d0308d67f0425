#include "stream.h"

#include <algorithm>
#include <atomic>

#include "pool.h"

namespace imn {

namespace {

constexpr std::size_t kChunkWords = std::size_t(1) << 19;  // 4 MiB: long beside claiming it, short beside the buffer
constexpr int kLanes = 16;                                 // independent sums, so that no load waits for another

std::uint64_t read(const std::uint64_t* words, std::size_t count) {
  std::uint64_t lanes[kLanes] = {0};
  std::size_t i = 0;
  for (; i + kLanes <= count; i += kLanes) {
    for (int lane = 0; lane < kLanes; ++lane) lanes[lane] |= words[i + lane];
  }
  std::uint64_t all = 0;
  for (; i < count; ++i) all |= words[i];
  for (auto lane : lanes) all |= lane;
  return all;
}

}  // namespace

std::uint64_t stream(const std::uint64_t* words, std::size_t count) {
  std::atomic<std::uint64_t> all{0};
  const int chunks = int((count + kChunkWords - 1) / kChunkWords);
  parallel_for(chunks, [&](int chunk) {
    const std::size_t begin = std::size_t(chunk) * kChunkWords;
    all.fetch_or(read(words + begin, std::min(kChunkWords, count - begin)), std::memory_order_relaxed);
  });
  return all.load();
}

}  // namespace imn
