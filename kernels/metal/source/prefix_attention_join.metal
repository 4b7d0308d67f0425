// Completes a gated prefix attention whose keys were split among threadgroups (prefix_attention.metal, SPLITS > 1):
//   y = main + gate · prefix, each the sum of its parts weighted by exp(top - largest top).
//
// Grid: one thread per element of y [B, H, 1, D]; a threadgroup is one head.
// Constants: T result, D, SPLITS.

  const int B = parts_shape[1];  // parts [SPLITS, B, H, 2, D + 2]: D sums of values, the top score, the sum of weights
  const int H = parts_shape[2];
  const int d = int(thread_position_in_threadgroup.x);
  const int h = int(threadgroup_position_in_grid.y);
  const int b = int(threadgroup_position_in_grid.z);
  const float g = float(gate[0]);

  float value = 0;
  for (int which = 0; which < 2; which++) {
    if (which == 1 && g == 0.0f) {
      break;
    }
    float top = -3.0e38f, sum = 0, out = 0;
    for (int split = 0; split < SPLITS; split++) {
      const device float* part = parts + (((split * B + b) * H + h) * 2 + which) * (D + 2);
      const float higher = metal::max(top, part[D]);
      const float before = metal::fast::exp(top - higher), here = metal::fast::exp(part[D] - higher);
      top = higher;
      sum = sum * before + part[D + 1] * here;
      out = out * before + part[d] * here;
    }
    value += (which == 0 ? 1.0f : g) * out / sum;
  }
  y[(size_t(b) * H + h) * D + d] = T(value);
