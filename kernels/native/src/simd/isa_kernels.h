// The inner kernels of one instruction set as a table of functions, and the choice between the sets.
//
// Everything here works on raw pointers and knows nothing of MLX or of threads. Shape letters as in reference/contract.py:
// M rows of a matmul, K in-features, N out-features, S keys, D head dim.
#pragma once

#include <cstddef>
#include <cstdint>

#include "weights.h"

namespace imn {

constexpr int kMaxRows = 8;          // rows of x that one pass over the weights serves
constexpr int kFloatRows = 3;        // the same for packed weights in float32, where the sums of more leave no registers
constexpr int kInterleavedRows = 4;  // the same where the weights are interleaved
constexpr int kMaxLanes = 16;        // floats in the widest vector of any set; rows handed to kernels are padded to this

inline int64_t padded(int64_t n, int64_t to = kMaxLanes) { return (n + to - 1) / to * to; }

// Room for the scales and biases of n rows, as float32.
inline int64_t table_size(int64_t n, int k, int group) { return 2 * n * padded(k / group); }

// Keys or values of a head: `count` rows, `stride` elements apart. `next`, if not null, are rows of the same stride and
// dtype that will be read after these.
struct CachedRows {
  const void* data;
  int64_t stride;
  DType dtype;
  int count;
  const void* next = nullptr;
};

struct IsaKernels {
  const char* name;
  int lanes;
  bool int16_pays;  // whether 16-bit activations are faster than float32 ones

  // n contiguous elements to or from float32 (rounds to nearest even).
  void (*widen)(float* dst, const void* src, int64_t n, DType dtype);
  void (*narrow)(void* dst, const float* src, int64_t n, DType dtype);

  // row = (row - mean) / sqrt(var + eps) * weight + bias
  void (*layer_norm)(float* row, int k, const float* weight, const float* bias, float eps);

  // A row's result never depends on the rows beside it, to the bit: every sum has one order, whatever m is.

  // Floats that `pack` writes for m <= kFloatRows rows.
  int64_t (*packed_size)(int m, int k, int group, int bits);
  // Arranges x [m, ldx] (float32) as `product` reads it, followed by its sums over each group.
  void (*pack)(const float* x, int64_t ldx, int m, int k, int group, int bits, float* packed);
  // out[r * ldo + n] = x_r . dequant(w_n) for rows r < m and n0 <= n < n1: float32 throughout. `scale_tables` has room
  // for table_size(n1 - n0, ...) floats.
  void (*product)(const Quantized& q, const float* packed, int m, int n0, int n1, float* scale_tables, float* out,
                  int64_t ldo);

  // The same with activations rounded to integers of `width` 16 or 8 bits (one scale per row and block of weights), for
  // m <= kMaxRows; only for 4-bit weights.
  int64_t (*packed_size_integer)(int m, int k, int group, int width);
  void (*pack_integer)(const float* x, int64_t ldx, int m, int k, int group, int width, float* packed);
  void (*product_integer)(const Quantized& q, const float* packed, int m, int n0, int n1, int width, float* scale_tables,
                          float* out, int64_t ldo);

  // ---- interleaved weights (weights.h) ----
  // The tile of outputs n0.. (a multiple of kTileOutputs) of q as w has it, to `out` where w.data points; and back.
  void (*interleave)(const Quantized& q, const Interleaved& w, int n0, uint8_t* out);
  void (*deinterleave)(const Interleaved& w, int n0, uint32_t* words, void* scales, void* biases);
  // Floats that `arrange` writes for m <= kInterleavedRows rows; and x [m, ldx] arranged: rounded to integers of `width` 16
  // or 8 bits with a scale for each row and group, or as it is with 32.
  int64_t (*arranged_size)(int m, int k, int group, int width);
  void (*arrange)(const float* x, int64_t ldx, int m, const Interleaved& w, int width, float* arranged);
  // out[r * ldo + n] (plus what is there, if g0 > 0) = x_r . w_n over the groups g0..g1, for n0 <= n < n1; n0 as above.
  void (*interleaved_product)(const Interleaved& w, const float* arranged, int m, int width, int g0, int g1, int n0, int n1,
                              float* out, int64_t ldo);
  // Groups g0..g1 of outputs n0..n1 as float32 columns, ld floats apart; whole tiles are written.
  void (*interleaved_columns)(const Interleaved& w, int g0, int g1, int n0, int n1, float* out, int64_t ld);

  // Columns k0..k1 (whole groups) of rows n0..n1 of the matrix as float32, ld floats apart.
  void (*dequantize)(const Quantized& q, int n0, int n1, int k0, int k1, float* out, int64_t ld);

  // out[r * ldo + n] = x_r . w_n for dense w [N, ldw]; x rows are zero-padded to kMaxLanes; m <= kMaxRows.
  void (*dense)(const void* w, int64_t ldw, DType dtype, int k, const float* x, int64_t ldx, int m, int n0, int n1,
                float* out, int64_t ldo);

  // y[r * ldy + o] += x_r . output o of a panel [k, kTileOutputs], for m rows r, ldx apart (they may overlap), and o <
  // count.
  void (*panel_product)(const float* panel, int64_t k, const float* x, int64_t ldx, int m, float* y, int64_t ldy, int count);

  void (*gelu)(float* x, int64_t n);  // exact (erf) form, in place
  void (*elu)(float* x, int64_t n);   // x > 0 ? x : expm1(x), in place
  // Gates i, f, g, o of n hidden units (each n long, `stride` apart) and the cell: updates cell, writes hidden.
  void (*lstm_cell)(const float* gates, int64_t stride, float* cell, float* hidden, int n);

  // scores[i * lds + s] = q_i . key_s; q rows zero-padded to kMaxLanes.
  void (*scores)(const float* q, int64_t ldq, int nq, int d, const CachedRows& keys, float* scores, int64_t lds);
  // row = exp(row - max(row)); returns the sum.
  float (*softmax)(float* row, int n);
  // out[i * ldo + d] += factor_i * sum_s p[i * ldp + s] * value_s[d]
  void (*weighted_sum)(const float* p, int64_t ldp, int nq, const float* factors, const CachedRows& values, int d,
                       float* out, int64_t ldo);
};

// The instruction set in use: the best the machine has unless forced.
const IsaKernels& isa_kernels();
// Forces an instruction set by name ("auto" for the best); false if this machine or build cannot run it.
bool force_isa(const char* name);
// The instruction sets that this machine and build can run, best first; ends with nullptr.
const char* const* runnable_isas();

}  // namespace imn
