// Projections: a norm before, a product with packed or dense weights, an epilogue after.
//
// Few rows (decoding): every chunk streams its own rows of the weights once for all rows of x; that is bound by memory.
// Many rows (prefill): every chunk dequantizes a tile of the weights and hands it to BLAS; that is bound by arithmetic.
// With int8 activations the first way is taken for any number of rows, eight at a time over a tile that stays in cache.
#include "projection.h"

namespace imn {
namespace {

constexpr int64_t kTileDepth = 512;         // columns of x and of the weights that one call of BLAS takes, at most
constexpr int64_t kChunkBytes = 256 << 10;  // of weights: some 15 us of work, and fits the L2 cache for many tiles of x

int64_t chunk_rows(int64_t n, int64_t row_bytes) {
  constexpr int64_t kMultiple = 24;  // what the kernels of packed weights take at once, and so of their 1, 2, 3 or 4 rows
  const int64_t by_size = kChunkBytes / std::max<int64_t>(1, row_bytes);
  const int64_t by_share = n / (4 * thread_count());
  return std::max<int64_t>(1, std::min(by_size, by_share) / kMultiple) * kMultiple;
}

// Few rows: every chunk streams its own rows of the weights. product(first row of x, rows of x, n0, n1, y, ld) fills y for
// `at_once` rows at most.
template <typename Product>
void gemv(const Matmul& op, int at_once, int64_t n, int64_t row_bytes, const Product& product) {
  const int64_t step = chunk_rows(n, row_bytes);
  parallel_for(int((n + step - 1) / step), [&](int chunk) {
    const int64_t n0 = chunk * step, n1 = std::min(n, n0 + step);
    const float* bias = load_bias(op.epilogue, n0, n1);
    float* y = scratch(kResult, at_once * step);
    for (int64_t r = 0; r < op.rows; r += at_once) {
      const int m = int(std::min<int64_t>(at_once, op.rows - r));
      product(r, m, int(n0), int(n1), y - n0, step);
      for (int i = 0; i < m; ++i) epilogue(op, n, y + i * step, bias, r + i, n0, n1);
    }
  });
}

// Many rows: every chunk is a product of BLAS. tile(n0, n1, k0, k1, &ld) gives that part of the weights as float32.
//
// BLAS rounds a product differently where its edges lie elsewhere, so its tiles follow from the shape alone. They are wide
// enough that BLAS packs x seldom; and as deep as the L2 cache holds, so that BLAS finds there what was just dequantized.
template <typename Tile>
void blas(const Matmul& op, int64_t n, int64_t k, const float* x, int64_t ldx, const Tile& tile) {
  gemm(op, n, [&](const Chunk& c, float* y, int64_t ldy) {
    for (int64_t k0 = 0; k0 < k; k0 += kTileDepth) {
      const int64_t k1 = std::min(k, k0 + kTileDepth);
      int64_t ldw;
      const float* w = tile(c.n0, c.n1, k0, k1, &ldw);
      sgemm_nt(c.r1 - c.r0, c.n1 - c.n0, k1 - k0, x + c.r0 * ldx + k0, ldx, w, ldw, k0 == 0 ? 0.f : 1.f, y, ldy);
    }
  });
}

// Bits of the integers that activations are rounded to, 0 for none.
int integer_width(const Matmul& op, const Quantized& q, Activations activations) {
  if (q.bits != 4 || activations == Activations::float32) return 0;
  if (activations == Activations::int8) return 8;
  return q.k >= kLongSum && op.rows <= kGemvRows && isa_kernels().int16_pays ? 16 : 0;
}

}  // namespace

void matmul(const Matmul& op, const Quantized& q, Activations activations) {
  const IsaKernels& k = isa_kernels();
  const int width = integer_width(op, q, activations);
  int64_t ldx;
  const float* x = prologue(op, &ldx);
  if (op.rows > kGemvRows && width == 0) {
    blas(op, q.n, q.k, x, ldx, [&](int64_t n0, int64_t n1, int64_t k0, int64_t k1, int64_t* ld) {
      *ld = padded(k1 - k0);
      float* tile = scratch(kTile, (n1 - n0) * *ld);
      k.dequantize(q, int(n0), int(n1), int(k0), int(k1), tile, *ld);
      return tile;
    });
    return;
  }
  const int at_once = width != 0 ? kMaxRows : kFloatRows;
  const int64_t size =
      width != 0 ? k.packed_size_integer(at_once, q.k, q.group, width) : k.packed_size(at_once, q.k, q.group, q.bits);
  const int64_t tiles = (op.rows + at_once - 1) / at_once;
  float* packed = scratch(kPacked, tiles * size);
  parallel_for(int(tiles), [&](int t) {
    const int64_t r = int64_t(t) * at_once;
    const int m = int(std::min<int64_t>(at_once, op.rows - r));
    if (width != 0)
      k.pack_integer(x + r * ldx, ldx, m, q.k, q.group, width, packed + t * size);
    else
      k.pack(x + r * ldx, ldx, m, q.k, q.group, q.bits, packed + t * size);
  });
  gemv(op, at_once, q.n, int64_t(q.k) * q.bits / 8, [&](int64_t r, int m, int n0, int n1, float* y, int64_t ld) {
    const float* tile = packed + r / at_once * size;
    float* scale_tables = scratch(kTile, table_size(n1 - n0, q.k, q.group));
    if (width != 0)
      k.product_integer(q, tile, m, n0, n1, width, scale_tables, y, ld);
    else
      k.product(q, tile, m, n0, n1, scale_tables, y, ld);
  });
}

void matmul(const Matmul& op, const View& w) {
  const IsaKernels& kern = isa_kernels();
  const int64_t n = w.shape[0], k = w.shape[1];
  int64_t ldx;
  const float* x = prologue(op, &ldx);
  const bool rows_ready = w.contiguous_rows();
  if (op.rows <= kGemvRows && rows_ready) {
    gemv(op, kMaxRows, n, k * int64_t(size_of(w.dtype)), [&](int64_t r, int m, int n0, int n1, float* y, int64_t ld) {
      kern.dense(w.data, w.strides[0], w.dtype, int(k), x + r * ldx, ldx, m, n0, n1, y, ld);
    });
  } else {
    blas(op, n, k, x, ldx, [&](int64_t n0, int64_t n1, int64_t k0, int64_t k1, int64_t* ld) -> const float* {
      if (w.dtype == DType::f32 && rows_ready && w.strides[0] >= k) {
        *ld = w.strides[0];
        return static_cast<const float*>(w.at(n0 * w.strides[0] + k0));
      }
      *ld = padded(k1 - k0);
      float* tile = scratch(kTile, (n1 - n0) * *ld);
      for (int64_t i = n0; i < n1; ++i) {
        load(tile + (i - n0) * *ld, w, i * w.strides[0] + k0 * w.strides[1], k1 - k0, w.strides[1]);
      }
      return tile;
    });
  }
}

}  // namespace imn
