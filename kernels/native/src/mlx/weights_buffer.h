// An array of MLX whose memory comes from allocate_pages.
#pragma once

#include "../runtime/pages.h"
#include "mlx/allocator.h"
#include "mlx/array.h"

namespace imn {

// Whether this MLX can be handed memory that it did not allocate: with the size in the word before it.
bool foreign_memory_fits();

// Gives `out` memory for its elements: huge pages where this MLX can be handed foreign memory, else its own allocator's.
Pages allocate_weights(mlx::core::array& out);

}  // namespace imn
