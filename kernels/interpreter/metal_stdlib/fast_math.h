// fp="metal": single-precision functions as far off as the Metal Shading Language Specification lets them be with fast math
// (4.1, section 8.4, table 8.2). An error has the stated size; its sign hangs on the argument's bits alone, so that a
// function of one argument has one result. What the table calls "implemented as" is implemented so. Where it states no bound
// (sine beyond pi, fmod) the choice is made here and said at the function. Included by math.h, in namespace metal.

MTL_INLINE double mtl_ulp(double x) {
  const int e = __builtin_ilogb(x);
  return __builtin_ldexp((double)1, (e < -126 ? -126 : e) - 23);
}
// `right` moved by `error`, up or down, and rounded; results that are denormal are zeros.
MTL_INLINE float mtl_moved(double right, double error, uint bits) {
  const float near = (float)right;
  if (!(__builtin_fabsf(near) <= 3.40282347e38f)) return near;  // infinite, or no number
  bits ^= bits >> 16, bits *= 0x7feb352du, bits ^= bits >> 15, bits *= 0x846ca68bu;
  const float off = (float)(right + (bits >> 31 ? error : -error));
  return __builtin_fabsf(off) < 1.17549435e-38f ? __builtin_copysignf(0.0f, near) : off;
}
MTL_INLINE uint mtl_bits(float x) { return as_type<uint>(x); }
// Off by `ulps` of the result. Half of one is what rounding adds.
MTL_INLINE float mtl_off_ulps(double right, float ulps, uint bits) {
  if (right == 0) return (float)right;
  return mtl_moved(right, (double)(ulps - 0.5f) * mtl_ulp(right), bits);
}
// Off by 2^exponent, of which rounding results below 2 in magnitude adds 2^-24.
MTL_INLINE float mtl_off_by(double right, int exponent, double times, uint bits) {
  return mtl_moved(right, (__builtin_ldexp((double)1, exponent) - __builtin_ldexp((double)1, -24)) * times, bits);
}

MTL_INLINE float mtl_fast_exp(float x) {
  return mtl_off_ulps(__builtin_exp((double)x), 3.0f + __builtin_floorf(__builtin_fabsf(2.0f * x)), mtl_bits(x));
}
MTL_INLINE float mtl_fast_exp2(float x) {
  return mtl_off_ulps(__builtin_exp2((double)x), 3.0f + __builtin_floorf(__builtin_fabsf(2.0f * x)), mtl_bits(x));
}
MTL_INLINE float mtl_fast_exp10(float x) { return mtl_fast_exp2(x * 3.32192809f); }
MTL_INLINE float mtl_fast_log(float x) {
  const double right = __builtin_log((double)x);
  return x >= 0.5f && x <= 2.0f ? mtl_off_by(right, -21, 1, mtl_bits(x)) : mtl_off_ulps(right, 3.0f, mtl_bits(x));
}
MTL_INLINE float mtl_fast_log2(float x) {
  const double right = __builtin_log2((double)x);
  return x >= 0.5f && x <= 2.0f ? mtl_off_by(right, -22, 1, mtl_bits(x)) : mtl_off_ulps(right, 2.0f, mtl_bits(x));
}
MTL_INLINE float mtl_fast_log10(float x) { return mtl_fast_log2(x) * 0.301029996f; }
MTL_INLINE float mtl_fast_pow(float x, float y) { return mtl_fast_exp2(y * mtl_fast_log2(x)); }
MTL_INLINE float mtl_fast_powr(float x, float y) { return mtl_fast_exp2(y * mtl_fast_log2(x)); }

