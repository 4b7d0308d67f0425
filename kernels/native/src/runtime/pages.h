// Memory for packed weights: aligned to cache lines, in huge pages where the system gives them. Small pages cost a product
// that streams its weights 20 to 50 % of its speed (measured on Zen 4).
#pragma once

#include <cstddef>

namespace imn {

// At least `bytes` at `data`, aligned to 64 bytes, with a word before them that is the caller's.
struct Pages {
  void* data;
  char* fresh = nullptr;  // pages among them that nobody has touched
  int count = 0;

  // Lets the system zero the fresh ones, on all threads: most of what new memory costs. Before the first use, or not at all.
  void touch() const;
};
constexpr size_t kPageHeader = 64;
Pages allocate_pages(size_t bytes);  // throws std::bad_alloc
void free_pages(void* data);

}  // namespace imn
