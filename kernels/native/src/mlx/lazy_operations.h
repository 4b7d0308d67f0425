// The operations as lazy MLX arrays; arguments and shapes as in kernels/contract.py. All throw std::invalid_argument for
// arguments that do not fit; the Python side turns that into the message that names the value and the fix.
#pragma once

#include <optional>
#include <variant>

#include "../ops/activations.h"
#include "mlx/array.h"

namespace imn {

namespace mx = mlx::core;
using Maybe = std::optional<mx::array>;

struct Projection {
  bool gelu = false;
  Maybe bias, residual, norm_weight, norm_bias;
  float eps = 0;
};

mx::array int4_matmul(const mx::array& x, const mx::array& w, const mx::array& scales, const mx::array& biases,
                      int group_size, int bits, const Projection& p, Activations activations);
mx::array linear(const mx::array& x, const mx::array& w, const Projection& p);
mx::array prefix_attention(const mx::array& q, const mx::array& k, const mx::array& v, const mx::array& prefix_q,
                           const mx::array& prefix_k, const mx::array& prefix_v, const std::variant<float, mx::array>& gate,
                           float scale, const std::variant<int, mx::array>& length);
mx::array cross_attention(const mx::array& x, const mx::array& w, const mx::array& scales, const mx::array& biases,
                          const mx::array& k, const mx::array& v, float scale, int group_size, int bits, const Projection& p,
                          Activations activations);
mx::array attention(const mx::array& q, const mx::array& k, const mx::array& v, float scale, const Maybe& mask, bool causal);
mx::array conv1d(const mx::array& x, const mx::array& w, const mx::array& bias, int stride, bool elu, const Maybe& residual);
mx::array conv_transpose1d(const mx::array& x, const mx::array& w, const mx::array& bias, int stride, bool elu);
// The result [B,L,C] and the state [2,B,C] after it.
std::vector<mx::array> lstm(const mx::array& x, const mx::array& w_ih, const mx::array& w_hh, const mx::array& bias,
                            const Maybe& state);

}  // namespace imn
