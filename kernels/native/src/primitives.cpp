#include "primitives.h"

#include <cstring>
#include <functional>
#include <stdexcept>
#include <variant>

#include "mlx/allocator.h"
#include "mlx/backend/cpu/encoder.h"
#include "mlx/ops.h"
#include "mlx/primitives.h"
#include "mlx/utils.h"
#include "operations.h"

namespace imn {
namespace {

void need(bool ok, const char* what) {
  if (!ok) throw std::invalid_argument(std::string("native: ") + what);
}

bool is_float(const mx::array& a) {
  return a.dtype() == mx::float32 || a.dtype() == mx::float16 || a.dtype() == mx::bfloat16;
}

DType dtype_of(const mx::array& a) {
  return a.dtype() == mx::float16 ? DType::f16 : (a.dtype() == mx::bfloat16 ? DType::bf16 : DType::f32);
}

// uint32 words count as float32: they are only ever moved.
View view(const mx::array& a) {
  View v;
  v.data = a.data<void>();
  v.dtype = dtype_of(a);
  v.ndim = int(a.ndim());
  for (int i = 0; i < v.ndim; ++i) {
    v.shape[i] = a.shape(i);
    v.strides[i] = a.strides(i);
  }
  if (v.ndim == 0) v.ndim = 1, v.shape[0] = 1, v.strides[0] = 1;
  return v;
}

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

struct PackedMatrix {
  View w, scales, biases;
  int group, bits;

  template <typename F>
  void with(const F& f) const {
    std::vector<float> kept_w, kept_scales, kept_biases;
    const View w_ = packed(w, kept_w);
    View s_ = packed(scales, kept_scales), b_ = packed(biases, kept_biases);
    auto widen = [](View& v, std::vector<float>& kept) {
      if (v.dtype == DType::f32) return;
      kept.resize(size_t(v.shape[0] * v.shape[1]));
      kernels().widen(kept.data(), v.data, int64_t(kept.size()), v.dtype);
      v.data = kept.data(), v.dtype = DType::f32;
    };
    if (s_.dtype != b_.dtype) widen(s_, kept_scales), widen(b_, kept_biases);  // one of them had gaps
    f(Quantized{static_cast<const uint32_t*>(w_.data), s_.data, b_.data, s_.dtype, int(w_.shape[0]),
                int(w_.shape[1] * 32 / bits), group, bits});
  }
};

// What every primitive here has in common: CPU only, one output, no gradient, no vmap.
class Native : public mx::Primitive {
 public:
  explicit Native(const char* name, std::vector<double> state)
      : mx::Primitive(mx::default_stream(mx::Device(mx::Device::cpu))), name_(name), state_(std::move(state)) {}

  // Allocates the output and gives the work to be done on the stream's thread.
  virtual std::function<void()> prepare(const std::vector<mx::array>& in, mx::array& out) = 0;

  void eval_cpu(const std::vector<mx::array>& in, std::vector<mx::array>& out) override {
    auto work = prepare(in, out[0]);
    mx::cpu::get_command_encoder(stream()).dispatch([work = std::move(work)] {
      work();
      trim_scratch();
    });
  }
  void eval_gpu(const std::vector<mx::array>&, std::vector<mx::array>&) override {
    throw std::runtime_error(message("runs on the CPU only; use the metal backend on a GPU"));
  }
  std::vector<mx::array> jvp(const std::vector<mx::array>&, const std::vector<mx::array>&, const std::vector<int>&) override {
    throw std::runtime_error(message("has no gradient; differentiate the reference backend's"));
  }
  std::vector<mx::array> vjp(const std::vector<mx::array>&, const std::vector<mx::array>&, const std::vector<int>&,
                             const std::vector<mx::array>&) override {
    throw std::runtime_error(message("has no gradient; differentiate the reference backend's"));
  }
  std::pair<std::vector<mx::array>, std::vector<int>> vmap(const std::vector<mx::array>&, const std::vector<int>&) override {
    throw std::runtime_error(message("cannot be vmapped; give it the batch as an axis, or vmap the reference backend's"));
  }
  const char* name() const override { return name_; }
  bool is_equivalent(const mx::Primitive& other) const override {
    return std::strcmp(name_, other.name()) == 0 && state_ == static_cast<const Native&>(other).state_;
  }

