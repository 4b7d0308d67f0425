// The codec's convolutions and LSTM, and the order of their weights, as MLX primitives.
#include "../ops/panels.h"
#include "mlx/ops.h"
#include "primitive.h"
#include "weights_buffer.h"

namespace imn {
namespace {

// [N, C] as [N, 1, C].
View three_axes(View w) {
  if (w.ndim == 3) return w;
  w.ndim = 3, w.shape[2] = w.shape[1], w.strides[2] = w.strides[1];
  w.shape[1] = 1;
  return w;
}

class Conv : public Native {
 public:
  Conv(bool transposed, int stride, bool elu, const CodecWeights& w)
      : Native(transposed ? "conv_transpose1d" : "conv1d",
               {double(stride), double(elu), double(w.n), double(w.k), double(w.c), double(w.laid_out)}),
        transposed_(transposed),
        stride_(stride),
        elu_(elu),
        weights_{{}, w.n, w.k, w.c, w.laid_out} {}

  std::function<void()> prepare(const std::vector<mx::array>& in, mx::array& out) override {
    const View x = view(in[0]), bias = view(in[2]), residual = in.size() > 3 ? view(in[3]) : View{};
    PanelWeights w = weights_;
    w.w = view(in[1]);
    void* to = allocate(out);
    return [=, this_transposed = transposed_, stride = stride_, elu = elu_, dtype = dtype_of(out)] {
      if (this_transposed)
        conv_transpose1d(x, w, bias, stride, elu, to, dtype);
      else
        conv1d(x, w, bias, stride, elu, residual, to, dtype);
    };
  }
  std::vector<mx::Shape> output_shapes(const std::vector<mx::array>& in) override {
    return {shape_of(in[0], int(weights_.n), int(weights_.k), transposed_, stride_)};
  }
  static mx::Shape shape_of(const mx::array& x, int n, int k, bool transposed, int stride) {
    const int l = x.shape(1);
    return {x.shape(0), transposed ? (l - 1) * stride + k : (l - k) / stride + 1, n};
  }

 private:
  bool transposed_;
  int stride_;
  bool elu_;
  PanelWeights weights_;
};

class Lstm : public Native {
 public:
  explicit Lstm(bool laid_out) : Native("lstm", {double(laid_out)}), laid_out_(laid_out) {}

  void eval_cpu(const std::vector<mx::array>& in, std::vector<mx::array>& out) override {
    float* after = static_cast<float*>(allocate(out[1]));
    const View before = in.size() > 4 ? view(in[4]) : View{};
    run([x = view(in[0]), w_ih = weights(in[1], in[0]), w_hh = weights(in[2], in[0]), bias = view(in[3]), before,
         to = allocate(out[0]), dtype = dtype_of(out[0]), after] { lstm(x, w_ih, w_hh, bias, before, to, dtype, after); });
  }
  std::vector<mx::Shape> output_shapes(const std::vector<mx::array>& in) override {
    return {in[0].shape(), state_shape(in[0])};
  }
  static mx::Shape state_shape(const mx::array& x) { return {2, x.shape(0), x.shape(2)}; }

 private:
  PanelWeights weights(const mx::array& w, const mx::array& x) const {
    const int64_t c = x.shape(2);
    return {laid_out_ ? view(w) : three_axes(view(w)), 4 * c, 1, c, laid_out_};
  }

  bool laid_out_;
};

class LayOut : public Native {
 public:
  explicit LayOut(PanelOrder order) : Native("lay_out", {double(order.parts), double(order.stride)}), order_(order) {}

  std::function<void()> prepare(const std::vector<mx::array>& in, mx::array& out) override {
    const View w = three_axes(view(in[0]));
    return [w, order = order_, panels = panels_of(in[0], order_), to = allocate_weights(out)] {
      to.touch();
      fill_panels(w, order, panels, static_cast<float*>(to.data));
    };
  }
  std::vector<mx::Shape> output_shapes(const std::vector<mx::array>& in) override { return {shape_of(in[0], order_)}; }
  static mx::Shape shape_of(const mx::array& w, const PanelOrder& order) {
    const Panels panels = panels_of(w, order);
    return {int(panels.parts * panels.tiles()), int(panels.depth), kTileOutputs};
  }

