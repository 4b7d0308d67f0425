#include "weights_buffer.h"

namespace imn {
namespace {

namespace mx = mlx::core;

// MLX for CPUs keeps a buffer's size in the word before its data, and a Buffer points at that word. Whether this MLX does
// is tried out on a buffer of its own; one that was freed and is used again may be larger than what is asked for.
bool size_stands_before_data() {
  constexpr size_t kSize = 12345;
  mx::allocator::Data probe = mx::allocator::malloc(kSize);
  mx::allocator::Buffer buffer = probe.buffer();
  const size_t* word = static_cast<const size_t*>(buffer.ptr());
  return buffer.raw_ptr() == word + 1 && *word >= kSize && mx::allocator::allocator().size(buffer) == *word;
}

}  // namespace

bool foreign_memory_fits() {
  static const bool fits = size_stands_before_data();
  return fits;
}

Pages allocate_weights(mx::array& out) {
#if defined(__linux__)
  if (foreign_memory_fits() && out.nbytes() >= (1 << 20)) {
    const size_t bytes = out.nbytes();
    const Pages pages = allocate_pages(bytes);
    size_t* data = static_cast<size_t*>(pages.data);
    data[-1] = bytes;
    out.set_data(mx::allocator::Data(mx::allocator::Buffer(data - 1), [](mx::allocator::Buffer buffer) {
      size_t* word = static_cast<size_t*>(buffer.ptr());
      free_pages(word + 1);
    }));
    return pages;
  }
#endif
  out.set_data(mx::allocator::malloc(out.nbytes()));
  return {out.data<void>()};
}

}  // namespace imn
