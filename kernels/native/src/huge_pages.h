// Weights in huge pages: a step of decoding walks through gigabytes of them once, which in pages of 4 KB is mostly a walk
// through page tables.
#pragma once

#include <cstddef>

namespace imn {

// Moves whole huge pages of this memory into huge pages, the first time it is asked for this range; nothing where the
// system has none. Only a matter of speed: memory that was freed and taken again at the same place stays as it comes.
void use_huge_pages(const void* data, size_t bytes);

}  // namespace imn
