// The inner kernels, written once over the few vector operations of simd_*.h.
//
// Each level's file includes its simd_*.h and then this file inside an unnamed namespace, and is compiled with that
// level's flags. No standard library here: a template instantiated with AVX-512 flags must not be the copy that the
// linker keeps for everybody.

template <typename T>
inline T min_(T a, T b) {
  return a < b ? a : b;
}
inline int64_t up(int64_t n, int64_t to) {
  return (n + to - 1) / to * to;
}

template <DType D>
inline VF vload_as(const void* p, int64_t i) {
  if constexpr (D == DType::f32) return vload((const float*)p + i);
  if constexpr (D == DType::f16) return vload_f16((const uint16_t*)p + i);
  if constexpr (D == DType::bf16) return vload_bf16((const uint16_t*)p + i);
}
template <DType D>
inline float load_as(const void* p, int64_t i) {
  if constexpr (D == DType::f32) return ((const float*)p)[i];
  if constexpr (D == DType::f16) return from_half(((const uint16_t*)p)[i]);
  if constexpr (D == DType::bf16) return from_bfloat(((const uint16_t*)p)[i]);
}
template <DType D>
inline const void* offset(const void* p, int64_t i) {
  return (const char*)p + i * (D == DType::f32 ? 4 : 2);
}

template <DType D>
void widen_as(float* dst, const void* src, int64_t n) {
  int64_t i = 0;
  for (; i + L <= n; i += L) vstore(dst + i, vload_as<D>(src, i));
  for (; i < n; ++i) dst[i] = load_as<D>(src, i);
}
void widen(float* dst, const void* src, int64_t n, DType dtype) {
  if (dtype == DType::f32) return widen_as<DType::f32>(dst, src, n);
  if (dtype == DType::f16) return widen_as<DType::f16>(dst, src, n);
  widen_as<DType::bf16>(dst, src, n);
}
void narrow(void* dst, const float* src, int64_t n, DType dtype) {
  int64_t i = 0;
  if (dtype == DType::f32) {
    __builtin_memcpy(dst, src, n * 4);
  } else if (dtype == DType::f16) {
    for (; i + L <= n; i += L) vstore_f16((uint16_t*)dst + i, vload(src + i));
    for (; i < n; ++i) ((uint16_t*)dst)[i] = to_half(src[i]);
  } else {
    for (; i < n; ++i) ((uint16_t*)dst)[i] = to_bfloat(src[i]);
  }
}

float sum_of(const float* x, int64_t n) {
  VF s = vzero();
  int64_t i = 0;
  for (; i + L <= n; i += L) s = vadd(s, vload(x + i));
  float r = vsum(s);
  for (; i < n; ++i) r += x[i];
  return r;
}

void layer_norm(float* row, int k, const float* weight, const float* bias, float eps) {
  const float mean = sum_of(row, k) / k;
  const VF minus = vset1(-mean);
  VF s = vzero();
  int i = 0;
  for (; i + L <= k; i += L) {
    const VF d = vadd(vload(row + i), minus);
    s = vfma(d, d, s);
  }
  float var = vsum(s);
  for (; i < k; ++i) var += (row[i] - mean) * (row[i] - mean);
  const float r = 1.f / __builtin_sqrtf(var / k + eps);
  for (i = 0; i < k; ++i) row[i] = (row[i] - mean) * r * weight[i] + bias[i];
}

// --- packed weights ------------------------------------------------------------------------------------------------
//
// A vector of words holds a block of L * (32 / bits) consecutive weights: lane l the word l, field i of that word the
// weight (32 / bits) * l + i. Masking a field of the lower half in place and converting gives weight * 2^(bits * i)
// exactly, in two instructions without a shift; the upper half takes one shift for all its fields. So x is arranged field
// by field and scaled by the inverse power of two, which is exact too.

template <int BITS>
constexpr int kFields = 32 / BITS;
template <int BITS>
constexpr int kBlock = L * kFields<BITS>;

int64_t packed_size(int m, int k, int group, int bits) {
  const int block = bits == 4 ? kBlock<4> : kBlock<8>;
  return m * (up(k, block) + up(k / group, L));
}

template <int BITS>
void pack_as(const float* x, int64_t ldx, int m, int k, float* out) {
  constexpr int F = kFields<BITS>;
  for (int b = 0; b < up(k, kBlock<BITS>); b += kBlock<BITS>) {
    for (int i = 0; i < F; ++i) {
      const float factor = 1.f / float(1u << (BITS * (i % (F / 2))));
      for (int r = 0; r < m; ++r, out += L) {
        const float* row = x + r * ldx;
        for (int l = 0; l < L; ++l) {
          const int at = b + F * l + i;
          out[l] = at < k ? row[at] * factor : 0.f;
        }
      }
    }
  }
}

