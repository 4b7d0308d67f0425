// A layer's self-attention between its two products as one MLX primitive: the write into the cache, attention to it and
// to the prefix, and the heads side by side again.
#include <variant>

#include "../ops/operations.h"
#include "mlx/ops.h"
#include "primitive.h"

namespace imn {
namespace {

// `part` of qkv [b,T,3 H D] as [b,H,T,D].
View part_of(const View& qkv, int part, int64_t heads, int64_t d) {
  View v;
  v.dtype = qkv.dtype;
  v.data = qkv.at(part * heads * d * qkv.strides[2]);
  v.ndim = 4;
  const int64_t shape[4] = {qkv.shape[0], heads, qkv.shape[1], d};
  const int64_t strides[4] = {qkv.strides[0], d * qkv.strides[2], qkv.strides[1], qkv.strides[2]};
  for (int i = 0; i < 4; ++i) v.shape[i] = shape[i], v.strides[i] = strides[i];
  return v;
}

class SelfAttention : public Native {
 public:
  // Inputs: qkv, the cache, and with a prefix its q, k and v, and the gate unless it is a number.
  SelfAttention(const CacheRows& at, float scale, bool prefixed, int query_row, std::optional<float> gate)
      : Native("self_attention", {double(at.position), double(at.first), double(at.step), double(at.count), scale,
                                  double(prefixed), double(query_row), double(gate.has_value()), gate.value_or(0)}),
        at_(at),
        scale_(scale),
        prefixed_(prefixed),
        query_row_(query_row),
        gate_(gate) {}

  void eval_cpu(const std::vector<mx::array>& in, std::vector<mx::array>& out) override {
    // Each output holds the inputs. The others' hold would keep the cache from being written in place.
    for (mx::array& each : out) {
      if (!each.is_tracer() && &each.inputs() != &in) each.inputs().clear();
    }
    const bool in_place = take_over(in[1], out[1]);
    const View qkv = view(in[0]), before = view(in[1]), cache = view(out[1]);
    const int64_t heads = cache.shape[2], d = cache.shape[4], steps = qkv.shape[1];
    Attention op;
    op.q = part_of(qkv, 0, heads, d), op.new_k = part_of(qkv, 1, heads, d), op.new_v = part_of(qkv, 2, heads, d);
    op.k = rows_of(cache, 0, qkv.shape[0]), op.v = rows_of(cache, 1, qkv.shape[0]);
    op.scale = scale_;
    op.causal = true;
    op.length = at_.position + steps;
    View gate;
    if (prefixed_) {
      op.prefix_q = view(in[2]), op.prefix_k = view(in[3]), op.prefix_v = view(in[4]);
      op.prefix_q.data = op.prefix_q.at(query_row_ * op.prefix_q.strides[2]);
      op.prefix_q.shape[2] = steps;
      if (gate_)
        op.gate = *gate_;
      else
        gate = view(in[5]);
    }
    op.out = allocate(out[0]);
    op.out_dtype = dtype_of(out[0]);
    const int64_t strides[3] = {steps * heads * d, d, heads * d};
    for (int i = 0; i < 3; ++i) op.out_strides[i] = strides[i];
    run([=]() mutable {
      if (gate) load(&op.gate, gate, 0, 1, 1);
      if (!in_place) copy_rows(before, cache);
      attention(op);
    });
  }
  std::vector<mx::Shape> output_shapes(const std::vector<mx::array>& in) override {
    return {result_shape(in[0]), in[1].shape()};
  }
  static mx::Shape result_shape(const mx::array& qkv) { return {qkv.shape(0), qkv.shape(1), qkv.shape(2) / 3}; }

 private:
  // The keys (0) or values (1) of the rows in use, [b,H,S,D].
  View rows_of(const View& cache, int part, int64_t count) const {
    View v = cache;
    v.data = cache.at(part * cache.strides[0] + at_.first * cache.strides[1]);
    v.ndim = 4;
    for (int i = 0; i < 4; ++i) v.shape[i] = cache.shape[i + 1], v.strides[i] = cache.strides[i + 1];
    v.shape[0] = count;
    v.strides[0] *= at_.step;
    return v;
  }

  CacheRows at_;
  float scale_;
  bool prefixed_;
  int query_row_;
  std::optional<float> gate_;
};

bool is_heads(const mx::array& a) { return is_float(a) && a.ndim() == 4 && a.size() > 0; }

}  // namespace

std::vector<mx::array> self_attention(const mx::array& qkv, const mx::array& cache, const CacheRows& at,
                                      const std::vector<mx::array>& prefix, const std::variant<float, mx::array>& gate,
                                      int query_row, float scale) {
  need(is_float(qkv) && qkv.ndim() == 3 && qkv.size() > 0, "qkv");
  need(is_float(cache) && cache.ndim() == 5 && cache.size() > 0 && cache.shape(0) == 2, "cache");
  const int b = qkv.shape(0), t = qkv.shape(1), h = cache.shape(2), s = cache.shape(3), d = cache.shape(4);
  need(qkv.shape(2) == int64_t(3) * h * d, "qkv");
  need(at.position >= 0 && at.position + int64_t(t) <= s, "position");
  need(at.first >= 0 && at.step > 0 && at.count == b && at.first + int64_t(b - 1) * at.step < cache.shape(1), "rows");
  std::vector<mx::array> inputs{qkv, cache};
  std::optional<float> fixed_gate;
  if (!prefix.empty()) {
    need(prefix.size() == 3 && is_heads(prefix[0]) && is_heads(prefix[1]) && is_heads(prefix[2]), "prefix");
    const int shared = prefix[0].shape(0), n = prefix[0].shape(2);
    need(b % shared == 0 && prefix[0].shape() == mx::Shape({shared, h, n, d}), "prefix_q");
    need(query_row >= 0 && query_row + int64_t(t) <= n, "query_row");
    need(prefix[1].shape() == mx::Shape({shared, h, prefix[1].shape(2), d}) && prefix[1].shape() == prefix[2].shape(),
         "prefix_k or prefix_v");
    inputs.insert(inputs.end(), prefix.begin(), prefix.end());
    if (auto* array = std::get_if<mx::array>(&gate)) {
      need(array->size() == 1, "gate");
      inputs.push_back(is_float(*array) ? *array : mx::astype(*array, mx::float32, mx::Device(mx::Device::cpu)));
    } else {
      fixed_gate = std::get<float>(gate);
    }
  }
  const auto primitive = std::make_shared<SelfAttention>(at, scale, !prefix.empty(), query_row, fixed_gate);
  return mx::array::make_arrays({SelfAttention::result_shape(qkv), cache.shape()}, {qkv.dtype(), cache.dtype()}, primitive,
                                inputs);
}

}  // namespace imn
