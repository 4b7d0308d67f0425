// Metal's vectors. A class with swizzle proxies, the same under every compiler; T is any scalar, bfloat included.
#pragma once
#include "abi.h"
#include "traits.h"

namespace std {
template <class E> class initializer_list {  // what compilers make of braces
  const E* first;
  decltype(sizeof 0) count;
  constexpr initializer_list(const E* p, decltype(sizeof 0) n) : first(p), count(n) {}

 public:
  constexpr initializer_list() : first(nullptr), count(0) {}
  constexpr const E* begin() const { return first; }
  constexpr const E* end() const { return first + count; }
};
}  // namespace std

namespace metal {

template <class T, int N> struct vec;
template <class V> struct mtl_vector { static constexpr int n = 0; };  // n = 0: not a vector
template <class T, int N> struct mtl_vector<vec<T, N>> {
  static constexpr int n = N;
  using type = vec<T, N>;
  using element = T;
};
template <class T, int N, int... I> struct mtl_swizzle;
template <class T, int N, int... I> struct mtl_vector<mtl_swizzle<T, N, I...>> {
  static constexpr int n = sizeof...(I);
  using type = vec<T, sizeof...(I)>;
  using element = T;
};
template <class V> constexpr int mtl_width = mtl_vector<remove_cv_t<V>>::n;
template <class V> using mtl_vec_t = typename mtl_vector<remove_cv_t<V>>::type;

// v.zx: shares the memory of v. Reads as a vec, assigns to the chosen components.
template <class T, int N, int... I>
struct mtl_swizzle {
  static constexpr int n = sizeof...(I);
  T s[N];

