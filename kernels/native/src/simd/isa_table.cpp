// The table of inner kernels of one instruction set: compiled once for each, with its flags and -DIMN_ISA_<SET>.
//
// No standard library in simd/: a template instantiated with AVX-512 flags must not be the copy that the linker keeps for
// everybody. So everything here lives in the set's own namespace.
#include "attention.h"
#include "dense.h"
#include "dequantize.h"
#include "elementwise.h"
#include "integer_product.h"
#include "product.h"

namespace imn::IMN_ISA {

#define IMN_TEXT_(name) #name
#define IMN_TEXT(name) IMN_TEXT_(name)

extern const IsaKernels table;
const IsaKernels table = {IMN_TEXT(IMN_ISA),
                          L,
                          kInt16Pays,
                          widen,
                          narrow,
                          layer_norm,
                          packed_size,
                          pack,
                          product,
                          packed_size_integer,
                          pack_integer,
                          product_integer,
                          dequantize,
                          dense,
                          gelu,
                          elu,
                          lstm_cell,
                          scores,
                          softmax,
                          weighted_sum};

}  // namespace imn::IMN_ISA
