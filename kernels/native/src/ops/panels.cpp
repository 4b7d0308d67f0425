#include "panels.h"

#include <algorithm>
#include <cstring>

#include "../runtime/pool.h"

namespace imn {

Panels PanelOrder::of(int64_t n, int64_t k, int64_t c) const {
  if (stride == 0) return {nullptr, parts, n / parts, k * c};
  return {nullptr, (k + stride - 1) / stride, stride * n, c};
}

void fill_panels(const View& w, const PanelOrder& order, const Panels& panels, float* to) {
  const int64_t n = w.shape[0], k = w.shape[1], c = w.shape[2], depth = panels.depth;
  parallel_for(int(panels.parts * panels.tiles()), [&](int tile) {
    const int64_t part = tile / panels.tiles(), n0 = tile % panels.tiles() * kTileOutputs;
    float* row = scratch(kInput, depth);
    float* panel = to + tile * depth * kTileOutputs;
    for (int64_t o = 0; o < kTileOutputs; ++o) {
      const int64_t i = n0 + o;
      // Output i of a transposed convolution's part is tap i / n of channel i % n.
      const int64_t channel = order.stride == 0 ? part * panels.outputs + i : i % n;
      const int64_t first = order.stride == 0 ? 0 : part * order.stride + i / n, taps = order.stride == 0 ? k : 1;
      if (i < panels.outputs && first < k) {
        for (int64_t tap = 0; tap < taps; ++tap) {
          load(row + tap * c, w, channel * w.strides[0] + (first + tap) * w.strides[1], c, w.strides[2]);
        }
      } else {
        std::memset(row, 0, size_t(depth) * 4);
      }
      for (int64_t j = 0; j < depth; ++j) panel[j * kTileOutputs + o] = row[j];
    }
  });
}

Panels panels_of(const PanelWeights& w, const PanelOrder& order, Slot slot) {
  Panels found = order.of(w.n, w.k, w.c);
  if (w.laid_out) {
    found.data = static_cast<const float*>(w.w.data);
    return found;
  }
  float* to = scratch(slot, found.floats());
  fill_panels(w.w, order, found, to);
  found.data = to;
  return found;
}

namespace {

constexpr int64_t kNarrow = 4;  // outputs up to which a panel would mostly multiply zeros

// add_product with the first n of a part's few outputs: each of x's rows by each output, as a product of the rows with the
// outputs.
void add_narrow(const Panels& panels, int64_t part, int64_t n, const float* x, int64_t ldx, int64_t rows, float* y,
                int64_t ldy) {
  const int64_t ld = padded(panels.depth);
  const float* panel = panels.panel(part, 0);
  float* outputs = scratch(kVector, n * ld);
  std::memset(outputs, 0, size_t(n * ld) * 4);
  for (int64_t i = 0; i < panels.depth; ++i) {
    for (int64_t o = 0; o < n; ++o) outputs[o * ld + i] = panel[i * kTileOutputs + o];
  }
  float* sums = scratch(kExtra, n * rows);
  isa_kernels().dense(x, ldx, DType::f32, int(panels.depth), outputs, ld, int(n), 0, int(rows), sums, rows);
  for (int64_t r = 0; r < rows; ++r) {
    for (int64_t o = 0; o < n; ++o) y[r * ldy + o] += sums[o * rows + r];
  }
}

}  // namespace

void add_product(const Panels& panels, int64_t part, int64_t n0, int64_t n1, const float* x, int64_t ldx, int64_t rows,
                 float* y, int64_t ldy) {
  if (panels.outputs <= kNarrow) return add_narrow(panels, part, n1, x, ldx, rows, y, ldy);  // n0 is 0
  for (int64_t n = n0; n < n1; n += kTileOutputs) {
    isa_kernels().panel_product(panels.panel(part, n), panels.depth, x, ldx, int(rows), y + (n - n0), ldy,
                                int(std::min<int64_t>(kTileOutputs, n1 - n)));
  }
}

}  // namespace imn
