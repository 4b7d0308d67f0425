// The codec's convolutions and LSTM as MLX primitives.
#include "../ops/operations.h"
#include "primitive.h"

namespace imn {
namespace {

class Conv : public Native {
 public:
  Conv(bool transposed, int stride, bool elu)
      : Native(transposed ? "conv_transpose1d" : "conv1d", {double(stride), double(elu)}),
        transposed_(transposed),
        stride_(stride),
        elu_(elu) {}

  std::function<void()> prepare(const std::vector<mx::array>& in, mx::array& out) override {
    const View x = view(in[0]), w = view(in[1]), bias = view(in[2]), residual = in.size() > 3 ? view(in[3]) : View{};
    void* to = allocate(out);
    return [=, this_transposed = transposed_, stride = stride_, elu = elu_, dtype = dtype_of(out)] {
      if (this_transposed)
        conv_transpose1d(x, w, bias, stride, elu, to, dtype);
      else
        conv1d(x, w, bias, stride, elu, residual, to, dtype);
    };
  }
  std::vector<mx::Shape> output_shapes(const std::vector<mx::array>& in) override {
    return {shape_of(in[0], in[1], transposed_, stride_)};
  }
  static mx::Shape shape_of(const mx::array& x, const mx::array& w, bool transposed, int stride) {
    const int l = x.shape(1), k = w.shape(1);
    return {x.shape(0), transposed ? (l - 1) * stride + k : (l - k) / stride + 1, w.shape(0)};
  }

 private:
  bool transposed_;
  int stride_;
  bool elu_;
};

class Lstm : public Native {
 public:
  Lstm() : Native("lstm", {}) {}

  void eval_cpu(const std::vector<mx::array>& in, std::vector<mx::array>& out) override {
    float* after = static_cast<float*>(allocate(out[1]));
    const View before = in.size() > 4 ? view(in[4]) : View{};
    run([x = view(in[0]), w_ih = view(in[1]), w_hh = view(in[2]), bias = view(in[3]), before, to = allocate(out[0]),
         dtype = dtype_of(out[0]), after] { lstm(x, w_ih, w_hh, bias, before, to, dtype, after); });
  }
  std::vector<mx::Shape> output_shapes(const std::vector<mx::array>& in) override {
    return {in[0].shape(), state_shape(in[0])};
  }
  static mx::Shape state_shape(const mx::array& x) { return {2, x.shape(0), x.shape(2)}; }
};

void check_signal(const mx::array& x, const mx::array& w, const mx::array& bias, int stride) {
  need(is_float(x) && x.ndim() == 3 && x.size() > 0, "x");
  need(is_float(w) && w.ndim() == 3 && w.size() > 0 && w.shape(2) == x.shape(2), "w");
  need(is_float(bias) && bias.ndim() == 1 && bias.shape(0) == w.shape(0), "bias");
  need(stride >= 1, "stride");
}

}  // namespace

mx::array conv1d(const mx::array& x, const mx::array& w, const mx::array& bias, int stride, bool elu,
                 const Maybe& residual) {
  check_signal(x, w, bias, stride);
  need(x.shape(1) >= w.shape(1), "x is shorter than the kernel");
  auto shape = Conv::shape_of(x, w, false, stride);
  std::vector<mx::array> inputs{x, w, bias};
  if (residual) {
    need(is_float(*residual) && residual->shape() == shape, "residual");
    inputs.push_back(*residual);
  }
  return make<Conv>(shape, x.dtype(), std::move(inputs), false, stride, elu);
}

mx::array conv_transpose1d(const mx::array& x, const mx::array& w, const mx::array& bias, int stride, bool elu) {
  check_signal(x, w, bias, stride);
  return make<Conv>(Conv::shape_of(x, w, true, stride), x.dtype(), std::vector<mx::array>{x, w, bias}, true, stride, elu);
}

std::vector<mx::array> lstm(const mx::array& x, const mx::array& w_ih, const mx::array& w_hh, const mx::array& bias,
                            const Maybe& state) {
  need(is_float(x) && x.ndim() == 3 && x.size() > 0, "x");
  const int c = x.shape(2);
  need(is_float(w_ih) && is_float(w_hh) && w_ih.shape() == mx::Shape({4 * c, c}) && w_hh.shape() == w_ih.shape(),
       "w_ih or w_hh");
  need(is_float(bias) && bias.shape() == mx::Shape({4 * c}), "bias");
  std::vector<mx::array> inputs{x, w_ih, w_hh, bias};
  if (state) {
    need(state->dtype() == mx::float32 && state->shape() == Lstm::state_shape(x), "state");
    inputs.push_back(*state);
  }
  return mx::array::make_arrays({x.shape(), Lstm::state_shape(x)}, {x.dtype(), mx::float32}, std::make_shared<Lstm>(),
                                inputs);
}

}  // namespace imn
