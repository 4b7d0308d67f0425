// Checks the inner kernels of one instruction set against sums in double
// precision, without MLX: so that a set can be tested on an emulator
// (test_isas.py). Built with -DIMN_ISA_NEON or the like; prints "N passed, M
// failed".
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <vector>

#include "isa_extremes.h"
#include "isa_kernels.h"
#include "isa_name.h"

namespace imn::IMN_ISA {
extern const IsaKernels table;
}
using namespace imn;

namespace {

int passed = 0, failed = 0;
uint32_t state = 12345;

uint32_t bits32() {
  state = state * 1664525u + 1013904223u;
  return state ^ (state >> 15);
}
float uniform() { return float(int32_t(bits32())) / 2147483648.f; }

void check(const char* what, int a, int b, int c, double error, double bound) {
  if (error <= bound) {
    ++passed;
  } else {
    ++failed;
    std::printf("%s (%d, %d, %d): off by %g, bound %g\n", what, a, b, c, error, bound);
  }
}

void quantized(const IsaKernels& k, int bits, int group, int kk, int n, int m) {
  const int words = kk * bits / 32, groups = kk / group;
  std::vector<uint32_t> w(size_t(n * words));
  for (auto& v : w) v = bits32();
  std::vector<float> wide(size_t(n * groups)), shift(size_t(n * groups)), x(size_t(m * padded(kk)), 0.f);
  std::vector<uint16_t> scales(wide.size()), biases(wide.size());
  for (auto& v : wide) v = uniform() * 0.1f;
  for (auto& v : shift) v = uniform();
  k.narrow(scales.data(), wide.data(), int64_t(wide.size()), DType::f16);
  k.narrow(biases.data(), shift.data(), int64_t(shift.size()), DType::f16);
  k.widen(wide.data(), scales.data(), int64_t(wide.size()), DType::f16);
  k.widen(shift.data(), biases.data(), int64_t(shift.size()), DType::f16);
  for (int r = 0; r < m; ++r) {
    for (int i = 0; i < kk; ++i) x[size_t(r * padded(kk) + i)] = uniform() + 0.3f;
  }
  const Quantized q{w.data(), scales.data(), biases.data(), DType::f16, n, kk, group, bits};
  std::vector<float> dense(size_t(n * padded(kk))), out(size_t(m * n));
  k.dequantize(q, 0, n, 0, kk, dense.data(), padded(kk));
  std::vector<float> scale_tables(size_t(table_size(n, kk, group)));
  for (int r = 0; r < m; r += kFloatRows) {
    const int some = m - r < kFloatRows ? m - r : kFloatRows;
    std::vector<float> packed(size_t(k.packed_size(some, kk, group, bits)));
    k.pack(x.data() + r * padded(kk), padded(kk), some, kk, group, bits, packed.data());
    k.product(q, packed.data(), some, 0, n, scale_tables.data(), out.data() + r * n, n);
  }
  std::vector<float> out8(out.size()), out16(out.size());
  if (bits == 4) {
    for (int width : {8, 16}) {
      std::vector<float> codes(size_t(k.packed_size_integer(m, kk, group, width)));
      k.pack_integer(x.data(), padded(kk), m, kk, group, width, codes.data());
      k.product_integer(q, codes.data(), m, 0, n, width, scale_tables.data(), (width == 8 ? out8 : out16).data(), n);
    }
  }
  double worst = 0, worst8 = 0, worst16 = 0, unpack = 0;
  for (int j = 0; j < n; ++j) {
    for (int r = 0; r < m; ++r) {
      double sum = 0, size = 0;
      for (int i = 0; i < kk; ++i) {
        const uint32_t code = w[size_t(j * words + i * bits / 32)] >> (i * bits % 32) & ((1u << bits) - 1);
        const double s = wide[size_t(j * groups + i / group)], b = shift[size_t(j * groups + i / group)];
        const double weight = s * code + b, xi = x[size_t(r * padded(kk) + i)];
        sum += weight * xi;
        size += (std::fabs(s * code) + std::fabs(b)) * std::fabs(xi);
        unpack =
            std::fmax(unpack, std::fabs(dense[size_t(j * padded(kk) + i)] - weight) / (std::fabs(s * code) + std::fabs(b)));
      }
      worst = std::fmax(worst, std::fabs(out[size_t(r * n + j)] - sum) / size);
      if (bits == 4) worst16 = std::fmax(worst16, std::fabs(out16[size_t(r * n + j)] - sum) / size);
      if (bits == 4) worst8 = std::fmax(worst8, std::fabs(out8[size_t(r * n + j)] - sum) / size);
    }
  }
  check("dequantize", bits, group, kk, unpack, 1.2e-7);
  check("product", bits * 1000 + group, kk, m, worst, 1e-6);
  // Half a step of the largest, which is at most 1.3.
  check("product, 16-bit x", bits * 1000 + group, kk, m, worst16, 1.3 / 65534 + 1e-6);
  check("product, 8-bit x", bits * 1000 + group, kk, m, worst8, 1.3 / 254);
}

// Interleaved weights: any number of outputs, all activations, groups in two parts, and the way there and back.
void interleaved(const IsaKernels& k, DType dtype, int bits, int group, int kk, int n, int m) {
  const int words = kk * bits / 32, groups = kk / group;
  std::vector<uint32_t> w(size_t(n * words));
  for (auto& v : w) v = bits32();
  std::vector<float> wide(size_t(n * groups)), shift(size_t(n * groups)), x(size_t(m * padded(kk)), 0.f);
  const size_t size = size_of(dtype);
  std::vector<uint8_t> scales(wide.size() * size), biases(wide.size() * size);
  for (auto& v : wide) v = uniform() * 0.1f;
  for (auto& v : shift) v = uniform();
  k.narrow(scales.data(), wide.data(), int64_t(wide.size()), dtype);
  k.narrow(biases.data(), shift.data(), int64_t(shift.size()), dtype);
  k.widen(wide.data(), scales.data(), int64_t(wide.size()), dtype);
  k.widen(shift.data(), biases.data(), int64_t(shift.size()), dtype);
  for (int r = 0; r < m; ++r) {
    for (int i = 0; i < kk; ++i) x[size_t(r * padded(kk) + i)] = uniform() + 0.3f;
  }
  const Quantized q{w.data(), scales.data(), biases.data(), dtype, n, kk, group, bits};
  Interleaved il{nullptr, dtype, n, kk, group, bits};
  std::vector<uint8_t> data(size_t(il.bytes()), 0xEE);
  il.data = data.data();
  for (int n0 = 0; n0 < n; n0 += kTileOutputs) k.interleave(q, il, n0, data.data());
  std::vector<uint32_t> back(w.size());
  std::vector<uint8_t> scales_back(scales.size()), biases_back(biases.size());
  for (int n0 = 0; n0 < n; n0 += kTileOutputs) k.deinterleave(il, n0, back.data(), scales_back.data(), biases_back.data());
  check("interleave", bits * 1000 + group, kk, n, back != w || scales_back != scales || biases_back != biases, 0);

  const int64_t ld = il.tiles() * kTileOutputs;
  std::vector<float> columns(size_t(ld * kk));
  k.interleaved_columns(il, 0, groups, 0, n, columns.data(), ld);
  double unpack = 0;
  for (int width : {32, 16, 8}) {
    std::vector<float> arranged(size_t(k.arranged_size(m, kk, group, width))), out(size_t(m * n) + 1, 99.f), parts(out),
        alone(out);
    k.arrange(x.data(), padded(kk), m, il, width, arranged.data());
    k.interleaved_product(il, arranged.data(), m, width, 0, groups, 0, n, out.data(), n);
    k.interleaved_product(il, arranged.data(), m, width, 0, groups / 2, 0, n, parts.data(), n);
    if (groups / 2 > 0)
      k.interleaved_product(il, arranged.data(), m, width, groups / 2, groups, 0, n, parts.data(), n);
    else
      parts = out;
    int differ = 0;
    for (int r = 0; r < m; ++r) {
      k.arrange(x.data() + r * padded(kk), padded(kk), 1, il, width, arranged.data());
      for (int n0 = 0; n0 < n; n0 += kTileOutputs) {
        k.interleaved_product(il, arranged.data(), 1, width, 0, groups, n0, n0 + kTileOutputs < n ? n0 + kTileOutputs : n,
                              alone.data() + r * n, n);
      }
    }
    differ = std::memcmp(out.data(), parts.data(), out.size() * 4) != 0 ||
             std::memcmp(out.data(), alone.data(), out.size() * 4) != 0;
    check("interleaved, the same bits in parts and alone", bits * 1000 + group, width, m, differ || out.back() != 99.f, 0);
    double worst = 0;
    for (int j = 0; j < n; ++j) {
      for (int r = 0; r < m; ++r) {
        double sum = 0, total = 0;
        for (int i = 0; i < kk; ++i) {
          const uint32_t code = w[size_t(j * words + i * bits / 32)] >> (i * bits % 32) & ((1u << bits) - 1);
          const double s = wide[size_t(j * groups + i / group)], b = shift[size_t(j * groups + i / group)];
          const double weight = s * code + b, xi = x[size_t(r * padded(kk) + i)];
          sum += weight * xi;
          total += (std::fabs(s * code) + std::fabs(b)) * std::fabs(xi);
          unpack = std::fmax(unpack, std::fabs(columns[size_t(i * ld + j)] - weight) / (std::fabs(s * code) + std::fabs(b)));
        }
        worst = std::fmax(worst, std::fabs(out[size_t(r * n + j)] - sum) / total);
      }
    }
    // Half a step of the largest, which is at most 1.3.
    const double bound = width == 32 ? 1e-6 : width == 16 ? 1.3 / 65278 + 1e-6 : 1.3 / 254;
    check("interleaved product", bits * 1000 + group, width, m, worst, bound);
  }
  check("interleaved columns", bits * 1000 + group, kk, n, unpack, 2.4e-7);
}

void dense_and_attention(const IsaKernels& k, DType dtype, int d, int count, int m) {
  const int n = count;
  std::vector<float> w(size_t(n * d)), x(size_t(m * padded(d)), 0.f), out(size_t(m * n));
  for (auto& v : w) v = uniform();
  for (int r = 0; r < m; ++r) {
    for (int i = 0; i < d; ++i) x[size_t(r * padded(d) + i)] = uniform();
  }
  std::vector<uint8_t> stored(w.size() * size_of(dtype));
  k.narrow(stored.data(), w.data(), int64_t(w.size()), dtype);
  std::vector<float> back(w.size());
  k.widen(back.data(), stored.data(), int64_t(w.size()), dtype);
  double rounding = 0;
  for (size_t i = 0; i < w.size(); ++i) rounding = std::fmax(rounding, std::fabs(back[i] - w[i]));
  check("narrow", int(dtype), d, n, rounding, dtype == DType::f32 ? 0 : dtype == DType::f16 ? 0x1p-12 : 0x1p-9);
  k.dense(stored.data(), d, dtype, d, x.data(), padded(d), m, 0, n, out.data(), n);
  std::vector<float> scores(size_t(m * n));
  const CachedRows rows{stored.data(), d, dtype, n, stored.data()};
  k.scores(x.data(), padded(d), m, d, rows, scores.data(), n);
  double worst = 0, worst_scores = 0;
  for (int r = 0; r < m; ++r) {
    for (int j = 0; j < n; ++j) {
      double sum = 0;
      for (int i = 0; i < d; ++i) sum += double(back[size_t(j * d + i)]) * x[size_t(r * padded(d) + i)];
      worst = std::fmax(worst, std::fabs(out[size_t(r * n + j)] - sum));
      worst_scores = std::fmax(worst_scores, std::fabs(scores[size_t(r * n + j)] - sum));
    }
  }
  check("dense", int(dtype), d, m, worst, 1e-6 * std::sqrt(double(d)));
  check("scores", int(dtype), d, m, worst_scores, 1e-6 * std::sqrt(double(d)));

  std::vector<float> probabilities = scores, factors(size_t(m), 0.f), sums(size_t(m * padded(d)), 1.f);
  double worst_softmax = 0;
  for (int r = 0; r < m; ++r) {
    const float total = k.softmax(&probabilities[size_t(r * n)], n);
    factors[size_t(r)] = 1.f / total;
    double want = 0, top = -1e30;
    for (int j = 0; j < n; ++j) top = std::fmax(top, double(scores[size_t(r * n + j)]));
    for (int j = 0; j < n; ++j) want += std::exp(scores[size_t(r * n + j)] - top);
    worst_softmax = std::fmax(worst_softmax, std::fabs(total - want) / want);
  }
  check("softmax", int(dtype), d, n, worst_softmax, 1e-6);
  k.weighted_sum(probabilities.data(), n, m, factors.data(), rows, d, sums.data(), padded(d));
  double worst_sum = 0;
  for (int r = 0; r < m; ++r) {
    for (int i = 0; i < d; ++i) {
      double want = 1;
      for (int j = 0; j < n; ++j) {
        want += double(factors[size_t(r)]) * probabilities[size_t(r * n + j)] * back[size_t(j * d + i)];
      }
      worst_sum = std::fmax(worst_sum, std::fabs(sums[size_t(r * padded(d) + i)] - want));
    }
  }
  check("weighted_sum", int(dtype), d, n, worst_sum, 2e-6);
}

void elementwise(const IsaKernels& k) {
  std::vector<float> x(1003);
  for (size_t i = 0; i < x.size(); ++i) x[i] = (float(i) - 500.f) / 60.f;
  auto gelu = x, elu = x;
  k.gelu(gelu.data(), int64_t(x.size()));
  k.elu(elu.data(), int64_t(x.size()));
  double worst_gelu = 0, worst_elu = 0;
  for (size_t i = 0; i < x.size(); ++i) {
    const double v = x[i];
    worst_gelu =
        std::fmax(worst_gelu, std::fabs(gelu[i] - v * 0.5 * (1 + std::erf(v / std::sqrt(2.0)))) / (1 + std::fabs(v)));
    const double want = v > 0 ? v : std::expm1(v);
    worst_elu = std::fmax(worst_elu, std::fabs(elu[i] - want) / (1e-30 + std::fabs(want)));
  }
  check("gelu", 0, 0, 0, worst_gelu, 3e-7);
  check("elu", 0, 0, 0, worst_elu, 5e-7);

  std::vector<float> norm(x), ones(x.size(), 1.f), zeros(x.size(), 0.f);
  k.layer_norm(norm.data(), int(x.size()), ones.data(), zeros.data(), 0.f);
  double mean = 0, var = 0;
  for (float v : norm) mean += v / double(x.size());
  for (float v : norm) var += v * double(v) / double(x.size());
  check("layer_norm", 0, 0, 0, std::fabs(mean) + std::fabs(var - 1), 1e-5);

  std::vector<float> gates(4 * 40), cell(40, 0.5f), hidden(40);
  for (auto& v : gates) v = 3 * uniform();
  k.lstm_cell(gates.data(), 40, cell.data(), hidden.data(), 40);
  auto sigmoid = [](double v) { return 1 / (1 + std::exp(-v)); };
  double worst = 0;
  for (int i = 0; i < 40; ++i) {
    const double c = sigmoid(gates[size_t(40 + i)]) * 0.5 + sigmoid(gates[size_t(i)]) * std::tanh(gates[size_t(80 + i)]);
    worst = std::fmax(worst, std::fabs(hidden[size_t(i)] - sigmoid(gates[size_t(120 + i)]) * std::tanh(c)));
  }
  check("lstm_cell", 0, 0, 0, worst, 1e-6);
}

// Every half float, and the floats that round to even, overflow, or are not
// finite.
void halves(const IsaKernels& k) {
  int wrong = 0;
  for (int h = 0; h < 65536; h += 16) {
    uint16_t in[16], out[16];
    float wide[16];
    for (int i = 0; i < 16; ++i) in[i] = uint16_t(h + i);
    k.widen(wide, in, 16, DType::f16);
    k.narrow(out, wide, 16, DType::f16);
    for (int i = 0; i < 16; ++i) {
      const int exponent = in[i] >> 10 & 31, mantissa = in[i] & 1023, sign = in[i] >> 15;
      double want = exponent ? std::ldexp(1024 + mantissa, exponent - 25) : std::ldexp(mantissa, -24);
      if (exponent == 31) want = mantissa ? NAN : INFINITY;
      if (std::isnan(want))
        wrong += !(std::isnan(wide[i]) && (out[i] & 0x7C00) == 0x7C00 && (out[i] & 1023));
      else
        wrong += wide[i] != float(sign ? -want : want) || out[i] != in[i];
    }
  }
  const float odd[8] = {65520.f, 65519.9f, 1.00048828125f, 1.00146484375f, 1e-8f, 2.98023223876953125e-8f, 4e-8f, -0.f};
  const uint16_t want[8] = {0x7C00, 0x7BFF, 0x3C00, 0x3C02, 0, 0, 1, 0x8000};
  uint16_t got[8];
  k.narrow(got, odd, 8, DType::f16);
  for (int i = 0; i < 8; ++i) wrong += got[i] != want[i];
  for (int i = 0; i < 8; ++i) {  // singly, so that what remains of a vector is tried too
    k.narrow(got, odd + i, 1, DType::f16);
    wrong += got[0] != want[i];
  }
  check("halves", 0, 0, 0, wrong, 0);
}

}  // namespace

int main() {
  const IsaKernels& k = imn::IMN_ISA::table;
  for (int bits : {4, 8}) {
    for (int group : {32, 64, 128}) {
      for (int kk : {group, 3 * group, 1024}) {
        for (int m = 1; m <= kMaxRows; ++m) quantized(k, bits, group, kk, 7, m);
      }
    }
  }
  for (DType dtype : {DType::f32, DType::f16, DType::bf16}) {
    for (int bits : {4, 8}) {
      for (int group : {32, 64, 128}) {
        for (int kk : {group, 3 * group, 512}) {
          for (int m = 1; m <= kInterleavedRows; ++m) interleaved(k, dtype, bits, group, kk, m % 2 ? 1 + 16 * m : 64, m);
        }
      }
    }
    for (int d : {1, 20, 64, 100}) {
      for (int m : {1, 2, 3, 8}) dense_and_attention(k, dtype, d, d == 64 ? 83 : 13, m);
    }
  }
  elementwise(k);
  halves(k);
  extremes::all(k, check);
  std::printf("%s: %d passed, %d failed\n", k.name, passed, failed);
  return failed != 0;
}
