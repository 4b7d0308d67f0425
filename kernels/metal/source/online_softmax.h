// Softmax attention of R queries over keys that they share, by a few simdgroups, with a running maximum.
//
//   head of D elements:   | lane 0: E | lane 1: E | ... | lane LANES - 1 |      LANES · E >= D, 8 lanes of 8 for D = 64
//   a simdgroup's keys:   | s | s + 1 | ... | s + 32/LANES - 1 |                32 / LANES groups, one key each
//
// A group of LANES lanes reads a key, so a score costs log2(LANES) shuffles. Group g of G takes keys g and g + G, then
// g + 2·G and g + 3·G, ...: two at a time, whose loads are under way together. Any head dim works; where LANES · E is more
// than D, the last lanes' queries hold zeros. Offsets within a head are 32 bits wide.

constexpr int lanes_of(int D) {
  return D >= 256 ? 32 : D >= 128 ? 16 : D >= 64 ? 8 : D >= 32 ? 4 : D >= 16 ? 2 : 1;
}

constexpr int elements_of(int D) {
  return (D + lanes_of(D) - 1) / lanes_of(D);
}

// Where a head's keys or values lie: element d of key s is at data[s · row + d · element].
template <typename T>
struct Keys {
  const device T* data;
  int row;
  int element;

