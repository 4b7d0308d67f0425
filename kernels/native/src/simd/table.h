// The inner kernels, written once over the few vector operations of simd_*.h.
//
// Each level's file includes its simd_*.h and then this file inside an unnamed namespace, and is compiled with that
// level's flags. No standard library here: a template instantiated with AVX-512 flags must not be the copy that the
// linker keeps for everybody.

#include "convert.h"
#include "elementwise.h"
#include "packed.h"
#include "product.h"
#include "integer_product.h"
#include "dequantize.h"
#include "dense.h"
#include "attention.h"

constexpr Kernels table(const char* name) {
  return {name,         L,         kInt16Pays, widen,       narrow, layer_norm, packed_size,
          pack,         product,   packed_size_integer,     pack_integer, product_integer,
          dequantize,   dense,     gelu,       elu,         lstm_cell,    scores,
          softmax,      weighted_sum};
}
