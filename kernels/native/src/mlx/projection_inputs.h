// What the primitives with a projection take besides x: a packed matrix, and the norm and epilogue around the product.
#pragma once

#include "../ops/operations.h"
#include "primitive.h"

namespace imn {

struct QuantizedViews {
  View w, scales, biases;
  int group, bits;

  // Calls f with the matrix where it lies, or with copies of the parts that have gaps.
  void with(const std::function<void(const Quantized&)>& f) const;
};

// What a primitive keeps of its packed weights; the arrays are its inputs.
struct WeightsShape {
  bool interleaved;
  int n, k, group, bits;
  DType dtype;

  explicit WeightsShape(const PackedWeights& w);
  size_t arrays() const { return interleaved ? 1 : 3; }
  Interleaved at(const void* data) const { return {static_cast<const uint8_t*>(data), dtype, n, k, group, bits}; }
  // The product with the weights that stand at `first` among the inputs.
  std::function<void(const Matmul&, Activations)> product(const std::vector<mx::array>& in, size_t first) const;
  std::vector<double> state(std::vector<double> more) const {
    more.insert(more.end(), {double(interleaved), double(n), double(k), double(group), double(bits), double(dtype)});
    return more;
  }
};

// Which optional inputs follow the fixed ones, in this order.
struct Options {
  bool bias, residual, norm, gelu;
  float eps;

  explicit Options(const Projection& p)
      : bias(p.bias.has_value()),
        residual(p.residual.has_value()),
        norm(p.norm_weight.has_value()),
        gelu(p.gelu),
        eps(p.eps) {}

  static void append(const Projection& p, std::vector<mx::array>& inputs) {
    for (const Maybe* a : {&p.bias, &p.residual, &p.norm_weight, &p.norm_bias}) {
      if (a->has_value()) inputs.push_back(**a);
    }
  }
  void read(const std::vector<mx::array>& in, size_t at, Matmul& op) const {
    if (bias) op.epilogue.bias = view(in[at++]);
    if (residual) op.epilogue.residual = view(in[at++]);
    if (norm) op.norm.weight = view(in[at++]), op.norm.bias = view(in[at++]), op.norm.eps = eps;
    op.epilogue.gelu = gelu;
  }
  std::vector<double> state(std::vector<double> more) const {
    more.insert(more.end(), {double(bias), double(residual), double(norm), double(gelu), double(eps)});
    return more;
  }
};

// std::invalid_argument unless they fit x [..., k] and a result [..., n].
void check_projection(const mx::array& x, int n, int k, const Projection& p);

}  // namespace imn
