// Strided views of arrays, per-thread scratch memory, and the float32 matrix product: what the operations share.
#pragma once

#include <cstdint>

#include "../simd/isa_kernels.h"

namespace imn {

constexpr int kMaxDims = 8;

// Data that somebody else owns. Strides count elements.
struct View {
  const void* data = nullptr;
  DType dtype = DType::f32;
  int ndim = 0;
  int64_t shape[kMaxDims] = {};
  int64_t strides[kMaxDims] = {};

  explicit operator bool() const { return data != nullptr; }
  int64_t last() const { return shape[ndim - 1]; }
  // Rows along all axes but the last.
  int64_t rows() const;
  // Elements from `data` to the first of row `row`.
  int64_t row_offset(int64_t row) const;
  const void* at(int64_t offset) const { return static_cast<const char*>(data) + offset * int64_t(size_of(dtype)); }
  bool contiguous_rows() const { return last() == 1 || strides[ndim - 1] == 1; }
  bool contiguous() const;
};

// `count` elements, `stride` apart, as float32.
void load(float* dst, const View& v, int64_t offset, int64_t count, int64_t stride);
// Rows r0..r1 (all axes but the last flattened) as float32, ld floats apart, zero from the row's end to ld.
void load_rows(float* dst, const View& v, int64_t r0, int64_t r1, int64_t ld);

// At least n floats, aligned to 64 bytes, private to the calling thread and the slot. Contents are left from last time.
enum Slot {
  kInput,
  kPacked,
  kTile,
  kResult,
  kWeights,
  kVector,
  kNorm,
  kQueries,
  kExtra,
  kKeys,
  kValues,
  kPrefixKeys,
  kPrefixValues,
  kScores,
  kSlots
};
float* scratch(Slot slot, int64_t n);
// Gives back buffers of the calling thread beyond what decoding needs.
void trim_scratch();

// C [m, n] = A [m, k] . B [n, k]^T + beta C, or with B [k, n]; row-major, on the calling thread alone.
void sgemm_nt(int64_t m, int64_t n, int64_t k, const float* a, int64_t lda, const float* b, int64_t ldb, float beta,
              float* c, int64_t ldc);
void sgemm_nn(int64_t m, int64_t n, int64_t k, const float* a, int64_t lda, const float* b, int64_t ldb, float beta,
              float* c, int64_t ldc);
// Uses the cblas in this shared library (OpenBLAS from scipy-openblas32); false if it has none.
bool load_blas(const char* path);
// "OpenBLAS ...", "Accelerate" or "built-in".
const char* blas_name();

}  // namespace imn
