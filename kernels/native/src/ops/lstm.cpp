// The codec's LSTM: the input's share of the gates for all frames at once, then frame by frame.
#include <algorithm>
#include <cstring>

#include "../runtime/pool.h"
#include "panels.h"

namespace imn {
namespace {

constexpr int64_t kGates = 4;
constexpr int64_t kRowsAtOnce = 12;

// gates [rows, 4, C] = x [rows, C] . w_ih + bias
void input_share(const View& x, const Panels& w, const View& bias, float* gates) {
  const int64_t rows = x.rows(), c = x.last(), step = 2 * kTileOutputs, across = (c + step - 1) / step;
  float* flat = scratch(kInput, rows * c);
  load_rows(flat, x, 0, rows, c);
  float* added = scratch(kNorm, kGates * c);
  load(added, bias, 0, kGates * c, bias.strides[0]);
  parallel_for(int(kGates * across), [&](int chunk) {
    const int64_t gate = chunk / across, n0 = chunk % across * step, n1 = std::min(c, n0 + step);
    float* y = gates + gate * c + n0;
    for (int64_t r = 0; r < rows; ++r) std::memcpy(y + r * kGates * c, added + gate * c + n0, size_t(n1 - n0) * 4);
    add_product(w, gate, n0, n1, flat, c, rows, y, kGates * c);
  });
}

}  // namespace

void lstm(const View& x, const PanelWeights& w_ih, const PanelWeights& w_hh, const View& bias, const View& before, void* out,
          DType out_dtype, float* after) {
  const int64_t batch = x.shape[0], length = x.shape[1], c = x.shape[2];
  const Panels input = panels_of(w_ih, {kGates}, kWeights), recurrent = panels_of(w_hh, {kGates}, kTile);
  float* gates = scratch(kPacked, batch * length * kGates * c);
  input_share(x, input, bias, gates);

  float* hidden = scratch(kKeys, 2 * batch * c);  // of the last frame and of this one
  float* cell = scratch(kValues, batch * c);
  std::memset(hidden, 0, size_t(2 * batch * c) * 4);
  if (before) {
    load_rows(hidden, before, 0, batch, c);
    load_rows(cell, before, batch, 2 * batch, c);
  } else {
    std::memset(cell, 0, size_t(batch * c) * 4);
  }
  for (int64_t t = 0; t < length; ++t) {
    const float* last = hidden + t % 2 * batch * c;
    float* now = hidden + (t + 1) % 2 * batch * c;
    parallel_shares(int(recurrent.tiles()), [&](int tile) {
      const int64_t j0 = tile * kTileOutputs, count = std::min<int64_t>(kTileOutputs, c - j0);
      float* sums = scratch(kResult, kRowsAtOnce * kGates * kTileOutputs);  // [row][gate][unit]
      for (int64_t b = 0; b < batch; b += kRowsAtOnce) {
        const int64_t some = std::min(kRowsAtOnce, batch - b);
        for (int64_t g = 0; g < kGates; ++g) {
          float* y = sums + g * kTileOutputs;
          for (int64_t i = 0; i < some; ++i) {
            const float* share = gates + (((b + i) * length + t) * kGates + g) * c + j0;
            std::memcpy(y + i * kGates * kTileOutputs, share, size_t(count) * 4);
          }
          add_product(recurrent, g, j0, j0 + count, last + b * c, c, some, y, kGates * kTileOutputs);
        }
        for (int64_t i = 0; i < some; ++i) {
          float* h = now + (b + i) * c + j0;
          isa_kernels().lstm_cell(sums + i * kGates * kTileOutputs, kTileOutputs, cell + (b + i) * c + j0, h, int(count));
          const int64_t at = ((b + i) * length + t) * c + j0;
          isa_kernels().narrow(static_cast<char*>(out) + at * int64_t(size_of(out_dtype)), h, count, out_dtype);
        }
      }
    });
  }
  std::memcpy(after, hidden + length % 2 * batch * c, size_t(batch * c) * 4);
  std::memcpy(after + batch * c, cell, size_t(batch * c) * 4);
}

}  // namespace imn