 protected:
  std::string message(const char* what) const { return std::string(name_) + " of the native backend " + what; }
  static void* allocate(mx::array& out) {
    out.set_data(mx::allocator::malloc(out.nbytes()));
    return out.data<void>();
  }

 private:
  const char* name_;
  std::vector<double> state_;  // everything but the inputs that the result depends on
};

template <typename P, typename... Args>
mx::array make(mx::Shape shape, mx::Dtype dtype, std::vector<mx::array> inputs, Args&&... args) {
  return mx::array(std::move(shape), dtype, std::make_shared<P>(std::forward<Args>(args)...), std::move(inputs));
}

// --- projections ---------------------------------------------------------------------------------------------------

// Which optional inputs follow the fixed ones, in this order.
struct Options {
  bool bias, residual, norm, gelu;
  float eps;

  explicit Options(const Projection& p)
      : bias(p.bias.has_value()), residual(p.residual.has_value()), norm(p.norm_weight.has_value()), gelu(p.gelu), eps(p.eps) {}

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

void check_projection(const mx::array& x, int n, int k, const Projection& p) {
  need(is_float(x) && x.ndim() >= 1 && x.ndim() <= size_t(kMaxDims) && x.size() > 0 && x.shape(-1) == k, "x");
  auto vector = [](const Maybe& a, int size) { return !a || (is_float(*a) && a->ndim() == 1 && a->shape(0) == size); };
  need(vector(p.bias, n), "bias");
  need(vector(p.norm_weight, k) && vector(p.norm_bias, k) && p.norm_weight.has_value() == p.norm_bias.has_value(), "norm");
  if (p.residual) {
    auto shape = x.shape();
    shape.back() = n;
    need(p.residual->shape() == shape && p.residual->dtype() == x.dtype(), "residual");
  }
}

void check_packed(const mx::array& w, const mx::array& scales, const mx::array& biases, int group, int bits) {
  need((bits == 4 || bits == 8) && (group == 32 || group == 64 || group == 128), "bits or group_size");
  need(w.dtype() == mx::uint32 && w.ndim() == 2 && w.size() > 0, "w");
  const int k = w.shape(1) * 32 / bits;
  need(k % group == 0, "K and group_size");
  const mx::Shape want{w.shape(0), k / group};
  need(scales.shape() == want && biases.shape() == want && is_float(scales) && scales.dtype() == biases.dtype(), "scales");
}

class Int4Matmul : public Native {
 public:
  Int4Matmul(int group, int bits, Options options, Activations activations)
      : Native("int4_matmul", options.state({double(group), double(bits), double(activations)})),
        group_(group), bits_(bits), options_(options), activations_(activations) {}

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

// --- attention -----------------------------------------------------------------------------------------------------

// The output [B,H,T,D] laid out as [B,T,H,D], so that joining the heads afterwards is free.
void allocate_heads(mx::array& out, Attention& op) {
  const int64_t h = out.shape(1), t = out.shape(2), d = out.shape(3);
  const mx::Strides strides{t * h * d, d, h * d, 1};
  mx::array::Flags flags{true, h == 1 || t == 1, out.size() == size_t(d)};
  out.set_data(mx::allocator::malloc(out.nbytes()), out.size(),
               flags.row_contiguous ? mx::Strides{h * t * d, t * d, d, 1} : strides, flags);
  op.out = out.data<void>();
  op.out_dtype = dtype_of(out);
  for (int i = 0; i < 3; ++i) op.out_strides[i] = strides[i];
}

bool is_heads(const mx::array& a) {
  return is_float(a) && a.ndim() == 4 && a.size() > 0;
}

class PrefixAttention : public Native {
 public:
  // Without a value, gate and length are further inputs.
  PrefixAttention(std::optional<float> gate, float scale, std::optional<int> length)
      : Native("prefix_attention", {gate.value_or(0), double(gate.has_value()), scale, double(length.value_or(0))}),
        gate_(gate), length_(length), scale_(scale) {}

