// Weights as raw memory: packed ones in the order of mx.quantize and interleaved, the layout of `ops.pack`; and dense ones
// in panels, the layout of `ops.lay_out`.
#pragma once

#include <cstddef>
#include <cstdint>

namespace imn {

enum class DType : int { f32 = 0, f16 = 1, bf16 = 2 };

inline size_t size_of(DType d) { return d == DType::f32 ? 4 : 2; }

// A matrix [N, K] as mx.quantize packs it: w [N, K*bits/32] little-endian, scales and biases [N, K/group]; weight =
// scale * n + bias with n unsigned.
struct Quantized {
  const uint32_t* w;
  const void* scales;
  const void* biases;
  DType dtype;  // of scales and biases
  int n, k, group, bits;
};

constexpr int kTileOutputs = 32;
constexpr int kLineBytes = 4 * kTileOutputs;

// Weights in the order in which the products read them.
//
// The matrix [N, K] is cut into pieces of 32 outputs by one group of columns, tile after tile of outputs, in each tile group
// after group. A piece holds its codes, then 32 scales, then 32 biases (as stored: half, bfloat or float); so a product
// reads one stream strictly forwards, and each lane of its vectors belongs to one output.
//
//   4 bits: group / 8 lines of 128 bytes; byte 4 o + b of line j: low nibble column 8 j + b of output o, high nibble column
//           8 j + 4 + b.
//   8 bits: group / 4 lines of 128 bytes; byte 4 o + b of line j: column 4 j + b of output o.
//
// N is filled up to whole tiles with outputs of zeros. The codes, scales and biases are those of the packed matrix, so it is
// as large (but for the filling), and comes back exactly.
//
// `n` counts its outputs without the filling; `dtype` is that of scales and biases.
struct Interleaved {
  const uint8_t* data;
  DType dtype;
  int n, k, group, bits;

  int64_t groups() const { return k / group; }
  int64_t code_bytes() const { return int64_t(group) * bits / 8 * kTileOutputs; }
  int64_t piece_bytes() const { return code_bytes() + 2 * kTileOutputs * int64_t(size_of(dtype)); }
  int64_t tiles() const { return (n + kTileOutputs - 1) / kTileOutputs; }
  int64_t bytes() const { return tiles() * groups() * piece_bytes(); }
  // The piece of the tile that output n0 (a multiple of kTileOutputs) begins, and of group g.
  const uint8_t* piece(int64_t n0, int64_t g) const { return data + (n0 / kTileOutputs * groups() + g) * piece_bytes(); }
};

// Dense weights, float32, as the codec's products read them: `parts` matrices [outputs, depth], each cut into panels of 32
// outputs, of which one holds column after column. The last panel of a part is filled up with outputs of zeros.
struct Panels {
  const float* data;
  int64_t parts, outputs, depth;

  int64_t tiles() const { return (outputs + kTileOutputs - 1) / kTileOutputs; }  // of a part
  int64_t floats() const { return parts * tiles() * depth * kTileOutputs; }
  // The panel of a part that output n0 (a multiple of kTileOutputs) begins.
  const float* panel(int64_t part, int64_t n0) const {
    return data + (part * tiles() + n0 / kTileOutputs) * depth * kTileOutputs;
  }
};

}  // namespace imn
