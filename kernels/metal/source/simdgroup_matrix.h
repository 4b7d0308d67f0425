// Metal's matrix type, for int4_matmul_tiled.metal.
#include <metal_simdgroup_matrix>