  std::function<void()> prepare(const std::vector<mx::array>& in, mx::array& out) override {
    Attention op;
    op.q = view(in[0]), op.k = view(in[1]), op.v = view(in[2]);
    op.prefix_q = view(in[3]), op.prefix_k = view(in[4]), op.prefix_v = view(in[5]);
    op.scale = scale_;
    op.causal = true;
    allocate_heads(out, op);
    size_t at = 6;
    View gate, length;
    if (gate_) op.gate = *gate_;
    else gate = view(in[at++]);
    if (length_) op.length = *length_;
    else length = view(in[at++]);
    return [=]() mutable {
      if (gate) load(&op.gate, gate, 0, 1, 1);
      if (length) {
        op.length = *static_cast<const int32_t*>(length.data);
        if (op.length > op.k.shape[2] || op.length < op.q.shape[2]) {
          throw std::invalid_argument("length=" + std::to_string(op.length) + " does not fit " +
                                      std::to_string(op.q.shape[2]) + " queries and a cache of " +
                                      std::to_string(op.k.shape[2]) + " slots; allocate a longer cache");
        }
      }
      attention(op);
    };
  }
  std::vector<mx::Shape> output_shapes(const std::vector<mx::array>& in) override { return {in[0].shape()}; }

 private:
  std::optional<float> gate_;
  std::optional<int> length_;
  float scale_;
};

class PlainAttention : public Native {
 public:
  PlainAttention(float scale, bool causal)
      : Native("attention", {scale, double(causal)}), scale_(scale), causal_(causal) {}

  std::function<void()> prepare(const std::vector<mx::array>& in, mx::array& out) override {
    Attention op;
    op.q = view(in[0]), op.k = view(in[1]), op.v = view(in[2]);
    op.scale = scale_;
    op.causal = causal_;
    op.length = op.k.shape[2];
    if (in.size() > 3) {
      const View mask = view(in[3]);
      op.mask = mask;
      op.mask.ndim = 4;
      const int64_t want[4] = {op.q.shape[0], op.q.shape[1], op.q.shape[2], op.k.shape[2]};
      for (int i = 0; i < 4; ++i) {
        const int from = i - (4 - int(in[3].ndim()));
        op.mask.shape[i] = want[i];
        op.mask.strides[i] = from < 0 || in[3].shape(from) == 1 ? 0 : mask.strides[from];
      }
    }
    allocate_heads(out, op);
    return [op] { attention(op); };
  }
  std::vector<mx::Shape> output_shapes(const std::vector<mx::array>& in) override { return {in[0].shape()}; }

 private:
  float scale_;
  bool causal_;
};

class CrossAttention : public Native {
 public:
  CrossAttention(float scale, int group, int bits, Options options, Activations activations)
      : Native("cross_attention", options.state({scale, double(group), double(bits), double(activations)})),
        scale_(scale), group_(group), bits_(bits), options_(options), activations_(activations) {}