  MTL_INLINE operator vec<T, n>() const { return vec<T, n>(s[I]...); }
  MTL_INLINE T operator[](int i) const { return ((vec<T, n>)*this)[i]; }
  MTL_INLINE mtl_swizzle& operator=(vec<T, n> v) {
    int k = 0;
    ((s[I] = v.s[k++]), ...);
    return *this;
  }
  MTL_INLINE mtl_swizzle& operator=(const mtl_swizzle& o) { return *this = (vec<T, n>)o; }
  MTL_INLINE mtl_swizzle& operator=(T x) { return *this = vec<T, n>(x); }
  mtl_swizzle() = default;
  mtl_swizzle(const mtl_swizzle&) = default;
#define MTL_ASSIGN(op)                                                                             \
  template <class B> MTL_INLINE mtl_swizzle& operator op##=(B b) { return *this = (vec<T, n>)*this op b; }
  MTL_ASSIGN(+) MTL_ASSIGN(-) MTL_ASSIGN(*) MTL_ASSIGN(/)
#undef MTL_ASSIGN
};

#define MTL_INDEX_x 0
#define MTL_INDEX_y 1
#define MTL_INDEX_z 2
#define MTL_INDEX_w 3
#define MTL_INDEX_r 0
#define MTL_INDEX_g 1
#define MTL_INDEX_b 2
#define MTL_INDEX_a 3

// Check mode: an index is compared with the number of components, and a copy binds a reference to what it copies, at which
// compilers check the address.
#ifdef MTL_CHECK
#define MTL_COMPONENT(i, N) ((unsigned)(i) < N ? (i) : mtl_component(i))
#define MTL_COPY MTL_INLINE constexpr vec(const vec& o) : s{} { for (int i = 0; i < (int)(sizeof s / sizeof(T)); i++) s[i] = o.s[i]; }
#else
#define MTL_COMPONENT(i, N) (i)
#define MTL_COPY vec(const vec&) = default;
#endif

#define MTL_VEC_COMMON(N)                                                                                           \
  using value_type = T;                                                                                             \
  vec() = default;                                                                                                  \
  MTL_COPY                                                                                                          \
  MTL_INLINE vec& operator=(const vec& o) { __builtin_memcpy(this, &o, sizeof(*this)); return *this; }               \
  template <class S, enable_if_t<mtl_width<S> == 0 && is_convertible_v<S, T>, bool> = true>                          \
  MTL_INLINE constexpr vec(S x) : s{} { for (int i = 0; i < N; i++) s[i] = (T)x; }                                  \
  /* Braces may hold fewer numbers than there are components, parentheses not: the rest is zero. */                   \
  MTL_INLINE constexpr vec(std::initializer_list<T> l) : s{} { int k = 0; for (const T& x : l) if (k < N) s[k++] = x; } \
  template <class U, enable_if_t<!is_same_v<U, T>, bool> = true>                                                     \
  MTL_INLINE constexpr explicit vec(const vec<U, N>& o) : s{} { for (int i = 0; i < N; i++) s[i] = (T)o.s[i]; }      \
  template <class U, int M, int... I, enable_if_t<!is_same_v<U, T> && sizeof...(I) == N, bool> = true>               \
  MTL_INLINE explicit vec(const mtl_swizzle<U, M, I...>& o) : vec((vec<U, N>)o) {}                                   \
  template <class A, class B, class... R>                                                                           \
  MTL_INLINE constexpr vec(const A& a, const B& b, const R&... r) : s{} {                                           \
    static_assert((mtl_count<A> + mtl_count<B> + (0 + ... + mtl_count<R>)) == N, "wrong number of components");           \
    int k = 0;                                                                                                      \
    put(k, a), put(k, b);                                                                                           \
    (put(k, r), ...);                                                                                               \
  }                                                                                                                 \
  MTL_INLINE constexpr T& operator[](int i) { return s[MTL_COMPONENT(i, N)]; }                                      \
  MTL_INLINE constexpr const T& operator[](int i) const { return s[MTL_COMPONENT(i, N)]; }                          \
 private:                                                                                                           \
  template <class S> MTL_INLINE constexpr void put(int& k, const S& x) {                                            \
    if constexpr (mtl_width<S> == 0) s[k++] = (T)x;                                                                 \
    else { const mtl_vec_t<S> v = x; for (int i = 0; i < mtl_width<S>; i++) s[k++] = (T)v.s[i]; }                   \
  }                                                                                                                 \
 public:

template <class S> constexpr int mtl_count = mtl_width<S> == 0 ? 1 : mtl_width<S>;

template <class T> struct alignas(sizeof(T) * 2) vec<T, 2> {
  union {
    T s[2];
    struct { T x, y; };
    struct { T r, g; };
#define MTL_N 2
#define MTL_EACH1(M) M(x) M(y)
#define MTL_EACH2(M, p1) M(p1, x) M(p1, y)
#define MTL_EACH3(M, p1, p2) M(p1, p2, x) M(p1, p2, y)
#define MTL_EACH4(M, p1, p2, p3) M(p1, p2, p3, x) M(p1, p2, p3, y)
#include "swizzles.inc"
#define MTL_EACH1(M) M(r) M(g)
#define MTL_EACH2(M, p1) M(p1, r) M(p1, g)
#define MTL_EACH3(M, p1, p2) M(p1, p2, r) M(p1, p2, g)
#define MTL_EACH4(M, p1, p2, p3) M(p1, p2, p3, r) M(p1, p2, p3, g)
#include "swizzles.inc"
#undef MTL_N
  };
  MTL_VEC_COMMON(2)
};

template <class T> struct alignas(sizeof(T) * 4) vec<T, 3> {
  union {
    T s[3];
    struct { T x, y, z; };
    struct { T r, g, b; };
#define MTL_N 3
#define MTL_EACH1(M) M(x) M(y) M(z)
#define MTL_EACH2(M, p1) M(p1, x) M(p1, y) M(p1, z)
#define MTL_EACH3(M, p1, p2) M(p1, p2, x) M(p1, p2, y) M(p1, p2, z)
#define MTL_EACH4(M, p1, p2, p3) M(p1, p2, p3, x) M(p1, p2, p3, y) M(p1, p2, p3, z)
#include "swizzles.inc"
#define MTL_EACH1(M) M(r) M(g) M(b)
#define MTL_EACH2(M, p1) M(p1, r) M(p1, g) M(p1, b)
#define MTL_EACH3(M, p1, p2) M(p1, p2, r) M(p1, p2, g) M(p1, p2, b)
#define MTL_EACH4(M, p1, p2, p3) M(p1, p2, p3, r) M(p1, p2, p3, g) M(p1, p2, p3, b)
#include "swizzles.inc"
#undef MTL_N
  };
  MTL_VEC_COMMON(3)
};

template <class T> struct alignas(sizeof(T) * 4) vec<T, 4> {
  union {
    T s[4];
    struct { T x, y, z, w; };
    struct { T r, g, b, a; };
#define MTL_N 4
#define MTL_EACH1(M) M(x) M(y) M(z) M(w)
#define MTL_EACH2(M, p1) M(p1, x) M(p1, y) M(p1, z) M(p1, w)
#define MTL_EACH3(M, p1, p2) M(p1, p2, x) M(p1, p2, y) M(p1, p2, z) M(p1, p2, w)
#define MTL_EACH4(M, p1, p2, p3) M(p1, p2, p3, x) M(p1, p2, p3, y) M(p1, p2, p3, z) M(p1, p2, p3, w)
#include "swizzles.inc"
#define MTL_EACH1(M) M(r) M(g) M(b) M(a)
#define MTL_EACH2(M, p1) M(p1, r) M(p1, g) M(p1, b) M(p1, a)
#define MTL_EACH3(M, p1, p2) M(p1, p2, r) M(p1, p2, g) M(p1, p2, b) M(p1, p2, a)
#define MTL_EACH4(M, p1, p2, p3) M(p1, p2, p3, r) M(p1, p2, p3, g) M(p1, p2, p3, b) M(p1, p2, p3, a)
#include "swizzles.inc"
#undef MTL_N
  };
  MTL_VEC_COMMON(4)
};
#undef MTL_VEC_COMMON
#undef MTL_COMPONENT
#undef MTL_COPY

// Applies f to each component.
template <class R, class V, class F> MTL_INLINE auto mtl_map(const V& v, F f) {
  const mtl_vec_t<V> a = v;
  vec<R, mtl_width<V>> r;
  for (int i = 0; i < mtl_width<V>; i++) r.s[i] = f(a.s[i]);
  return r;
}

// A vector and a scalar, a scalar and a vector, or two vectors of one type; the scalar becomes a vector.
template <class A, class B, bool = (mtl_width<A> > 0), bool = (mtl_width<B> > 0)> struct mtl_pair {};
template <class A, class B> struct mtl_pair<A, B, true, true>
    : enable_if<is_same_v<mtl_vec_t<A>, mtl_vec_t<B>>, mtl_vec_t<A>> {};
template <class A, class B> struct mtl_pair<A, B, true, false>
    : enable_if<is_arithmetic_v<B> || is_enum_v<B> || is_convertible_v<B, typename mtl_vec_t<A>::value_type>, mtl_vec_t<A>> {};
template <class A, class B> struct mtl_pair<A, B, false, true> : mtl_pair<B, A, true, false> {};
template <class A, class B> using mtl_pair_t = typename mtl_pair<A, B>::type;

#define MTL_BINARY(op)                                                                          \
  template <class A, class B, class V = mtl_pair_t<A, B>>                                       \
  MTL_INLINE V operator op(const A& a, const B& b) {                                            \
    const V x = mtl_as_vec<V>(a), y = mtl_as_vec<V>(b);                                         \
    V r;                                                                                        \
    for (int i = 0; i < mtl_width<V>; i++) r.s[i] = x.s[i] op y.s[i];                           \
    return r;                                                                                   \
  }                                                                                             \
  template <class T, int N, class B, class V = mtl_pair_t<vec<T, N>, B>>                        \
  MTL_INLINE vec<T, N>& operator op##=(vec<T, N>& a, const B& b) { return a = a op b; }
#define MTL_COMPARE(op)                                                                         \
  template <class A, class B, class V = mtl_pair_t<A, B>>                                       \
  MTL_INLINE vec<bool, mtl_width<V>> operator op(const A& a, const B& b) {                      \
    const V x = mtl_as_vec<V>(a), y = mtl_as_vec<V>(b);                                         \
    vec<bool, mtl_width<V>> r;                                                                  \
    for (int i = 0; i < mtl_width<V>; i++) r.s[i] = x.s[i] op y.s[i];                           \
    return r;                                                                                   \
  }
template <class V, class A> MTL_INLINE V mtl_as_vec(const A& a) {
  if constexpr (mtl_width<A> > 0) return (V)a;
  else return V((typename V::value_type)a);
}
MTL_BINARY(+) MTL_BINARY(-) MTL_BINARY(*) MTL_BINARY(/) MTL_BINARY(%)
MTL_BINARY(&) MTL_BINARY(|) MTL_BINARY(^) MTL_BINARY(<<) MTL_BINARY(>>)
MTL_COMPARE(==) MTL_COMPARE(!=) MTL_COMPARE(<) MTL_COMPARE(>) MTL_COMPARE(<=) MTL_COMPARE(>=)
MTL_COMPARE(&&) MTL_COMPARE(||)
#undef MTL_BINARY
#undef MTL_COMPARE
#define MTL_UNARY(op, R)                                                             \
  template <class V, enable_if_t<(mtl_width<V> > 0), bool> = true>                    \
  MTL_INLINE auto operator op(const V& v) {                                           \
    return mtl_map<R>(v, [](auto x) { return (R)(op x); });                           \
  }
MTL_UNARY(-, typename mtl_vec_t<V>::value_type)
MTL_UNARY(+, typename mtl_vec_t<V>::value_type)
MTL_UNARY(~, typename mtl_vec_t<V>::value_type)
MTL_UNARY(!, bool)
#undef MTL_UNARY

// Unpadded and aligned to its element.
template <class T, int N>
struct packed_vec {
  T s[N];
  packed_vec() = default;
  MTL_INLINE packed_vec(vec<T, N> v) { for (int i = 0; i < N; i++) s[i] = v.s[i]; }
  template <class A, class B, class... R>
  MTL_INLINE packed_vec(const A& a, const B& b, const R&... r) : packed_vec(vec<T, N>(a, b, r...)) {}
  MTL_INLINE operator vec<T, N>() const {
    vec<T, N> v;
#ifdef MTL_SIMT  // one load, as a GPU makes it
    typedef __attribute__((ext_vector_type(N), aligned(alignof(T)))) T together;
    const together a = *(const together*)s;
    for (int i = 0; i < N; i++) v.s[i] = a[i];
#else
    for (int i = 0; i < N; i++) v.s[i] = s[i];
#endif
    return v;
  }
  MTL_INLINE T& operator[](int i) { return s[i]; }
  MTL_INLINE const T& operator[](int i) const { return s[i]; }
};
template <class T, int N> struct mtl_vector<packed_vec<T, N>> {
  static constexpr int n = N;
  using type = vec<T, N>;
  using element = T;
};

}  // namespace metal

