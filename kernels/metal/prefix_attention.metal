// Gated prefix attention (Instruct-MusicGen, section 3.2), both softmaxes, the gate and the sum as one pass:
//   y = softmax(scale · q K^T) V + gate · softmax(scale · (q + prefix_q) PK^T) PV
// K, V are the first `length` slots of the cache, PK, PV the P prefix frames. A gate of 0 skips the prefix.
//
// Grid: one threadgroup of SIMDGROUPS simdgroups per head (x), prefix row (y) and block of ROWS queries (z), times
// SPLITS parts of the keys (z, outer). Any head dim up to 256, any lengths from 1, any strides.
//   T = 1 (decode): a block is ROWS batch rows that share a prefix (a guidance pair): each has its own K and V, the
//     prefix is read once for all of them.
//   T > 1 (prompted window): a block is ROWS neighbouring queries of one batch row, causal; K, V and prefix are read
//     once for all of them.
// With SPLITS > 1 the result is a part of each softmax, which prefix_attention_join.metal completes.
//
// Why not stock MLX: two attention launches, an add, a multiply and an add; a mask or a slice for the cache's unused
// slots; and it has kernels for few head dims.
//
// Template: T result, D, ROWS, SIMDGROUPS, DECODE, SPLITS; KT, VT, PKT, PVT dtypes of the keys and values. Defined by the
// host: SPLIT.

  constexpr int E = elements_of(D);
  constexpr int LANES = lanes_of(D);
  constexpr int THREADS = SIMDGROUPS * 32;
  constexpr int ROUND = D >= 128 ? 1 : (128 / D < ROWS ? 128 / D : ROWS);  // rows whose parts fit in memory together

  threadgroup float tops[ROUND * 2 * SIMDGROUPS];
  threadgroup float sums[ROUND * 2 * SIMDGROUPS];
  threadgroup float outs[ROUND * 2 * SIMDGROUPS * D];

  const int B = q_shape[0];  // q [B, H, T, D]
  const int H = q_shape[1];
  const int steps = q_shape[2];
  const int shared_rows = prefix_q_shape[0];  // prefix_q [B', H, T, D]
  const int S = metal::min(length[0], k_shape[2]);  // k, v [B, H, slots, D]
  const int P = prefix_k_shape[2];                  // prefix_k, prefix_v [B', H, P, D]
  const int h = int(threadgroup_position_in_grid.x);
  const int blocks = DECODE ? B / shared_rows / ROWS : (steps + ROWS - 1) / ROWS;
  const int block = int(threadgroup_position_in_grid.z) % blocks;
  const int split = int(threadgroup_position_in_grid.z) / blocks;
  const int thread_index = int(thread_index_in_threadgroup);
  const int lane = thread_index % LANES;
  const int simd = int(simdgroup_index_in_threadgroup);
  const float g = float(gate[0]);

  // Batch row and step of each query of the block; the last block of a prompt may repeat the last query.
  int row[ROWS], step[ROWS], sees[ROWS], sees_all[ROWS];
  float query[ROWS][E], prefix_query[ROWS][E];
  Running<D> main_part[ROWS], prefix_part[ROWS];
