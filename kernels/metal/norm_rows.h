// The M rows of activations that a decode step multiplies, read a few neighbours along K at a time, plain or through
// their layer norm: norm(x) = (x - mean) / sqrt(var + eps) · weight + bias.

template <int M, typename T>
struct PlainRows {
  const device T* x;  // [M, K]
  int K;

  template <int V>
  void load(int k, thread float (&out)[M][V]) const {
    for (int m = 0; m < M; m++) {
      for (int i = 0; i < V; i++) {
        out[m][i] = float(x[m * K + k + i]);
      }
    }
  }
};

template <int M, typename T, typename W, typename B>
struct NormalisedRows {
  const device T* x;       // [M, K]
  const device W* weight;  // [K]
  const device B* bias;    // [K]
  int K;
  float mean[M];
  float rstd[M];

  template <int V>
  void load(int k, thread float (&out)[M][V]) const {
    for (int i = 0; i < V; i++) {
      const float a = float(weight[k + i]), b = float(bias[k + i]);
      for (int m = 0; m < M; m++) {
        out[m][i] = (float(x[m * K + k + i]) - mean[m]) * rstd[m] * a + b;
      }
    }
  }

  // Mean and 1/sqrt(var + eps) of every row, by a whole threadgroup. Two passes over x, since E[x²] - mean² loses its
  // digits when the mean is large; the second finds x in the cache. `shared` holds 2 · M · SIMDGROUPS floats.
  template <int SIMDGROUPS>
  void measure(float eps, threadgroup float* shared, uint simd, uint lane) {
    threadgroup float* squares = shared + M * SIMDGROUPS;
    for (int m = 0; m < M; m++) {
      float sum = 0;
      for (int k = int(simd) * 32 + int(lane); k < K; k += 32 * SIMDGROUPS) {
        sum += float(x[m * K + k]);
      }
      sum = metal::simd_sum(sum);
      if (lane == 0) {
        shared[m * SIMDGROUPS + simd] = sum;
      }
    }
    metal::threadgroup_barrier(metal::mem_flags::mem_threadgroup);
    for (int m = 0; m < M; m++) {
      float total = 0;
      for (int i = 0; i < SIMDGROUPS; i++) {
        total += shared[m * SIMDGROUPS + i];
      }
      mean[m] = total / float(K);
      float sum = 0;
      for (int k = int(simd) * 32 + int(lane); k < K; k += 32 * SIMDGROUPS) {
        const float centred = float(x[m * K + k]) - mean[m];
        sum += centred * centred;
      }
      sum = metal::simd_sum(sum);
      if (lane == 0) {
        squares[m * SIMDGROUPS + simd] = sum;
      }
    }
    metal::threadgroup_barrier(metal::mem_flags::mem_threadgroup);
    for (int m = 0; m < M; m++) {
      float total = 0;
      for (int i = 0; i < SIMDGROUPS; i++) {
        total += squares[m * SIMDGROUPS + i];
      }
      rstd[m] = metal::precise::rsqrt(total / float(K) + eps);
    }
  }
};
