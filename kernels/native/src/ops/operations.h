// The operations of reference/contract.py on raw memory; each runs to its end on the pool of threads.
#pragma once

#include "../runtime/tensor.h"
#include "activations.h"

namespace imn {

struct NormView {
  View weight, bias;  // [K]; no weight, no norm
  float eps = 0;
};

struct Epilogue {
  View bias;  // [N]
  bool gelu = false;
  View residual;  // [..., N]
};

// residual + activation(norm(x) . w^T + bias) with out contiguous [M, N]. `rows` of x's rows count from the first.
struct Matmul {
  View x;
  int64_t rows = 0;
  NormView norm;
  Epilogue epilogue;
  void* out = nullptr;
  DType out_dtype = DType::f32;
};

void matmul(const Matmul& op, const Quantized& q, Activations activations);
void matmul(const Matmul& op, const Interleaved& w, Activations activations);
void matmul(const Matmul& op, const View& dense);

// q in the interleaved order to w.data, which is w.bytes() long; and back.
void interleave(const Quantized& q, const Interleaved& w);
void deinterleave(const Interleaved& w, uint32_t* words, void* scales, void* biases);

struct Attention {
  View q, k, v;                       // [B,H,T,D], [B,H,S,D]
  View prefix_q, prefix_k, prefix_v;  // [B',H,T,D], [B',H,P,D] or none
  float gate = 0;
  float scale = 1;
  int64_t length = 0;  // keys in use
  bool causal = false;
  View new_k, new_v;  // [B,H,T,D], put at the positions before `length` of k and v first; or none
  View mask;          // [B,H,T,S] by strides, 0 where it broadcasts; or none
  void* out = nullptr;
  DType out_dtype = DType::f32;
  int64_t out_strides[3] = {};  // of B, H and T; D is contiguous
};

void attention(const Attention& op);

// `from`, row by row, to where `to`, of the same shape and with rows without gaps, points; in its dtype.
void copy_rows(const View& from, const View& to);
// `count` elements of `from`, `stride` apart, to `out`, where they have no gaps.
void store(void* out, DType dtype, const View& from, int64_t offset, int64_t count, int64_t stride);

// Weights of the codec [N, k, C], as they come or in panels already. An LSTM's [4C, C] have one tap.
struct PanelWeights {
  View w;
  int64_t n = 0, k = 0, c = 0;
  bool laid_out = false;
};

void conv1d(const View& x, const PanelWeights& w, const View& bias, int stride, bool elu, const View& residual, void* out,
            DType out_dtype);
void conv_transpose1d(const View& x, const PanelWeights& w, const View& bias, int stride, bool elu, void* out,
                      DType out_dtype);
// `before` [2,B,C] holds the hidden and the cell values that the first frame finds, none for zeros; `after`, float32 of the
// same shape, gets those that the last frame leaves.
void lstm(const View& x, const PanelWeights& w_ih, const PanelWeights& w_hh, const View& bias, const View& before, void* out,
          DType out_dtype, float* after);

}  // namespace imn