void pack(const float* x, int64_t ldx, int m, int k, int group, int bits, float* out) {
  const int groups = k / group, block = bits == 4 ? kBlock<4> : kBlock<8>;
  bits == 4 ? pack_as<4>(x, ldx, m, k, out) : pack_as<8>(x, ldx, m, k, out);
  float* sums = out + m * up(k, block);
  for (int r = 0; r < m; ++r) {
    for (int g = 0; g < up(groups, L); ++g) *sums++ = g < groups ? sum_of(x + r * ldx + g * group, group) : 0.f;
  }
}

// Scales or biases of rows n0..n1 as float32, each row followed by zeros up to a whole vector.
void load_groups(float* dst, const void* src, int64_t n0, int64_t n1, int groups, DType dtype) {
  const int64_t size = dtype == DType::f32 ? 4 : 2, ld = up(groups, L);
  const char* at = (const char*)src + n0 * groups * size;
  if (ld == groups) return widen(dst, at, (n1 - n0) * groups, dtype);
  for (int64_t n = n0; n < n1; ++n, dst += ld, at += groups * size) {
    widen(dst, at, groups, dtype);
    for (int64_t g = groups; g < ld; ++g) dst[g] = 0.f;
  }
}

// The scale of each lane for one block. A block has SPB groups, or a group has 2^dup blocks.
template <int SPB>
inline VF block_scale(const float* s, int block, int dup) {
  if constexpr (SPB == 1) return vset1(s[block >> dup]);
  if constexpr (SPB == 2) return vset2(s + 2 * block);
  if constexpr (SPB == 4) return vset4(s + 4 * block);
}

inline int log2_(int n) {
  int r = 0;
  while ((1 << r) < n) ++r;
  return r;
}

// The words of NR rows, block by block: the whole blocks where they lie, then the one in which K ends, padded with zeros.
// body(block, words of row 0, words from one row to the next)
template <int NR, typename Body>
inline void each_block(const uint32_t* w, int words, const Body& body) {
  const int whole = words / L, blocks = (words + L - 1) / L;
  uint32_t tail[NR * L] = {};
  for (int r = 0; r < NR; ++r) {
    for (int l = 0; l < words - whole * L; ++l) tail[r * L + l] = w[(int64_t)r * words + whole * L + l];
  }
  for (int pass = 0; pass < 2; ++pass) {  // two passes over one loop, so that its body is compiled once
    const uint32_t* at = pass == 0 ? w : tail;
    const int64_t stride = pass == 0 ? words : L;
    for (int b = pass == 0 ? 0 : whole; b < (pass == 0 ? whole : blocks); ++b, at += L) body(b, at, stride);
  }
}

// NR rows of the matrix by M rows of x.
//
// What limits this on two-FMA cores is latency and registers: every sum of a block is a chain of dependent FMAs, so there
// must be 8 or so chains in flight, and each value of x loaded should serve several rows of the matrix.
template <int BITS, int M, int NR, int SPB>
inline void product_rows(const Quantized& q, const float* xp, const float* scales, int64_t lds, int dup, int64_t row,
                         VF (&acc)[NR][M]) {
  constexpr int F = kFields<BITS>;
  // Few rows of x: sum a block unscaled, then scale once. Many: scale each vector of weights, M share the cost.
  constexpr bool kScaleFirst = M >= 4;
  const int words = q.k / F;
  each_block<NR>(q.w + row * words, words, [&](int b, const uint32_t* at, int64_t stride) {
    VI wv[NR];
    VF s[NR];
    for (int r = 0; r < NR; ++r) {
      wv[r] = wload(at + r * stride);
      prefetch(at + (r + NR) * stride);  // the same place in the rows that follow: one group of rows ahead in time
      s[r] = block_scale<SPB>(scales + r * lds, b, dup);
    }
    VF part[NR][M];
#pragma GCC unroll 8
    for (int i = 0; i < F; ++i) {
      if (i == F / 2) {
        for (int r = 0; r < NR; ++r) wv[r] = whigh(wv[r]);
      }
      VF c[NR];
      for (int r = 0; r < NR; ++r) {
        c[r] = wfield<BITS>(wv[r], i % (F / 2));
        if constexpr (kScaleFirst) c[r] = vmul(c[r], s[r]);
      }
      for (int m = 0; m < M; ++m) {
        const VF x = vload(xp + (i * M + m) * L);
        for (int r = 0; r < NR; ++r) {
          if constexpr (kScaleFirst) acc[r][m] = vfma(c[r], x, acc[r][m]);
          else part[r][m] = i == 0 ? vmul(c[r], x) : vfma(c[r], x, part[r][m]);
        }
      }
    }
    if constexpr (!kScaleFirst) {
      for (int r = 0; r < NR; ++r) {
        for (int m = 0; m < M; ++m) acc[r][m] = vfma(part[r][m], s[r], acc[r][m]);
      }
    }
    xp += F * M * L;
  });
}

