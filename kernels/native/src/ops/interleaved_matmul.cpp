// Projections with interleaved weights.
//
// Up to 8 rows (decoding): every thread streams its share of the outputs once for all rows; that is bound by memory. More
// rows (prefill): a block of weights stays in the L2 cache while the rows pass over it four at a time; that is bound by
// arithmetic. In float32 many rows go through BLAS, over weights dequantized to columns.
#include "projection.h"

namespace imn {
namespace {

constexpr int64_t kPieceBytes = 160 << 10;  // of weights, that a thread takes at once: some 5 us of work
constexpr int64_t kBlockBytes = 320 << 10;  // of weights that stay in the L2 cache while rows pass over them
constexpr int64_t kStreamedRows = 8;        // rows up to which every weight is read from memory once
constexpr int64_t kBlasDepth = 512;         // columns of x and of the weights that one call of BLAS takes, at most

// Bits of what activations are rounded to; 32 for float32.
int activation_width(const Interleaved& w, Activations activations) {
  if (activations == Activations::float32) return 32;
  if (activations == Activations::int8 && w.bits == 4) return 8;
  return w.k >= kLongSum && isa_kernels().int16_pays ? 16 : 32;
}

// Rows of x in tiles of up to kInterleavedRows, arranged for the products.
class ArrangedRows {
 public:
  ArrangedRows(const Matmul& op, const Interleaved& w, int width) : rows_(op.rows), w_(w), width_(width) {
    int64_t ldx;
    const float* x = prologue(op, &ldx);
    const IsaKernels& kernels = isa_kernels();
    size_ = (kernels.arranged_size(kInterleavedRows, w.k, w.group, width) + 15) / 16 * 16;
    data_ = scratch(kPacked, tiles() * size_);
    parallel_for(int(tiles()), [&](int t) {
      kernels.arrange(x + first(t) * ldx, ldx, int(first(t + 1) - first(t)), w, width, data_ + t * size_);
    });
  }

  // Tiles are as even as can be.
  int64_t tiles() const { return (rows_ + kInterleavedRows - 1) / kInterleavedRows; }
  int64_t first(int64_t tile) const { return rows_ * tile / tiles(); }

  // y [rows, ldy] = the outputs n0..n1 of the tiles [t0, t1), block of weights by block; y belongs to n0.
  void product(int64_t t0, int64_t t1, int64_t n0, int64_t n1, float* y, int64_t ldy) const {
    const IsaKernels& kernels = isa_kernels();
    const int64_t row_bytes = w_.groups() * w_.piece_bytes() / kTileOutputs;
    // One tile of rows reads the weights once in any case. A few: two tiles of outputs at a time stay in the cache. Many: as
    // many outputs as come, and of long rows only a part.
    const int64_t across = t1 - t0 == 1 ? n1 - n0 : rows_ <= kStreamedRows ? 2 * kTileOutputs : n1 - n0;
    const int64_t depth = t1 - t0 == 1
                              ? w_.groups()
                              : std::max<int64_t>(1, kBlockBytes * w_.groups() / (std::min(across, n1 - n0) * row_bytes));
    for (int64_t n = n0; n < n1; n += across) {
      const int64_t end = std::min(n1, n + across);
      for (int64_t g = 0; g < w_.groups(); g += depth) {
        for (int64_t t = t0; t < t1; ++t) {
          kernels.interleaved_product(w_, data_ + t * size_, int(first(t + 1) - first(t)), width_, int(g),
                                      int(std::min(w_.groups(), g + depth)), int(n), int(end),
                                      y + (first(t) - first(t0)) * ldy - n0, ldy);
        }
      }
    }
  }

