// Attention over one or two sets of keys, each with its own softmax:
//   out = softmax(scale q k^T + mask) v + gate * softmax(scale (q + pq) pk^T) pv
//
// One piece is a head of one prefix row: it reads that head's prefix once for all rows of x that share it. Few queries are
// dot products over keys as they lie in memory, 16-bit or not; many queries are matrix products of blocks of 64.
#include <algorithm>
#include <cmath>
#include <cstring>

#include "../runtime/pool.h"
#include "operations.h"

namespace imn {
namespace {

constexpr int64_t kManyQueries = 12;
constexpr int64_t kQueryBlock = 64;

// One head's [S, D] within a view [B, H, S, D].
struct Head {
  const View& view;
  int64_t offset;

  Head(const View& v, int64_t b, int64_t h) : view(v), offset(b * v.strides[0] + h * v.strides[1]) {}
  // As float32 rows `*ld` apart, copied to `slot` only where it has to be.
  const float* widened(Slot slot, int64_t count, int64_t* ld) const {
    const int64_t d = view.shape[3];
    if (view.dtype == DType::f32 && view.strides[3] == 1 && view.strides[2] >= d) {
      *ld = view.strides[2];
      return static_cast<const float*>(view.at(offset));
    }
    *ld = padded(d);
    float* rows = scratch(slot, count * *ld);
    for (int64_t s = 0; s < count; ++s) load(rows + s * *ld, view, offset + s * view.strides[2], d, view.strides[3]);
    return rows;
  }
};

// Keys or values of one head as `scores` and `weighted_sum` take them.
CachedRows rows_of(const View& view, int64_t b, int64_t h, Slot slot, int64_t count) {
  const Head head(view, b, h);
  if (view.strides[3] == 1 || view.shape[3] == 1) return {view.at(head.offset), view.strides[2], view.dtype, int(count)};
  int64_t ld;
  const float* rows = head.widened(slot, count, &ld);
  return {rows, ld, DType::f32, int(count)};
}

// Says that `after` are read when `rows` are done, where they lie alike.
void read_after(CachedRows& rows, const CachedRows& after) {
  if (after.stride == rows.stride && after.dtype == rows.dtype) rows.next = after.data;
}

void add_mask(float* scores, const View& mask, int64_t b, int64_t h, int64_t t, int64_t count) {
  const int64_t at = b * mask.strides[0] + h * mask.strides[1] + t * mask.strides[2];
  float some[256];
  for (int64_t s = 0; s < count; s += 256) {
    const int64_t n = std::min<int64_t>(256, count - s);
    load(some, mask, at + s * mask.strides[3], n, mask.strides[3]);
    for (int64_t i = 0; i < n; ++i) scores[s + i] += some[i];
  }
}

// Keys that query t of the first softmax may see.
int64_t visible(const Attention& op, int64_t t) {
  return op.causal ? std::max<int64_t>(0, op.length - op.q.shape[2] + t + 1) : op.length;
}

void few_queries(const Attention& op, int64_t shared, int64_t h, float* out, int64_t ld) {
  const IsaKernels& kern = isa_kernels();
  const int64_t batch = op.q.shape[0], steps = op.q.shape[2], d = op.q.shape[3];
  const int64_t stride = op.prefix_q ? op.prefix_q.shape[0] : batch;
  const int64_t rows = batch / stride, queries = rows * steps;
  const int64_t frames = op.prefix_k ? op.prefix_k.shape[2] : 0;
  const int64_t lds = std::max(op.length, frames);
  float* q = scratch(kQueries, queries * ld);
  float* p = scratch(kScores, queries * lds);
  std::memset(q, 0, size_t(queries * ld) * 4);
  const bool prefixed = op.prefix_q && op.gate != 0.f;
  CachedRows prefix_k{}, prefix_v{};
  if (prefixed) {
    prefix_k = rows_of(op.prefix_k, shared, h, kPrefixKeys, frames);
    prefix_v = rows_of(op.prefix_v, shared, h, kPrefixValues, frames);
    read_after(prefix_k, prefix_v);
    // The next piece, of this thread too most likely.
    if (h + 1 < op.q.shape[1] && op.k.strides[3] == 1) prefix_v.next = op.k.at(Head(op.k, shared, h + 1).offset);
  }
  for (int64_t r = 0; r < rows; ++r) {
    const int64_t b = shared + r * stride;
    CachedRows k = rows_of(op.k, b, h, kKeys, op.length), v = rows_of(op.v, b, h, kValues, op.length);
    const bool last_row = r + 1 == rows;
    read_after(k, v);
    if (last_row && prefixed) read_after(v, prefix_k);
    if (!last_row && op.k.strides[3] == 1) v.next = op.k.at(Head(op.k, b + stride, h).offset);
    for (int64_t t = 0; t < steps; ++t) {
      const int64_t i = r * steps + t, n = visible(op, t);
      load(q + i * ld, op.q, b * op.q.strides[0] + h * op.q.strides[1] + t * op.q.strides[2], d, op.q.strides[3]);
      for (int64_t j = 0; j < d; ++j) q[i * ld + j] *= op.scale;
      if (n == 0) continue;
      k.count = v.count = int(n);
      kern.scores(q + i * ld, ld, 1, int(d), k, p, lds);
      if (op.mask) add_mask(p, op.mask, b, h, t, n);
      const float factor = 1.f / kern.softmax(p, int(n));
      kern.weighted_sum(p, lds, 1, &factor, v, int(d), out + i * ld, ld);
    }
  }
  if (!prefixed) return;
  const View& pq = op.prefix_q;
  float* extra = scratch(kExtra, padded(d) + queries);
  float* factors = extra + padded(d);
  for (int64_t i = 0; i < queries; ++i) {
    load(extra, pq, shared * pq.strides[0] + h * pq.strides[1] + i % steps * pq.strides[2], d, pq.strides[3]);
    for (int64_t j = 0; j < d; ++j) q[i * ld + j] += op.scale * extra[j];
  }
  kern.scores(q, ld, int(queries), int(d), prefix_k, p, lds);
  for (int64_t i = 0; i < queries; ++i) factors[i] = op.gate / kern.softmax(p + i * lds, int(frames));
  kern.weighted_sum(p, lds, int(queries), factors, prefix_v, int(d), out, ld);
}

// out [count, ldo] += factor * softmax(q k^T + mask) v for queries t0.. of row b; q is scaled already.
template <typename Visible>
void query_block(const Attention& op, const float* q, int64_t ld, int64_t count, const float* k, int64_t ldk, const float* v,
                 int64_t ldv, int64_t keys, const Visible& seen, float factor, const View& mask, int64_t b, int64_t h,
                 int64_t t0, float* out) {
  const int64_t d = op.q.shape[3];
  float* p = scratch(kScores, kQueryBlock * keys);
  if (keys == 0) return;
  sgemm_nt(count, keys, d, q, ld, k, ldk, 0.f, p, keys);
  for (int64_t i = 0; i < count; ++i) {
    float* row = p + i * keys;
    const int64_t n = std::min(keys, seen(t0 + i));
    if (mask) add_mask(row, mask, b, h, t0 + i, n);
    const float share = n > 0 ? factor / isa_kernels().softmax(row, int(n)) : 0.f;
    for (int64_t s = 0; s < n; ++s) row[s] *= share;
    for (int64_t s = n; s < keys; ++s) row[s] = 0.f;
  }
  sgemm_nn(count, d, keys, p, keys, v, ldv, 1.f, out, ld);
}

void many_queries(const Attention& op, int64_t shared, int64_t h, float* out, int64_t ld) {
  const int64_t batch = op.q.shape[0], steps = op.q.shape[2], d = op.q.shape[3];
  const int64_t stride = op.prefix_q ? op.prefix_q.shape[0] : batch;
  float* q = scratch(kQueries, kQueryBlock * ld);
  float* extra = scratch(kExtra, padded(d));
  const bool prefixed = op.prefix_q && op.gate != 0.f;
  for (int pass = 0; pass < (prefixed ? 2 : 1); ++pass) {
    int64_t ldk = 0, ldv = 0;
    const float *k = nullptr, *v = nullptr;
    const int64_t keys = pass == 0 ? op.length : op.prefix_k.shape[2];
    for (int64_t b = shared, r = 0; b < batch; b += stride, ++r) {
      if (pass == 0 || r == 0) {
        k = Head(pass == 0 ? op.k : op.prefix_k, b, h).widened(kKeys, keys, &ldk);
        v = Head(pass == 0 ? op.v : op.prefix_v, b, h).widened(kValues, keys, &ldv);
      }
      for (int64_t t0 = 0; t0 < steps; t0 += kQueryBlock) {
        const int64_t count = std::min(kQueryBlock, steps - t0);
        for (int64_t i = 0; i < count; ++i) {
          float* row = q + i * ld;
          load(row, op.q, b * op.q.strides[0] + h * op.q.strides[1] + (t0 + i) * op.q.strides[2], d, op.q.strides[3]);
          if (pass == 1) {
            const View& pq = op.prefix_q;
            load(extra, pq, shared * pq.strides[0] + h * pq.strides[1] + (t0 + i) * pq.strides[2], d, pq.strides[3]);
            for (int64_t j = 0; j < d; ++j) row[j] += extra[j];
          }
          for (int64_t j = 0; j < d; ++j) row[j] *= op.scale;
        }
        float* at = out + (r * steps + t0) * ld;
        if (pass == 0) {
          query_block(
              op, q, ld, count, k, ldk, v, ldv, visible(op, t0 + count - 1), [&](int64_t t) { return visible(op, t); }, 1.f,
              op.mask, b, h, t0, at);
        } else {
          query_block(op, q, ld, count, k, ldk, v, ldv, keys, [&](int64_t) { return keys; }, op.gate, View{}, b, h, t0, at);
        }
      }
    }
  }
}

// Head h's new keys or values of row b to their place among the old ones.
void put(const View& fresh, const View& kept, const Attention& op, int64_t b, int64_t h) {
  const int64_t steps = op.q.shape[2], d = op.q.shape[3];
  for (int64_t t = 0; t < steps; ++t) {
    void* to = const_cast<void*>(kept.at(Head(kept, b, h).offset + (op.length - steps + t) * kept.strides[2]));
    store(to, kept.dtype, fresh, Head(fresh, b, h).offset + t * fresh.strides[2], d, fresh.strides[3]);
  }
}

}  // namespace

void attention(const Attention& op) {
  const int64_t batch = op.q.shape[0], heads = op.q.shape[1], steps = op.q.shape[2], d = op.q.shape[3];
  const int64_t shared = op.prefix_q ? op.prefix_q.shape[0] : batch, rows = batch / shared, ld = padded(d);
  parallel_shares(int(shared * heads), [&](int chunk) {
    const int64_t row = chunk / heads, h = chunk % heads;
    float* sums = scratch(kResult, rows * steps * ld);
    std::memset(sums, 0, size_t(rows * steps * ld) * 4);
    for (int64_t r = 0; op.new_k && r < rows; ++r) {
      put(op.new_k, op.k, op, row + r * shared, h);
      put(op.new_v, op.v, op, row + r * shared, h);
    }
    (steps >= kManyQueries ? many_queries : few_queries)(op, row, h, sums, ld);
    for (int64_t r = 0; r < rows; ++r) {
      for (int64_t t = 0; t < steps; ++t) {
        const int64_t b = row + r * shared;
        const int64_t at = b * op.out_strides[0] + h * op.out_strides[1] + t * op.out_strides[2];
        isa_kernels().narrow(static_cast<char*>(op.out) + at * int64_t(size_of(op.out_dtype)), sums + (r * steps + t) * ld,
                             d, op.out_dtype);
      }
    }
  });
}

}  // namespace imn
