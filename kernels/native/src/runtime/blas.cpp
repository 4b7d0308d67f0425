// float32 matrix products on one thread: OpenBLAS where it is installed, Accelerate on macOS, else our own dot products.
//
// The pool above splits the work and each chunk calls BLAS for its tile, with OpenBLAS held to one thread. So there is one
// set of threads, not two that compete for the cores; a chunk is small enough for a busy neighbor; and nothing of
// OpenBLAS has to survive a fork. The library is opened at run time: its place depends on the environment, not the build.
#include <dlfcn.h>

#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

#include "tensor.h"

namespace imn {
namespace {

using Sgemm = void (*)(int order, int transpose_a, int transpose_b, int m, int n, int k, float alpha, const float* a,
                       int lda, const float* b, int ldb, float beta, float* c, int ldc);
constexpr int kRowMajor = 101, kNo = 111, kYes = 112;

Sgemm blas_sgemm = nullptr;
std::string name = "built-in";

// x rows must be padded to whole vectors for `dense`, so a ragged k takes a copy.
void builtin_nt(int64_t m, int64_t n, int64_t k, const float* a, int64_t lda, const float* b, int64_t ldb, float beta,
                float* c, int64_t ldc) {
  const int64_t ld = padded(k);
  std::vector<float> rows(size_t(kMaxRows * ld), 0.f), sums(size_t(kMaxRows * n));
  for (int64_t r = 0; r < m; r += kMaxRows) {
    const int some = int(m - r < kMaxRows ? m - r : kMaxRows);
    for (int i = 0; i < some; ++i) std::memcpy(&rows[size_t(i * ld)], a + (r + i) * lda, size_t(k) * 4);
    isa_kernels().dense(b, ldb, DType::f32, int(k), rows.data(), ld, some, 0, int(n), sums.data(), n);
    for (int i = 0; i < some; ++i) {
      float* out = c + (r + i) * ldc;
      const float* sum = &sums[size_t(i * n)];
      for (int64_t j = 0; j < n; ++j) out[j] = beta == 0.f ? sum[j] : beta * out[j] + sum[j];
    }
  }
}

void builtin_nn(int64_t m, int64_t n, int64_t k, const float* a, int64_t lda, const float* b, int64_t ldb, float beta,
                float* c, int64_t ldc) {
  const float ones[kMaxRows] = {1, 1, 1, 1, 1, 1, 1, 1};
  for (int64_t r = 0; r < m; ++r) {
    for (int64_t j = 0; j < n; ++j) c[r * ldc + j] = beta == 0.f ? 0.f : beta * c[r * ldc + j];
  }
  for (int64_t r = 0; r < m; r += kMaxRows) {
    const int some = int(m - r < kMaxRows ? m - r : kMaxRows);
    isa_kernels().weighted_sum(a + r * lda, lda, some, ones, {b, ldb, DType::f32, int(k)}, int(n), c + r * ldc, ldc);
  }
}

}  // namespace

void sgemm_nt(int64_t m, int64_t n, int64_t k, const float* a, int64_t lda, const float* b, int64_t ldb, float beta,
              float* c, int64_t ldc) {
  if (blas_sgemm == nullptr) return builtin_nt(m, n, k, a, lda, b, ldb, beta, c, ldc);
  blas_sgemm(kRowMajor, kNo, kYes, int(m), int(n), int(k), 1.f, a, int(lda), b, int(ldb), beta, c, int(ldc));
}

void sgemm_nn(int64_t m, int64_t n, int64_t k, const float* a, int64_t lda, const float* b, int64_t ldb, float beta,
              float* c, int64_t ldc) {
  if (blas_sgemm == nullptr) return builtin_nn(m, n, k, a, lda, b, ldb, beta, c, ldc);
  blas_sgemm(kRowMajor, kNo, kNo, int(m), int(n), int(k), 1.f, a, int(lda), b, int(ldb), beta, c, int(ldc));
}

bool load_blas(const char* path) {
  // OpenBLAS starts its threads when it is opened; it shall have none.
  const char* before = std::getenv("OPENBLAS_NUM_THREADS");
  const std::string kept = before != nullptr ? before : "";
  setenv("OPENBLAS_NUM_THREADS", "1", 1);
  void* library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
  before != nullptr ? setenv("OPENBLAS_NUM_THREADS", kept.c_str(), 1) : unsetenv("OPENBLAS_NUM_THREADS");
  if (library == nullptr) return false;
  auto find = [&](const char* symbol) { return dlsym(library, symbol); };
  if (void* sgemm = find("scipy_cblas_sgemm")) {
    if (void* threads = find("scipy_openblas_set_num_threads")) reinterpret_cast<void (*)(int)>(threads)(1);
    if (void* config = find("scipy_openblas_get_config")) name = reinterpret_cast<const char* (*)()>(config)();
    if (void* core = find("scipy_openblas_get_corename")) {
      name = name.substr(0, name.find(' ', name.find(' ') + 1)) + " " + reinterpret_cast<const char* (*)()>(core)();
    }
    blas_sgemm = reinterpret_cast<Sgemm>(sgemm);
    return true;
  }
  if (void* sgemm = find("cblas_sgemm")) {
    name = std::strstr(path, "Accelerate") != nullptr ? "Accelerate" : path;
    blas_sgemm = reinterpret_cast<Sgemm>(sgemm);
    return true;
  }
  return false;
}

const char* blas_name() { return name.c_str(); }

}  // namespace imn
