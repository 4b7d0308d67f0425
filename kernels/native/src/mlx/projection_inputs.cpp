#include "projection_inputs.h"

namespace imn {
namespace {

// A view without gaps; copied to `store`, as float32, only if it has some.
View packed(const View& v, std::vector<float>& store) {
  if (v.contiguous()) return v;
  const int64_t n = v.last(), rows = v.rows();
  store.resize(size_t(rows * n));
  load_rows(store.data(), v, 0, rows, n);
  View copy = v;
  copy.data = store.data();
  copy.dtype = DType::f32;
  for (int64_t i = v.ndim - 1, stride = 1; i >= 0; --i) {
    copy.strides[i] = stride;
    stride *= v.shape[i];
  }
  return copy;
}

}  // namespace

void QuantizedViews::with(const std::function<void(const Quantized&)>& f) const {
  std::vector<float> kept_w, kept_scales, kept_biases;
  const View w_ = packed(w, kept_w);
  View s_ = packed(scales, kept_scales), b_ = packed(biases, kept_biases);
  auto widen = [](View& v, std::vector<float>& kept) {
    if (v.dtype == DType::f32) return;
    kept.resize(size_t(v.shape[0] * v.shape[1]));
    isa_kernels().widen(kept.data(), v.data, int64_t(kept.size()), v.dtype);
    v.data = kept.data(), v.dtype = DType::f32;
  };
  if (s_.dtype != b_.dtype) widen(s_, kept_scales), widen(b_, kept_biases);  // one of them had gaps
  f(Quantized{static_cast<const uint32_t*>(w_.data), s_.data, b_.data, s_.dtype, int(w_.shape[0]),
              int(w_.shape[1] * 32 / bits), group, bits});
}

void check_projection(const mx::array& x, int n, int k, const Projection& p) {
  need(x.ndim() <= size_t(kMaxDims), "x has more than 8 axes; flatten some");
  need(is_float(x) && x.ndim() >= 1 && x.size() > 0 && x.shape(-1) == k, "x");
  auto vector = [](const Maybe& a, int size) { return !a || (is_float(*a) && a->ndim() == 1 && a->shape(0) == size); };
  need(vector(p.bias, n), "bias");
  need(vector(p.norm_weight, k) && vector(p.norm_bias, k) && p.norm_weight.has_value() == p.norm_bias.has_value(), "norm");
  if (p.residual) {
    auto shape = x.shape();
    shape.back() = n;
    need(p.residual->shape() == shape && p.residual->dtype() == x.dtype(), "residual");
  }
}

PackedWeights quantized_weights(const mx::array& w, const mx::array& scales, const mx::array& biases, int group, int bits) {
  need((bits == 4 || bits == 8) && (group == 32 || group == 64 || group == 128), "bits or group_size");
  need(w.dtype() == mx::uint32 && w.ndim() == 2 && w.size() > 0, "w");
  const int k = w.shape(1) * 32 / bits;
  need(k % group == 0, "K and group_size");
  const mx::Shape want{w.shape(0), k / group};
  need(scales.shape() == want && biases.shape() == want && is_float(scales) && scales.dtype() == biases.dtype(), "scales");
  return {{w, scales, biases}, w.shape(0), k, group, bits, scales.dtype()};
}

PackedWeights interleaved_weights(const mx::array& data, int n, int k, int group, int bits, mx::Dtype dtype) {
  need((bits == 4 || bits == 8) && (group == 32 || group == 64 || group == 128), "bits or group_size");
  need(n > 0 && k > 0 && k % group == 0, "N, K and group_size");
  need(dtype == mx::float32 || dtype == mx::float16 || dtype == mx::bfloat16, "dtype");
  PackedWeights weights{{data}, n, k, group, bits, dtype};
  const int64_t bytes = WeightsShape(weights).at(nullptr).bytes();
  need(data.dtype() == mx::uint8 && data.ndim() == 1 && int64_t(data.size()) == bytes, "data");
  return weights;
}

WeightsShape::WeightsShape(const PackedWeights& w)
    : interleaved(w.interleaved()), n(w.n), k(w.k), group(w.group), bits(w.bits), dtype(dtype_of(w.dtype)) {}

std::function<void(const Matmul&, Activations)> WeightsShape::product(const std::vector<mx::array>& in, size_t first) const {
  if (!interleaved) {
    const QuantizedViews m{view(in[first]), view(in[first + 1]), view(in[first + 2]), group, bits};
    return
        [m](const Matmul& op, Activations activations) { m.with([&](const Quantized& q) { matmul(op, q, activations); }); };
  }
  const Interleaved w = at(in[first].data<void>());
  const int64_t stride = in[first].strides(0);
  return [w, stride](const Matmul& op, Activations activations) {
    if (stride == 1) return matmul(op, w, activations);
    std::vector<uint8_t> copy(size_t(w.bytes()));  // a view with gaps
    for (size_t i = 0; i < copy.size(); ++i) copy[i] = w.data[int64_t(i) * stride];
    Interleaved whole = w;
    whole.data = copy.data();
    matmul(op, whole, activations);
  };
}

}  // namespace imn
