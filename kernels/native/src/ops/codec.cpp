// The codec's convolutions as products with panels.
//
// Signals are channels-last, so k consecutive samples of x are one row of k*C floats, and consecutive windows start stride*C
// apart: the products read x in place, no window is gathered.
#include <algorithm>
#include <cstring>

#include "../runtime/pool.h"
#include "panels.h"

namespace imn {
namespace {

constexpr int64_t kBlockFloats = 64 << 10;  // of input per block: its ELU and the products find it in the L2 cache
constexpr int64_t kFewBlocks = 16;          // of which a signal has so few that its outputs are shared out too
constexpr int64_t kSharedTiles = 4;         // of outputs, that a chunk of such a signal takes

// Samples [t0, t1) of row b, widened, through ELU if asked, to `to` where they are not ready as they lie.
const float* samples(const View& x, int64_t b, int64_t t0, int64_t t1, bool elu, float* to) {
  const int64_t c = x.shape[2];
  const bool ready = x.dtype == DType::f32 && (x.strides[2] == 1 || c == 1) && x.strides[1] == c;
  if (ready && !elu) return static_cast<const float*>(x.at(b * x.strides[0] + t0 * c));
  if (ready)
    std::memcpy(to, x.at(b * x.strides[0] + t0 * c), size_t((t1 - t0) * c) * 4);
  else
    load_rows(to, x, b * x.shape[1] + t0, b * x.shape[1] + t1, c);
  if (elu) isa_kernels().elu(to, (t1 - t0) * c);
  return to;
}

// A convolution's work in chunks: rows of the result, each of `width` outputs, in blocks; and where a signal has few of
// these, some tiles of outputs each.
class Chunks {
 public:
  // `floats` of input or output that a row takes, at most.
  Chunks(const View& x, int64_t rows, int64_t width, int64_t floats, bool elu)
      : x_(x), rows_(rows), width_(width), elu_(elu) {
    block_ = std::clamp<int64_t>(kBlockFloats / floats, 12, 1 << 12);
    blocks_ = (rows + block_ - 1) / block_;
    const bool few = x.shape[0] * blocks_ < kFewBlocks;
    across_ = few ? (width + kSharedTiles * kTileOutputs - 1) / (kSharedTiles * kTileOutputs) : 1;
    step_ = across_ > 1 ? kSharedTiles * kTileOutputs : width;
    if (across_ == 1) return;
    // Every input is needed by several chunks: all of it is made ready beforehand.
    const int64_t length = x.shape[1], c = x.shape[2], some = std::max<int64_t>(1, 4096 / c);
    float* all = scratch(kInput, x.shape[0] * length * c);
    const int64_t pieces = (length + some - 1) / some;
    parallel_for(int(x.shape[0] * pieces), [&](int i) {
      const int64_t b = i / pieces, t0 = i % pieces * some, t1 = std::min(length, t0 + some);
      float* to = all + (b * length + t0) * c;
      const float* from = samples(x, b, t0, t1, elu, to);
      if (from != to) std::memcpy(to, from, size_t((t1 - t0) * c) * 4);
    });
    all_ = all;
  }

  // fn(row of x, first and end row of the result, first and end output)
  template <typename F>
  void run(const F& fn) const {
    parallel_for(int(x_.shape[0] * blocks_ * across_), [&](int chunk) {
      const int64_t n0 = chunk % across_ * step_, u0 = chunk / across_ % blocks_ * block_;
      fn(chunk / across_ / blocks_, u0, std::min(rows_, u0 + block_), n0, std::min(width_, n0 + step_));
    });
  }

  // Samples [t0, t1) of row b.
  const float* input(int64_t b, int64_t t0, int64_t t1) const {
    const int64_t c = x_.shape[2];
    if (all_ != nullptr) return all_ + (b * x_.shape[1] + t0) * c;
    return samples(x_, b, t0, t1, elu_, scratch(kInput, (t1 - t0) * c));
  }

 private:
  const View& x_;
  int64_t rows_, width_, block_, blocks_, across_, step_;
  bool elu_;
  const float* all_ = nullptr;
};

// A chunk's sums [rows, count]: in the output itself if it is float32, else in scratch that is narrowed afterwards.
class Sums {
 public:
  Sums(void* out, DType dtype, int64_t ld, int64_t at, int64_t rows, int64_t count)
      : out_(out), dtype_(dtype), at_(at), ld_(ld), rows_(rows), count_(count) {
    direct_ = dtype == DType::f32;
    data = direct_ ? static_cast<float*>(out) + at : scratch(kResult, rows * count);
    this->ld = direct_ ? ld : count;
  }
  void store() const {
    for (int64_t r = 0; !direct_ && r < rows_; ++r) {
      void* to = static_cast<char*>(out_) + (at_ + r * ld_) * int64_t(size_of(dtype_));
      isa_kernels().narrow(to, data + r * ld, count_, dtype_);
    }
  }
  float* data;
  int64_t ld;

