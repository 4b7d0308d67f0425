// Attention of one step to the text, with the query projection and its norm:
//   y = softmax(scale · q K^T) V,  q = norm(x) · dequant(w)^T,  for the M rows that have text; 0 for the others.
//
// Grid: one threadgroup of SIMDGROUPS simdgroups per head: it makes the head's D features of q for all M rows (the weights
// are read once), then attends to the S text keys. D up to 256, any S, K a multiple of GROUP.
//
// Why not stock MLX: norm, projection, attention and the zero rows are four launches for a few KB of text.
//
// Constants: T x and y, BITS, GROUP, M, R, D, SIMDGROUPS; R divides D; KT, VT dtypes of keys and values; with NORM
// also NW, NB. Defined by the host: NORM.

  constexpr int E = elements_of(D);
  constexpr int LANES = lanes_of(D);
  constexpr int GROUPS = 32 / LANES;                              // keys that a simdgroup reads at once
  constexpr int TEAM = SIMDGROUPS >= M ? SIMDGROUPS / M : 1;      // simdgroups of a row
  threadgroup float query[M * D];
  threadgroup float tops[M * TEAM];
  threadgroup float sums[M * TEAM];
  threadgroup float outs[M * TEAM * D];

  const int B = x_shape[0];  // x [B, 1, K], M <= B
  const int K = w_shape[1] * (32 / BITS);
  const int H = k_shape[1];  // k, v [M, H, S, D]
  const int S = k_shape[2];
  const int h = int(threadgroup_position_in_grid.x);
  const uint simd = simdgroup_index_in_threadgroup;
  const uint simd_lane = thread_index_in_simdgroup;
  const int thread_index = int(thread_index_in_threadgroup);

#if NORM
  threadgroup float shared[2 * M * SIMDGROUPS];
  NormalizedRows<M, T, NW, NB> rows;
  rows.x = x;
  rows.weight = norm_weight;  // [K]
  rows.bias = norm_bias;      // [K]
  rows.K = K;
  rows.template measure<SIMDGROUPS>(eps[0], shared, simd, simd_lane);
#else
  PlainRows<M, T> rows;
  rows.x = x;
  rows.K = K;
#endif

  for (int d = int(simd) * R; d < D; d += SIMDGROUPS * R) {
    const int n = h * D + d;  // w [H·D, K·BITS/32]; scales, biases [H·D, K/GROUP]
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
        rows, K, simd_lane, acc);
#pragma unroll
    for (int r = 0; r < R; r++) {
#pragma unroll
      for (int m = 0; m < M; m++) {
        const float total = metal::simd_sum(acc[r][m]);
        if (simd_lane == 0) {
          query[m * D + d + r] = scale[0] * total;
        }
      }
    }
  }
  metal::threadgroup_barrier(metal::mem_flags::mem_threadgroup);

  // TEAM simdgroups take a row of text each; with more rows than simdgroups, one takes several rows.
  const int lane = int(simd_lane) % LANES;
  const int everything[1] = {S};
  for (int part = int(simd); part < M * TEAM; part += SIMDGROUPS) {
    const int m = part / TEAM;
    float q[1][E];
#pragma unroll
    for (int e = 0; e < E; e++) {
      q[0][e] = lane * E + e < D ? query[m * D + lane * E + e] : 0.0f;
    }
    const Keys<KT> keys = {k + size_t(m * H + h) * (S * D), D, 1};
    const Keys<VT> values = {v + size_t(m * H + h) * (S * D), D, 1};
    Running<D> running[1];
    running[0].clear();
    attend<D, 1, false, true>(
        keys, values, 0, S, everything, q, running, part % TEAM * GROUPS + int(simd_lane) / LANES, TEAM * GROUPS, lane);
    running[0].join();
    running[0].store(tops, sums, outs, part, lane, int(simd_lane) < LANES);
  }
  metal::threadgroup_barrier(metal::mem_flags::mem_threadgroup);
  for (int i = thread_index; i < M * D; i += SIMDGROUPS * 32) {
    const int at = i / D * TEAM;
    const float3 a = joined<D, TEAM>(tops + at, sums + at, outs + at * D, i % D);
    y[(size_t(i / D) * H + h) * D + i % D] = T(a.x / a.z);  // y [B, H·D]
  }

  for (int i = thread_index; i < (B - M) * D; i += SIMDGROUPS * 32) {
    y[(size_t(M + i / D) * H + h) * D + i % D] = T(0.0f);
  }