 private:
  static Panels panels_of(const mx::array& w, const PanelOrder& order) {
    return order.of(w.shape(0), w.ndim() == 3 ? w.shape(1) : 1, w.shape(-1));
  }

  PanelOrder order_;
};

// `order` says what the panels of w must look like.
void check_weights(const CodecWeights& w, const PanelOrder& order, const char* what) {
  if (!w.laid_out) return need(is_float(w.data) && w.data.size() > 0, what);
  const Panels panels = order.of(w.n, w.k, w.c);
  const mx::Shape shape{int(panels.parts * panels.tiles()), int(panels.depth), kTileOutputs};
  need(w.data.dtype() == mx::float32 && w.data.shape() == shape, what);
}

void check_signal(const mx::array& x, const CodecWeights& w, const mx::array& bias, int stride, bool transposed) {
  need(stride >= 1, "stride");
  need(is_float(x) && x.ndim() == 3 && x.size() > 0, "x");
  need(w.c == x.shape(2), "w");
  check_weights(w, {1, transposed ? stride : 0}, "w");
  need(is_float(bias) && bias.ndim() == 1 && bias.shape(0) == w.n, "bias");
}

// Panels are read as they lie.
mx::array as_read(const CodecWeights& w) {
  return w.laid_out ? mx::contiguous(w.data, false, mx::Device(mx::Device::cpu)) : w.data;
}

}  // namespace

CodecWeights codec_weights(const mx::array& data, const std::vector<int>& shape) {
  if (!shape.empty()) {
    need(shape.size() == 3, "w");
    return {data, shape[0], shape[1], shape[2], true};
  }
  need(data.ndim() == 2 || data.ndim() == 3, "w");
  return {data, data.shape(0), data.ndim() == 3 ? data.shape(1) : 1, data.shape(-1), false};
}

mx::array lay_out(const mx::array& w, int parts, int stride) {
  need(is_float(w) && (w.ndim() == 2 || w.ndim() == 3) && w.size() > 0, "w");
  need(stride >= 0 && parts >= 1 && w.shape(0) % parts == 0, "w");
  const PanelOrder order{parts, stride};
  return make<LayOut>(LayOut::shape_of(w, order), mx::float32, std::vector<mx::array>{w}, order);
}

mx::array conv1d(const mx::array& x, const CodecWeights& w, const mx::array& bias, int stride, bool elu,
                 const Maybe& residual) {
  check_signal(x, w, bias, stride, false);
  need(x.shape(1) >= w.k, "x is shorter than the kernel");
  auto shape = Conv::shape_of(x, w.n, w.k, false, stride);
  std::vector<mx::array> inputs{x, as_read(w), bias};
  if (residual) {
    need(is_float(*residual) && residual->shape() == shape, "residual");
    inputs.push_back(*residual);
  }
  return make<Conv>(shape, x.dtype(), std::move(inputs), false, stride, elu, w);
}

mx::array conv_transpose1d(const mx::array& x, const CodecWeights& w, const mx::array& bias, int stride, bool elu) {
  check_signal(x, w, bias, stride, true);
  return make<Conv>(Conv::shape_of(x, w.n, w.k, true, stride), x.dtype(), std::vector<mx::array>{x, as_read(w), bias}, true,
                    stride, elu, w);
}

std::vector<mx::array> lstm(const mx::array& x, const CodecWeights& w_ih, const CodecWeights& w_hh, const mx::array& bias,
                            const Maybe& state) {
  need(is_float(x) && x.ndim() == 3 && x.size() > 0, "x");
  const int c = x.shape(2);
  for (const CodecWeights* w : {&w_ih, &w_hh}) {
    need(w->n == 4 * c && w->k == 1 && w->c == c && w->laid_out == w_ih.laid_out, "w_ih or w_hh");
    check_weights(*w, {4}, "w_ih or w_hh");
  }
  need(is_float(bias) && bias.shape() == mx::Shape({4 * c}), "bias");
  std::vector<mx::array> inputs{x, as_read(w_ih), as_read(w_hh), bias};
  if (state) {
    need(state->dtype() == mx::float32 && state->shape() == Lstm::state_shape(x), "state");
    inputs.push_back(*state);
  }
  return mx::array::make_arrays({x.shape(), Lstm::state_shape(x)}, {x.dtype(), mx::float32},
                                std::make_shared<Lstm>(w_ih.laid_out), inputs);
}

}  // namespace imn
