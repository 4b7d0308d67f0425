// What every primitive of this backend has in common, and how it sees the arrays of MLX.
#pragma once

#include <cstring>
#include <functional>
#include <stdexcept>
#include <string>
#include <typeinfo>
#include <vector>

#include "../runtime/tensor.h"
#include "lazy_operations.h"
#include "mlx/allocator.h"
#include "mlx/backend/cpu/encoder.h"
#include "mlx/primitives.h"
#include "mlx/utils.h"

namespace imn {

inline void need(bool ok, const char* what) {
  if (!ok) throw std::invalid_argument(std::string("native: ") + what);
}

inline bool is_float(const mx::array& a) {
  return a.dtype() == mx::float32 || a.dtype() == mx::float16 || a.dtype() == mx::bfloat16;
}

inline DType dtype_of(mx::Dtype d) { return d == mx::float16 ? DType::f16 : (d == mx::bfloat16 ? DType::bf16 : DType::f32); }
inline DType dtype_of(const mx::array& a) { return dtype_of(a.dtype()); }

// uint32 words count as float32: they are only ever moved. More than kMaxDims axes are only let in on single elements.
inline View view(const mx::array& a) {
  View v;
  v.data = a.data<void>();
  v.dtype = dtype_of(a);
  v.ndim = a.ndim() <= size_t(kMaxDims) ? int(a.ndim()) : 0;
  for (int i = 0; i < v.ndim; ++i) {
    v.shape[i] = a.shape(i);
    v.strides[i] = a.strides(i);
  }
  if (v.ndim == 0) v.ndim = 1, v.shape[0] = 1, v.strides[0] = 1;
  return v;
}

// What every primitive here has in common: CPU only, no gradient, no vmap.
class Native : public mx::Primitive {
 public:
  explicit Native(const char* name, std::vector<double> state)
      : mx::Primitive(mx::default_stream(mx::Device(mx::Device::cpu))), name_(name), state_(std::move(state)) {}

  // Allocates the output and gives the work to be done on the stream's thread. A primitive with more than one output
  // implements eval_cpu instead.
  virtual std::function<void()> prepare(const std::vector<mx::array>&, mx::array&) {
    return [] {};
  }

  void eval_cpu(const std::vector<mx::array>& in, std::vector<mx::array>& out) override { run(prepare(in, out[0])); }
  void eval_gpu(const std::vector<mx::array>&, std::vector<mx::array>&) override {
    throw std::runtime_error(message("runs on the CPU only; use the metal backend on a GPU"));
  }
  std::vector<mx::array> jvp(const std::vector<mx::array>&, const std::vector<mx::array>&,
                             const std::vector<int>&) override {
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
    return typeid(*this) == typeid(other) && std::strcmp(name_, other.name()) == 0 &&
           state_ == static_cast<const Native&>(other).state_;
  }

 protected:
  // Lets the stream's thread do the work.
  void run(std::function<void()> work) {
    mx::cpu::get_command_encoder(stream()).dispatch([work = std::move(work)] {
      work();
      trim_scratch();
    });
  }
  std::string message(const char* what) const { return std::string(name_) + " of the native backend " + what; }
  static void* allocate(mx::array& out) {
    out.set_data(mx::allocator::malloc(out.nbytes()));
    return out.data<void>();
  }
  // Gives `out` the memory of `in` where nothing else holds it, as MLX's own updates do; else memory of its own. Returns
  // whether it is the former.
  static bool take_over(const mx::array& in, mx::array& out) {
    const bool in_place = in.flags().row_contiguous && in.data_size() == in.size() && in.is_donatable();
    if (in_place)
      out.copy_shared_buffer(in);
    else
      allocate(out);
    return in_place;
  }

 private:
  const char* name_;
  std::vector<double> state_;  // everything but the inputs that the result depends on
};

template <typename P, typename... Args>
mx::array make(mx::Shape shape, mx::Dtype dtype, std::vector<mx::array> inputs, Args&&... args) {
  return mx::array(std::move(shape), dtype, std::make_shared<P>(std::forward<Args>(args)...), std::move(inputs));
}

}  // namespace imn
