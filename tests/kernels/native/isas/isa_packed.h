// What isa_check.cpp's checks share: random numbers, the count of checks, and a
// random packed matrix with the rows to multiply it by, in double precision.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstdio>
#include <vector>

#include "isa_kernels.h"

namespace imn {

inline int passed = 0, failed = 0;
inline uint32_t random_state = 12345;

inline uint32_t bits32() {
  random_state = random_state * 1664525u + 1013904223u;
  return random_state ^ (random_state >> 15);
}
inline float uniform() { return float(int32_t(bits32())) / 2147483648.f; }

inline void check(const char* what, int a, int b, int c, double error, double bound) {
  if (error <= bound) {
    ++passed;
  } else {
    ++failed;
    std::printf("%s (%d, %d, %d): off by %g, bound %g\n", what, a, b, c, error, bound);
  }
}

struct PackedCase {
  int bits, group, kk, n, m, words, groups;
  std::vector<uint32_t> w;
  std::vector<float> wide, shift, x;
  std::vector<uint8_t> scales, biases;
  Quantized q;

  PackedCase(const IsaKernels& k, DType dtype, int bits, int group, int kk, int n, int m)
      : bits(bits),
        group(group),
        kk(kk),
        n(n),
        m(m),
        words(kk * bits / 32),
        groups(kk / group),
        w(size_t(n * words)),
        wide(size_t(n * groups)),
        shift(wide.size()),
        x(size_t(m * padded(kk)), 0.f),
        scales(wide.size() * size_of(dtype)),
        biases(scales.size()),
        q{w.data(), scales.data(), biases.data(), dtype, n, kk, group, bits} {
    for (auto& v : w) v = bits32();
    for (auto& v : wide) v = uniform() * 0.1f;
    for (auto& v : shift) v = uniform();
    k.narrow(scales.data(), wide.data(), int64_t(wide.size()), dtype);
    k.narrow(biases.data(), shift.data(), int64_t(shift.size()), dtype);
    k.widen(wide.data(), scales.data(), int64_t(wide.size()), dtype);
    k.widen(shift.data(), biases.data(), int64_t(shift.size()), dtype);
    for (int r = 0; r < m; ++r) {
      for (int i = 0; i < kk; ++i) x[size_t(r * padded(kk) + i)] = uniform() + 0.3f;
    }
  }

  const float* row(int r) const { return x.data() + r * padded(kk); }

  double offset(int j, int i) const { return shift[size_t(j * groups + i / group)]; }

  double scaled(int j, int i) const {
    const uint32_t code = w[size_t(j * words + i * bits / 32)] >> (i * bits % 32) & ((1u << bits) - 1);
    return double(wide[size_t(j * groups + i / group)]) * code;
  }

  double magnitude(int j, int i) const { return std::fabs(scaled(j, i)) + std::fabs(offset(j, i)); }

  // The largest error of a product [m, n], relative to the sum of its terms'
  // magnitudes.
  double worst(const std::vector<float>& out) const {
    double found = 0;
    for (int j = 0; j < n; ++j) {
      for (int r = 0; r < m; ++r) {
        double sum = 0, size = 0;
        for (int i = 0; i < kk; ++i) {
          sum += (scaled(j, i) + offset(j, i)) * row(r)[i];
          size += magnitude(j, i) * std::fabs(row(r)[i]);
        }
        found = std::fmax(found, std::fabs(out[size_t(r * n + j)] - sum) / size);
      }
    }
    return found;
  }

  // The largest error of unpacked weights, relative to their parts' magnitudes;
  // `at(j, i)` gives one.
  template <typename At>
  double worst_unpacked(At at) const {
    double found = 0;
    for (int j = 0; j < n; ++j) {
      for (int i = 0; i < kk; ++i) {
        found = std::fmax(found, std::fabs(at(j, i) - (scaled(j, i) + offset(j, i))) / magnitude(j, i));
      }
    }
    return found;
  }
};

}  // namespace imn