// "Larger otherwise": beyond pi (or 1 for sinpi), here as many times larger as x is.
MTL_INLINE double mtl_times(float x, float domain) {
  const float over = __builtin_fabsf(x) / domain;
  return over > 1.0f ? (double)over : (double)1;
}
MTL_INLINE float mtl_fast_sin(float x) {
  return mtl_off_by(__builtin_sin((double)x), -13, mtl_times(x, 3.14159265f), mtl_bits(x));
}
MTL_INLINE float mtl_fast_cos(float x) {
  return mtl_off_by(__builtin_cos((double)x), -13, mtl_times(x, 3.14159265f), mtl_bits(x));
}
constexpr double mtl_pi = (double)3.14159274f - (double)8.74227766e-8f;  // all literals are floats
MTL_INLINE float mtl_fast_sinpi(float x) {
  return mtl_off_by(__builtin_sin((double)mtl_half_turn(x) * mtl_pi), -13, mtl_times(x, 1.0f), mtl_bits(x));
}
MTL_INLINE float mtl_fast_cospi(float x) {
  return mtl_off_by(__builtin_sin((double)mtl_quarter_on(x) * mtl_pi), -13, mtl_times(x, 1.0f), mtl_bits(x));
}
MTL_INLINE float mtl_fast_tan(float x) { return mtl_fast_sin(x) * (1.0f / mtl_fast_cos(x)); }
MTL_INLINE float mtl_fast_tanpi(float x) { return mtl_fast_tan(x * 3.14159265f); }
MTL_INLINE float mtl_fast_sinh(float x) { return 0.5f * (mtl_fast_exp(x) - mtl_fast_exp(-x)); }
MTL_INLINE float mtl_fast_cosh(float x) { return 0.5f * (mtl_fast_exp(x) + mtl_fast_exp(-x)); }
MTL_INLINE float mtl_fast_tanh(float x) {  // not a number from x = 44.4 on, where t is infinite
  const float t = mtl_fast_exp(2.0f * x);
  return (t - 1.0f) / (t + 1.0f);
}

MTL_INLINE float mtl_fast_rsqrt(float x) {
  return mtl_off_ulps((double)1 / __builtin_sqrt((double)x), 2.0f, mtl_bits(x));
}
MTL_INLINE float mtl_fast_sqrt(float x) {
  const float special = __builtin_sqrtf(x);
  return x > 0.0f && special <= 3.40282347e38f ? x * mtl_fast_rsqrt(x) : special;
}
MTL_INLINE float mtl_fast_divide(float x, float y) {
  const float size = __builtin_fabsf(y);
  if (!(size >= 1.17549435e-38f && size <= 8.50705917e37f)) return x / y;  // outside 2^-126 to 2^126 nothing is stated
  return mtl_off_ulps((double)x / (double)y, 2.5f, mtl_bits(x) ^ mtl_bits(y) * 0x9e3779b9u);
}
// "Undefined": here by a division that may be off, so that a multiple of y may leave nearly y.
MTL_INLINE float mtl_fast_fmod(float x, float y) { return x - y * __builtin_truncf(mtl_fast_divide(x, y)); }

MTL_INLINE float mtl_fast_acos(float x) { return mtl_off_ulps(__builtin_acos((double)x), 5.0f, mtl_bits(x)); }
MTL_INLINE float mtl_fast_asin(float x) { return mtl_off_ulps(__builtin_asin((double)x), 5.0f, mtl_bits(x)); }
MTL_INLINE float mtl_fast_atan(float x) { return mtl_off_ulps(__builtin_atan((double)x), 5.0f, mtl_bits(x)); }
MTL_INLINE float mtl_fast_acosh(float x) { return mtl_fast_log(x + mtl_fast_sqrt(x * x - 1.0f)); }
MTL_INLINE float mtl_fast_asinh(float x) { return mtl_fast_log(x + mtl_fast_sqrt(x * x + 1.0f)); }
MTL_INLINE float mtl_fast_atanh(float x) { return 0.5f * mtl_fast_log((1.0f + x) / (1.0f - x)); }
MTL_INLINE float mtl_fast_atan2(float y, float x) {
  if (x == 0.0f || y == 0.0f) return __builtin_atan2f(y, x);  // undefined
  const float angle = mtl_fast_atan(y / x);
  return x > 0.0f ? angle : y > 0.0f ? angle + 3.14159265f : angle - 3.14159265f;
}
