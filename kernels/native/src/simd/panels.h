// Products in float32 with panels (weights.h): each lane of a vector is one output, summed in the order of the columns. So
// a result does not depend on the rows beside it, nor on the width of the vectors.
#pragma once

#include "for_rows.h"
#include "isa.h"

namespace imn::IMN_ISA {

constexpr int kPanelVectors = kTileOutputs / L;
constexpr int kPanelRows = kVectorRegisters >= 32 ? 12 : 6;  // whose sums, two vectors each, leave registers for the rest

// y [M, kTileOutputs] += x [M, k] . panel
template <int M>
void panel_rows(const float* panel, int64_t k, const float* x, int64_t ldx, float* y, int64_t ldy) {
  constexpr int T = kPanelVectors < 2 ? kPanelVectors : 2, kRun = 3;  // rows that one pointer reaches by its stride
  for (int v = 0; v < kPanelVectors; v += T) {
    VF acc[M][T];
#pragma GCC unroll 12
    for (int m = 0; m < M; ++m) {
#pragma GCC unroll 2
      for (int t = 0; t < T; ++t) acc[m][t] = vload(y + m * ldy + (v + t) * L);
    }
    const float* row[(M + kRun - 1) / kRun];
    for (int m = 0; m < M; m += kRun) row[m / kRun] = x + m * ldx;
    const float* w = panel + v * L;
#pragma GCC unroll 4
    for (int64_t i = 0; i < k; ++i, w += kTileOutputs) {
      VF c[T];
#pragma GCC unroll 2
      for (int t = 0; t < T; ++t) c[t] = vload(w + t * L);
#pragma GCC unroll 12
      for (int m = 0; m < M; ++m) {
        const VF xv = vset1(row[m / kRun][m % kRun * ldx + i]);
#pragma GCC unroll 2
        for (int t = 0; t < T; ++t) acc[m][t] = vfma(c[t], xv, acc[m][t]);
      }
    }
#pragma GCC unroll 12
    for (int m = 0; m < M; ++m) {
#pragma GCC unroll 2
      for (int t = 0; t < T; ++t) vstore(y + m * ldy + (v + t) * L, acc[m][t]);
    }
  }
}

// y[r * ldy + o] += x_r . output o of the panel, for m rows r, ldx apart (they may overlap), and o < count.
inline void panel_product(const float* panel, int64_t k, const float* x, int64_t ldx, int m, float* y, int64_t ldy,
                          int count) {
  constexpr int64_t kDepth = 1024;  // columns at a time: that much of a panel stays in the cache while the rows pass
  const int groups = (m + kPanelRows - 1) / kPanelRows;
  for (int64_t i = 0; i < k; i += kDepth) {
    const int64_t depth = k - i < kDepth ? k - i : kDepth;
    for (int group = 0; group < groups; ++group) {
      const int r0 = m * group / groups, some = m * (group + 1) / groups - r0;
      float* sums = y + r0 * ldy;
      float whole[kPanelRows * kTileOutputs];
      const bool ragged = count < kTileOutputs;
      for (int r = 0; ragged && r < some; ++r) {
        for (int o = 0; o < kTileOutputs; ++o) whole[r * kTileOutputs + o] = o < count ? sums[r * ldy + o] : 0.f;
      }
      for_rows<kPanelRows>(some, [&](auto rows) {
        panel_rows<rows.value>(panel + i * kTileOutputs, depth, x + r0 * ldx + i, ldx, ragged ? whole : sums,
                               ragged ? kTileOutputs : ldy);
      });
      for (int r = 0; ragged && r < some; ++r) {
        for (int o = 0; o < count; ++o) sums[r * ldy + o] = whole[r * kTileOutputs + o];
      }
    }
  }
}

}  // namespace imn::IMN_ISA
