// A library to put before MLX's with LD_PRELOAD: hands its calls of cblas_sgemm to OpenBLAS, so that `bench` can show what
// stock MLX would do on a machine with a good BLAS. INSTRUCT_MUSICGEN_OPENBLAS names scipy-openblas32's library.
#include <dlfcn.h>

#include <cstdio>
#include <cstdlib>

namespace {

using Sgemm = void (*)(int, int, int, int, int, int, float, const float*, int, const float*, int, float, float*, int);

Sgemm find() {
  const char* path = std::getenv("INSTRUCT_MUSICGEN_OPENBLAS");
  void* library = path == nullptr ? nullptr : dlopen(path, RTLD_NOW | RTLD_LOCAL);
  void* found = library == nullptr ? nullptr : dlsym(library, "scipy_cblas_sgemm");
  if (found == nullptr) {
    std::fprintf(stderr, "INSTRUCT_MUSICGEN_OPENBLAS=%s has no scipy_cblas_sgemm\n", path == nullptr ? "" : path);
    std::abort();
  }
  return reinterpret_cast<Sgemm>(found);
}

}  // namespace

extern "C" void cblas_sgemm(int order, int trans_a, int trans_b, int m, int n, int k, float alpha, const float* a, int lda,
                            const float* b, int ldb, float beta, float* c, int ldc) {
  static const Sgemm sgemm = find();
  sgemm(order, trans_a, trans_b, m, n, k, alpha, a, lda, b, ldb, beta, c, ldc);
}