  std::function<void()> prepare(const std::vector<mx::array>& in, mx::array& out) override {
    Matmul project;
    project.x = view(in[0]);
    options_.read(in, 6, project);
    const PackedMatrix m{view(in[1]), view(in[2]), view(in[3]), group_, bits_};
    Attention op;
    op.k = view(in[4]), op.v = view(in[5]);
    op.scale = scale_;
    op.length = op.k.shape[2];
    const int64_t batch = in[0].shape(0), steps = in[0].shape(1);
    const int64_t texts = op.k.shape[0], heads = op.k.shape[1], d = op.k.shape[3], n = heads * d;
    project.rows = texts * steps;
    op.out = allocate(out);
    op.out_dtype = dtype_of(out);
    op.q.ndim = 4;
    const int64_t shape[4] = {texts, heads, steps, d}, strides[4] = {steps * n, d, n, 1};
    for (int i = 0; i < 4; ++i) op.q.shape[i] = shape[i], op.q.strides[i] = strides[i];
    for (int i = 0; i < 3; ++i) op.out_strides[i] = strides[i];
    return [=, activations = activations_]() mutable {
      float* q = scratch(kWeights, project.rows * n);
      project.out = q;
      m.with([&](const Quantized& matrix) { matmul(project, matrix, activations); });
      op.q.data = q;
      attention(op);
      const size_t done = size_t(texts * steps * n) * size_of(op.out_dtype);
      std::memset(static_cast<char*>(op.out) + done, 0, size_t(batch * steps * n) * size_of(op.out_dtype) - done);
    };
  }
  std::vector<mx::Shape> output_shapes(const std::vector<mx::array>& in) override {
    auto shape = in[0].shape();
    shape.back() = in[1].shape(0);
    return {shape};
  }

 private:
  float scale_;
  int group_, bits_;
  Options options_;
  Activations activations_;
};

// --- codec ---------------------------------------------------------------------------------------------------------

class Conv : public Native {
 public:
  Conv(bool transposed, int stride, bool elu)
      : Native(transposed ? "conv_transpose1d" : "conv1d", {double(stride), double(elu)}),
        transposed_(transposed), stride_(stride), elu_(elu) {}

