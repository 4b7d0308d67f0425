// The three attentions as MLX primitives.
#include <cstring>
#include <future>
#include <optional>
#include <variant>

#include "mlx/ops.h"
#include "mlx/scheduler.h"
#include "projection_inputs.h"

namespace imn {
namespace {

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

bool is_heads(const mx::array& a) { return is_float(a) && a.ndim() == 4 && a.size() > 0; }

void check_length(const Attention& op) {
  if (op.length > op.k.shape[2] || op.length < op.q.shape[2])
    throw std::invalid_argument("length=" + std::to_string(op.length) + " does not fit " + std::to_string(op.q.shape[2]) +
                                " queries and a cache of " + std::to_string(op.k.shape[2]) +
                                " slots; allocate a longer cache");
}

// The value of an input, waiting until `stream`, which evaluates it or waits for it, has got that far; none where a GPU
// may compute it, whose work may not have been handed over yet. Throws what went wrong before, if anything. A length is
// read on the thread that evaluates and not on the stream's, so that it can be refused there: after an error on a stream's
// thread MLX 0.32 loses count of the stream's tasks, and with two that never end a later evaluation sleeps forever
// (`Scheduler::wait_for_one`).
std::optional<int> read_now(const mx::array& a, mx::Stream stream) {
  if (a.status() != mx::array::Status::available) {
    if (mx::is_available(mx::Device::gpu)) return std::nullopt;
    auto reached = std::make_shared<std::promise<void>>();
    auto wait = reached->get_future();
    mx::scheduler::enqueue(stream, [reached = std::move(reached)] { reached->set_value(); });
    try {
      wait.get();
    } catch (const std::future_error&) {  // dropped after an error, not run
    }
    mx::scheduler::check_error(stream);
  }
  return *a.data<int32_t>();
}

class PrefixAttention : public Native {
 public:
  // Without a value, gate and length are further inputs.
  PrefixAttention(std::optional<float> gate, float scale, std::optional<int> length)
      : Native("prefix_attention", {gate.value_or(0), double(gate.has_value()), scale, double(length.value_or(0))}),
        gate_(gate),
        length_(length),
        scale_(scale) {}

  std::function<void()> prepare(const std::vector<mx::array>& in, mx::array& out) override {
    Attention op;
    op.q = view(in[0]), op.k = view(in[1]), op.v = view(in[2]);
    op.prefix_q = view(in[3]), op.prefix_k = view(in[4]), op.prefix_v = view(in[5]);
    op.scale = scale_;
    op.causal = true;
    allocate_heads(out, op);
    size_t at = 6;
    View gate, length;
    if (gate_)
      op.gate = *gate_;
    else
      gate = view(in[at++]);
    if (length_)
      op.length = *length_;
    else if (const auto value = read_now(in[at], stream())) {
      op.length = *value;
      check_length(op);
    } else
      length = view(in[at]);
    return [=]() mutable {
      if (gate) load(&op.gate, gate, 0, 1, 1);
      if (length) {
        op.length = *static_cast<const int32_t*>(length.data);
        check_length(op);
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
  PlainAttention(float scale, bool causal) : Native("attention", {scale, double(causal)}), scale_(scale), causal_(causal) {}

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
  CrossAttention(float scale, WeightsShape weights, Options options, Activations activations)
      : Native("cross_attention", options.state(weights.state({scale, double(activations)}))),
        scale_(scale),
        weights_(weights),
        options_(options),
        activations_(activations) {}

  std::function<void()> prepare(const std::vector<mx::array>& in, mx::array& out) override {
    Matmul project;
    project.x = view(in[0]);
    const size_t after = 1 + weights_.arrays();
    options_.read(in, after + 2, project);
    Attention op;
    op.k = view(in[after]), op.v = view(in[after + 1]);
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
    return [=, product = weights_.product(in, 1), activations = activations_]() mutable {
      float* q = scratch(kWeights, project.rows * n);
      project.out = q;
      product(project, activations);
      op.q.data = q;
      attention(op);
      const size_t done = size_t(texts * steps * n) * size_of(op.out_dtype);
      std::memset(static_cast<char*>(op.out) + done, 0, size_t(batch * steps * n) * size_of(op.out_dtype) - done);
    };
  }
  std::vector<mx::Shape> output_shapes(const std::vector<mx::array>& in) override {
    auto shape = in[0].shape();
    shape.back() = weights_.n;
    return {shape};
  }

 private:
  float scale_;
  WeightsShape weights_;
  Options options_;
  Activations activations_;
};

}  // namespace

mx::array prefix_attention(const mx::array& q, const mx::array& k, const mx::array& v, const mx::array& prefix_q,
                           const mx::array& prefix_k, const mx::array& prefix_v, const std::variant<float, mx::array>& gate,
                           float scale, const std::variant<int, mx::array>& length) {
  for (const mx::array* a : {&q, &k, &v, &prefix_q, &prefix_k, &prefix_v}) need(is_heads(*a), "q, k, v or the prefix");
  const int b = q.shape(0), h = q.shape(1), t = q.shape(2), d = q.shape(3), s = k.shape(2);
  const int shared = prefix_q.shape(0), frames = prefix_k.shape(2);
  need(k.shape() == v.shape() && k.shape() == mx::Shape({b, h, s, d}), "k or v");
  need(b % shared == 0 && prefix_q.shape() == mx::Shape({shared, h, t, d}), "prefix_q");
  need(prefix_k.shape() == mx::Shape({shared, h, frames, d}) && prefix_k.shape() == prefix_v.shape(),
       "prefix_k or prefix_v");
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

mx::array cross_attention(const mx::array& x, const PackedWeights& w, const mx::array& k, const mx::array& v, float scale,
                          const Projection& p, Activations activations) {
  check_projection(x, w.n, w.k, p);
  need(x.ndim() == 3 && is_heads(k) && is_heads(v) && k.shape() == v.shape(), "x, k or v");
  need(k.shape(1) * k.shape(3) == w.n && k.shape(0) <= x.shape(0), "k");
  std::vector<mx::array> inputs{x};
  inputs.insert(inputs.end(), w.arrays.begin(), w.arrays.end());
  inputs.push_back(k), inputs.push_back(v);
  Options::append(p, inputs);
  return make<CrossAttention>(mx::Shape{x.shape(0), x.shape(1), w.n}, x.dtype(), std::move(inputs), scale, WeightsShape(w),
                              Options(p), activations);
}

mx::array attention(const mx::array& q, const mx::array& k, const mx::array& v, float scale, const Maybe& mask,
                    bool causal) {
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

}  // namespace imn
