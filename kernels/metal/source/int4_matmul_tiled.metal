// INT4/INT8 product of many rows (prefill of the adapter, prompts, text projection):
//   y = residual + gelu(x · dequant(w)^T + bias),  any M and N, K a multiple of GROUP (32, 64, 128).
//
// Grid: one threadgroup of 4 simdgroups (2 x 2) per BM x BN tile of y. Along K, 32 at a time, a tile of x and a tile of
// dequantized w go through threadgroup memory into 8x8 simdgroup matrices, with float32 sums. Rows and columns beyond
// M and N are read as zeros and not stored.
//
// Why not stock MLX: its tiles are alike, but bias, gelu and residual are three more passes over y.
//
// Constants: T x, y and the tiles, BITS, GROUP, BM, BN. Defined by the host: BIAS, GELU, RESIDUAL.

  constexpr int BK = 32;
  constexpr int PAD = 16 / int(sizeof(T));  // rows start in different banks
  constexpr int LD = BK + PAD;
  constexpr int PER_WORD = 32 / BITS;
  constexpr uint MASK = (1u << BITS) - 1u;
  constexpr int FM = BM / 16;  // 8x8 blocks of a simdgroup's part of the tile
  constexpr int FN = BN / 16;
  constexpr int TILES = (BM + BN) * LD * int(sizeof(T)) / 4;
  constexpr int POOL = TILES > BM * BN ? TILES : BM * BN;

  threadgroup float pool[POOL];
  threadgroup T* xt = (threadgroup T*)pool;  // [BM, LD]
  threadgroup T* wt = xt + BM * LD;          // [BN, LD]

  const int M = x_shape[0];  // x [M, K]
  const int K = x_shape[1];
  const int N = w_shape[0];  // w [N, K·BITS/32]; scales, biases [N, K/GROUP]
  const int n0 = int(threadgroup_position_in_grid.x) * BN;
  const int m0 = int(threadgroup_position_in_grid.y) * BM;
  const int thread_index = int(thread_index_in_threadgroup);
  const int sm = int(simdgroup_index_in_threadgroup / 2) * (BM / 2);
  const int sn = int(simdgroup_index_in_threadgroup % 2) * (BN / 2);

  metal::simdgroup_matrix<float, 8, 8> sums[FM][FN];
  for (int i = 0; i < FM; i++) {
    for (int j = 0; j < FN; j++) {
      sums[i][j] = metal::make_filled_simdgroup_matrix<float, 8, 8>(0.0f);
    }
  }

  for (int k0 = 0; k0 < K; k0 += BK) {
    metal::threadgroup_barrier(metal::mem_flags::mem_threadgroup);
    for (int i = thread_index; i < BM * BK / 4; i += 128) {  // 4 neighbors of x a thread
      const int row = i / (BK / 4);
      const int k = i % (BK / 4) * 4;
      const device T* from = x + size_t(m0 + row) * K + k0 + k;
      for (int j = 0; j < 4; j++) {
        xt[row * LD + k + j] = m0 + row < M ? from[j] : T(0);
      }
    }
    for (int i = thread_index; i < BN * BITS; i += 128) {  // one word of w a thread; a row of the tile has BITS words
      const int row = i / BITS;
      const int k = i % BITS * PER_WORD;
      uint bits = 0;
      float scale = 0, bias_of_group = 0;
      if (n0 + row < N) {
        bits = w[size_t(n0 + row) * (K / PER_WORD) + (k0 + k) / PER_WORD];
        const size_t group = size_t(n0 + row) * (K / GROUP) + (k0 + k) / GROUP;
        scale = float(scales[group]);
        bias_of_group = float(biases[group]);
      }
      for (int j = 0; j < PER_WORD; j++) {
        wt[row * LD + k + j] = T(scale * float((bits >> (j * BITS)) & MASK) + bias_of_group);
      }
    }
    metal::threadgroup_barrier(metal::mem_flags::mem_threadgroup);
    for (int k = 0; k < BK; k += 8) {
      metal::simdgroup_matrix<T, 8, 8> a[FM], b[FN];
      for (int i = 0; i < FM; i++) {
        metal::simdgroup_load(a[i], xt + (sm + i * 8) * LD + k, LD);
      }
      for (int j = 0; j < FN; j++) {
        metal::simdgroup_load(b[j], wt + (sn + j * 8) * LD + k, LD, ulong2(0, 0), true);
      }
      for (int i = 0; i < FM; i++) {
        for (int j = 0; j < FN; j++) {
          metal::simdgroup_multiply_accumulate(sums[i][j], a[i], b[j], sums[i][j]);
        }
      }
    }
  }

  // The tile of y takes the place of the tiles of x and w, so that the epilogue stores neighbors together.
  metal::threadgroup_barrier(metal::mem_flags::mem_threadgroup);
  for (int i = 0; i < FM; i++) {
    for (int j = 0; j < FN; j++) {
      metal::simdgroup_store(sums[i][j], pool + (sm + i * 8) * BN + sn + j * 8, BN);
    }
  }
  metal::threadgroup_barrier(metal::mem_flags::mem_threadgroup);
  for (int i = thread_index; i < BM * BN; i += 128) {
    const int row = m0 + i / BN;
    const int column = n0 + i % BN;
    if (row < M && column < N) {
      float value = pool[i];
#if BIAS
      value += float(bias[column]);  // [N]
#endif
#if GELU
      value = gelu(value);
#endif
#if RESIDUAL
      value += float(residual[size_t(row) * N + column]);  // [M, N]
#endif
      y[size_t(row) * N + column] = T(value);  // [M, N]
    }
  }
