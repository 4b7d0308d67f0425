// Softmax attention of R queries over keys that they share, by a whole threadgroup, with a running maximum.
//
// A key is read by a group of LANES lanes, ELEMENTS neighbours of its head dim each, so a simdgroup reads 32 / LANES
// neighbouring keys at once and a score costs log2(LANES) shuffles. Group g of G takes keys g, g + G, g + 2·G, ...
// Any head dim works; where LANES · ELEMENTS is more than D, the last lanes hold zeros.

constexpr int lanes_of(int D) {
  return D >= 256 ? 32 : D >= 128 ? 16 : D >= 64 ? 8 : D >= 32 ? 4 : D >= 16 ? 2 : 1;
}

constexpr int elements_of(int D) {
  return (D + lanes_of(D) - 1) / lanes_of(D);
}

// Where a head's rows lie: element d of row s is at data[s · row + d · element].
template <typename T>
struct Rows {
  const device T* data;
  int64_t row;
  int64_t element;

  template <int D>
  void load(int s, int lane, thread float (&out)[elements_of(D)]) const {
    constexpr int E = elements_of(D);
    const device T* from = data + s * row;
    if (element == 1) {  // the usual case, apart from the other so that its loads can be merged
      for (int e = 0; e < E; e++) {
        out[e] = lane * E + e < D ? float(from[lane * E + e]) : 0.0f;
      }
    } else {
      for (int e = 0; e < E; e++) {
        out[e] = lane * E + e < D ? float(from[(lane * E + e) * element]) : 0.0f;
      }
    }
  }
};

// softmax so far: sum over the keys seen of exp(score - top) · value, and of exp(score - top)
template <int D>
struct Running {
  float top;
  float sum;
  float out[elements_of(D)];

  void clear() {
    top = -3.0e38f;  // finite, so that top - top is 0
    sum = 0;
    for (int e = 0; e < elements_of(D); e++) {
      out[e] = 0;
    }
  }

  // Together with the other key groups of the simdgroup; afterwards all groups hold the same.
  void join() {
    float all = top;
    for (int offset = lanes_of(D); offset < 32; offset *= 2) {
      all = metal::max(all, metal::simd_shuffle_xor(all, ushort(offset)));
    }
    const float factor = metal::fast::exp(top - all);
    top = all;
    sum *= factor;
    for (int e = 0; e < elements_of(D); e++) {
      out[e] *= factor;
    }
    for (int offset = lanes_of(D); offset < 32; offset *= 2) {
      sum += metal::simd_shuffle_xor(sum, ushort(offset));
      for (int e = 0; e < elements_of(D); e++) {
        out[e] += metal::simd_shuffle_xor(out[e], ushort(offset));
      }
    }
  }
};

// Keys first..last-1; query r sees those before visible[r].
template <int D, int R, typename K, typename V>
inline void attend(
    thread const Rows<K>& keys,
    thread const Rows<V>& values,
    int first,
    int last,
    thread const int (&visible)[R],
    thread const float (&q)[R][elements_of(D)],  // this lane's elements of scale · query
    thread Running<D>* running,                  // [R]
    int thread_index,
    int threads) {
  constexpr int LANES = lanes_of(D);
  constexpr int E = elements_of(D);
  const int group = thread_index / LANES;
  const int lane = thread_index % LANES;
  // The bound is that of the whole threadgroup: all lanes must take part in the shuffles.
  for (int base = first; base < last; base += threads / LANES) {
    const int s = base + group;
    float k[E], v[E];
    for (int e = 0; e < E; e++) {
      k[e] = 0;
      v[e] = 0;
    }
    if (s < last) {  // what lies beyond may be NaN, or not be ours to read
      keys.template load<D>(s, lane, k);
      values.template load<D>(s, lane, v);
    }
#pragma unroll
    for (int r = 0; r < R; r++) {
      float score = 0;
      for (int e = 0; e < E; e++) {
        score += q[r][e] * k[e];
      }
      for (int offset = 1; offset < LANES; offset *= 2) {
        score += metal::simd_shuffle_xor(score, ushort(offset));
      }
      if (s < last && s < visible[r]) {
        const float top = metal::max(running[r].top, score);
        const float factor = metal::fast::exp(running[r].top - top);
        const float weight = metal::fast::exp(score - top);
        running[r].top = top;
        running[r].sum = running[r].sum * factor + weight;
        for (int e = 0; e < E; e++) {
          running[r].out[e] = running[r].out[e] * factor + weight * v[e];
        }
      }
    }
  }
}

// The simdgroups' parts of a softmax in threadgroup memory, joined: element d of the sum of values, with the top score
// and the sum of weights.
template <int D, int PARTS>
inline float3 joined(threadgroup const float* tops, threadgroup const float* sums, threadgroup const float* outs, int d) {
  float top = tops[0];
  for (int i = 1; i < PARTS; i++) {
    top = metal::max(top, tops[i]);
  }
  float sum = 0, out = 0;
  for (int i = 0; i < PARTS; i++) {
    const float factor = metal::fast::exp(tops[i] - top);
    sum += factor * sums[i];
    out += factor * outs[i * D + d];
  }
  return float3(out, top, sum);
}
