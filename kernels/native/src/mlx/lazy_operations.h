// The operations as lazy MLX arrays; arguments and shapes as in reference/contract.py. All throw std::invalid_argument for
// arguments that do not fit; the Python side turns that into the message that names the value and the fix.
#pragma once

#include <optional>
#include <variant>
#include <vector>

#include "../ops/activations.h"
#include "mlx/array.h"

namespace imn {

namespace mx = mlx::core;
using Maybe = std::optional<mx::array>;

// Packed weights [n, k]: words, scales and biases as mx.quantize makes them; or, interleaved, one array of bytes
// (simd/weights.h) with scales and biases of `dtype`.
struct PackedWeights {
  std::vector<mx::array> arrays;
  int n, k, group, bits;
  mx::Dtype dtype;

  bool interleaved() const { return arrays.size() == 1; }
};
PackedWeights quantized_weights(const mx::array& w, const mx::array& scales, const mx::array& biases, int group, int bits);
PackedWeights interleaved_weights(const mx::array& data, int n, int k, int group, int bits, mx::Dtype dtype);

// Quantized weights as an interleaved array of bytes; and back: part 0 the words, 1 the scales, 2 the biases.
mx::array interleave(const PackedWeights& quantized);
mx::array deinterleave(const PackedWeights& interleaved, int part);
// Interleaved bytes from a file, one part behind the other, in memory as `interleave` gives it: the file's own, if it is
// mapped (file_primitives.h).
mx::array settle(const std::vector<mx::array>& parts);

struct Projection {
  bool gelu = false;
  Maybe bias, residual, norm_weight, norm_bias;
  float eps = 0;
};

mx::array int4_matmul(const mx::array& x, const PackedWeights& w, const Projection& p, Activations activations);
mx::array linear(const mx::array& x, const mx::array& w, const Projection& p);
mx::array prefix_attention(const mx::array& q, const mx::array& k, const mx::array& v, const mx::array& prefix_q,
                           const mx::array& prefix_k, const mx::array& prefix_v, const std::variant<float, mx::array>& gate,
                           float scale, const std::variant<int, mx::array>& length);
mx::array cross_attention(const mx::array& x, const PackedWeights& w, const mx::array& k, const mx::array& v, float scale,
                          const Projection& p, Activations activations);
mx::array attention(const mx::array& q, const mx::array& k, const mx::array& v, float scale, const Maybe& mask, bool causal);
// cache [2,B,H,S,D] with kv [2,b,H,T,D] at `position` of rows first, first + step, ...; in the cache's dtype.
mx::array write_cache(const mx::array& cache, const mx::array& kv, int position, int first, int step);

// Where in a cache [2,B,H,S,D]: at `position` of `count` rows first, first + step, ...
struct CacheRows {
  int position, first, step, count;
};
// qkv [b,T,3 H D] and a cache; a prefix is q [B',H,n,D], k and v [B',H,P,D], or nothing. The result [b,T,H D] and the cache.
std::vector<mx::array> self_attention(const mx::array& qkv, const mx::array& cache, const CacheRows& at,
                                      const std::vector<mx::array>& prefix, const std::variant<float, mx::array>& gate,
                                      int query_row, float scale);
// Weights [n, k, c] of the codec, an LSTM's with one tap: as they come, or as `lay_out` has them.
struct CodecWeights {
  mx::array data;
  int n, k, c;
  bool laid_out;
};
// `shape` is that of weights which are laid out; empty for others.
CodecWeights codec_weights(const mx::array& data, const std::vector<int>& shape);
// w [n, k, c] or [n, c] as panels (simd/weights.h): of so many equal parts of its outputs; or, with a stride, for a
// transposed convolution.
mx::array lay_out(const mx::array& w, int parts, int stride);

mx::array conv1d(const mx::array& x, const CodecWeights& w, const mx::array& bias, int stride, bool elu,
                 const Maybe& residual);
mx::array conv_transpose1d(const mx::array& x, const CodecWeights& w, const mx::array& bias, int stride, bool elu);
// The result [B,L,C] and the state [2,B,C] after it.
std::vector<mx::array> lstm(const mx::array& x, const CodecWeights& w_ih, const CodecWeights& w_hh, const mx::array& bias,
                            const Maybe& state);

}  // namespace imn
