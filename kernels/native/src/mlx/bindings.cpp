// The Python face of the extension: kernels/native/__init__.py is its only user.
#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/tuple.h>
#include <nanobind/stl/variant.h>
#include <nanobind/stl/vector.h>

#include <stdexcept>
#include <tuple>

#include "../runtime/pool.h"
#include "../runtime/stream.h"
#include "../runtime/tensor.h"
#include "../simd/isa_kernels.h"
#include "file_primitives.h"
#include "lazy_operations.h"
#include "mlx/version.h"

namespace nb = nanobind;
using namespace nb::literals;
using imn::Maybe;
using mlx::core::array;

namespace {

imn::Projection projection(Maybe bias, bool gelu, Maybe residual, Maybe norm_weight, Maybe norm_bias, float eps) {
  return {gelu, std::move(bias), std::move(residual), std::move(norm_weight), std::move(norm_bias), eps};
}

// Weights come as a list, [words, scales, biases] or [bytes] of interleaved ones, with group size and bits; of interleaved
// ones also n, k and the dtype of scales and biases: 0 float32, 1 float16, 2 bfloat16.
using Layout = std::tuple<int, int, int, int, int>;

imn::PackedWeights weights(const std::vector<array>& arrays, const Layout& layout) {
  const auto& [group, bits, n, k, dtype] = layout;
  if (arrays.size() == 3) return imn::quantized_weights(arrays[0], arrays[1], arrays[2], group, bits);
  if (arrays.size() != 1 || dtype < 0 || dtype > 2) throw std::invalid_argument("native: w");
  const mlx::core::Dtype dtypes[] = {mlx::core::float32, mlx::core::float16, mlx::core::bfloat16};
  return imn::interleaved_weights(arrays[0], n, k, group, bits, dtypes[dtype]);
}

#define IMN_TEXT_(x) #x
#define IMN_TEXT(x) IMN_TEXT_(x)

}  // namespace

