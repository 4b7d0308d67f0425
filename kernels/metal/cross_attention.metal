// Attention of one step to the text, with the query projection and its norm:
//   y = softmax(scale · q K^T) V,  q = norm(x) · dequant(w)^T,  for the M rows that have text; 0 for the others.
//
// Grid: one threadgroup of SIMDGROUPS simdgroups per head: it makes the head's D features of q for all M rows (the weights
// are read once), then attends to the S text keys. Any D up to 256, any S, K a multiple of GROUP.
//
// Why not stock MLX: norm, projection, attention and the zero rows are four launches for a few KB of text.
//
// Template: T x and y, BITS, GROUP, M, D, SIMDGROUPS; KT, VT dtypes of keys and values; with NORM also NW, NB. Defined by
// the host: NORM.

  constexpr int R = 4;
  constexpr int E = elements_of(D);
  constexpr int LANES = lanes_of(D);
  constexpr int THREADS = SIMDGROUPS * 32;
  threadgroup float query[M * D];
  threadgroup float tops[SIMDGROUPS];
  threadgroup float sums[SIMDGROUPS];
  threadgroup float outs[SIMDGROUPS * D];

  const int B = x_shape[0];  // x [B, K], M <= B
  const int K = x_shape[1];
  const int H = k_shape[1];  // k, v [M, H, S, D]
  const int S = k_shape[2];
  const int h = int(threadgroup_position_in_grid.x);
  const uint simd = simdgroup_index_in_threadgroup;
  const uint simd_lane = thread_index_in_simdgroup;
  const int thread_index = int(thread_index_in_threadgroup);

#if NORM
  threadgroup float shared[2 * M * SIMDGROUPS];
  NormalisedRows<M, T, NW, NB> rows;
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
    for (int r = 0; r < R; r++) {
      for (int m = 0; m < M; m++) {
        acc[r][m] = 0;
      }
    }
    packed_product<BITS, GROUP, M, R>(
        w + size_t(n) * (K * BITS / 32),
        scales + size_t(n) * (K / GROUP),
        biases + size_t(n) * (K / GROUP),
        rows, K, metal::min(R, D - d), simd_lane, acc);
    for (int r = 0; r < R; r++) {
      for (int m = 0; m < M; m++) {
        const float total = metal::simd_sum(acc[r][m]);
        if (simd_lane == 0 && d + r < D) {
          query[m * D + d + r] = scale[0] * total;
        }
      }
    }
  }
  metal::threadgroup_barrier(metal::mem_flags::mem_threadgroup);

  const int lane = thread_index % LANES;
  const int everything[1] = {S};
  for (int m = 0; m < M; m++) {
    float q[1][E];
    for (int e = 0; e < E; e++) {
      q[0][e] = lane * E + e < D ? query[m * D + lane * E + e] : 0.0f;
    }
    const Rows<KT> keys = {k + (m * k_strides[0] + h * k_strides[1]), k_strides[2], k_strides[3]};
    const Rows<VT> values = {v + (m * v_strides[0] + h * v_strides[1]), v_strides[2], v_strides[3]};
    Running<D> part;
    part.clear();
    attend<D, 1>(keys, values, 0, S, everything, q, &part, thread_index, THREADS);
    part.join();
    if (m > 0) {
      metal::threadgroup_barrier(metal::mem_flags::mem_threadgroup);
    }
    if (int(simd_lane) < LANES) {
      if (lane == 0) {
        tops[simd] = part.top;
        sums[simd] = part.sum;
      }
      for (int e = 0; e < E; e++) {
        if (lane * E + e < D) {
          outs[int(simd) * D + lane * E + e] = part.out[e];
        }
      }
    }
    metal::threadgroup_barrier(metal::mem_flags::mem_threadgroup);
    for (int d = thread_index; d < D; d += THREADS) {
      const float3 a = joined<D, SIMDGROUPS>(tops, sums, outs, d);
      y[(size_t(m) * H + h) * D + d] = T(a.x / a.z);  // y [B, H·D]
    }
  }

  for (int i = thread_index; i < (B - M) * D; i += THREADS) {
    y[(size_t(M + i / D) * H + h) * D + i % D] = T(0.0f);
  }
