// INT4/INT8 product of a decode step, with what surrounds it:
//   y = residual + gelu(norm(x) · dequant(w)^T + bias),  M = 1..8 rows, N a multiple of R, K one of GROUP (32, 64, 128).
//
// Grid: one threadgroup of SIMDGROUPS simdgroups per SIMDGROUPS · R outputs; a simdgroup makes R outputs of all M rows
// (R · M <= 32). Matrices that share an input (q, k, v) are stacked along N and cost one launch.
//
// Why not stock MLX: mx.quantized_matmul reads the weights once per row of x on M1 and M2, and norm, bias, gelu and
// residual are four more launches. Here the weights are read once, whatever M is, and it is one launch. Each
// threadgroup measures the norm of its M rows itself: x is a few KB and stays in the cache.
//
// With FOLDED the norm is in the epilogue: constants of the matrix take the place of a pass over x (see folding.py).
//
// Constants: T result and x, BITS, GROUP, M, R, SIMDGROUPS; with NORM or FOLDED also NW, with NORM NB, the dtypes of its
// weights. Defined by the host: NORM, FOLDED, BIAS, GELU, RESIDUAL.

  const int K = x_shape[x_ndim - 1];  // x [M, K], whatever axes its rows have
  const int N = w_shape[0];           // w [N, K·BITS/32]; scales, biases [N, K/GROUP]
  const uint simd = simdgroup_index_in_threadgroup;
  const uint lane = thread_index_in_simdgroup;

#if NORM
  threadgroup float shared[2 * M * SIMDGROUPS];
  NormalizedRows<M, T, NW, NB> rows;
  rows.x = x;
  rows.weight = norm_weight;  // [K]
  rows.bias = norm_bias;      // [K]
  rows.K = K;
  rows.template measure<SIMDGROUPS>(eps[0], shared, simd, lane);
#elif FOLDED
  FoldedRows<M, T, NW> rows;
  rows.x = x;
  rows.weight = norm_weight;  // [K]
  rows.K = K;
  rows.start(lane);
#else
  PlainRows<M, T> rows;
  rows.x = x;
  rows.K = K;
#endif

  const int n = int(threadgroup_position_in_grid.x * SIMDGROUPS + simd) * R;
  if (n >= N) {
    return;
  }
  float acc[R][M];
#pragma unroll
  for (int r = 0; r < R; r++) {
#pragma unroll
    for (int m = 0; m < M; m++) {
      acc[r][m] = 0;
    }
  }
  dequant_dot<BITS, GROUP, M, R>(
      w + size_t(n) * (K * BITS / 32),
      scales + size_t(n) * (K / GROUP),
      biases + size_t(n) * (K / GROUP),
      rows, K, lane, acc);

  // Lane r · M + m finishes output r of row m.
  float value = 0;
#pragma unroll
  for (int r = 0; r < R; r++) {
#pragma unroll
    for (int m = 0; m < M; m++) {
      const float total = metal::simd_sum(acc[r][m]);
      if (int(lane) == r * M + m) {
        value = total;
      }
    }
  }
  const int column = n + int(lane) / M;
  const int row = int(lane) % M;
#if FOLDED
  float offset = 0, rstd = 0;  // of this lane's row: mean - shift, and 1/sqrt(var + eps)
  rows.finish(eps[0], row, offset, rstd);
#endif
  if (int(lane) < R * M) {
#if FOLDED
    value = rstd * (value - offset * folded[column]) + folded[N + column];  // [2, N]
#endif
#if BIAS
    value += float(bias[column]);  // [N]
#endif
#if GELU
    value = gelu(value);
#endif
#if RESIDUAL
    value += float(residual[row * N + column]);  // [M, N]
#endif
    y[row * N + column] = T(value);  // [M, N]
  }