NB_MODULE(_extension, m) {
  m.attr("mlx_version") = IMN_TEXT(MLX_VERSION_MAJOR) "." IMN_TEXT(MLX_VERSION_MINOR) "." IMN_TEXT(MLX_VERSION_PATCH);
  m.attr("compiler") = __VERSION__;
  m.attr("interface") = 11;  // what kernels/native/loading.py expects; both change with every function that changes

  m.def(
      "int4_matmul",
      [](const array& x, const std::vector<array>& w, const Layout& layout, Maybe bias, bool gelu, Maybe residual,
         Maybe norm_weight, Maybe norm_bias, float eps, int activations) {
        return imn::int4_matmul(x, weights(w, layout), projection(bias, gelu, residual, norm_weight, norm_bias, eps),
                                imn::Activations(activations));
      },
      "x"_a, "w"_a, "layout"_a, "bias"_a.none(), "gelu"_a, "residual"_a.none(), "norm_weight"_a.none(), "norm_bias"_a.none(),
      "eps"_a, "activations"_a);
  m.def(
      "interleave", [](const std::vector<array>& w, const Layout& layout) { return imn::interleave(weights(w, layout)); },
      "w"_a, "layout"_a);
  m.def("settle", &imn::settle, "parts"_a);
  m.def(
      "deinterleave",
      [](const std::vector<array>& w, const Layout& layout, int part) {
        return imn::deinterleave(weights(w, layout), part);
      },
      "w"_a, "layout"_a, "part"_a);
  m.def(
      "linear",
      [](const array& x, const array& w, Maybe bias, bool gelu, Maybe residual, Maybe norm_weight, Maybe norm_bias,
         float eps) { return imn::linear(x, w, projection(bias, gelu, residual, norm_weight, norm_bias, eps)); },
      "x"_a, "w"_a, "bias"_a.none(), "gelu"_a, "residual"_a.none(), "norm_weight"_a.none(), "norm_bias"_a.none(), "eps"_a);
  m.def("prefix_attention", &imn::prefix_attention, "q"_a, "k"_a, "v"_a, "prefix_q"_a, "prefix_k"_a, "prefix_v"_a, "gate"_a,
        "scale"_a, "length"_a);
  m.def(
      "cross_attention",
      [](const array& x, const std::vector<array>& w, const Layout& layout, const array& k, const array& v, float scale,
         Maybe norm_weight, Maybe norm_bias, float eps, int activations) {
        return imn::cross_attention(x, weights(w, layout), k, v, scale,
                                    projection({}, false, {}, norm_weight, norm_bias, eps), imn::Activations(activations));
      },
      "x"_a, "w"_a, "layout"_a, "k"_a, "v"_a, "scale"_a, "norm_weight"_a.none(), "norm_bias"_a.none(), "eps"_a,
      "activations"_a);
  m.def("attention", &imn::attention, "q"_a, "k"_a, "v"_a, "scale"_a, "mask"_a.none(), "causal"_a);
  m.def(
      "self_attention",
      [](const array& qkv, const array& cache, int position, const std::tuple<int, int, int>& rows,
         const std::vector<array>& prefix, const std::variant<float, array>& gate, int query_row, float scale) {
        const auto& [first, step, count] = rows;
        return imn::self_attention(qkv, cache, {position, first, step, count}, prefix, gate, query_row, scale);
      },
      "qkv"_a, "cache"_a, "position"_a, "rows"_a, "prefix"_a, "gate"_a, "query_row"_a, "scale"_a);
  m.def("write_cache", &imn::write_cache, "cache"_a, "kv"_a, "position"_a, "first"_a, "step"_a);
  m.def("lay_out", &imn::lay_out, "w"_a, "parts"_a, "stride"_a);
  m.def(
      "conv1d",
      [](const array& x, const array& w, const std::vector<int>& shape, const array& bias, int stride, bool elu,
         Maybe residual) { return imn::conv1d(x, imn::codec_weights(w, shape), bias, stride, elu, residual); },
      "x"_a, "w"_a, "shape"_a, "bias"_a, "stride"_a, "elu"_a, "residual"_a.none());
  m.def(
      "conv_transpose1d",
      [](const array& x, const array& w, const std::vector<int>& shape, const array& bias, int stride, bool elu) {
        return imn::conv_transpose1d(x, imn::codec_weights(w, shape), bias, stride, elu);
      },
      "x"_a, "w"_a, "shape"_a, "bias"_a, "stride"_a, "elu"_a);
  m.def(
      "lstm",
      [](const array& x, const array& w_ih, const array& w_hh, const std::vector<int>& shape, const array& bias,
         Maybe state) {
        return imn::lstm(x, imn::codec_weights(w_ih, shape), imn::codec_weights(w_hh, shape), bias, state);
      },
      "x"_a, "w_ih"_a, "w_hh"_a, "shape"_a, "bias"_a, "state"_a.none());

  m.def("can_map_arrays", &imn::can_map_arrays);
  m.def("file_arrays", &imn::file_arrays, "fd"_a, "tensors"_a);
  m.def("accepts", [](const array& a) { return int(a.size()); }, "a"_a);
  m.def("isa", [] { return std::string(imn::isa_kernels().name); });
  m.def("isas", [] {
    std::vector<std::string> names;
    for (auto* name = imn::runnable_isas(); *name != nullptr; ++name) names.emplace_back(*name);
    return names;
  });
  m.def("set_isa", [](const std::string& name) { return imn::force_isa(name.c_str()); }, "name"_a);
  m.def("int16_pays", [] { return imn::isa_kernels().int16_pays; });
  m.def("threads", &imn::thread_count);
  m.def("set_threads", &imn::set_thread_count, "count"_a, nb::call_guard<nb::gil_scoped_release>());
  m.def("stop_threads", &imn::stop_pool, nb::call_guard<nb::gil_scoped_release>());
  m.def(
      "stream",
      [](nb::ndarray<const std::uint64_t, nb::ndim<1>, nb::c_contig, nb::device::cpu> words) {
        return imn::stream(words.data(), words.size());
      },
      "words"_a, nb::call_guard<nb::gil_scoped_release>());
  m.def("load_blas", [](const std::string& path) { return imn::load_blas(path.c_str()); }, "path"_a);
  m.def("blas", [] { return std::string(imn::blas_name()); });
}
