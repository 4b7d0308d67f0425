// The codec's convolutions as matrix products, and its LSTM.
//
// Signals are channels-last, so k consecutive samples of x are one row of k*C floats, and consecutive windows start
// stride*C apart. A product over stride*C of them at a time reads x in place: no im2col, only ceil(k / stride) products.
#include <algorithm>
#include <cstring>

#include "../runtime/pool.h"
#include "operations.h"

namespace imn {
namespace {

constexpr int64_t kBlockFloats = 48 << 10;  // of input per block: its ELU and the products find it in the L2 cache
constexpr int64_t kShares = 16;             // blocks that a signal is cut into at least, where it is long enough

// w [N, k, C] as float32, contiguous.
const float* weights(const View& w) {
  const int64_t n = w.shape[0], k = w.shape[1], c = w.shape[2];
  if (w.dtype == DType::f32 && w.contiguous()) return static_cast<const float*>(w.data);
  float* flat = scratch(kWeights, n * k * c);
  parallel_for(int(n), [&](int i) { load_rows(flat + i * k * c, w, i * k, (i + 1) * k, c); });
  return flat;
}

// Samples [t0, t1) of row b, widened, through ELU if asked.
const float* samples(const View& x, int64_t b, int64_t t0, int64_t t1, bool elu) {
  const int64_t c = x.shape[2];
  const bool ready = x.dtype == DType::f32 && (x.strides[2] == 1 || c == 1) && x.strides[1] == c;
  if (ready && !elu) return static_cast<const float*>(x.at(b * x.strides[0] + t0 * c));
  float* flat = scratch(kInput, (t1 - t0) * c);
  if (ready)
    std::memcpy(flat, x.at(b * x.strides[0] + t0 * c), size_t((t1 - t0) * c) * 4);
  else
    load_rows(flat, x, b * x.shape[1] + t0, b * x.shape[1] + t1, c);
  if (elu) isa_kernels().elu(flat, (t1 - t0) * c);
  return flat;
}

const float* load_bias(const View& bias) {
  float* flat = scratch(kNorm, bias.shape[0]);
  load(flat, bias, 0, bias.shape[0], bias.strides[0]);
  return flat;
}

// The block size, in steps of `floats` input floats each, that suits the cache and leaves several blocks for every thread.
// It follows from the shape alone, as BLAS rounds differently where a product's edges lie elsewhere.
int64_t block_steps(int64_t steps, int64_t floats) {
  const int64_t by_size = std::max<int64_t>(8, kBlockFloats / std::max<int64_t>(1, floats));
  const int64_t by_share = std::max<int64_t>(8, steps / kShares);
  return std::min(by_size, by_share);
}

// Where a block's sums go: the output itself if it is float32, else scratch that is narrowed afterwards.
float* sums_for(void* out, DType dtype, int64_t at, int64_t count) {
  return dtype == DType::f32 ? static_cast<float*>(out) + at : scratch(kResult, count);
}
void store(void* out, DType dtype, int64_t at, const float* sums, int64_t count) {
  if (dtype != DType::f32) isa_kernels().narrow(static_cast<char*>(out) + at * int64_t(size_of(dtype)), sums, count, dtype);
}

}  // namespace

void conv1d(const View& x, const View& w, const View& bias, int stride, bool elu, const View& residual, void* out,
            DType out_dtype) {
  const int64_t batch = x.shape[0], length = x.shape[1], c = x.shape[2], n = w.shape[0], k = w.shape[1];
  const int64_t steps = (length - k) / stride + 1;
  const float* flat = weights(w);
  const float* added = load_bias(bias);
  // Windows of few channels make products too thin: gather them into rows instead.
  const bool gather = stride * c < 32 && k > stride;
  // Wide weights are packed by BLAS for every block: longer blocks for them.
  const int64_t block = std::max(block_steps(steps, std::max(stride * c, n)), std::min<int64_t>(steps, 64));
  const int64_t blocks = (steps + block - 1) / block;
  const int64_t width = n > 256 && batch * blocks < kShares ? 128 : n;  // few blocks: split the features too
  const int64_t across = (n + width - 1) / width;
  parallel_for(int(batch * blocks * across), [&](int chunk) {
    const int64_t n0 = chunk % across * width, wide = std::min(width, n - n0);
    const int64_t b = chunk / across / blocks, t0 = chunk / across % blocks * block, count = std::min(block, steps - t0);
    const float* in = samples(x, b, t0 * stride, (t0 + count - 1) * stride + k, elu);
    const int64_t at = (b * steps + t0) * n + n0;
    float* sums = sums_for(out, out_dtype, at, count * wide);
    const int64_t ld = out_dtype == DType::f32 ? n : wide;
    for (int64_t t = 0; t < count; ++t) {
      float* row = sums + t * ld;
      std::memcpy(row, added + n0, size_t(wide) * 4);
      if (!residual) continue;
      const View& r = residual;
      float some[128];
      for (int64_t i = 0; i < wide; i += 128) {
        const int64_t m = std::min<int64_t>(128, wide - i);
        load(some, r, b * r.strides[0] + (t0 + t) * r.strides[1] + (n0 + i) * r.strides[2], m, r.strides[2]);
        for (int64_t j = 0; j < m; ++j) row[i + j] += some[j];
      }
    }
    if (gather) {
      float* windows = scratch(kTile, count * k * c);
      for (int64_t t = 0; t < count; ++t) {
        std::memcpy(windows + t * k * c, in + t * stride * c, size_t(k * c) * 4);
      }
      sgemm_nt(count, wide, k * c, windows, k * c, flat + n0 * k * c, k * c, 1.f, sums, ld);
    } else {
      for (int64_t tap = 0; tap < k; tap += stride) {
        const int64_t taps = std::min<int64_t>(stride, k - tap);
        sgemm_nt(count, wide, taps * c, in + tap * c, stride * c, flat + (n0 * k + tap) * c, k * c, 1.f, sums, ld);
      }
    }
    if (out_dtype != DType::f32) {
      for (int64_t t = 0; t < count; ++t) store(out, out_dtype, at + t * n, sums + t * ld, wide);
    }
  });
}

// y[t*stride + j] += x[t] w[:, j]^T. With output rows of `stride` samples, taps [i*stride, (i+1)*stride) of x[t] fall into
// row t + i: ceil(k / stride) products, each added to the rows i further down.
void conv_transpose1d(const View& x, const View& w, const View& bias, int stride, bool elu, void* out, DType out_dtype) {
  const int64_t batch = x.shape[0], length = x.shape[1], c = x.shape[2], n = w.shape[0], k = w.shape[1];
  const int64_t total = (length - 1) * stride + k;
  const int64_t parts = (k + stride - 1) / stride, rows = length - 1 + parts;
  float* taps = scratch(kWeights, k * n * c);  // [k, N, C]
  parallel_for(int(k), [&](int j) {
    for (int64_t i = 0; i < n; ++i) {
      load(taps + (j * n + i) * c, w, i * w.strides[0] + j * w.strides[1], c, w.strides[2]);
    }
  });
  const float* added = load_bias(bias);
  const int64_t block = std::max(block_steps(rows, std::max(c, stride * n)), std::min<int64_t>(rows, 32));
  const int64_t blocks = (rows + block - 1) / block;
  parallel_for(int(batch * blocks), [&](int chunk) {
    const int64_t b = chunk / blocks, u0 = chunk % blocks * block, u1 = std::min(rows, u0 + block);
    const int64_t first = std::max<int64_t>(0, u0 - parts + 1), last = std::min(length, u1);
    const float* in = samples(x, b, first, last, elu);
    const int64_t at = (b * total + u0 * stride) * n, count = (std::min(total, u1 * stride) - u0 * stride) * n;
    float* sums = sums_for(out, out_dtype, at, count);
    for (int64_t i = 0; i < count; i += n) std::memcpy(sums + i, added, size_t(n) * 4);
    for (int64_t part = 0; part < parts; ++part) {
      // Output rows u in [u0, u1) take x[u - part].
      const int64_t from = std::max(u0, part), to = std::min(u1, length + part);
      if (from >= to) continue;
      const int64_t width = std::min<int64_t>(stride, k - part * stride) * n;
      sgemm_nt(to - from, width, c, in + (from - part - first) * c, c, taps + part * stride * n * c, c, 1.f,
               sums + (from - u0) * stride * n, stride * n);
    }
    store(out, out_dtype, at, sums, count);
  });
}

void lstm(const View& x, const View& w_ih, const View& w_hh, const View& bias, const View& before, void* out,
          DType out_dtype, float* after) {
  const int64_t batch = x.shape[0], length = x.shape[1], c = x.shape[2];
  float* gates = scratch(kWeights, batch * length * 4 * c);  // the input's share, for all frames at once
  for (int64_t b = 0; b < batch; ++b) {  // a signal at a time, so that its bits do not depend on the others
    Matmul input;
    input.x = x;
    input.x.data = x.at(b * x.strides[0]);
    input.x.shape[0] = 1;
    input.rows = length;
    input.epilogue.bias = bias;
    input.out = gates + b * length * 4 * c;
    matmul(input, w_ih);
  }

  View w = w_hh;
  if (!w.contiguous_rows()) {
    float* flat = scratch(kTile, 4 * c * c);
    load_rows(flat, w_hh, 0, 4 * c, c);
    w = View{flat, DType::f32, 2, {4 * c, c}, {c, 1}};
  }
  const int64_t ld = padded(c);
  float* hidden = scratch(kKeys, 2 * batch * ld);  // of the last frame and of this one
  float* cell = scratch(kValues, batch * c);
  std::memset(hidden, 0, size_t(2 * batch * ld) * 4);
  if (before) {
    load_rows(hidden, before, 0, batch, ld);
    load_rows(cell, before, batch, 2 * batch, c);
  } else {
    std::memset(cell, 0, size_t(batch * c) * 4);
  }
  const int64_t units = std::clamp<int64_t>(c / (4 * thread_count()) / 8 * 8, 8, 64);
  for (int64_t t = 0; t < length; ++t) {
    const float* last = hidden + t % 2 * batch * ld;
    float* now = hidden + (t + 1) % 2 * batch * ld;
    parallel_for(int((c + units - 1) / units), [&](int chunk) {
      const int64_t j0 = chunk * units, count = std::min(units, c - j0);
      float* sums = scratch(kResult, kMaxRows * 4 * units);  // [row][gate][unit]
      for (int64_t b = 0; b < batch; b += kMaxRows) {
        const int m = int(std::min<int64_t>(kMaxRows, batch - b));
        for (int64_t g = 0; g < 4; ++g) {
          isa_kernels().dense(w.at(g * c * w.strides[0]), w.strides[0], w.dtype, int(c), last + b * ld, ld, m, int(j0),
                              int(j0 + count), sums + g * units - j0, 4 * units);
        }
        for (int i = 0; i < m; ++i) {
          float* row = sums + i * 4 * units;
          const float* share = gates + ((b + i) * length + t) * 4 * c + j0;
          for (int64_t g = 0; g < 4; ++g) {
            for (int64_t j = 0; j < count; ++j) row[g * units + j] += share[g * c + j];
          }
          float* h = now + (b + i) * ld + j0;
          isa_kernels().lstm_cell(row, units, cell + (b + i) * c + j0, h, int(count));
          const int64_t at = ((b + i) * length + t) * c + j0;
          isa_kernels().narrow(static_cast<char*>(out) + at * int64_t(size_of(out_dtype)), h, count, out_dtype);
        }
      }
    });
  }
  for (int64_t b = 0; b < batch; ++b) {
    std::memcpy(after + b * c, hidden + (length % 2 * batch + b) * ld, size_t(c) * 4);
  }
  std::memcpy(after + batch * c, cell, size_t(batch * c) * 4);
}

}  // namespace imn
