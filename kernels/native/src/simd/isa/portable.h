// Plain C++ with the vector types that GCC and Clang have for every processor: 4 floats. For processors without a level
// of their own, and as a check of the other levels.

constexpr int L = 4;
#define IMN_HALF_WORDS
typedef float VF __attribute__((vector_size(16)));
typedef uint32_t VI __attribute__((vector_size(16)));
typedef int32_t VS __attribute__((vector_size(16)));

inline VF vset1(float a) { return VF{a, a, a, a}; }
inline VF vzero() { return vset1(0); }
inline VF vload(const float* p) {
  VF a;
  __builtin_memcpy(&a, p, sizeof a);
  return a;
}
inline void vstore(float* p, VF a) { __builtin_memcpy(p, &a, sizeof a); }
inline VF vadd(VF a, VF b) { return a + b; }
inline VF vmul(VF a, VF b) { return a * b; }
inline VF vfma(VF a, VF b, VF c) { return a * b + c; }

inline float vsum(VF a) { return (a[0] + a[2]) + (a[1] + a[3]); }
inline void vsum4(VF a, VF b, VF c, VF d, float* out) {
  out[0] = vsum(a), out[1] = vsum(b), out[2] = vsum(c), out[3] = vsum(d);
}

inline VF vload_f16(const uint16_t* p) { return VF{from_half(p[0]), from_half(p[1]), from_half(p[2]), from_half(p[3])}; }
inline VF vload_bf16(const uint16_t* p) {
  return VF{from_bfloat(p[0]), from_bfloat(p[1]), from_bfloat(p[2]), from_bfloat(p[3])};
}
inline void vstore_f16(uint16_t* p, VF a) {
  for (int l = 0; l < L; ++l) p[l] = to_half(a[l]);
}

inline VI wload(const uint32_t* p) {
  VI w;
  __builtin_memcpy(&w, p, sizeof w);
  return w;
}
// Only called with values below 2^31, where the signed conversion, which processors have, is right.
inline VF to_float(VI w) { return __builtin_convertvector((VS)w, VF); }
inline VI whigh(VI w) { return w >> 16; }
template <int BITS>
inline VF wfield(VI w, int i) {
  return to_float(w & (((1u << BITS) - 1) << (BITS * i)));
}
inline VF wspread4(const uint16_t* p) { return to_float((VI{*p, *p, *p, *p} >> VI{0, 4, 8, 12}) & 15u); }
inline VF wspread8(const uint32_t* p) { return to_float((VI{*p, *p, *p, *p} >> VI{0, 8, 16, 24}) & 255u); }
inline VF vset2(const float* p) { return VF{p[0], p[0], p[1], p[1]}; }
inline VF vset4(const float* p) { return vload(p); }

inline VF idot(VI w, const int8_t* x) {
  VF r;
  for (int l = 0; l < L; ++l) {
    int sum = 0;
    for (int b = 0; b < 4; ++b) {
      const int byte = (w[l] >> (8 * b)) & 255;
      sum += (byte & 15) * x[4 * l + b] + (byte >> 4) * x[4 * L + 4 * l + b];
    }
    r[l] = float(sum);
  }
  return r;
}
inline VF idot(VI w, const int16_t* x) {
  VF r;
  for (int l = 0; l < L; ++l) {
    int sum = 0;
    for (int i = 0; i < 8; ++i) sum += int((w[l] >> (4 * i)) & 15) * x[i % 4 * 2 * L + 2 * l + i / 4];
    r[l] = float(sum);
  }
  return r;
}
constexpr bool kBytePlanes = false;  // see simd_avx512.h
constexpr bool kInt16Pays = false;
inline void prefetch(const void*) {}
