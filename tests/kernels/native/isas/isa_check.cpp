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
#include "isa_packed.h"
#include "isa_panels.h"

namespace imn::IMN_ISA {
extern const IsaKernels table;
}
using namespace imn;

namespace {

void quantized(const IsaKernels& k, int bits, int group, int kk, int n, int m) {
  const PackedCase c(k, DType::f16, bits, group, kk, n, m);
  std::vector<float> dense(size_t(n * padded(kk))), out(size_t(m * n));
  k.dequantize(c.q, 0, n, 0, kk, dense.data(), padded(kk));
  std::vector<float> scale_tables(size_t(table_size(n, kk, group)));
  for (int r = 0; r < m; r += kFloatRows) {
    const int some = m - r < kFloatRows ? m - r : kFloatRows;
    std::vector<float> packed(size_t(k.packed_size(some, kk, group, bits)));
    k.pack(c.row(r), padded(kk), some, kk, group, bits, packed.data());
    k.product(c.q, packed.data(), some, 0, n, scale_tables.data(), out.data() + r * n, n);
  }
  const auto unpacked = [&](int j, int i) { return dense[size_t(j * padded(kk) + i)]; };
  check("dequantize", bits, group, kk, c.worst_unpacked(unpacked), 1.2e-7);
  check("product", bits * 1000 + group, kk, m, c.worst(out), 1e-6);
  for (int width : {8, 16}) {
    if (bits != 4) continue;
    std::vector<float> codes(size_t(k.packed_size_integer(m, kk, group, width)));
    k.pack_integer(c.x.data(), padded(kk), m, kk, group, width, codes.data());
    k.product_integer(c.q, codes.data(), m, 0, n, width, scale_tables.data(), out.data(), n);
    // Half a step of the largest, which is at most 1.3.
    const double bound = width == 8 ? 1.3 / 254 : 1.3 / 65534 + 1e-6;
    check(width == 8 ? "product, 8-bit x" : "product, 16-bit x", bits * 1000 + group, kk, m, c.worst(out), bound);
  }
}

// Interleaved weights: any number of outputs, all activations, groups in two
// parts, and the way there and back.
void interleaved(const IsaKernels& k, DType dtype, int bits, int group, int kk, int n, int m) {
  const PackedCase c(k, dtype, bits, group, kk, n, m);
  const int groups = c.groups;
  Interleaved il{nullptr, dtype, n, kk, group, bits};
  std::vector<uint8_t> data(size_t(il.bytes()), 0xEE);
  il.data = data.data();
  for (int n0 = 0; n0 < n; n0 += kTileOutputs) k.interleave(c.q, il, n0, data.data());
  std::vector<uint32_t> back(c.w.size());
  std::vector<uint8_t> scales(c.scales.size()), biases(c.biases.size());
  for (int n0 = 0; n0 < n; n0 += kTileOutputs) k.deinterleave(il, n0, back.data(), scales.data(), biases.data());
  check("interleave", bits * 1000 + group, kk, n, back != c.w || scales != c.scales || biases != c.biases, 0);

  const int64_t ld = il.tiles() * kTileOutputs;
  std::vector<float> columns(size_t(ld * kk));
  k.interleaved_columns(il, 0, groups, 0, n, columns.data(), ld);
  const auto unpacked = [&](int j, int i) { return columns[size_t(i * ld + j)]; };
  check("interleaved columns", bits * 1000 + group, kk, n, c.worst_unpacked(unpacked), 2.4e-7);
  for (int width : {32, 16, 8}) {
    std::vector<float> arranged(size_t(k.arranged_size(m, kk, group, width))), out(size_t(m * n) + 1, 99.f), parts(out),
        alone(out);
    k.arrange(c.x.data(), padded(kk), m, il, width, arranged.data());
    k.interleaved_product(il, arranged.data(), m, width, 0, groups, 0, n, out.data(), n);
    k.interleaved_product(il, arranged.data(), m, width, 0, groups / 2, 0, n, parts.data(), n);
    if (groups / 2 > 0)
      k.interleaved_product(il, arranged.data(), m, width, groups / 2, groups, 0, n, parts.data(), n);
    else
      parts = out;
    for (int r = 0; r < m; ++r) {
      k.arrange(c.row(r), padded(kk), 1, il, width, arranged.data());
      for (int n0 = 0; n0 < n; n0 += kTileOutputs) {
        k.interleaved_product(il, arranged.data(), 1, width, 0, groups, n0, n0 + kTileOutputs < n ? n0 + kTileOutputs : n,
                              alone.data() + r * n, n);
      }
    }
    const bool differ = std::memcmp(out.data(), parts.data(), out.size() * 4) != 0 ||
                        std::memcmp(out.data(), alone.data(), out.size() * 4) != 0;
    check("interleaved, the same bits in parts and alone", bits * 1000 + group, width, m, differ || out.back() != 99.f, 0);
    // Half a step of the largest, which is at most 1.3.
    const double bound = width == 32 ? 1e-6 : width == 16 ? 1.3 / 65278 + 1e-6 : 1.3 / 254;
    check("interleaved product", bits * 1000 + group, width, m, c.worst(out), bound);
  }
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
  panels::all(k);
  halves(k);
  extremes::all(k, check);
  std::printf("%s: %d passed, %d failed\n", k.name, passed, failed);
  return failed != 0;
}
