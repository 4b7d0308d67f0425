// Gated prefix attention (Instruct-MusicGen, section 3.2), both softmaxes, the gate and the sum as one pass:
//   y = softmax(scale · q K^T) V + gate · softmax(scale · (q + prefix_q) PK^T) PV
// K, V are the first `length` slots of the cache, PK, PV the P prefix frames. A gate of 0 skips the prefix.
//
// Grid: one threadgroup of SIMDGROUPS simdgroups per head (x), prefix row (y) and block of ROWS queries (z), times
// SPLITS parts of the keys (z, outer). Any head dim up to 256, any lengths from 1, any strides.
//   T = 1 (decode): a block is ROWS batch rows that share a prefix (a guidance pair): each has its own K and V, the
//     prefix is read once for all of them.
//   T > 1 (prompted window): a block is ROWS neighboring queries of one batch row, causal; K, V and prefix are read
//     once for all of them.
// The simdgroups work in teams, each on a piece of the keys: half of them on the caches (for a pair, a quarter on each
// row's), half on the prefix. So a lane holds the state of one softmax, and the pieces take their time together:
//
//   guidance pair, 8 simdgroups:  | cache of row 0 | cache of row 1 |         prefix         |
//                                     0        1       2        3      4     5     6     7
//
// Where there are fewer simdgroups than pieces, all of them take one piece after the other. With SPLITS > 1 the result is
// a part of each softmax, which prefix_attention_join.metal completes.
//
// Why not stock MLX: two attention launches, an add, a multiply and an add; a mask or a slice for the cache's unused
// slots; and it has kernels for few head dims.
//
// Constants: T result, D, ROWS, DECODE, SPLITS, SIMDGROUPS; KT, VT, PKT, PVT dtypes of the keys and values. Defined by the
// host: SPLIT.

  constexpr int E = elements_of(D);
  constexpr int LANES = lanes_of(D);
  constexpr int GROUPS = 32 / LANES;           // keys that a simdgroup reads at once
  constexpr int CACHES = DECODE ? ROWS : 1;    // pieces of cache
  constexpr int QUERIES = DECODE ? 1 : ROWS;   // that share a piece
  constexpr int HALF = SIMDGROUPS / 2;
  constexpr bool TEAMS = HALF >= CACHES;
  constexpr int MAIN = TEAMS ? HALF / CACHES : SIMDGROUPS;                 // simdgroups of a piece of cache
  constexpr int EXTRA = TEAMS ? SIMDGROUPS - MAIN * CACHES : SIMDGROUPS;   // of the prefix
  constexpr int PARTS = ROWS * (MAIN + EXTRA);

  threadgroup float tops[PARTS];
  threadgroup float sums[PARTS];
  threadgroup float outs[PARTS * D];

  const int B = q_shape[0];  // q [B, H, T, D]
  const int H = q_shape[1];
  const int steps = q_shape[2];
  const int shared_rows = prefix_q_shape[0];  // prefix_q [B', H, T, D]
  const int S = metal::min(length[0], k_shape[2]);  // k, v [B, H, slots, D]
  const int P = prefix_k_shape[2];                  // prefix_k, prefix_v [B', H, P, D]
  const int h = int(threadgroup_position_in_grid.x);
  const int y_position = int(threadgroup_position_in_grid.y);
  const int blocks = DECODE ? B / shared_rows / ROWS : (steps + ROWS - 1) / ROWS;
  const int block = int(threadgroup_position_in_grid.z) % blocks;
  const int split = int(threadgroup_position_in_grid.z) / blocks;
  const int thread_index = int(thread_index_in_threadgroup);
  const int simd = int(simdgroup_index_in_threadgroup);
  const int simd_lane = int(thread_index_in_simdgroup);
  const int lane = simd_lane % LANES;
  const float g = float(gate[0]);
  const int q_element = int(q_strides[3]);
  const int prefix_element = int(prefix_q_strides[3]);

  const int team = TEAMS ? metal::min(simd / MAIN, CACHES) : 0;
  const int member = TEAMS ? simd - team * MAIN : simd;
  const int group = member * GROUPS + simd_lane / LANES;
  for (int piece = team; piece <= (TEAMS ? team : CACHES); piece++) {
    if (piece < CACHES) {
      const int row = DECODE ? y_position + (block * ROWS + piece) * shared_rows : y_position;
      float query[QUERIES][E];
      int sees[QUERIES];
      Running<D> part[QUERIES];
#pragma unroll
      for (int r = 0; r < QUERIES; r++) {  // the last block of a prompt may repeat the last query
        const int step = DECODE ? 0 : metal::min(block * ROWS + r, steps - 1);
        sees[r] = S - steps + step + 1;
        const device T* from = q + (row * q_strides[0] + h * q_strides[1] + step * q_strides[2]);
#pragma unroll
        for (int e = 0; e < E; e++) {
          const int d = lane * E + e;
          query[r][e] = d < D ? scale[0] * float(from[d * q_element]) : 0.0f;
        }
        part[r].clear();
      }
      const int first = S * split / SPLITS;
      const int last = metal::min(S * (split + 1) / SPLITS, sees[QUERIES - 1]);
      const Keys<KT> keys = {
          k + (row * k_strides[0] + h * k_strides[1]), int(k_strides[2]), int(k_strides[3])};
      const Keys<VT> values = {
          v + (row * v_strides[0] + h * v_strides[1]), int(v_strides[2]), int(v_strides[3])};
      const int groups = MAIN * GROUPS;
      if (keys.element == 1 && values.element == 1) {  // the usual case, apart so that its loads are wide
        attend<D, QUERIES, !DECODE, true>(keys, values, first, last, sees, query, part, group, groups, lane);
      } else {
        attend<D, QUERIES, !DECODE, false>(keys, values, first, last, sees, query, part, group, groups, lane);
      }
#pragma unroll
      for (int r = 0; r < QUERIES; r++) {
        part[r].join();
        part[r].store(tops, sums, outs, (DECODE ? piece : r) * MAIN + member, lane, simd_lane < LANES);
      }
    } else if (g != 0.0f) {
      const int shared = y_position % shared_rows;
      float query[ROWS][E];
      int sees[ROWS];
      Running<D> part[ROWS];
#pragma unroll
      for (int r = 0; r < ROWS; r++) {
        const int row = DECODE ? y_position + (block * ROWS + r) * shared_rows : y_position;
        const int step = DECODE ? 0 : metal::min(block * ROWS + r, steps - 1);
        const device T* from = q + (row * q_strides[0] + h * q_strides[1] + step * q_strides[2]);
        const device T* prefix_from =
            prefix_q + (shared * prefix_q_strides[0] + h * prefix_q_strides[1] + step * prefix_q_strides[2]);
        sees[r] = P;
#pragma unroll
        for (int e = 0; e < E; e++) {
          const int d = lane * E + e;
          query[r][e] =
              d < D ? scale[0] * (float(from[d * q_element]) + float(prefix_from[d * prefix_element])) : 0.0f;
        }
        part[r].clear();
      }
      const int first = P * split / SPLITS;
      const int last = P * (split + 1) / SPLITS;
      const Keys<PKT> keys = {
          prefix_k + (shared * prefix_k_strides[0] + h * prefix_k_strides[1]), int(prefix_k_strides[2]),
          int(prefix_k_strides[3])};
      const Keys<PVT> values = {
          prefix_v + (shared * prefix_v_strides[0] + h * prefix_v_strides[1]), int(prefix_v_strides[2]),
          int(prefix_v_strides[3])};
      const int groups = EXTRA * GROUPS;
      if (keys.element == 1 && values.element == 1) {
        attend<D, ROWS, false, true>(keys, values, first, last, sees, query, part, group, groups, lane);
      } else {
        attend<D, ROWS, false, false>(keys, values, first, last, sees, query, part, group, groups, lane);
      }
#pragma unroll
      for (int r = 0; r < ROWS; r++) {
        part[r].join();
        part[r].store(tops, sums, outs, ROWS * MAIN + r * EXTRA + member, lane, simd_lane < LANES);
      }
    }
  }
  metal::threadgroup_barrier(metal::mem_flags::mem_threadgroup);

  for (int i = thread_index; i < ROWS * D; i += SIMDGROUPS * 32) {
    const int r = i / D;
    const int d = i % D;
    const int index = block * ROWS + r;
    if (DECODE || index < steps) {
      const int b = y_position + (DECODE ? index * shared_rows : 0);
      const int t = DECODE ? 0 : index;
      const int at = r * MAIN;
      const float3 a = joined<D, MAIN>(tops + at, sums + at, outs + at * D, d);
      float3 c = float3(0.0f, -3.0e38f, 0.0f);
      if (g != 0.0f) {
        const int prefix_at = ROWS * MAIN + r * EXTRA;
        c = joined<D, EXTRA>(tops + prefix_at, sums + prefix_at, outs + prefix_at * D, d);
      }
#if SPLIT
      // [SPLITS, B, H, 2, D + 2]; t is 0, as only decode splits
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
