// Products with packed and with dense weights as MLX primitives, and the orders of packed weights.
#include <algorithm>
#include <cstring>
#include <utility>

#include "../runtime/pool.h"
#include "file_primitives.h"
#include "mlx/ops.h"
#include "projection_inputs.h"
#include "weights_buffer.h"

namespace imn {
namespace {

mx::Shape result_shape(const mx::array& x, int n) {
  auto shape = x.shape();
  shape.back() = n;
  return shape;
}

class Int4Matmul : public Native {
 public:
  Int4Matmul(WeightsShape weights, Options options, Activations activations)
      : Native("int4_matmul", options.state(weights.state({double(activations)}))),
        weights_(weights),
        options_(options),
        activations_(activations) {}

  std::function<void()> prepare(const std::vector<mx::array>& in, mx::array& out) override {
    Matmul op;
    op.x = view(in[0]);
    op.rows = op.x.rows();
    options_.read(in, 1 + weights_.arrays(), op);
    op.out = allocate(out);
    op.out_dtype = dtype_of(out);
    return [op, product = weights_.product(in, 1), activations = activations_] { product(op, activations); };
  }
  std::vector<mx::Shape> output_shapes(const std::vector<mx::array>& in) override {
    return {result_shape(in[0], weights_.n)};
  }

 private:
  WeightsShape weights_;
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
    return {result_shape(in[0], in[1].shape(0))};
  }

 private:
  Options options_;
};

class Interleave : public Native {
 public:
  explicit Interleave(WeightsShape weights) : Native("interleave", weights.state({})), weights_(weights) {}

  std::function<void()> prepare(const std::vector<mx::array>& in, mx::array& out) override {
    const QuantizedViews from{view(in[0]), view(in[1]), view(in[2]), weights_.group, weights_.bits};
    return [from, shape = weights_, pages = allocate_weights(out)] {
      pages.touch();
      const Interleaved to = shape.at(pages.data);
      from.with([&](const Quantized& q) { interleave(q, to); });  // without gaps: as they lie, so of the same dtype
    };
  }
  std::vector<mx::Shape> output_shapes(const std::vector<mx::array>&) override {
    return {mx::Shape{int(weights_.at(nullptr).bytes())}};
  }

 private:
  WeightsShape weights_;
};

// Bytes that are in the interleaved order already, to where weights lie.
class Settle : public Native {
 public:
  Settle() : Native("settle", {}) {}

  std::function<void()> prepare(const std::vector<mx::array>& in, mx::array& out) override {
    std::vector<std::pair<const char*, int64_t>> parts;
    for (const mx::array& each : in) parts.emplace_back(each.data<char>(), int64_t(each.size()));
    return [parts = std::move(parts), pages = allocate_weights(out)] {
      pages.touch();
      char* to = static_cast<char*>(pages.data);
      constexpr int64_t kBytes = 512 << 10;
      for (const auto& [from, size] : parts) {
        parallel_for(int((size + kBytes - 1) / kBytes), [&, from = from, size = size](int i) {
          std::memcpy(to + i * kBytes, from + i * kBytes, size_t(std::min(kBytes, size - i * kBytes)));
        });
        to += size;
      }
    };
  }
  std::vector<mx::Shape> output_shapes(const std::vector<mx::array>& in) override { return {shape_of(in)}; }
  static mx::Shape shape_of(const std::vector<mx::array>& parts) {
    int64_t bytes = 0;
    for (const mx::array& each : parts) bytes += int64_t(each.size());
    need(bytes > 0 && bytes <= INT32_MAX, "data");
    return {int(bytes)};
  }
};

class Deinterleave : public Native {
 public:
  Deinterleave(WeightsShape weights, int part)
      : Native("deinterleave", weights.state({double(part)})), weights_(weights), part_(part) {}

  std::function<void()> prepare(const std::vector<mx::array>& in, mx::array& out) override {
    return [from = weights_.at(in[0].data<void>()), part = part_, to = allocate(out)] {
      deinterleave(from, part == 0 ? static_cast<uint32_t*>(to) : nullptr, part == 1 ? to : nullptr,
                   part == 2 ? to : nullptr);
    };
  }
  std::vector<mx::Shape> output_shapes(const std::vector<mx::array>&) override { return {shape_of(weights_, part_)}; }
  static mx::Shape shape_of(const WeightsShape& w, int part) { return {w.n, part == 0 ? w.k * w.bits / 32 : w.k / w.group}; }

 private:
  WeightsShape weights_;
  int part_;
};

}  // namespace

mx::array int4_matmul(const mx::array& x, const PackedWeights& w, const Projection& p, Activations activations) {
  check_projection(x, w.n, w.k, p);
  std::vector<mx::array> inputs{x};
  inputs.insert(inputs.end(), w.arrays.begin(), w.arrays.end());
  Options::append(p, inputs);
  return make<Int4Matmul>(result_shape(x, w.n), x.dtype(), std::move(inputs), WeightsShape(w), Options(p), activations);
}

mx::array linear(const mx::array& x, const mx::array& w, const Projection& p) {
  need(is_float(w) && w.ndim() == 2 && w.size() > 0, "w");
  check_projection(x, w.shape(0), w.shape(1), p);
  std::vector<mx::array> inputs{x, w};
  Options::append(p, inputs);
  return make<Linear>(result_shape(x, w.shape(0)), x.dtype(), std::move(inputs), Options(p));
}

mx::array interleave(const PackedWeights& w) {
  need(!w.interleaved(), "w");
  const WeightsShape shape(w);
  const int64_t bytes = shape.at(nullptr).bytes();
  need(bytes <= INT32_MAX, "w has 2 GiB or more");
  std::vector<mx::array> inputs;
  for (const mx::array& a : w.arrays) inputs.push_back(mx::contiguous(a, false, mx::Device(mx::Device::cpu)));
  return make<Interleave>(mx::Shape{int(bytes)}, mx::uint8, std::move(inputs), shape);
}

mx::array settle(const std::vector<mx::array>& parts) {
  const mx::Shape shape = Settle::shape_of(parts);
  std::vector<mx::array> inputs;
  for (const mx::array& each : parts) {
    need(each.dtype() == mx::uint8, "data");
    inputs.push_back(mx::contiguous(each, false, mx::Device(mx::Device::cpu)));
  }
  if (const auto mapped = file_weights(parts)) return *mapped;
  return make<Settle>(shape, mx::uint8, std::move(inputs));
}

mx::array deinterleave(const PackedWeights& w, int part) {
  need(w.interleaved() && part >= 0 && part < 3, "data");
  const WeightsShape shape(w);
  return make<Deinterleave>(Deinterleave::shape_of(shape, part), part == 0 ? mx::uint32 : w.dtype,
                            std::vector<mx::array>{mx::contiguous(w.arrays[0], false, mx::Device(mx::Device::cpu))}, shape,
                            part);
}

}  // namespace imn