 private:
  int64_t rows_;
  const Interleaved& w_;
  int width_;
  int64_t size_;
  float* data_;
};

void gemv(const Matmul& op, const Interleaved& w, int width) {
  const ArrangedRows x(op, w, width);
  const int64_t row_bytes = w.groups() * w.piece_bytes() / kTileOutputs;
  const int64_t step = std::clamp<int64_t>(kPieceBytes / row_bytes / kTileOutputs, 1, 8) * kTileOutputs;
  parallel_shares(int((w.n + step - 1) / step), [&](int piece) {
    const int64_t n0 = piece * step, n1 = std::min<int64_t>(w.n, n0 + step);
    const float* bias = load_bias(op.epilogue, n0, n1);
    const bool direct = op.out_dtype == DType::f32;
    float* y = direct ? static_cast<float*>(op.out) + n0 : scratch(kResult, op.rows * step);
    const int64_t ldy = direct ? w.n : step;
    x.product(0, x.tiles(), n0, n1, y, ldy);
    for (int64_t r = 0; r < op.rows; ++r) epilogue(op, w.n, y + r * ldy, bias, r, n0, n1);
  });
}

// Many rows in integers: the chunks' rows are whole tiles.
void integer_gemm(const Matmul& op, const Interleaved& w, int width) {
  const ArrangedRows x(op, w, width);
  constexpr int64_t kAcross = 8 * kTileOutputs;
  const int64_t pieces = (w.n + kAcross - 1) / kAcross;
  // Few pieces: the rows are split too.
  const int64_t down = std::clamp<int64_t>((8 + pieces - 1) / pieces, 1, (x.tiles() + 7) / 8);
  parallel_shares(int(pieces * down), [&](int i) {
    const int64_t n0 = i / down * kAcross, n1 = std::min<int64_t>(w.n, n0 + kAcross);
    const int64_t t0 = x.tiles() * (i % down) / down, t1 = x.tiles() * (i % down + 1) / down;
    const int64_t r0 = x.first(t0), r1 = x.first(t1);
    const float* bias = load_bias(op.epilogue, n0, n1);
    const bool direct = op.out_dtype == DType::f32;
    float* y = direct ? static_cast<float*>(op.out) + r0 * w.n + n0 : scratch(kResult, (r1 - r0) * kAcross);
    const int64_t ldy = direct ? w.n : kAcross;
    x.product(t0, t1, n0, n1, y, ldy);
    for (int64_t r = r0; r < r1; ++r) epilogue(op, w.n, y + (r - r0) * ldy, bias, r, n0, n1);
  });
}

void float_gemm(const Matmul& op, const Interleaved& w) {
  int64_t ldx;
  const float* x = prologue(op, &ldx);
  const int64_t depth = kBlasDepth / w.group;
  gemm(op, w.n, [&](const Chunk& c, float* y, int64_t ldy) {
    const int64_t ld = (c.n1 - c.n0 + kTileOutputs - 1) / kTileOutputs * kTileOutputs;
    float* columns = scratch(kTile, kBlasDepth * ld);
    for (int64_t g = 0; g < w.groups(); g += depth) {
      const int64_t end = std::min(w.groups(), g + depth), k0 = g * w.group;
      isa_kernels().interleaved_columns(w, int(g), int(end), int(c.n0), int(c.n1), columns, ld);
      sgemm_nn(c.r1 - c.r0, c.n1 - c.n0, end * w.group - k0, x + c.r0 * ldx + k0, ldx, columns, ld, g == 0 ? 0.f : 1.f, y,
               ldy);
    }
  });
}

}  // namespace

void matmul(const Matmul& op, const Interleaved& w, Activations activations) {
  const int width = activation_width(w, activations);
  if (op.rows <= kStreamedRows || (width == 32 && op.rows <= kGemvRows)) return gemv(op, w, width);
  if (width == 32) return float_gemm(op, w);
  integer_gemm(op, w, width);
}

void interleave(const Quantized& q, const Interleaved& w) {
  parallel_for(int(w.tiles()),
               [&](int tile) { isa_kernels().interleave(q, w, tile * kTileOutputs, const_cast<uint8_t*>(w.data)); });
}

void deinterleave(const Interleaved& w, uint32_t* words, void* scales, void* biases) {
  parallel_for(int(w.tiles()), [&](int tile) { isa_kernels().deinterleave(w, tile * kTileOutputs, words, scales, biases); });
}

}  // namespace imn
