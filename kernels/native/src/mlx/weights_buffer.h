// An array of MLX whose memory comes from allocate_pages.
#pragma once

#include "mlx/allocator.h"
#include "mlx/array.h"

namespace imn {

// Gives `out` memory for its elements: huge pages where this MLX can be handed foreign memory, else its own allocator's.
void* allocate_weights(mlx::core::array& out);

}  // namespace imn
