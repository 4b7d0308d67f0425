// Products with packed and with dense weights as MLX primitives.
#include "projection_inputs.h"

namespace imn {
namespace {

class Int4Matmul : public Native {
 public:
  Int4Matmul(int group, int bits, Options options, Activations activations)
      : Native("int4_matmul", options.state({double(group), double(bits), double(activations)})),
        group_(group),
        bits_(bits),
        options_(options),
        activations_(activations) {}

  std::function<void()> prepare(const std::vector<mx::array>& in, mx::array& out) override {
    Matmul op;
    op.x = view(in[0]);
    op.rows = op.x.rows();
    options_.read(in, 4, op);
    op.out = allocate(out);
    op.out_dtype = dtype_of(out);
    const PackedMatrix m{view(in[1]), view(in[2]), view(in[3]), group_, bits_};
    return [=, activations = activations_] { m.with([&](const Quantized& q) { matmul(op, q, activations); }); };
  }
  std::vector<mx::Shape> output_shapes(const std::vector<mx::array>& in) override {
    auto shape = in[0].shape();
    shape.back() = in[1].shape(0);
    return {shape};
  }

 private:
  int group_, bits_;
  Options options_;
  Activations activations_;
};

class Linear : public Native {
 public:
  explicit Linear(Options options) : Native("linear", options.state({})), options_(options) {}

  std::function<void()> prepare(const std::vector<mx::array>& in, mx::array& out) override {
    Matmul op;
    op.x = view(in[0]);
    op.rows = op.x.rows();
    options_.read(in, 2, op);
    op.out = allocate(out);
    op.out_dtype = dtype_of(out);
    return [op, w = view(in[1])] { matmul(op, w); };
  }
  std::vector<mx::Shape> output_shapes(const std::vector<mx::array>& in) override {
    auto shape = in[0].shape();
    shape.back() = in[1].shape(0);
    return {shape};
  }

 private:
  Options options_;
};

}  // namespace

mx::array int4_matmul(const mx::array& x, const mx::array& w, const mx::array& scales, const mx::array& biases,
                      int group_size, int bits, const Projection& p, Activations activations) {
  check_packed(w, scales, biases, group_size, bits);
  check_projection(x, w.shape(0), w.shape(1) * 32 / bits, p);
  auto shape = x.shape();
  shape.back() = w.shape(0);
  std::vector<mx::array> inputs{x, w, scales, biases};
  Options::append(p, inputs);
  return make<Int4Matmul>(shape, x.dtype(), std::move(inputs), group_size, bits, Options(p), activations);
}

mx::array linear(const mx::array& x, const mx::array& w, const Projection& p) {
  need(is_float(w) && w.ndim() == 2 && w.size() > 0, "w");
  check_projection(x, w.shape(0), w.shape(1), p);
  auto shape = x.shape();
  shape.back() = w.shape(0);
  std::vector<mx::array> inputs{x, w};
  Options::append(p, inputs);
  return make<Linear>(shape, x.dtype(), std::move(inputs), Options(p));
}

}  // namespace imn