 private:
  void* out_;
  DType dtype_;
  int64_t at_, ld_, rows_, count_;
  bool direct_;
};

// `times` copies of the bias, one behind the other.
const float* load_bias(const View& bias, int64_t times) {
  const int64_t n = bias.shape[0];
  float* flat = scratch(kNorm, times * n);
  load(flat, bias, 0, n, bias.strides[0]);
  for (int64_t i = 1; i < times; ++i) std::memcpy(flat + i * n, flat, size_t(n) * 4);
  return flat;
}

void add(float* row, const View& v, int64_t offset, int64_t count, int64_t stride) {
  float some[128];
  for (int64_t i = 0; i < count; i += 128) {
    const int64_t m = std::min<int64_t>(128, count - i);
    load(some, v, offset + i * stride, m, stride);
    for (int64_t j = 0; j < m; ++j) row[i + j] += some[j];
  }
}

}  // namespace

void conv1d(const View& x, const PanelWeights& w, const View& bias, int stride, bool elu, const View& residual, void* out,
            DType out_dtype) {
  const int64_t c = x.shape[2], n = w.n, k = w.k, steps = (x.shape[1] - k) / stride + 1;
  const Panels panels = panels_of(w, {});
  const float* added = load_bias(bias, 1);
  const Chunks chunks(x, steps, n, std::max(stride * c, n), elu);
  chunks.run([&](int64_t b, int64_t t0, int64_t t1, int64_t n0, int64_t n1) {
    const float* in = chunks.input(b, t0 * stride, (t1 - 1) * stride + k);
    const Sums sums(out, out_dtype, n, (b * steps + t0) * n + n0, t1 - t0, n1 - n0);
    for (int64_t t = t0; t < t1; ++t) {
      float* row = sums.data + (t - t0) * sums.ld;
      std::memcpy(row, added + n0, size_t(n1 - n0) * 4);
      if (const View& r = residual; r) {
        add(row, r, b * r.strides[0] + t * r.strides[1] + n0 * r.strides[2], n1 - n0, r.strides[2]);
      }
    }
    add_product(panels, 0, n0, n1, in, stride * c, t1 - t0, sums.data, sums.ld);
    sums.store();
  });
}

// y[t*stride + j] += x[t] w[:, j]^T. With output rows of `stride` samples, taps [p*stride, (p+1)*stride) of x[t], part p of
// the panels, fall into row t + p.
void conv_transpose1d(const View& x, const PanelWeights& w, const View& bias, int stride, bool elu, void* out,
                      DType out_dtype) {
  const int64_t length = x.shape[1], c = x.shape[2], n = w.n, total = (length - 1) * stride + w.k;
  const Panels panels = panels_of(w, {1, stride});
  const int64_t width = stride * n, rows = length - 1 + panels.parts;
  const int64_t end = (w.k - (panels.parts - 1) * stride) * n;  // of the outputs of the last part, and of the last row
  const float* added = load_bias(bias, stride);
  const Chunks chunks(x, rows, width, std::max(c, width), elu);
  chunks.run([&](int64_t b, int64_t u0, int64_t u1, int64_t n0, int64_t n1) {
    const int64_t first = std::max<int64_t>(0, u0 - panels.parts + 1);
    const float* in = chunks.input(b, first, std::min(length, u1));
    // The last row may end early: it is a range of its own then.
    const auto range = [&](int64_t from, int64_t to, int64_t n1) {
      if (from >= to || n0 >= n1) return;
      const Sums sums(out, out_dtype, width, b * total * n + from * width + n0, to - from, n1 - n0);
      for (int64_t u = from; u < to; ++u) {
        std::memcpy(sums.data + (u - from) * sums.ld, added + n0, size_t(n1 - n0) * 4);
      }
      for (int64_t part = 0; part < panels.parts; ++part) {
        // Output rows u take x[u - part].
        const int64_t v0 = std::max(from, part), v1 = std::min(to, length + part);
        const int64_t last = part + 1 == panels.parts ? std::min(n1, end) : n1;
        if (v0 >= v1 || n0 >= last) continue;
        add_product(panels, part, n0, last, in + (v0 - part - first) * c, c, v1 - v0, sums.data + (v0 - from) * sums.ld,
                    sums.ld);
      }
      sums.store();
    };
    const int64_t whole = end == width ? u1 : std::min(u1, rows - 1);
    range(u0, whole, n1);
    range(whole, u1, std::min(n1, end));
  });
}

}  // namespace imn
