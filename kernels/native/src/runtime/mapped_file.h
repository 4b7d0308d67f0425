// Files whose pages are used where they lie in the system's cache: nothing is copied, and no new memory is touched.
//
// A mapped file may be replaced by another of its name (by rename) or deleted: its pages stay. One that is truncated or
// overwritten in place takes its mappings along: reading them then ends the process (SIGBUS), or gives what was written.
#pragma once

#include <cstddef>
#include <memory>
#include <mutex>
#include <vector>

namespace imn {

// Whether files can be mapped so on this system.
bool can_map_files();

class MappedFile {
 public:
  // Keeps a descriptor of its own. Throws std::runtime_error if there is none to be had.
  explicit MappedFile(int fd);
  ~MappedFile();
  MappedFile(const MappedFile&) = delete;
  MappedFile& operator=(const MappedFile&) = delete;

  // Bytes [start, start + bytes) of the file, read, writable (nothing reaches the file) and with a writable word before
  // them; given back by `unmap`. Throws std::runtime_error if the file does not have them or cannot be read.
  struct Mapping {
    void *data, *base;
    size_t length;
    void unmap() const;
  };
  Mapping map(size_t start, size_t bytes) const;

  // The same for weights, that are read again and again: read-only, as long as this object lives, and in huge pages. What
  // the system's cache does not hold in huge pages is copied into such. Callable from several threads.
  const char* weights(size_t start, size_t bytes);

 private:
  void need(size_t start, size_t bytes) const;
  void map_whole();
  void copy_spans(size_t first, size_t last);

  int fd_;
  size_t size_;
  std::mutex settling_;
  char* whole_ = nullptr;      // all of the file, lying in memory as it lies in huge pages of the cache
  std::vector<bool> settled_;  // spans of a huge page that are ready
};

}  // namespace imn
