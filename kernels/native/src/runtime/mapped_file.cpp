#include "mapped_file.h"

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstdint>
#include <cstring>
#include <stdexcept>
#include <string>

#include "pool.h"

#if defined(__linux__)
#include <fcntl.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

namespace imn {
namespace {

constexpr size_t kHuge = 2 << 20;
constexpr int kPopulateRead = 22;  // MADV_POPULATE_READ of Linux 5.14; older C libraries do not name it

// PAGEMAP_SCAN of Linux 6.7 (linux/fs.h), which tells where a mapping has huge pages.
struct PageRegion {
  uint64_t start, end, categories;
};
struct PageScan {
  uint64_t size, flags, start, end, walk_end, vec, vec_len, max_pages, category_inverted, category_mask, category_anyof_mask,
      return_mask;
};
constexpr uint64_t kIsHuge = 1 << 6;

[[noreturn]] void fail(const char* what) {
  throw std::runtime_error(std::string("native: cannot ") + what + ": " + std::strerror(errno));
}

size_t page_size() {
  static const size_t size = size_t(sysconf(_SC_PAGESIZE));
  return size;
}

// Reads the pages of a mapping into the cache, and enters them. An older kernel leaves that to their first use.
void populate(void* at, size_t bytes) {
  if (madvise(at, bytes, kPopulateRead) != 0 && errno != EINVAL) fail("read the mapped file");
}

// Which spans of a huge page from `at` on are in one; none where the kernel cannot tell.
std::vector<bool> huge_spans(char* at, size_t spans) {
  std::vector<bool> found(spans, false);
  const int fd = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
  if (fd < 0) return found;
  std::vector<PageRegion> regions(spans + 1);
  PageScan scan = {};
  scan.size = sizeof scan;
  scan.start = reinterpret_cast<uint64_t>(at), scan.end = scan.start + spans * kHuge;
  scan.vec = reinterpret_cast<uint64_t>(regions.data()), scan.vec_len = regions.size();
  scan.category_mask = scan.return_mask = kIsHuge;
  const int count = ioctl(fd, _IOWR('f', 16, PageScan), &scan);
  close(fd);
  for (int i = 0; i < count; ++i) {
    const uint64_t from = reinterpret_cast<uint64_t>(at);
    for (uint64_t s = (regions[i].start - from + kHuge - 1) / kHuge; (s + 1) * kHuge <= regions[i].end - from; ++s)
      found[s] = true;
  }
  return found;
}

}  // namespace

bool can_map_files() { return true; }

MappedFile::MappedFile(int fd) : fd_(fcntl(fd, F_DUPFD_CLOEXEC, 0)) {
  struct stat status;
  if (fd_ < 0) fail("keep the file open");
  if (fstat(fd_, &status) != 0) {
    close(fd_);
    fail("look at the file");
  }
  size_ = size_t(status.st_size);
}

MappedFile::~MappedFile() {
  if (whole_ != nullptr) munmap(whole_, settled_.size() * kHuge);
  close(fd_);
}

void MappedFile::need(size_t start, size_t bytes) const {
  struct stat status;
  if (fstat(fd_, &status) != 0) fail("look at the file");
  if (start < sizeof(size_t) || start + bytes > std::min(size_, size_t(status.st_size)))
    throw std::runtime_error("native: the file is shorter than it was when its header was read");
}

void MappedFile::Mapping::unmap() const { munmap(base, length); }

MappedFile::Mapping MappedFile::map(size_t start, size_t bytes) const {
  need(start, bytes);
  const size_t from = (start - sizeof(size_t)) / page_size() * page_size();
  Mapping made;
  made.length = start + bytes - from;
  made.base = mmap(nullptr, made.length, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd_, off_t(from));
  if (made.base == MAP_FAILED) fail("map the file");
  made.data = static_cast<char*>(made.base) + (start - from);
  madvise(made.base, made.length, MADV_HUGEPAGE);  // the cache then reads ahead by whole huge pages
  try {
    populate(made.base, made.length);
  } catch (...) {
    made.unmap();
    throw;
  }
  return made;
}

void MappedFile::map_whole() {
  const size_t spans = (size_ + kHuge - 1) / kHuge, room = (spans + 1) * kHuge;
  char* got = static_cast<char*>(mmap(nullptr, room, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0));
  if (got == MAP_FAILED) throw std::bad_alloc();
  char* start = reinterpret_cast<char*>((reinterpret_cast<uintptr_t>(got) + kHuge - 1) / kHuge * kHuge);
  if (start > got) munmap(got, size_t(start - got));
  if (got + room > start + spans * kHuge) munmap(start + spans * kHuge, size_t(got + room - start) - spans * kHuge);
  if (mmap(start, size_, PROT_READ, MAP_PRIVATE | MAP_FIXED, fd_, 0) == MAP_FAILED) {
    munmap(start, spans * kHuge);
    fail("map the file");
  }
  madvise(start, size_, MADV_HUGEPAGE);
  whole_ = start;
  settled_.assign(spans, false);
}

const char* MappedFile::weights(size_t start, size_t bytes) {
  need(start, bytes);
  std::lock_guard<std::mutex> lock(settling_);
  if (whole_ == nullptr) map_whole();
  const size_t end = (start + bytes + kHuge - 1) / kHuge;
  for (size_t first = start / kHuge, last; first < end; first = last) {
    last = first + 1;
    if (settled_[first]) continue;
    while (last < end && !settled_[last]) ++last;
    char* at = whole_ + first * kHuge;
    populate(at, std::min(last * kHuge, size_) - first * kHuge);
    const std::vector<bool> huge = huge_spans(at, last - first);
    for (size_t from = first, to; from < last; from = to) {
      to = from + 1;
      if (huge[from - first]) continue;
      while (to < last && !huge[to - first]) ++to;
      copy_spans(from, to);
    }
    std::fill(settled_.begin() + std::ptrdiff_t(first), settled_.begin() + std::ptrdiff_t(last), true);
  }
  return whole_ + start;
}

// Nobody reads these spans yet: they are not settled.
void MappedFile::copy_spans(size_t first, size_t last) {
  char* at = whole_ + first * kHuge;
  const size_t bytes = (last - first) * kHuge;
  if (mmap(at, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == MAP_FAILED)
    throw std::bad_alloc();
  madvise(at, bytes, MADV_HUGEPAGE);
  std::atomic<int> error{0};
  parallel_for(int(last - first), [&](int i) {
    size_t from = (first + size_t(i)) * kHuge;
    const size_t to = std::min(from + kHuge, size_);
    while (from < to) {
      const ssize_t got = pread(fd_, whole_ + from, to - from, off_t(from));
      if (got < 0 && errno == EINTR) continue;
      if (got <= 0) {
        error = got < 0 ? errno : EIO;
        return;
      }
      from += size_t(got);
    }
  });
  if ((errno = error) != 0) fail("read the file");
  mprotect(at, bytes, PROT_READ);
}

}  // namespace imn

#else

namespace imn {

namespace {
[[noreturn]] void fail() { throw std::runtime_error("native: files are not mapped on this system"); }
}  // namespace

bool can_map_files() { return false; }
MappedFile::MappedFile(int) { fail(); }
MappedFile::~MappedFile() {}
void MappedFile::Mapping::unmap() const {}
MappedFile::Mapping MappedFile::map(size_t, size_t) const { fail(); }
const char* MappedFile::weights(size_t, size_t) { fail(); }

}  // namespace imn

#endif