// Lane by lane: biases times the sums of x, the other half of the affine product.
template <int M, int NR>
inline void add_bias_terms(const float* biases, int64_t ldb, const float* sums, int groups, VF (&acc)[NR][M]) {
  const int64_t lds = up(groups, L);
  for (int g = 0; g < groups; g += L) {
    for (int r = 0; r < NR; ++r) {
      const VF b = vload(biases + r * ldb + g);
      for (int m = 0; m < M; ++m) acc[r][m] = vfma(b, vload(sums + m * lds + g), acc[r][m]);
    }
  }
}

template <int M, int NR>
inline void store_sums(const VF (&acc)[NR][M], int64_t row, float* out, int64_t ldo) {
  constexpr int N = NR * M, N4 = N / 4 * 4;
  float sums[N];
  for (int i = 0; i < N4; i += 4) {
    vsum4(acc[i / M][i % M], acc[(i + 1) / M][(i + 1) % M], acc[(i + 2) / M][(i + 2) % M], acc[(i + 3) / M][(i + 3) % M],
          sums + i);
  }
  for (int i = N4; i < N; ++i) sums[i] = vsum(acc[i / M][i % M]);
  for (int i = 0; i < N; ++i) out[i % M * ldo + row + i / M] = sums[i];
}

template <int BITS, int M, int NR, int SPB>
int product_span(const Quantized& q, const float* packed, const float* scales, const float* biases, int n, int n1, float* out,
                 int64_t ldo) {
  const int groups = q.k / q.group;
  const int64_t ld = up(groups, L);
  const int dup = q.group > kBlock<BITS> ? log2_(q.group / kBlock<BITS>) : 0;
  const float* sums = packed + M * up(q.k, kBlock<BITS>);
  for (const int n0 = n; n + NR <= n1; n += NR) {
    VF acc[NR][M];
    for (int r = 0; r < NR; ++r) {
      for (int m = 0; m < M; ++m) acc[r][m] = vzero();
    }
    product_rows<BITS, M, NR, SPB>(q, packed, scales + (n - n0) * ld, ld, dup, n, acc);
    add_bias_terms<M, NR>(biases + (n - n0) * ld, ld, sums, groups, acc);
    store_sums<M, NR>(acc, n, out, ldo);
  }
  return n;
}

// The tables of scales and biases of rows n0..n1, then the rows, NR at a time and the rest singly:
// span(rows at once as a type, first, last, scales, biases) returns the row it stopped at.
template <int N>
struct Int {
  static constexpr int value = N;
};
template <int NR, typename Span>
inline void all_rows(const Quantized& q, int n0, int n1, float* tables, const Span& span) {
  const int groups = q.k / q.group;
  const int64_t ld = up(groups, L);
  float* scales = tables;
  float* biases = tables + (n1 - n0) * ld;
  load_groups(scales, q.scales, n0, n1, groups, q.dtype);
  load_groups(biases, q.biases, n0, n1, groups, q.dtype);
  const int n = span(Int<NR>(), n0, n1, scales, biases);
  if constexpr (NR > 1) span(Int<1>(), n, n1, scales + (n - n0) * ld, biases + (n - n0) * ld);
}

template <int BITS, int M, int SPB>
void product_as(const Quantized& q, const float* packed, int n0, int n1, float* tables, float* out, int64_t ldo) {
  // As many rows at once as leave the sums in 16 registers (M = 2: measured, 2 rows 5.4 ns a block, 3 rows 4.4, 4 rows 5.3).
  constexpr int NR = M == 1 ? 4 : (M == 2 ? 3 : (M <= 6 ? 2 : 1));
  all_rows<NR>(q, n0, n1, tables, [&](auto at_once, int from, int to, const float* scales, const float* biases) {
    return product_span<BITS, M, decltype(at_once)::value, SPB>(q, packed, scales, biases, from, to, out, ldo);
  });
}