#pragma unroll
  for (int r = 0; r < ROWS; r++) {
    const int y_position = int(threadgroup_position_in_grid.y);
    row[r] = DECODE ? y_position + (block * ROWS + r) * shared_rows : y_position;
    step[r] = DECODE ? 0 : metal::min(block * ROWS + r, steps - 1);
    sees[r] = S - steps + step[r] + 1;
    sees_all[r] = P;
    const int64_t at = row[r] * q_strides[0] + h * q_strides[1] + step[r] * q_strides[2];
    const int64_t prefix_at = row[r] % shared_rows * prefix_q_strides[0] + h * prefix_q_strides[1] +
        step[r] * prefix_q_strides[2];
    for (int e = 0; e < E; e++) {
      const int d = lane * E + e;
      query[r][e] = 0;
      prefix_query[r][e] = 0;
      if (d < D) {
        const float value = float(q[at + d * q_strides[3]]);
        query[r][e] = scale[0] * value;
        prefix_query[r][e] = scale[0] * (value + float(prefix_q[prefix_at + d * prefix_q_strides[3]]));
      }
    }
    main_part[r].clear();
    prefix_part[r].clear();
  }

  // The cache.
  const int first = S * split / SPLITS;
  const int last = S * (split + 1) / SPLITS;
  if (DECODE) {
#pragma unroll
    for (int r = 0; r < ROWS; r++) {
      const Rows<KT> keys = {k + (row[r] * k_strides[0] + h * k_strides[1]), k_strides[2], k_strides[3]};
      const Rows<VT> values = {v + (row[r] * v_strides[0] + h * v_strides[1]), v_strides[2], v_strides[3]};
      const int one[1] = {sees[r]};
      float q_row[1][E];
      for (int e = 0; e < E; e++) {
        q_row[0][e] = query[r][e];
      }
      attend<D, 1>(keys, values, first, last, one, q_row, &main_part[r], thread_index, THREADS);
    }
  } else {
    const Rows<KT> keys = {k + (row[0] * k_strides[0] + h * k_strides[1]), k_strides[2], k_strides[3]};
    const Rows<VT> values = {v + (row[0] * v_strides[0] + h * v_strides[1]), v_strides[2], v_strides[3]};
    attend<D, ROWS>(
        keys, values, first, metal::min(last, sees[ROWS - 1]), sees, query, main_part, thread_index, THREADS);
  }

  // The prefix.
  if (g != 0.0f) {
    const int shared = row[0] % shared_rows;
    const Rows<PKT> keys = {
        prefix_k + (shared * prefix_k_strides[0] + h * prefix_k_strides[1]), prefix_k_strides[2], prefix_k_strides[3]};
    const Rows<PVT> values = {
        prefix_v + (shared * prefix_v_strides[0] + h * prefix_v_strides[1]), prefix_v_strides[2], prefix_v_strides[3]};
    attend<D, ROWS>(
        keys, values, P * split / SPLITS, P * (split + 1) / SPLITS, sees_all, prefix_query, prefix_part, thread_index,
        THREADS);
  }

  // Join the simdgroups' parts, ROUND queries at a time.
  for (int r0 = 0; r0 < ROWS; r0 += ROUND) {
    if (r0 > 0) {
      metal::threadgroup_barrier(metal::mem_flags::mem_threadgroup);
    }
#pragma unroll
    for (int r = 0; r < ROWS; r++) {
      if (r >= r0 && r < r0 + ROUND) {
        for (int which = 0; which < 2; which++) {
          Running<D> part = which == 0 ? main_part[r] : prefix_part[r];
          part.join();
          const int slot = ((r - r0) * 2 + which) * SIMDGROUPS + simd;
          if (int(thread_index_in_simdgroup) < LANES) {
            if (lane == 0) {
              tops[slot] = part.top;
              sums[slot] = part.sum;
            }
            for (int e = 0; e < E; e++) {
              if (lane * E + e < D) {
                outs[slot * D + lane * E + e] = part.out[e];
              }
            }
          }
        }
      }
    }
    metal::threadgroup_barrier(metal::mem_flags::mem_threadgroup);
    for (int i = thread_index; i < ROUND * D; i += THREADS) {
      const int r = r0 + i / D;
      const int d = i % D;
      const int index = block * ROWS + r;
      if (r < ROWS && (DECODE || index < steps)) {
        const int b = int(threadgroup_position_in_grid.y) + (DECODE ? index * shared_rows : 0);
        const int t = DECODE ? 0 : index;
        const int slot = i / D * 2 * SIMDGROUPS;
        const int prefix_slot = slot + SIMDGROUPS;
        const float3 a = joined<D, SIMDGROUPS>(tops + slot, sums + slot, outs + slot * D, d);
        const float3 c = joined<D, SIMDGROUPS>(tops + prefix_slot, sums + prefix_slot, outs + prefix_slot * D, d);
#if SPLIT
        // parts [SPLITS, B, H, 2, D + 2]: of each softmax D sums of values, the top score and the sum of weights
        device float* to = parts + ((size_t(split) * B + b) * H + h) * 2 * (D + 2);
        to[d] = a.x;
        to[D + 2 + d] = c.x;
        if (d == 0) {
          to[D] = a.y;
          to[D + 1] = a.z;
          to[2 * D + 2] = c.y;
          to[2 * D + 3] = c.z;
        }
#else
        // Without a prefix its sums are 0, and 0 / 0 must not reach the result.
        const float value = a.x / a.z + (g != 0.0f ? g * c.x / c.z : 0.0f);
        y[((size_t(b) * H + h) * steps + t) * D + d] = T(value);  // [B, H, T, D]
#endif
      }
    }
  }