  std::function<void()> prepare(const std::vector<mx::array>& in, mx::array& out) override {
    const View x = view(in[0]), w = view(in[1]), bias = view(in[2]), residual = in.size() > 3 ? view(in[3]) : View{};
    void* to = allocate(out);
    return [=, this_transposed = transposed_, stride = stride_, elu = elu_, dtype = dtype_of(out)] {
      if (this_transposed) conv_transpose1d(x, w, bias, stride, elu, to, dtype);
      else conv1d(x, w, bias, stride, elu, residual, to, dtype);
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

  std::function<void()> prepare(const std::vector<mx::array>& in, mx::array& out) override {
    void* to = allocate(out);
    return [x = view(in[0]), w_ih = view(in[1]), w_hh = view(in[2]), bias = view(in[3]), to, dtype = dtype_of(out)] {
      lstm(x, w_ih, w_hh, bias, to, dtype);
    };
  }
  std::vector<mx::Shape> output_shapes(const std::vector<mx::array>& in) override { return {in[0].shape()}; }
};

void check_signal(const mx::array& x, const mx::array& w, const mx::array& bias, int stride) {
  need(is_float(x) && x.ndim() == 3 && x.size() > 0, "x");
  need(is_float(w) && w.ndim() == 3 && w.size() > 0 && w.shape(2) == x.shape(2), "w");
  need(is_float(bias) && bias.ndim() == 1 && bias.shape(0) == w.shape(0), "bias");
  need(stride >= 1, "stride");
}

}  // namespace

mx::array int4_matmul(const mx::array& x, const mx::array& w, const mx::array& scales, const mx::array& biases, int group_size,
                      int bits, const Projection& p, Activations activations) {
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

mx::array prefix_attention(const mx::array& q, const mx::array& k, const mx::array& v, const mx::array& prefix_q,
                           const mx::array& prefix_k, const mx::array& prefix_v, const std::variant<float, mx::array>& gate,
                           float scale, const std::variant<int, mx::array>& length) {
  for (const mx::array* a : {&q, &k, &v, &prefix_q, &prefix_k, &prefix_v}) need(is_heads(*a), "q, k, v or the prefix");
  const int b = q.shape(0), h = q.shape(1), t = q.shape(2), d = q.shape(3), s = k.shape(2);
  const int shared = prefix_q.shape(0), frames = prefix_k.shape(2);
  need(k.shape() == v.shape() && k.shape() == mx::Shape({b, h, s, d}), "k or v");
  need(b % shared == 0 && prefix_q.shape() == mx::Shape({shared, h, t, d}), "prefix_q");
  need(prefix_k.shape() == mx::Shape({shared, h, frames, d}) && prefix_k.shape() == prefix_v.shape(), "prefix_k or prefix_v");
  std::vector<mx::array> inputs{q, k, v, prefix_q, prefix_k, prefix_v};
  std::optional<float> fixed_gate;
  std::optional<int> fixed_length;
  if (auto* array = std::get_if<mx::array>(&gate)) {
    need(array->size() == 1, "gate");
    inputs.push_back(is_float(*array) ? *array : mx::astype(*array, mx::float32, mx::Device(mx::Device::cpu)));
  } else {
    fixed_gate = std::get<float>(gate);
  }
  if (auto* array = std::get_if<mx::array>(&length)) {
    need(array->size() == 1 && array->dtype() == mx::int32, "length");
    inputs.push_back(*array);
  } else {
    fixed_length = std::get<int>(length);
    need(*fixed_length <= s && *fixed_length >= t, "length");
  }
  return make<PrefixAttention>(q.shape(), q.dtype(), std::move(inputs), fixed_gate, scale, fixed_length);
}

mx::array cross_attention(const mx::array& x, const mx::array& w, const mx::array& scales, const mx::array& biases,
                          const mx::array& k, const mx::array& v, float scale, int group_size, int bits, const Projection& p,
                          Activations activations) {
  check_packed(w, scales, biases, group_size, bits);
  check_projection(x, w.shape(0), w.shape(1) * 32 / bits, p);
  need(x.ndim() == 3 && is_heads(k) && is_heads(v) && k.shape() == v.shape(), "x, k or v");
  need(k.shape(1) * k.shape(3) == w.shape(0) && k.shape(0) <= x.shape(0), "k");
  std::vector<mx::array> inputs{x, w, scales, biases, k, v};
  Options::append(p, inputs);
  return make<CrossAttention>(mx::Shape{x.shape(0), x.shape(1), w.shape(0)}, x.dtype(), std::move(inputs), scale, group_size,
                              bits, Options(p), activations);
}

mx::array attention(const mx::array& q, const mx::array& k, const mx::array& v, float scale, const Maybe& mask, bool causal) {
  need(is_heads(q) && is_heads(k) && is_heads(v), "q, k or v");
  need(k.shape() == v.shape() && k.shape() == mx::Shape({q.shape(0), q.shape(1), k.shape(2), q.shape(3)}), "k or v");
  std::vector<mx::array> inputs{q, k, v};
  if (mask) {
    const int want[4] = {q.shape(0), q.shape(1), q.shape(2), k.shape(2)};
    const int n = int(mask->ndim());
    need(is_float(*mask) && n <= 4, "mask");
    for (int i = 0; i < n; ++i) need(mask->shape(i) == 1 || mask->shape(i) == want[4 - n + i], "mask");
    inputs.push_back(*mask);
  }
  return make<PlainAttention>(q.shape(), q.dtype(), std::move(inputs), scale, causal);
}

mx::array conv1d(const mx::array& x, const mx::array& w, const mx::array& bias, int stride, bool elu, const Maybe& residual) {
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

mx::array lstm(const mx::array& x, const mx::array& w_ih, const mx::array& w_hh, const mx::array& bias) {
  need(is_float(x) && x.ndim() == 3 && x.size() > 0, "x");
  const int c = x.shape(2);
  need(is_float(w_ih) && is_float(w_hh) && w_ih.shape() == mx::Shape({4 * c, c}) && w_hh.shape() == w_ih.shape(), "w_ih or w_hh");
  need(is_float(bias) && bias.shape() == mx::Shape({4 * c}), "bias");
  return make<Lstm>(x.shape(), x.dtype(), std::vector<mx::array>{x, w_ih, w_hh, bias});
}

}  // namespace imn