template <int BITS, int M>
void product_groups(const Quantized& q, const float* packed, int n0, int n1, float* tables, float* out, int64_t ldo) {
  const int per_block = kBlock<BITS> / q.group;
  if constexpr (kBlock<BITS> >= 128) {
    if (per_block == 4) return product_as<BITS, M, 4>(q, packed, n0, n1, tables, out, ldo);
  }
  if constexpr (kBlock<BITS> >= 64) {
    if (per_block == 2) return product_as<BITS, M, 2>(q, packed, n0, n1, tables, out, ldo);
  }
  product_as<BITS, M, 1>(q, packed, n0, n1, tables, out, ldo);
}

template <int M>
void product_bits(const Quantized& q, const float* packed, int n0, int n1, float* tables, float* out, int64_t ldo) {
  q.bits == 4 ? product_groups<4, M>(q, packed, n0, n1, tables, out, ldo) : product_groups<8, M>(q, packed, n0, n1, tables, out, ldo);
}

void product(const Quantized& q, const float* packed, int m, int n0, int n1, float* tables, float* out, int64_t ldo) {
  switch (m) {
    case 1: return product_bits<1>(q, packed, n0, n1, tables, out, ldo);
    case 2: return product_bits<2>(q, packed, n0, n1, tables, out, ldo);
    case 3: return product_bits<3>(q, packed, n0, n1, tables, out, ldo);
    case 4: return product_bits<4>(q, packed, n0, n1, tables, out, ldo);
    case 5: return product_bits<5>(q, packed, n0, n1, tables, out, ldo);
    case 6: return product_bits<6>(q, packed, n0, n1, tables, out, ldo);
    case 7: return product_bits<7>(q, packed, n0, n1, tables, out, ldo);
    default: return product_bits<8>(q, packed, n0, n1, tables, out, ldo);
  }
}

// --- integer activations -------------------------------------------------------------------------------------------
//
// x rounded to 16 or 8 bits, one scale for each block and row: sums of a block are exact, in int32, and are scaled as
// float32. Packed for m rows: per block and row its codes as `idot` reads them, then one scale per block and row, then the
// sums over groups of the *rounded* x, so that the bias term fits the rounded product.

template <typename Code>
constexpr int kRange = sizeof(Code) == 1 ? 127 : 32767;
template <typename Code>
constexpr int kCodeFloats = kBlock<4> * sizeof(Code) / 4;  // that the codes of a block take

template <typename Code>
inline int code_place(int i) {
  constexpr int kParts = sizeof(Code) == 1 ? 2 : 4;
  return i % kParts * (kBlock<4> / kParts) + i / kParts;
}

int64_t packed_size_integer(int m, int k, int group, int width) {
  const int64_t blocks = up(k, kBlock<4>) / kBlock<4>;
  return m * (blocks * (kBlock<4> * (width / 8) / 4 + 1) + up(k / group, L));
}

template <typename Code>
void pack_codes(const float* x, int64_t ldx, int m, int k, int group, float* packed) {
  constexpr int B = kBlock<4>;
  const int64_t blocks = up(k, B) / B, groups = k / group;
  Code* codes = (Code*)packed;
  float* scales = packed + m * blocks * kCodeFloats<Code>;
  float* sums = scales + m * blocks;
  for (int64_t i = 0; i < m * up(groups, L); ++i) sums[i] = 0.f;
  for (int64_t b = 0; b < blocks; ++b) {
    for (int r = 0; r < m; ++r, codes += B) {
      const float* row = x + r * ldx + b * B;
      const int n = (int)min_<int64_t>(B, k - b * B);
      float top = 0.f;
      for (int i = 0; i < n; ++i) top = __builtin_fabsf(row[i]) > top ? __builtin_fabsf(row[i]) : top;
      const float inverse = top > 0.f ? kRange<Code> / top : 0.f;
      // NaN or infinity in x must come out as such: through the scale.
      float total = 0.f;
      for (int i = 0; i < n; ++i) total += row[i] * 0.f;
      const float scale = top / kRange<Code> + total;
      scales[b * m + r] = scale;
      float rounded[B];
      for (int i = 0; i < B; ++i) rounded[i] = i < n ? (row[i] * inverse + 12582912.f) - 12582912.f : 0.f;
      for (int i = 0; i < B; ++i) codes[code_place<Code>(i)] = (Code)(int)rounded[i];
      for (int i = 0; i < n; i += min_(group, B)) {
        sums[r * up(groups, L) + (b * B + i) / group] += scale * sum_of(rounded + i, min_(min_(group, B), n - i));
      }
    }
  }
}
void pack_integer(const float* x, int64_t ldx, int m, int k, int group, int width, float* packed) {
  width == 8 ? pack_codes<int8_t>(x, ldx, m, k, group, packed) : pack_codes<int16_t>(x, ldx, m, k, group, packed);
}