  // With NEIGHBORS, element is 1.
  template <int D, bool NEIGHBORS>
  void load(int s, int lane, thread float (&out)[elements_of(D)]) const {
    constexpr int E = elements_of(D);
    constexpr bool WHOLE = E * lanes_of(D) == D;
    const int step = NEIGHBORS ? 1 : element;
    const device T* from = data + int(uint(s) * uint(row));  // unsigned, as a product of ints would be made in 64 bits
    if (NEIGHBORS && WHOLE && E % 4 == 0) {
#pragma unroll
      for (int e = 0; e < E / 4 * 4; e += 4) {
        const float4 part = four(from + lane * E + e);
        out[e] = part.x;
        out[e + 1] = part.y;
        out[e + 2] = part.z;
        out[e + 3] = part.w;
      }
    } else {
#pragma unroll
      for (int e = 0; e < E; e++) {  // beyond the head its last element once more: queries are 0 there
        const int d = WHOLE ? lane * E + e : metal::min(lane * E + e, D - 1);
        out[e] = float(from[int(uint(d) * uint(step))]);
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
#pragma unroll
    for (int e = 0; e < elements_of(D); e++) {
      out[e] = 0;
    }
  }

  // Together with the other key groups of the simdgroup; afterwards all groups hold the same.
  void join() {
    float all = top;
#pragma unroll
    for (int offset = lanes_of(D); offset < 32; offset *= 2) {
      all = metal::max(all, metal::simd_shuffle_xor(all, ushort(offset)));
    }
    const float factor = metal::fast::exp(top - all);
    top = all;
    sum *= factor;
#pragma unroll
    for (int e = 0; e < elements_of(D); e++) {
      out[e] *= factor;
    }
#pragma unroll
    for (int offset = lanes_of(D); offset < 32; offset *= 2) {
      sum += metal::simd_shuffle_xor(sum, ushort(offset));
#pragma unroll
      for (int e = 0; e < elements_of(D); e++) {
        out[e] += metal::simd_shuffle_xor(out[e], ushort(offset));
      }
    }
  }

  // A simdgroup's part, as it is after join(), into threadgroup memory.
  void store(
      threadgroup float* tops, threadgroup float* sums, threadgroup float* outs, int slot, int lane, bool first) const {
    constexpr int E = elements_of(D);
    if (first) {  // of the key groups, which all hold the same
      if (lane == 0) {
        tops[slot] = top;
        sums[slot] = sum;
      }
#pragma unroll
      for (int e = 0; e < E; e++) {
        if (lane * E + e < D) {
          outs[slot * D + lane * E + e] = out[e];
        }
      }
    }
  }
};

template <int E>
inline float dot_of(thread const float (&a)[E], thread const float (&b)[E]) {
  float sum = 0;
#pragma unroll
  for (int e = 0; e < E; e++) {
    sum += a[e] * b[e];
  }
  return sum;
}

// N keys of each group, base + group + i · groups, of which query r sees those before visible[r]. MASKED: some queries see
// fewer keys than others. TAIL: some groups are past the end, and read nothing: it may be NaN, or not be ours to read.
template <int D, int R, int N, bool MASKED, bool TAIL, bool NEIGHBORS, typename K, typename V>
inline void take_keys(
    thread const Keys<K>& keys,
    thread const Keys<V>& values,
    int base,
    int last,
    thread const int (&visible)[R],
    thread const float (&q)[R][elements_of(D)],
    thread Running<D> (&running)[R],
    int group,
    int groups,
    int lane) {
  constexpr int LANES = lanes_of(D);
  constexpr int E = elements_of(D);
  float key[N][E], value[N][E];
#pragma unroll
  for (int i = 0; i < N; i++) {
    const int s = base + group + i * groups;
    if (TAIL) {
#pragma unroll
      for (int e = 0; e < E; e++) {
        key[i][e] = 0;
        value[i][e] = 0;
      }
    }
    if (!TAIL || s < last) {
      keys.template load<D, NEIGHBORS>(s, lane, key[i]);
      values.template load<D, NEIGHBORS>(s, lane, value[i]);
    }
  }
#pragma unroll
  for (int r = 0; r < R; r++) {
    float score[N];
    bool sees[N];
    float top = running[r].top;
#pragma unroll
    for (int i = 0; i < N; i++) {
      const int place = base + group + i * groups;
      sees[i] = (!TAIL || place < last) && (!MASKED || place < visible[r]);
      score[i] = dot_of<E>(q[r], key[i]);
#pragma unroll
      for (int offset = 1; offset < LANES; offset *= 2) {
        score[i] += metal::simd_shuffle_xor(score[i], ushort(offset));
      }
      top = metal::max(top, sees[i] ? score[i] : top);
    }
    const float factor = metal::fast::exp(running[r].top - top);
    running[r].top = top;
    running[r].sum *= factor;
#pragma unroll
    for (int e = 0; e < E; e++) {
      running[r].out[e] *= factor;
    }
#pragma unroll
    for (int i = 0; i < N; i++) {
      const float weight = sees[i] ? metal::fast::exp(score[i] - top) : 0.0f;
      running[r].sum += weight;
#pragma unroll
      for (int e = 0; e < E; e++) {
        // A key that a query may not see must not reach it as 0 · infinity either.
        running[r].out[e] += weight * (!MASKED || sees[i] ? value[i][e] : 0.0f);
      }
    }
  }
}

// Keys first..last-1. The bounds are those of a whole simdgroup: all its lanes must take part in the shuffles.
template <int D, int R, bool MASKED, bool NEIGHBORS, typename K, typename V>
inline void attend(
    thread const Keys<K>& keys,
    thread const Keys<V>& values,
    int first,
    int last,
    thread const int (&visible)[R],
    thread const float (&q)[R][elements_of(D)],  // this lane's elements of scale · query
    thread Running<D> (&running)[R],
    int group,
    int groups,
    int lane) {
  constexpr int AT_ONCE = NEIGHBORS ? 2 : 1;  // keys; elements that lie apart take more loads and registers
  int base = first;
  for (; base + AT_ONCE * groups <= last; base += AT_ONCE * groups) {
    take_keys<D, R, AT_ONCE, MASKED, false, NEIGHBORS>(
        keys, values, base, last, visible, q, running, group, groups, lane);
  }
  for (; base < last; base += groups) {
    take_keys<D, R, 1, MASKED, true, NEIGHBORS>(keys, values, base, last, visible, q, running, group, groups, lane);
  }
}

// The simdgroups' parts of a softmax in threadgroup memory, joined: element d of the sum of values, with the top score
// and the sum of weights.
template <int D, int PARTS>
inline float3 joined(threadgroup const float* tops, threadgroup const float* sums, threadgroup const float* outs, int d) {
  float top = tops[0];
#pragma unroll
  for (int i = 1; i < PARTS; i++) {
    top = metal::max(top, tops[i]);
  }
  float sum = 0, out = 0;
#pragma unroll
  for (int i = 0; i < PARTS; i++) {
    const float factor = metal::fast::exp(tops[i] - top);
    sum += factor * sums[i];
    out += factor * outs[i * D + d];
  }
  return float3(out, top, sum);
}
