// The M rows of activations that a decode step multiplies, read V neighbors along K at a time, plain or through their
// layer norm: norm(x) = (x - mean) / sqrt(var + eps) · weight + bias.

template <int V, typename T>
inline void load_neighbors(const device T* from, thread float (&out)[V]) {
  static_assert(V % 4 == 0, "words hold 4 or 8 values");
#pragma unroll
  for (int i = 0; i < V; i += 4) {
    const float4 part = four(from + i);
    out[i] = part.x;
    out[i + 1] = part.y;
    out[i + 2] = part.z;
    out[i + 3] = part.w;
  }
}

template <int M, typename T>
struct PlainRows {
  const device T* x;  // [M, K]
  int K;

  // Rows first .. first + N - 1, columns k .. k + V - 1.
  template <int N, int V>
  void load(int first, int k, thread float (&out)[N][V]) const {
#pragma unroll
    for (int m = 0; m < N; m++) {
      load_neighbors<V>(x + (metal::min(first + m, M - 1) * K + k), out[m]);
    }
  }
};

template <int M, typename T, typename W, typename B>
struct NormalizedRows {
  const device T* x;       // [M, K]
  const device W* weight;  // [K]
  const device B* bias;    // [K]
  int K;
  float mean[M];
  float rstd[M];

  template <int N, int V>
  void load(int first, int k, thread float (&out)[N][V]) const {
    float a[V], b[V];
    load_neighbors<V>(weight + k, a);
    load_neighbors<V>(bias + k, b);
#pragma unroll
    for (int m = 0; m < N; m++) {
      const int row = metal::min(first + m, M - 1);
      load_neighbors<V>(x + (row * K + k), out[m]);
#pragma unroll
      for (int i = 0; i < V; i++) {
        out[m][i] = (out[m][i] - mean[row]) * rstd[row] * a[i] + b[i];
      }
    }
  }

  // Mean and 1/sqrt(var + eps) of every row, by a whole threadgroup. Two passes over x, since E[x²] - mean² loses its
  // digits when the mean is large; the second finds x in the cache. `shared` holds 2 · M · SIMDGROUPS floats.
  template <int SIMDGROUPS>
  void measure(float eps, threadgroup float* shared, uint simd, uint lane) {
    float total[M];
#pragma unroll
    for (int m = 0; m < M; m++) {
      mean[m] = 0;
    }
    sum_rows<SIMDGROUPS, false>(shared, simd, lane, total);
#pragma unroll
    for (int m = 0; m < M; m++) {
      mean[m] = total[m] / float(K);
    }
    sum_rows<SIMDGROUPS, true>(shared + M * SIMDGROUPS, simd, lane, total);
#pragma unroll
    for (int m = 0; m < M; m++) {
      rstd[m] = metal::precise::rsqrt(total[m] / float(K) + eps);
    }
  }

  // The sum of each row's x - mean, or of their squares. `parts` holds M · SIMDGROUPS floats, one of each simdgroup.
  template <int SIMDGROUPS, bool SQUARED>
  void sum_rows(threadgroup float* parts, uint simd, uint lane, thread float (&total)[M]) const {
#pragma unroll
    for (int m = 0; m < M; m++) {
      float sum = 0;
      for (int k = int(simd) * 32 + int(lane); k < K; k += 32 * SIMDGROUPS) {
        const float centered = float(x[m * K + k]) - mean[m];
        sum += SQUARED ? centered * centered : centered;
      }
      sum = metal::simd_sum(sum);
      if (lane == 0) {
        parts[m * SIMDGROUPS + simd] = sum;
      }
    }
    metal::threadgroup_barrier(metal::mem_flags::mem_threadgroup);
#pragma unroll
    for (int m = 0; m < M; m++) {
      total[m] = 0;
#pragma unroll
      for (int i = 0; i < SIMDGROUPS; i++) {
        total[m] += parts[m * SIMDGROUPS + i];
      }
    }
  }
};

// For a norm folded into the epilogue: rows give (x - shift) · weight, and sum x - shift and its square as they are read,
// each lane of what it reads. The shift is the mean of a row's first 32 values: near the mean, so that the difference of
// two large numbers is never what is left of the variance, also where one value is far from all others.
template <int M, typename T, typename W>
struct FoldedRows {
  const device T* x;       // [M, K]
  const device W* weight;  // [K]
  int K;
  float shift[M];
  float sum[M];
  float squares[M];

  void start(uint lane) {
#pragma unroll
    for (int m = 0; m < M; m++) {
      shift[m] = metal::simd_sum(float(x[m * K + int(lane)])) / 32.0f;
      sum[m] = 0;
      squares[m] = 0;
    }
  }

  template <int N, int V>
  void load(int first, int k, thread float (&out)[N][V]) {
    float a[V];
    load_neighbors<V>(weight + k, a);
#pragma unroll
    for (int m = 0; m < N; m++) {
      const int row = metal::min(first + m, M - 1);
      load_neighbors<V>(x + (row * K + k), out[m]);
#pragma unroll
      for (int i = 0; i < V; i++) {
        out[m][i] -= shift[row];
        if (first + m < M) {  // known when compiled; a second tile may repeat the last row
          sum[row] += out[m][i];
          squares[row] += out[m][i] * out[m][i];
        }
        out[m][i] *= a[i];
      }
    }
  }

  // By a whole simdgroup, once all is read: mean - shift and 1/sqrt(var + eps) of `row`, a lane's own.
  void finish(float eps, int row, thread float& offset, thread float& rstd) const {
#pragma unroll
    for (int m = 0; m < M; m++) {
      const float mean = metal::simd_sum(sum[m]) / float(K);
      const float square = metal::simd_sum(squares[m]) / float(K);
      if (m == row) {
        offset = mean;
        rstd = metal::precise::rsqrt(metal::max(square - mean * mean, 0.0f) + eps);
      }
    }
  }
};