template <typename Code, int M, int NR, int SPB>
int product_integer_span(const Quantized& q, const float* packed, const float* scales, const float* biases, int n, int n1,
                         float* out, int64_t ldo) {
  constexpr int B = kBlock<4>;
  const int groups = q.k / q.group, words = q.k / 8, blocks = (words + L - 1) / L;
  const int64_t ld = up(groups, L);
  const int dup = q.group > B ? log2_(q.group / B) : 0;
  const float* xscales = packed + (int64_t)M * blocks * kCodeFloats<Code>;
  const float* sums = xscales + M * blocks;
  for (const int n0 = n; n + NR <= n1; n += NR) {
    VF acc[NR][M];
    for (int r = 0; r < NR; ++r) {
      for (int m = 0; m < M; ++m) acc[r][m] = vzero();
    }
    const Code* codes = (const Code*)packed;
    const float* s = scales + (n - n0) * ld;
    each_block<NR>(q.w + (int64_t)n * words, words, [&](int b, const uint32_t* at, int64_t stride) {
      for (int r = 0; r < NR; ++r) {
        const VI wv = wload(at + r * stride);
        prefetch(at + (r + 2 * NR) * stride);  // measured: 1, 2, 4 or 8 groups of rows ahead: 95, 90, 94, 105 ms
        const VF sv = block_scale<SPB>(s + r * ld, b, dup);
        for (int m = 0; m < M; ++m) {
          acc[r][m] = vfma(idot(wv, codes + m * B), vmul(sv, vset1(xscales[b * M + m])), acc[r][m]);
        }
      }
      codes += M * B;
    });
    add_bias_terms<M, NR>(biases + (n - n0) * ld, ld, sums, groups, acc);
    store_sums<M, NR>(acc, n, out, ldo);
  }
  return n;
}

template <typename Code, int M, int SPB>
void product_integer_as(const Quantized& q, const float* packed, int n0, int n1, float* tables, float* out, int64_t ldo) {
  constexpr int NR = M <= 4 ? 2 : 1;
  all_rows<NR>(q, n0, n1, tables, [&](auto at_once, int from, int to, const float* scales, const float* biases) {
    return product_integer_span<Code, M, decltype(at_once)::value, SPB>(q, packed, scales, biases, from, to, out, ldo);
  });
}

template <typename Code, int M>
void product_integer_groups(const Quantized& q, const float* packed, int n0, int n1, float* tables, float* out, int64_t ldo) {
  const int per_block = kBlock<4> / q.group;
  if constexpr (kBlock<4> >= 128) {
    if (per_block == 4) return product_integer_as<Code, M, 4>(q, packed, n0, n1, tables, out, ldo);
  }
  if constexpr (kBlock<4> >= 64) {
    if (per_block == 2) return product_integer_as<Code, M, 2>(q, packed, n0, n1, tables, out, ldo);
  }
  product_integer_as<Code, M, 1>(q, packed, n0, n1, tables, out, ldo);
}

template <typename Code>
void product_codes(const Quantized& q, const float* packed, int m, int n0, int n1, float* tables, float* out, int64_t ldo) {
  switch (m) {
    case 1: return product_integer_groups<Code, 1>(q, packed, n0, n1, tables, out, ldo);
    case 2: return product_integer_groups<Code, 2>(q, packed, n0, n1, tables, out, ldo);
    case 3: return product_integer_groups<Code, 3>(q, packed, n0, n1, tables, out, ldo);
    case 4: return product_integer_groups<Code, 4>(q, packed, n0, n1, tables, out, ldo);
    case 5: return product_integer_groups<Code, 5>(q, packed, n0, n1, tables, out, ldo);
    case 6: return product_integer_groups<Code, 6>(q, packed, n0, n1, tables, out, ldo);
    case 7: return product_integer_groups<Code, 7>(q, packed, n0, n1, tables, out, ldo);
    default: return product_integer_groups<Code, 8>(q, packed, n0, n1, tables, out, ldo);
  }
}
void product_integer(const Quantized& q, const float* packed, int m, int n0, int n1, int width, float* tables, float* out, int64_t ldo) {
  (width == 8 ? product_codes<int8_t> : product_codes<int16_t>)(q, packed, m, n0, n1, tables, out, ldo);
}

