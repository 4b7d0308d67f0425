// The table of inner kernels of one instruction set: compiled once for each, with its flags and -DIMN_ISA_<SET>.
//
// No standard library in simd/: a template instantiated with AVX-512 flags must not be the copy that the linker keeps for
// everybody. So everything here lives in the set's own namespace.
#include "attention.h"
#include "dense.h"
#include "elementwise.h"
#include "interleaved/product.h"
#include "panels.h"
#include "plain/dequantize.h"
#include "plain/float_product.h"
#include "plain/integer_product.h"

namespace imn::IMN_ISA {

#define IMN_TEXT_(name) #name
#define IMN_TEXT(name) IMN_TEXT_(name)

extern const IsaKernels table;
const IsaKernels table = {
    .name = IMN_TEXT(IMN_ISA),
    .lanes = L,
    .int16_pays = kInt16Pays,
    .widen = widen,
    .narrow = narrow,
    .layer_norm = layer_norm,
    .packed_size = packed_size,
    .pack = pack,
    .product = product,
    .packed_size_integer = packed_size_integer,
    .pack_integer = pack_integer,
    .product_integer = product_integer,
    .interleave = interleave_tile,
    .deinterleave = deinterleave_tile,
    .arranged_size = arranged_size,
    .arrange = arrange,
    .interleaved_product = interleaved_product,
    .interleaved_columns = interleaved_columns,
    .dequantize = dequantize,
    .dense = dense,
    .panel_product = panel_product,
    .gelu = gelu,
    .elu = elu,
    .lstm_cell = lstm_cell,
    .scores = scores,
    .softmax = softmax,
    .weighted_sum = weighted_sum,
};

}  // namespace imn::IMN_ISA
