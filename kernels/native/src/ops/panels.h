// Dense weights in panels (simd/weights.h), and products of rows with them.
#pragma once

#include "operations.h"

namespace imn {

// How the codec's weights w [N, k, C] become panels.
struct PanelOrder {
  int64_t parts = 1;   // of a matrix [N, k * C] that is cut into so many of N / parts outputs
  int64_t stride = 0;  // of a transposed convolution, whose taps become ceil(k / stride) parts; 0 for anything else

  // Of w's shape; no data yet.
  Panels of(int64_t n, int64_t k, int64_t c) const;
};

// Fills `to`, floats() of `panels` long, with w [N, k, C].
void fill_panels(const View& w, const PanelOrder& order, const Panels& panels, float* to);

// The panels of w. Those of weights as they come are filled in scratch memory of the calling thread.
Panels panels_of(const PanelWeights& w, const PanelOrder& order, Slot slot = kWeights);

// y [rows, ldy] += x_r . outputs n0..n1 of a part. Rows are ldx apart, n0 is a multiple of kTileOutputs, y belongs to
// n0.
void add_product(const Panels& panels, int64_t part, int64_t n0, int64_t n1, const float* x, int64_t ldx, int64_t rows,
                 float* y, int64_t ldy);

}  // namespace imn