// What one vector of consecutive weights is read from: a word, or half a word where 4 lanes take 4 bits each.
template <int BITS>
struct SpreadUnit {
  using type = uint32_t;
};
#if defined(IMN_HALF_WORDS)
template <>
struct SpreadUnit<4> {
  using type = uint16_t;
};
#endif

template <int BITS>
void dequantize_as(const Quantized& q, int n0, int n1, float* out, int64_t ld) {
  constexpr int kSome = 64;  // groups whose scales are widened at once
  const int groups = q.k / q.group;
  using Unit = typename SpreadUnit<BITS>::type;
  float scales[kSome], biases[kSome];
  const int64_t size = q.dtype == DType::f32 ? 4 : 2;
  for (int n = n0; n < n1; ++n, out += ld) {
    const char* w = (const char*)(q.w + (int64_t)n * (q.k / kFields<BITS>));
    for (int g0 = 0; g0 < groups; g0 += kSome) {
      const int some = min_(kSome, groups - g0);
      widen(scales, (const char*)q.scales + ((int64_t)n * groups + g0) * size, some, q.dtype);
      widen(biases, (const char*)q.biases + ((int64_t)n * groups + g0) * size, some, q.dtype);
      for (int g = 0; g < some; ++g) {
        const VF s = vset1(scales[g]), b = vset1(biases[g]);
        for (int k = (g0 + g) * q.group; k < (g0 + g + 1) * q.group; k += L) {
          const Unit* at = (const Unit*)(w + (int64_t)k * BITS / 8);
          if constexpr (BITS == 4) vstore(out + k, vfma(wspread4(at), s, b));
          else vstore(out + k, vfma(wspread8(at), s, b));
        }
      }
    }
  }
}
void dequantize(const Quantized& q, int n0, int n1, float* out, int64_t ld) {
  q.bits == 4 ? dequantize_as<4>(q, n0, n1, out, ld) : dequantize_as<8>(q, n0, n1, out, ld);
}

// --- dense weights -------------------------------------------------------------------------------------------------

template <DType D, int M, int NR>
int dense_span(const void* w, int64_t ldw, int k, const float* x, int64_t ldx, int n, int n1, float* out, int64_t ldo) {
  const int whole = k / L * L;
  for (; n + NR <= n1; n += NR) {
    VF acc[NR][M];
    for (int r = 0; r < NR; ++r) {
      for (int m = 0; m < M; ++m) acc[r][m] = vzero();
    }
    for (int i = 0; i < whole; i += L) {
      VF c[NR];
      for (int r = 0; r < NR; ++r) {
        c[r] = vload_as<D>(w, (n + r) * ldw + i);
        prefetch(offset<D>(w, (n + r) * ldw + i + 512));
      }
      for (int m = 0; m < M; ++m) {
        const VF xv = vload(x + m * ldx + i);
        for (int r = 0; r < NR; ++r) acc[r][m] = vfma(c[r], xv, acc[r][m]);
      }
    }
    if (whole < k) {
      for (int r = 0; r < NR; ++r) {
        float tail[L] = {};
        for (int i = whole; i < k; ++i) tail[i - whole] = load_as<D>(w, (n + r) * ldw + i);
        for (int m = 0; m < M; ++m) acc[r][m] = vfma(vload(tail), vload(x + m * ldx + whole), acc[r][m]);
      }
    }
    store_sums<M, NR>(acc, n, out, ldo);
  }
  return n;
}

template <DType D, int M>
void dense_rows(const void* w, int64_t ldw, int k, const float* x, int64_t ldx, int n0, int n1, float* out, int64_t ldo) {
  constexpr int NR = M <= 2 ? 4 : (M <= 5 ? 2 : 1);
  const int n = dense_span<D, M, NR>(w, ldw, k, x, ldx, n0, n1, out, ldo);
  if constexpr (NR > 1) dense_span<D, M, 1>(w, ldw, k, x, ldx, n, n1, out, ldo);
}

