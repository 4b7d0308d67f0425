// acc[r][m] += sum over K of dequant(w)[r][k] · x[m][k], for R neighboring rows of packed weights and all M rows of x,
// by one simdgroup; simd_sum over its lanes completes each sum.
//
//   row r of w:  | lane 0 | lane 1 | lane 2 | ... | lane 31 | lane 0 ...      WORDS words of 32 bits each
//   scales:      |  GROUP / VALUES neighboring lanes share one scale and one bias        |
//
// A lane takes VALUES neighbors along K at a time, which lie in one group (VALUES <= 16 and groups are multiples of
// 32), so a weight is scale · q + bias with one scale and one bias, and
//   sum (scale · q + bias) · x = scale · sum q·x + bias · sum x.
//
// All R rows exist, so nothing stands between their loads: a guard would make each row wait for the one before. More
// than 4 rows of x are taken in two tiles, from the same words: the weights are read once, the registers of a tile are
// those of 4 rows. Words are unpacked for each tile, which costs less than holding R · VALUES floats.

constexpr int words_of(int M) {
  return M == 1 ? 2 : 1;  // more rows leave fewer registers for values
}

template <int BITS, int GROUP, int M, int R, typename S, typename X>
inline void dequant_dot(
    const device uint* w,    // [R, K·BITS/32]
    const device S* scales,  // [R, K/GROUP]
    const device S* biases,  // [R, K/GROUP]
    thread X& x,
    int K,
    uint lane,
    thread float (&acc)[R][M]) {
  constexpr int PER_WORD = 32 / BITS;
  constexpr int WORDS = words_of(M);
  constexpr int VALUES = WORDS * PER_WORD;
  constexpr int TILE = M <= 4 ? M : (M + 1) / 2;
  constexpr uint MASK = (1u << BITS) - 1u;
  const int words = K / PER_WORD;
  const int groups = K / GROUP;

  for (int k = int(lane) * VALUES; k < K; k += 32 * VALUES) {
    uint bits[R][WORDS];
    float scale[R], bias[R];
#pragma unroll
    for (int r = 0; r < R; r++) {
#pragma unroll
      for (int i = 0; i < WORDS; i++) {
        bits[r][i] = w[r * words + k / PER_WORD + i];
      }
    }
#pragma unroll
    for (int r = 0; r < R; r++) {
      scale[r] = float(scales[r * groups + k / GROUP]);
      bias[r] = float(biases[r * groups + k / GROUP]);
    }
#pragma unroll
    for (int first = 0; first < M; first += TILE) {
      float xs[TILE][VALUES];
      float sum[TILE];
      x.load(first, k, xs);
#pragma unroll
      for (int m = 0; m < TILE; m++) {
        sum[m] = 0;
#pragma unroll
        for (int i = 0; i < VALUES; i++) {
          sum[m] += xs[m][i];
        }
      }
#pragma unroll
      for (int r = 0; r < R; r++) {
        float dot[TILE];
#pragma unroll
        for (int m = 0; m < TILE; m++) {
          dot[m] = 0;
        }
#pragma unroll
        for (int i = 0; i < VALUES; i++) {
          const float q = float((bits[r][i / PER_WORD] >> (i % PER_WORD * BITS)) & MASK);
#pragma unroll
          for (int m = 0; m < TILE; m++) {
            dot[m] += q * xs[m][i];
          }
        }
#pragma unroll
        for (int m = 0; m < TILE; m++) {
          if (first + m < M) {  // known when compiled
            acc[r][first + m] += scale[r] * dot[m] + bias[r] * sum[m];
          }
        }
      }
    }
  }
}
