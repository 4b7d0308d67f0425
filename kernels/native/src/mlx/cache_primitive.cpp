// The write of a step's keys and values into the cache as an MLX primitive.
#include "../ops/operations.h"
#include "primitive.h"

namespace imn {
namespace {

// In place where nothing else holds the cache, as MLX's own slice update.
class WriteCache : public Native {
 public:
  WriteCache(int position, int first, int step)
      : Native("write_cache", {double(position), double(first), double(step)}),
        position_(position),
        first_(first),
        step_(step) {}

  std::function<void()> prepare(const std::vector<mx::array>& in, mx::array& out) override {
    const mx::array &cache = in[0], &kv = in[1];
    const bool in_place = take_over(cache, out);
    const View whole = view(out);
    View part = view(kv);  // its shape, and where it goes
    part.data = whole.at(first_ * whole.strides[1] + position_ * whole.strides[3]);
    part.dtype = whole.dtype;
    for (int i = 0; i < 5; ++i) part.strides[i] = whole.strides[i];
    part.strides[1] *= step_;
    return [=, from = view(kv), before = view(cache)] {
      if (!in_place) copy_rows(before, whole);
      copy_rows(from, part);
    };
  }
  std::vector<mx::Shape> output_shapes(const std::vector<mx::array>& in) override { return {in[0].shape()}; }

 private:
  int position_, first_, step_;
};

}  // namespace

mx::array write_cache(const mx::array& cache, const mx::array& kv, int position, int first, int step) {
  need(is_float(cache) && cache.ndim() == 5 && cache.size() > 0, "cache");
  need(is_float(kv) && kv.ndim() == 5 && kv.size() > 0, "kv");
  for (int axis : {0, 2, 4}) need(kv.shape(axis) == cache.shape(axis), "kv");
  need(position >= 0 && position + int64_t(kv.shape(3)) <= cache.shape(3), "position");
  need(first >= 0 && step > 0 && first + int64_t(kv.shape(1) - 1) * step < cache.shape(1), "rows");
  return make<WriteCache>(cache.shape(), cache.dtype(), {cache, kv}, position, first, step);
}

}  // namespace imn