template <DType D>
void dense_as(const void* w, int64_t ldw, int k, const float* x, int64_t ldx, int m, int n0, int n1, float* out,
              int64_t ldo) {
  switch (m) {
    case 1: return dense_rows<D, 1>(w, ldw, k, x, ldx, n0, n1, out, ldo);
    case 2: return dense_rows<D, 2>(w, ldw, k, x, ldx, n0, n1, out, ldo);
    case 3: return dense_rows<D, 3>(w, ldw, k, x, ldx, n0, n1, out, ldo);
    case 4: return dense_rows<D, 4>(w, ldw, k, x, ldx, n0, n1, out, ldo);
    case 5: return dense_rows<D, 5>(w, ldw, k, x, ldx, n0, n1, out, ldo);
    case 6: return dense_rows<D, 6>(w, ldw, k, x, ldx, n0, n1, out, ldo);
    case 7: return dense_rows<D, 7>(w, ldw, k, x, ldx, n0, n1, out, ldo);
    default: return dense_rows<D, 8>(w, ldw, k, x, ldx, n0, n1, out, ldo);
  }
}
void dense(const void* w, int64_t ldw, DType dtype, int k, const float* x, int64_t ldx, int m, int n0, int n1, float* out,
           int64_t ldo) {
  if (dtype == DType::f32) return dense_as<DType::f32>(w, ldw, k, x, ldx, m, n0, n1, out, ldo);
  if (dtype == DType::f16) return dense_as<DType::f16>(w, ldw, k, x, ldx, m, n0, n1, out, ldo);
  dense_as<DType::bf16>(w, ldw, k, x, ldx, m, n0, n1, out, ldo);
}

// --- elementwise ---------------------------------------------------------------------------------------------------

void gelu(float* x, int64_t n) {
  for (int64_t i = 0; i < n; ++i) x[i] = 0.5f * x[i] * (1.f + erf_(x[i] * 0.70710678f));
}
void elu(float* x, int64_t n) {
  for (int64_t i = 0; i < n; ++i) {
    const float negative = expm1_(x[i]);
    x[i] = x[i] > 0.f ? x[i] : negative;
  }
}
inline float sigmoid(float x) {
  return 1.f / (1.f + exp_(-x));
}
// Odd, and accurate near 0 too: tanh(a) = -e / (e + 2) with e = expm1(-2a).
inline float tanh_(float x) {
  const float e = expm1_(-2.f * __builtin_fabsf(x));
  return __builtin_copysignf(-e / (e + 2.f), x);
}
void lstm_cell(const float* gates, int64_t stride, float* cell, float* hidden, int n) {
  for (int i = 0; i < n; ++i) {
    const float in = sigmoid(gates[i]), forget = sigmoid(gates[stride + i]);
    const float c = forget * cell[i] + in * tanh_(gates[2 * stride + i]);
    cell[i] = c;
    hidden[i] = sigmoid(gates[3 * stride + i]) * tanh_(c);
  }
}

// --- attention -----------------------------------------------------------------------------------------------------

template <DType D, int NQ>
void scores_rows(const float* q, int64_t ldq, int d, const void* keys, int64_t stride, int count, float* out, int64_t lds) {
  constexpr int NS = 4;
  const int whole = d / L * L;
  for (int s = 0; s < count; s += NS) {
    const int n = min_(NS, count - s);
    VF acc[NQ][NS];
    for (int i = 0; i < NQ; ++i) {
      for (int j = 0; j < NS; ++j) acc[i][j] = vzero();
    }
    int64_t at[NS];
    for (int j = 0; j < NS; ++j) at[j] = (s + min_(j, n - 1)) * stride;
    for (int i = 0; i < whole; i += L) {
      VF qv[NQ];
      for (int h = 0; h < NQ; ++h) qv[h] = vload(q + h * ldq + i);
      for (int j = 0; j < NS; ++j) {
        const VF kv = vload_as<D>(keys, at[j] + i);
        for (int h = 0; h < NQ; ++h) acc[h][j] = vfma(kv, qv[h], acc[h][j]);
      }
    }
    if (whole < d) {
      for (int j = 0; j < NS; ++j) {
        float tail[L] = {};
        for (int i = whole; i < d; ++i) tail[i - whole] = load_as<D>(keys, at[j] + i);
        for (int h = 0; h < NQ; ++h) acc[h][j] = vfma(vload(tail), vload(q + h * ldq + whole), acc[h][j]);
      }
    }
    for (int h = 0; h < NQ; ++h) {
      float four[NS];
      vsum4(acc[h][0], acc[h][1], acc[h][2], acc[h][3], four);
      for (int j = 0; j < n; ++j) out[h * lds + s + j] = four[j];
    }
  }
}
template <DType D>
void scores_as(const float* q, int64_t ldq, int nq, int d, const void* keys, int64_t stride, int count, float* out,
               int64_t lds) {
  int i = 0;
  for (; i + 2 <= nq; i += 2) scores_rows<D, 2>(q + i * ldq, ldq, d, keys, stride, count, out + i * lds, lds);
  if (i < nq) scores_rows<D, 1>(q + i * ldq, ldq, d, keys, stride, count, out + i * lds, lds);
}
void scores(const float* q, int64_t ldq, int nq, int d, const void* keys, int64_t stride, DType dtype, int count, float* out,
            int64_t lds) {
  if (dtype == DType::f32) return scores_as<DType::f32>(q, ldq, nq, d, keys, stride, count, out, lds);
  if (dtype == DType::f16) return scores_as<DType::f16>(q, ldq, nq, d, keys, stride, count, out, lds);
  scores_as<DType::bf16>(q, ldq, nq, d, keys, stride, count, out, lds);
}

