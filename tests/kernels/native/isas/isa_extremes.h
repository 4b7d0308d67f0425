// Numbers at the ends of the range, on one instruction set: denormals and groups of 1e-34 keep what they can, NaN and
// infinity come out as such and stay where they are.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>
#include <vector>

#include "isa_kernels.h"

namespace extremes {

using namespace imn;
using Check = void (*)(const char* what, int a, int b, int c, double error, double bound);

inline float number(uint32_t i) { return float(int32_t(i * 2654435761u >> 8) % 2001 - 1000) / 1000.f; }

// Rows 0 and 2 are ordinary, row 1 has `size` in its second group of columns; NaN and infinity at one place of it.
inline void products(const IsaKernels& k, Check check, int bits, int group, float size) {
  const int n = 37, groups = 3, kk = groups * group, words = kk * bits / 32, m = 3;
  std::vector<uint32_t> w(size_t(n * words));
  for (size_t i = 0; i < w.size(); ++i) w[i] = uint32_t(i) * 2246822519u ^ uint32_t(i) << 7;
  std::vector<float> scales(size_t(n * groups)), biases(scales.size()), x(size_t(m * padded(kk)), 0.f);
  for (size_t i = 0; i < scales.size(); ++i) scales[i] = 0.1f + 0.05f * number(uint32_t(i)), biases[i] = -scales[i];
  const bool finite = std::isfinite(size);
  for (int r = 0; r < m; ++r) {
    for (int i = 0; i < kk; ++i) {
      float& v = x[size_t(r * padded(kk) + i)];
      v = number(uint32_t(r * kk + i));
      if (r == 1 && finite) v = i / group == 1 ? v * size : 0.f;
      if (r == 1 && !finite && i == group + 5) v = size;
    }
  }
  const Quantized q{w.data(), scales.data(), biases.data(), DType::f32, n, kk, group, bits};
  Interleaved il{nullptr, DType::f32, n, kk, group, bits};
  std::vector<uint8_t> data(size_t(il.bytes()));
  il.data = data.data();
  for (int n0 = 0; n0 < n; n0 += kTileOutputs) k.interleave(q, il, n0, data.data());
  for (int width : {32, 16, 8}) {
    std::vector<float> arranged(size_t(k.arranged_size(m, kk, group, width))), out(size_t(m * n));
    k.arrange(x.data(), padded(kk), m, il, width, arranged.data());
    k.interleaved_product(il, arranged.data(), m, width, 0, groups, 0, n, out.data(), n);
    double worst = 0;
    int wrong = 0;
    for (int j = 0; j < n; ++j) {
      for (int r = 0; r < m; ++r) {
        const float got = out[size_t(r * n + j)];
        if (r == 1 && !finite) {
          wrong += std::isfinite(got);
          continue;
        }
        double sum = 0, total = 0;
        for (int i = 0; i < kk; ++i) {
          const uint32_t code = w[size_t(j * words + i * bits / 32)] >> (i * bits % 32) & ((1u << bits) - 1);
          const double scale = scales[size_t(j * groups + i / group)], xi = x[size_t(r * padded(kk) + i)];
          sum += (scale * code - scale) * xi;
          total += (scale * code + scale) * std::fabs(xi);
        }
        // What is below 1e-34 is kept in steps of that; below 1e-38 float32 itself has steps, of which a product with many
        // fields loses a few bits.
        const double step = width == 32 ? 0x1p-138 / 40 : 1e-34 / (width == 16 ? 65278 : 254);
        const double relative = width == 32 ? 4e-6 : 1.3 / (width == 16 ? 65278 : 254) + 1e-6;
        const double allowed = relative * total + kk * 40.0 * (r == 1 ? step : 0) + 1e-44 * kk;
        worst = std::fmax(worst, std::isfinite(got) ? std::fabs(got - sum) / allowed : INFINITY);
      }
    }
    check("product of extremes", bits * 1000 + group, width, finite ? int(std::log10(size)) : 99, worst, 1);
    check("not finite comes out as such", bits * 1000 + group, width, 0, wrong, 0);
  }
}

inline void attention(const IsaKernels& k, Check check, DType dtype, float bad) {
  const int d = 64, count = 37, at = 21;
  std::vector<float> rows(count * d, 0.f), q(d, 0.f), scores(count, 0.f), out(d, 0.f);
  for (size_t i = 0; i < rows.size(); ++i) rows[i] = number(uint32_t(i));
  for (size_t i = 0; i < q.size(); ++i) q[i] = 1.f + number(uint32_t(i));
  rows[size_t(at * d + 7)] = bad;
  std::vector<uint8_t> stored(rows.size() * size_of(dtype));
  k.narrow(stored.data(), rows.data(), int64_t(rows.size()), dtype);
  const CachedRows cached{stored.data(), d, dtype, count};
  k.scores(q.data(), d, 1, d, cached, scores.data(), count);
  int wrong = 0;
  for (int s = 0; s < count; ++s) wrong += std::isfinite(scores[size_t(s)]) != (s != at);
  std::vector<float> even(size_t(count), 0.5f);
  const float factor = 1.f;
  k.weighted_sum(even.data(), count, 1, &factor, cached, d, out.data(), d);
  for (int i = 0; i < d; ++i) wrong += std::isfinite(out[size_t(i)]) != (i != 7);
  check("attention keeps what is not finite in its place", int(dtype), 0, 0, wrong, 0);
}

inline void softmax(const IsaKernels& k, Check check) {
  int wrong = 0;
  for (int n : {1, 5, 16, 17, 40}) {
    for (int at = 0; at < n; ++at) {
      std::vector<float> row(size_t(n), -INFINITY);
      row[size_t(at)] = 3e38f;  // the only one that may be seen
      wrong += k.softmax(row.data(), n) != 1.f;
      for (int i = 0; i < n; ++i) wrong += row[size_t(i)] != (i == at ? 1.f : 0.f);
      std::vector<float> with_nan(size_t(n), 0.25f);
      with_nan[size_t(at)] = NAN;
      wrong += !std::isnan(k.softmax(with_nan.data(), n));
    }
  }
  check("softmax of extremes", 0, 0, 0, wrong, 0);
}

inline void all(const IsaKernels& k, Check check) {
  for (int bits : {4, 8}) {
    for (int group : {32, 64, 128}) {
      for (float size : {1e-42f, 1e-38f, 1e-34f, 1e-30f, 1e30f, NAN, INFINITY}) products(k, check, bits, group, size);
    }
  }
  for (DType dtype : {DType::f32, DType::f16, DType::bf16}) {
    for (float bad : {NAN, INFINITY, -INFINITY}) attention(k, check, dtype, bad);
  }
  softmax(k, check);
}

}  // namespace extremes
