// The sum of each row, a simdgroup a row. Check it without a Mac:
//   metal-check examples/check_a_kernel.metal
// check: --input a=float16[4,100] --output out=float32[4] --grid 32 4 --threadgroup 32 --template T=float16
uint row = thread_position_in_grid.y;
float total = 0;
for (int i = thread_index_in_simdgroup; i < a_shape[1]; i += 32) total += float(a[row * a_shape[1] + i]);
total = simd_sum(total);
if (thread_index_in_simdgroup == 0) out[row] = total;