float softmax(float* row, int n) {
  float top = row[0];
  for (int i = 1; i < n; ++i) top = row[i] > top ? row[i] : top;
  for (int i = 0; i < n; ++i) row[i] = exp_(row[i] - top);
  return sum_of(row, n);
}

template <DType D, int NQ, int NV>
void weighted_slice(const float* p, int64_t ldp, const float* factors, const void* values, int64_t stride, int count,
                    int d0, float* out, int64_t ldo) {
  VF acc[NQ][NV];
  for (int h = 0; h < NQ; ++h) {
    for (int v = 0; v < NV; ++v) acc[h][v] = vzero();
  }
  for (int s = 0; s < count; ++s) {
    VF pv[NQ];
    for (int h = 0; h < NQ; ++h) pv[h] = vset1(p[h * ldp + s]);
    for (int v = 0; v < NV; ++v) {
      const VF value = vload_as<D>(values, s * stride + d0 + v * L);
      for (int h = 0; h < NQ; ++h) acc[h][v] = vfma(pv[h], value, acc[h][v]);
    }
  }
  for (int h = 0; h < NQ; ++h) {
    const VF f = vset1(factors[h]);
    for (int v = 0; v < NV; ++v) {
      float* at = out + h * ldo + d0 + v * L;
      vstore(at, vfma(acc[h][v], f, vload(at)));
    }
  }
}
template <DType D, int NQ>
void weighted_rows(const float* p, int64_t ldp, const float* factors, const void* values, int64_t stride, int count, int d,
                   float* out, int64_t ldo) {
  constexpr int NV = NQ == 1 ? 8 : 4;
  int i = 0;
  for (; i + NV * L <= d; i += NV * L) {
    weighted_slice<D, NQ, NV>(p, ldp, factors, values, stride, count, i, out, ldo);
  }
  for (; i + L <= d; i += L) weighted_slice<D, NQ, 1>(p, ldp, factors, values, stride, count, i, out, ldo);
  for (; i < d; ++i) {
    for (int h = 0; h < NQ; ++h) {
      float sum = 0.f;
      for (int s = 0; s < count; ++s) sum += p[h * ldp + s] * load_as<D>(values, s * stride + i);
      out[h * ldo + i] += factors[h] * sum;
    }
  }
}
template <DType D>
void weighted_as(const float* p, int64_t ldp, int nq, const float* factors, const void* values, int64_t stride, int count,
                 int d, float* out, int64_t ldo) {
  int i = 0;
  for (; i + 2 <= nq; i += 2) {
    weighted_rows<D, 2>(p + i * ldp, ldp, factors + i, values, stride, count, d, out + i * ldo, ldo);
  }
  if (i < nq) weighted_rows<D, 1>(p + i * ldp, ldp, factors + i, values, stride, count, d, out + i * ldo, ldo);
}
void weighted_sum(const float* p, int64_t ldp, int nq, const float* factors, const void* values, int64_t stride,
                  DType dtype, int count, int d, float* out, int64_t ldo) {
  if (dtype == DType::f32) return weighted_as<DType::f32>(p, ldp, nq, factors, values, stride, count, d, out, ldo);
  if (dtype == DType::f16) return weighted_as<DType::f16>(p, ldp, nq, factors, values, stride, count, d, out, ldo);
  weighted_as<DType::bf16>(p, ldp, nq, factors, values, stride, count, d, out, ldo);
}

constexpr Kernels table(const char* name) {
  return {name,         L,         kInt16Pays, widen,       narrow, layer_norm, packed_size,
          pack,         product,   packed_size_integer,     pack_integer, product_integer,
          dequantize,   dense,     gelu,       elu,         lstm_cell,    scores,
          softmax,      weighted_sum};
}
