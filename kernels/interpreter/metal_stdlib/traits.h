// <metal_type_traits>, <metal_limits> and the small utilities of the Metal standard library.
#pragma once
#include "types.h"

namespace metal {

template <class T, T v>
struct integral_constant {
  static constexpr T value = v;
  using value_type = T;
  using type = integral_constant;
  constexpr operator T() const { return v; }
  constexpr T operator()() const { return v; }
};
template <bool b>
using bool_constant = integral_constant<bool, b>;
using true_type = bool_constant<true>;
using false_type = bool_constant<false>;

template <bool, class T = void> struct enable_if {};
template <class T> struct enable_if<true, T> { using type = T; };
template <bool b, class T = void> using enable_if_t = typename enable_if<b, T>::type;
template <bool, class A, class B> struct conditional { using type = A; };
template <class A, class B> struct conditional<false, A, B> { using type = B; };
template <bool b, class A, class B> using conditional_t = typename conditional<b, A, B>::type;
template <class...> using mtl_void_t = void;  // Metal has no void_t and is_empty: MLX's kernels bring their own

template <class T> struct remove_const { using type = T; };
template <class T> struct remove_const<const T> { using type = T; };
template <class T> struct remove_volatile { using type = T; };
template <class T> struct remove_volatile<volatile T> { using type = T; };
template <class T> struct remove_cv { using type = typename remove_const<typename remove_volatile<T>::type>::type; };
template <class T> struct remove_reference { using type = T; };
template <class T> struct remove_reference<T&> { using type = T; };
template <class T> struct remove_reference<T&&> { using type = T; };
template <class T> struct remove_pointer { using type = T; };
template <class T> struct remove_pointer<T*> { using type = T; };
template <class T> struct remove_pointer<T* const> { using type = T; };
template <class T> struct remove_extent { using type = T; };
template <class T> struct remove_extent<T[]> { using type = T; };
template <class T, size_t n> struct remove_extent<T[n]> { using type = T; };
template <class T> struct remove_addrspace { using type = T; };  // address spaces are not part of types here
template <class T> struct add_const { using type = const T; };
template <class T> struct add_pointer { using type = typename remove_reference<T>::type*; };
template <class T> struct decay { using type = typename remove_cv<typename remove_reference<T>::type>::type; };
template <class T> struct decay<T[]> { using type = T*; };
template <class T, size_t n> struct decay<T[n]> { using type = T*; };
template <class T> using remove_const_t = typename remove_const<T>::type;
template <class T> using remove_volatile_t = typename remove_volatile<T>::type;
template <class T> using remove_cv_t = typename remove_cv<T>::type;
template <class T> using remove_reference_t = typename remove_reference<T>::type;
template <class T> using remove_pointer_t = typename remove_pointer<T>::type;
template <class T> using remove_extent_t = typename remove_extent<T>::type;
template <class T> using remove_addrspace_t = typename remove_addrspace<T>::type;
template <class T> using add_const_t = typename add_const<T>::type;
template <class T> using add_pointer_t = typename add_pointer<T>::type;
template <class T> using decay_t = typename decay<T>::type;

template <class A, class B> struct is_same : false_type {};
template <class A> struct is_same<A, A> : true_type {};
template <class T> struct is_const : false_type {};
template <class T> struct is_const<const T> : true_type {};
template <class T> struct is_pointer : false_type {};
template <class T> struct is_pointer<T*> : true_type {};
template <class T> struct is_pointer<T* const> : true_type {};
template <class T> struct is_reference : false_type {};
template <class T> struct is_reference<T&> : true_type {};
template <class T> struct is_reference<T&&> : true_type {};
template <class T> struct is_array : false_type {};
template <class T> struct is_array<T[]> : true_type {};
template <class T, size_t n> struct is_array<T[n]> : true_type {};

template <class T> struct mtl_arithmetic { static constexpr bool integral = false, floating = false, is_signed = false; };
#define MTL_ARITHMETIC(T, i, f, s) \
  template <> struct mtl_arithmetic<T> { static constexpr bool integral = i, floating = f, is_signed = s; };
MTL_ARITHMETIC(bool, true, false, false)
MTL_ARITHMETIC(char, true, false, true)
MTL_ARITHMETIC(signed char, true, false, true)
MTL_ARITHMETIC(unsigned char, true, false, false)
MTL_ARITHMETIC(short, true, false, true)
MTL_ARITHMETIC(unsigned short, true, false, false)
MTL_ARITHMETIC(int, true, false, true)
MTL_ARITHMETIC(unsigned int, true, false, false)
MTL_ARITHMETIC(long, true, false, true)
MTL_ARITHMETIC(unsigned long, true, false, false)
MTL_ARITHMETIC(long long, true, false, true)
MTL_ARITHMETIC(unsigned long long, true, false, false)
MTL_ARITHMETIC(half, false, true, true)
MTL_ARITHMETIC(bfloat, false, true, true)
MTL_ARITHMETIC(float, false, true, true)
#undef MTL_ARITHMETIC

template <class T> struct is_integral : bool_constant<mtl_arithmetic<remove_cv_t<T>>::integral> {};
template <class T> struct is_floating_point : bool_constant<mtl_arithmetic<remove_cv_t<T>>::floating> {};
template <class T> struct is_arithmetic : bool_constant<is_integral<T>::value || is_floating_point<T>::value> {};
template <class T> struct is_signed : bool_constant<mtl_arithmetic<remove_cv_t<T>>::is_signed> {};
template <class T> struct is_unsigned : bool_constant<is_integral<T>::value && !is_signed<T>::value> {};
template <class T> struct is_enum : bool_constant<__is_enum(T)> {};
template <class T> struct is_class : bool_constant<__is_class(T)> {};
template <class T> struct is_scalar : bool_constant<is_arithmetic<T>::value || is_pointer<T>::value || __is_enum(T)> {};
template <class A, class B> struct is_base_of : bool_constant<__is_base_of(A, B)> {};
template <class T> struct is_trivially_copyable : bool_constant<__is_trivially_copyable(T)> {};

template <class T> T&& declval();
template <class A, class B, class = void> struct is_convertible : false_type {};
template <class B> void mtl_accept(B);
template <class A, class B>
struct is_convertible<A, B, mtl_void_t<decltype(mtl_accept<B>(declval<A>()))>> : true_type {};

template <class...> struct conjunction : true_type {};
template <class T, class... R> struct conjunction<T, R...> : conditional_t<bool(T::value), conjunction<R...>, false_type> {};
template <class...> struct disjunction : false_type {};
template <class T, class... R> struct disjunction<T, R...> : conditional_t<bool(T::value), true_type, disjunction<R...>> {};
template <class T> struct negation : bool_constant<!bool(T::value)> {};
template <class... T> using _disjunction = disjunction<T...>;

template <class T> struct mtl_unsigned { using type = T; };
template <class T> struct mtl_signed { using type = T; };
#define MTL_SIGNS(S, U)                                   \
  template <> struct mtl_unsigned<S> { using type = U; }; \
  template <> struct mtl_signed<U> { using type = S; };
MTL_SIGNS(signed char, unsigned char)
MTL_SIGNS(short, unsigned short)
MTL_SIGNS(int, unsigned int)
MTL_SIGNS(long, unsigned long)
MTL_SIGNS(long long, unsigned long long)
#undef MTL_SIGNS
template <> struct mtl_unsigned<char> { using type = unsigned char; };
template <class T> using make_unsigned_t = typename mtl_unsigned<T>::type;
template <class T> using make_signed_t = typename mtl_signed<T>::type;
template <class T> struct make_unsigned : mtl_unsigned<T> {};
template <class T> struct make_signed : mtl_signed<T> {};

template <class A, class B> constexpr bool is_same_v = is_same<A, B>::value;
template <class T> constexpr bool is_const_v = is_const<T>::value;
template <class T> constexpr bool is_pointer_v = is_pointer<T>::value;
template <class T> constexpr bool is_reference_v = is_reference<T>::value;
template <class T> constexpr bool is_array_v = is_array<T>::value;
template <class T> constexpr bool is_integral_v = is_integral<T>::value;
template <class T> constexpr bool is_floating_point_v = is_floating_point<T>::value;
template <class T> constexpr bool is_arithmetic_v = is_arithmetic<T>::value;
template <class T> constexpr bool is_signed_v = is_signed<T>::value;
template <class T> constexpr bool is_unsigned_v = is_unsigned<T>::value;
template <class T> constexpr bool is_enum_v = is_enum<T>::value;
template <class T> constexpr bool is_class_v = is_class<T>::value;
template <class T> constexpr bool is_scalar_v = is_scalar<T>::value;
template <class A, class B> constexpr bool is_base_of_v = is_base_of<A, B>::value;
template <class A, class B> constexpr bool is_convertible_v = is_convertible<A, B>::value;
template <class... T> constexpr bool conjunction_v = conjunction<T...>::value;
template <class... T> constexpr bool disjunction_v = disjunction<T...>::value;
template <class T> constexpr bool negation_v = negation<T>::value;

// Nothing named `forward`: MLX's kernels have a constant of that name beside `using namespace metal`. The packs let a
// kernel's own function of the name win.
template <class T, class... N> MTL_INLINE constexpr remove_reference_t<T>&& move(T&& x, N...) { return static_cast<remove_reference_t<T>&&>(x); }
template <class T, class... N> MTL_INLINE void swap(T& a, T& b, N...) { T t = a; a = b; b = t; }

template <class T> using uniform = T;  // a promise that all threads hold the same value
template <class T> MTL_INLINE constexpr T make_uniform(T x) { return x; }

template <class T, size_t n>
struct array {
  T __elems[n];
  constexpr T& operator[](size_t i) { return __elems[i]; }
  constexpr const T& operator[](size_t i) const { return __elems[i]; }
  constexpr size_t size() const { return n; }
  T* begin() { return __elems; }
  T* end() { return __elems + n; }
  const T* begin() const { return __elems; }
  const T* end() const { return __elems + n; }
  T* data() { return __elems; }
  const T* data() const { return __elems; }
};

template <class T> struct numeric_limits { static constexpr bool is_specialized = false; };
template <class T, T lo, T hi>
struct mtl_integer_limits {
  static constexpr bool is_specialized = true, is_integer = true, is_exact = true, is_signed = lo < 0;
  static constexpr bool has_infinity = false, has_quiet_NaN = false;
  static constexpr int digits = (int)sizeof(T) * 8 - (lo < 0);
  static constexpr T min() { return lo; }
  static constexpr T max() { return hi; }
  static constexpr T lowest() { return lo; }
};
template <> struct numeric_limits<bool> : mtl_integer_limits<bool, false, true> {};
template <> struct numeric_limits<char> : mtl_integer_limits<char, -128, 127> {};
template <> struct numeric_limits<signed char> : mtl_integer_limits<signed char, -128, 127> {};
template <> struct numeric_limits<unsigned char> : mtl_integer_limits<unsigned char, 0, 255> {};
template <> struct numeric_limits<short> : mtl_integer_limits<short, -32768, 32767> {};
template <> struct numeric_limits<unsigned short> : mtl_integer_limits<unsigned short, 0, 65535> {};
template <> struct numeric_limits<int> : mtl_integer_limits<int, -2147483647 - 1, 2147483647> {};
template <> struct numeric_limits<unsigned int> : mtl_integer_limits<unsigned int, 0, 4294967295u> {};
template <> struct numeric_limits<long> : mtl_integer_limits<long, -9223372036854775807l - 1, 9223372036854775807l> {};
template <> struct numeric_limits<unsigned long> : mtl_integer_limits<unsigned long, 0, 18446744073709551615ul> {};

#define MTL_FLOAT_LIMITS(T, U, one_inf, qnan, smallest, largest, epsilon_, denorm, nbits, nmax, nmin)  \
  template <> struct numeric_limits<T> {                                                              \
    static constexpr bool is_specialized = true, is_integer = false, is_exact = false, is_signed = true; \
    static constexpr bool has_infinity = true, has_quiet_NaN = true;                                  \
    static constexpr int digits = nbits, max_exponent = nmax, min_exponent = nmin, radix = 2;         \
    static constexpr T mtl_of(U u) { return __builtin_bit_cast(T, u); }                               \
    static constexpr T infinity() { return mtl_of(one_inf); }                                         \
    static constexpr T quiet_NaN() { return mtl_of(qnan); }                                           \
    static constexpr T signaling_NaN() { return mtl_of(qnan); }                                       \
    static constexpr T min() { return mtl_of(smallest); }                                             \
    static constexpr T max() { return mtl_of(largest); }                                              \
    static constexpr T lowest() { return mtl_of((U)(largest | (U)1 << (sizeof(U) * 8 - 1))); }        \
    static constexpr T epsilon() { return mtl_of(epsilon_); }                                         \
    static constexpr T denorm_min() { return mtl_of(denorm); }                                        \
  };
MTL_FLOAT_LIMITS(float, uint32_t, 0x7f800000u, 0x7fc00000u, 0x00800000u, 0x7f7fffffu, 0x34000000u, 1u, 24, 128, -125)
MTL_FLOAT_LIMITS(half, uint16_t, 0x7c00, 0x7e00, 0x0400, 0x7bff, 0x1400, 1, 11, 16, -13)
#ifdef MTL_LINT
MTL_FLOAT_LIMITS(bfloat, uint64_t, 0, 0, 0, 0, 0, 0, 8, 128, -125)
#else
MTL_FLOAT_LIMITS(bfloat, uint16_t, 0x7f80, 0x7fc0, 0x0080, 0x7f7f, 0x3c00, 1, 8, 128, -125)
#endif
#undef MTL_FLOAT_LIMITS

}  // namespace metal