#define MTL_VECTORS(T)             \
  typedef metal::vec<T, 2> T##2;   \
  typedef metal::vec<T, 3> T##3;   \
  typedef metal::vec<T, 4> T##4;   \
  typedef metal::packed_vec<T, 2> packed_##T##2; \
  typedef metal::packed_vec<T, 3> packed_##T##3; \
  typedef metal::packed_vec<T, 4> packed_##T##4;
MTL_VECTORS(bool) MTL_VECTORS(char) MTL_VECTORS(uchar) MTL_VECTORS(short) MTL_VECTORS(ushort) MTL_VECTORS(int)
MTL_VECTORS(uint) MTL_VECTORS(long) MTL_VECTORS(ulong) MTL_VECTORS(half) MTL_VECTORS(bfloat) MTL_VECTORS(float)
#undef MTL_VECTORS

// Reinterprets bits.
template <class T, class U>
MTL_INLINE constexpr T as_type(const U& x) {
  static_assert(sizeof(T) == sizeof(U), "as_type needs two types of one size");
  if constexpr (__is_trivially_copyable(T) && __is_trivially_copyable(U)) {
    return __builtin_bit_cast(T, x);
  } else {
    T r;
    __builtin_memcpy(&r, &x, sizeof(T));
    return r;
  }
}
