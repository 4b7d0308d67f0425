// Products with panels, on one instruction set: any number of rows, overlapping or not, and of outputs; a row alone has the
// bits that it has among others, and an output those that it has in a full panel.
#pragma once

#include <cmath>
#include <cstring>
#include <vector>

#include "isa_packed.h"

namespace panels {

using namespace imn;

inline void product(const IsaKernels& k, int depth, int stride, int m, int count) {
  std::vector<float> panel(size_t(depth * kTileOutputs)), x(size_t((m - 1) * stride + depth));
  for (auto& v : panel) v = uniform();
  for (auto& v : x) v = uniform();
  const int ld = kTileOutputs + 3;
  std::vector<float> before(size_t(m * ld));
  for (auto& v : before) v = uniform();
  std::vector<float> out(before), whole(before), alone(before);
  k.panel_product(panel.data(), depth, x.data(), stride, m, out.data(), ld, count);
  k.panel_product(panel.data(), depth, x.data(), stride, m, whole.data(), ld, kTileOutputs);
  double worst = 0;
  bool differ = false, outside = false;
  for (int r = 0; r < m; ++r) {
    k.panel_product(panel.data(), depth, x.data() + r * stride, stride, 1, alone.data() + r * ld, ld, count);
    for (int o = 0; o < ld; ++o) {
      const size_t at = size_t(r * ld + o);
      if (o >= count) {
        outside = outside || out[at] != before[at];
        continue;
      }
      double want = before[at];
      for (int i = 0; i < depth; ++i) want += double(x[size_t(r * stride + i)]) * panel[size_t(i * kTileOutputs + o)];
      worst = std::fmax(worst, std::fabs(out[at] - want));
      differ = differ || std::memcmp(&out[at], &whole[at], 4) != 0 || std::memcmp(&out[at], &alone[at], 4) != 0;
    }
  }
  check("product with a panel", depth, m, count, worst, 3e-7 + 1e-7 * depth);
  check("product with a panel, the same bits alone and whole", depth, m, count, differ, 0);
  check("product with a panel, nothing else is written", depth, m, count, outside, 0);
}

inline void all(const IsaKernels& k) {
  for (int depth : {1, 7, 64, 1500}) {
    for (int m : {1, 2, 5, 6, 7, 12, 13, 30}) {
      for (int count : {1, 16, 31, kTileOutputs}) {
        for (int stride : {depth, 3}) product(k, depth, stride, m, count);
      }
    }
  }
}

}  // namespace panels
