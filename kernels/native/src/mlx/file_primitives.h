// Arrays whose memory is a file's, see runtime/mapped_file.h.
#pragma once

#include <optional>
#include <tuple>
#include <vector>

#include "../runtime/mapped_file.h"
#include "mlx/array.h"

namespace imn {

// Whether this system and this MLX can have them.
bool can_map_arrays();

// Where a tensor starts in a file, in bytes, its shape and dtype.
using FileTensor = std::tuple<size_t, std::vector<int>, mlx::core::Dtype>;

// Tensors of an open file; lazy, and read when they are evaluated. Evaluated, they are private to the process: writing to
// their memory, as MLX does with what nobody else holds, does not change the file.
std::vector<mlx::core::array> file_arrays(int fd, const std::vector<FileTensor>& tensors);

// The bytes of `parts` as weights to be kept, if they are such tensors, not evaluated, one behind the other in one file.
std::optional<mlx::core::array> file_weights(const std::vector<mlx::core::array>& parts);

}  // namespace imn
