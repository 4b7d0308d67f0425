// acc[r][m] += sum over K of dequant(w)[r][k] · x[m][k], for R neighbouring rows of packed weights and all M rows of x,
// by one simdgroup; simd_sum over its lanes completes each sum.
//
// A lane takes VALUES neighbours along K at a time, which lie in one group (VALUES <= 16 and groups are multiples of
// 32), so a weight is scale · q + bias with one scale and one bias, and
//   sum (scale · q + bias) · x = scale · sum q·x + bias · sum x.
// Every weight is read once and unpacked once for all M rows. Words are read one by one: they are neighbours, so the
// compiler merges them, and no alignment beyond 4 bytes is assumed.

template <int BITS, int GROUP, int M, int R, typename S, typename X>
inline void packed_product(
    const device uint* w,    // [rows, K·BITS/32]
    const device S* scales,  // [rows, K/GROUP]
    const device S* biases,  // [rows, K/GROUP]
    thread const X& x,
    int K,
    int rows,  // of R, those that exist
    uint lane,
    thread float (&acc)[R][M]) {
  constexpr int PER_WORD = 32 / BITS;
  constexpr int WORDS = M <= 4 ? 2 : 1;  // more rows leave fewer registers for values
  constexpr int VALUES = WORDS * PER_WORD;
  constexpr uint MASK = (1u << BITS) - 1u;
  const int words = K / PER_WORD;
  const int groups = K / GROUP;

  for (int k = int(lane) * VALUES; k < K; k += 32 * VALUES) {
    float xs[M][VALUES];
    float sum[M];
    x.load(k, xs);
    for (int m = 0; m < M; m++) {
      sum[m] = 0;
      for (int i = 0; i < VALUES; i++) {
        sum[m] += xs[m][i];
      }
    }
    for (int r = 0; r < R; r++) {
      if (r < rows) {
        const device uint* word = w + r * words + k / PER_WORD;
        float q[VALUES];
        for (int i = 0; i < WORDS; i++) {
          const uint bits = word[i];
          for (int j = 0; j < PER_WORD; j++) {
            q[i * PER_WORD + j] = float((bits >> (j * BITS)) & MASK);
          }
        }
        const float scale = float(scales[r * groups + k / GROUP]);
        const float bias = float(biases[r * groups + k / GROUP]);
        for (int m = 0; m < M; m++) {
          float dot = 0;
          for (int i = 0; i < VALUES; i++) {
            dot += q[i] * xs[m][i];
          }
          acc[r][m] += scale * dot + bias * sum[m];
        }
      }
    }
  }
}
