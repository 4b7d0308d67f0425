// A tile of outputs as vectors: what all products with interleaved weights share.
#pragma once

#include "../convert.h"
#include "../isa.h"

namespace imn::IMN_ISA {

constexpr int kTileVectors = kTileOutputs / L;

// Scales or biases of the L outputs from o on.
inline VF group_vector(const uint8_t* p, DType dtype, int o) {
  if (dtype == DType::f16) return vload_f16((const uint16_t*)p + o);
  if (dtype == DType::bf16) return vload_bf16((const uint16_t*)p + o);
  return vload((const float*)p + o);
}

// Vectors that are summed side by side, so that a broadcast of x serves them all, with SUMS sums for each: as many as
// leave the sums in half of the registers.
template <int SUMS>
constexpr int kSideBySide = SUMS * 4 <= kVectorRegisters / 2   ? min_(kTileVectors, 4)
                            : SUMS * 2 <= kVectorRegisters / 2 ? min_(kTileVectors, 2)
                                                               : 1;

// The sums of M rows so far, of the `count` first outputs of a tile at y: 0 where they begin.
template <int M>
inline void load_tile(VF (&acc)[kTileVectors][M], bool begun, int count, const float* y, int64_t ldy) {
  for (int v = 0; v < kTileVectors; ++v) {
    for (int m = 0; m < M; ++m) {
      if (!begun) {
        acc[v][m] = vzero();
      } else if ((v + 1) * L <= count) {
        acc[v][m] = vload(y + m * ldy + v * L);
      } else {
        float some[L] = {};
        for (int i = v * L; i < count; ++i) some[i - v * L] = y[m * ldy + i];
        acc[v][m] = vload(some);
      }
    }
  }
}

template <int M>
inline void store_tile(const VF (&acc)[kTileVectors][M], int count, float* y, int64_t ldy) {
  for (int v = 0; v < kTileVectors; ++v) {
    for (int m = 0; m < M; ++m) {
      if ((v + 1) * L <= count) {
        vstore(y + m * ldy + v * L, acc[v][m]);
      } else {
        float some[L];
        vstore(some, acc[v][m]);
        for (int i = v * L; i < count; ++i) y[m * ldy + i] = some[i - v * L];
      }
    }
  }
}

}  // namespace imn::IMN_ISA
