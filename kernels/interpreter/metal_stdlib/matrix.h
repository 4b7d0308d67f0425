// <metal_simdgroup_matrix>: an 8 x 8 matrix spread over the 32 lanes of a simdgroup, two neighbors of one row to a lane.
// The layout is the one MLX's kernels rely on (steel/gemm/mma.h, get_coord). Products accumulate in float.
#pragma once
#include "simd.h"

namespace metal {

template <class T, int Cols, int Rows>
struct simdgroup_matrix {
  static_assert(Cols == 8 && Rows == 8, "Metal has 8 x 8 simdgroup matrices only");
  static_assert(is_floating_point_v<T>, "simdgroup matrices hold half, bfloat or float");
  using storage_type = vec<T, 2>;
  storage_type e;

  simdgroup_matrix() = default;
  MTL_INLINE explicit simdgroup_matrix(T diagonal) {
    const uint r = row(), c = col();
    e = storage_type(r == c ? diagonal : (T)0.0f, r == c + 1 ? diagonal : (T)0.0f);
  }
  MTL_INLINE storage_type& thread_elements() { return e; }
  MTL_INLINE const storage_type& thread_elements() const { return e; }
  static MTL_INLINE uint row() { return row_of(mtl_now.self->lane); }
  static MTL_INLINE uint col() { return col_of(mtl_now.self->lane); }
  static MTL_INLINE constexpr uint row_of(uint lane) { return (lane / 4 & 4) + (lane / 2) % 4; }
  static MTL_INLINE constexpr uint col_of(uint lane) { return (lane / 4 & 2) * 2 + (lane % 2) * 2; }
  // Which lane holds element (r, c), for even c.
  static MTL_INLINE constexpr uint lane_of(uint r, uint c) { return (r & 4) * 4 + (c & 4) * 2 + (r & 3) * 2 + (c >> 1 & 1); }
};
typedef simdgroup_matrix<float, 8, 8> simdgroup_float8x8;
typedef simdgroup_matrix<half, 8, 8> simdgroup_half8x8;
typedef simdgroup_matrix<bfloat, 8, 8> simdgroup_bfloat8x8;

template <class T, int C, int R = C> MTL_INLINE simdgroup_matrix<T, C, R> make_filled_simdgroup_matrix(T v) {
  simdgroup_matrix<T, C, R> m;
  m.e = vec<T, 2>(v);
  return m;
}
template <class T, int C, int R = C> MTL_INLINE simdgroup_matrix<T, C, R> make_diagonal_simdgroup_matrix(T v) {
  return simdgroup_matrix<T, C, R>(v);
}

// All lanes must come along: a load or store in divergent control flow is undefined.
MTL_INLINE void mtl_converge(int line) {
#ifdef MTL_CHECK
  mtl_rendezvous(MTL_MATRIX, line);
#endif
  (void)line;
}
template <class T, int C, int R, class P>
MTL_INLINE void simdgroup_load(simdgroup_matrix<T, C, R>& m, const P* p, ulong elements_per_row = C, ulong2 origin = ulong2(0ul),
                               bool transpose = false, MTL_LINE) {
  static_assert(is_same_v<remove_cv_t<P>, T>, "simdgroup_load: the pointer's type is not the matrix's");
  mtl_converge(line);
  const ulong r = m.row(), c = m.col();
  if (transpose) {
    m.e.s[0] = p[(origin.y + c) * elements_per_row + origin.x + r];
    m.e.s[1] = p[(origin.y + c + 1) * elements_per_row + origin.x + r];
  } else {
    m.e.s[0] = p[(origin.y + r) * elements_per_row + origin.x + c];
    m.e.s[1] = p[(origin.y + r) * elements_per_row + origin.x + c + 1];
  }
}
template <class T, int C, int R, class P>
MTL_INLINE void simdgroup_store(const simdgroup_matrix<T, C, R>& m, P* p, ulong elements_per_row = C, ulong2 origin = ulong2(0ul),
                                bool transpose = false, MTL_LINE) {
  static_assert(is_same_v<P, T>, "simdgroup_store: the pointer's type is not the matrix's");
  mtl_converge(line);
  const ulong r = m.row(), c = m.col();
  if (transpose) {
    p[(origin.y + c) * elements_per_row + origin.x + r] = m.e.s[0];
    p[(origin.y + c + 1) * elements_per_row + origin.x + r] = m.e.s[1];
  } else {
    p[(origin.y + r) * elements_per_row + origin.x + c] = m.e.s[0];
    p[(origin.y + r) * elements_per_row + origin.x + c + 1] = m.e.s[1];
  }
}

struct mtl_operands { float a[2], b[2]; };
template <class A, class B> MTL_INLINE void mtl_product(const vec<A, 2>& a, const vec<B, 2>& b, float& d0, float& d1, int line) {
  using layout = simdgroup_matrix<float, 8, 8>;
  const mtl_operands mine{{(float)a.s[0], (float)a.s[1]}, {(float)b.s[0], (float)b.s[1]}};
  const auto lanes = mtl_exchanged(mine, MTL_MATRIX, line);
  const uint r = layout::row_of(lanes.self), c = layout::col_of(lanes.self);
  for (uint k = 0; k < 8; k += 2) {
    const auto& left = *(const mtl_operands*)lanes.e->slot[layout::lane_of(r, k)];
    for (uint j = 0; j < 2; j++) {
      const auto& right = *(const mtl_operands*)lanes.e->slot[layout::lane_of(k + j, c)];
      d0 += left.a[j] * right.b[0];
      d1 += left.a[j] * right.b[1];
    }
  }
}
// d = a b + c, d = a b
template <class D, class A, class B, class E>
MTL_INLINE void simdgroup_multiply_accumulate(simdgroup_matrix<D, 8, 8>& d, const simdgroup_matrix<A, 8, 8>& a,
                                              const simdgroup_matrix<B, 8, 8>& b, const simdgroup_matrix<E, 8, 8>& c, MTL_LINE) {
  float d0 = (float)c.e.s[0], d1 = (float)c.e.s[1];
  mtl_product(a.e, b.e, d0, d1, line);
  d.e.s[0] = (D)d0;
  d.e.s[1] = (D)d1;
}
template <class D, class A, class B>
MTL_INLINE void simdgroup_multiply(simdgroup_matrix<D, 8, 8>& d, const simdgroup_matrix<A, 8, 8>& a,
                                   const simdgroup_matrix<B, 8, 8>& b, MTL_LINE) {
  float d0 = 0.0f, d1 = 0.0f;
  mtl_product(a.e, b.e, d0, d1, line);
  d.e.s[0] = (D)d0;
  d.e.s[1] = (D)d1;
}
template <class T> MTL_INLINE simdgroup_matrix<T, 8, 8> operator*(const simdgroup_matrix<T, 8, 8>& a, const simdgroup_matrix<T, 8, 8>& b) {
  simdgroup_matrix<T, 8, 8> d;
  simdgroup_multiply(d, a, b);
  return d;
}

}  // namespace metal