#define FLT_MAX 3.40282346638528859812e+38f
#define FLT_MIN 1.17549435082228750797e-38f
#define FLT_EPSILON 1.1920928955078125e-07f
#define HALF_MAX ((half)65504.0f)
#define HALF_MIN ((half)6.103515625e-05f)
#define HALF_EPSILON ((half)9.765625e-04f)
#define INT_MAX 2147483647
#define INT_MIN (-2147483647 - 1)
#define UINT_MAX 4294967295u
#define LONG_MAX 9223372036854775807l
#define ULONG_MAX 18446744073709551615ul
#define SHRT_MAX 32767
#define USHRT_MAX 65535
#define CHAR_BIT 8
#define INFINITY (__builtin_inff())
#define NAN (__builtin_nanf(""))
#define HUGE_VALF (__builtin_inff())
#define MAXFLOAT 3.40282346638528859812e+38f
#define M_PI_F 3.14159265358979323846f
#define M_PI_2_F 1.57079632679489661923f
#define M_PI_4_F 0.785398163397448309616f
#define M_1_PI_F 0.318309886183790671538f
#define M_2_PI_F 0.636619772367581343076f
#define M_2_SQRTPI_F 1.12837916709551257390f
#define M_SQRT2_F 1.41421356237309504880f
#define M_SQRT1_2_F 0.707106781186547524401f
#define M_E_F 2.71828182845904523536f
#define M_LN2_F 0.693147180559945309417f
#define M_LN10_F 2.30258509299404568402f
#define M_LOG2E_F 1.44269504088896340736f
#define M_LOG10E_F 0.434294481903251827651f
#define M_PI_H ((half)3.14159265f)
