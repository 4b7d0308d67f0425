"""Conformance of the Metal library's stand-in where threads meet: simd functions, matrices and atomics.

Right answers come from numpy, or from the Metal Shading Language Specification's words.
"""

from __future__ import annotations

from typing import Any

import mlx.core as mx
import numpy as np
import pytest

from kernels.interpreter.kernel import MetalKernel

from ..conftest import LANES, same

pytestmark = pytest.mark.backend("interpreter")

# simdgroups

SIMD: dict[str, tuple[str, Any]] = {
    "sum": ("simd_sum(x)", lambda a: np.full(32, a.sum())),
    "product": ("simd_product(x % 3 + 1)", lambda a: np.full(32, (a % 3 + 1).prod().astype(np.int32))),
    "min": ("simd_min(x)", lambda a: np.full(32, a.min())),
    "max": ("simd_max(x)", lambda a: np.full(32, a.max())),
    "and": ("simd_and(x | 4)", lambda a: np.full(32, np.bitwise_and.reduce(a | 4))),
    "or": ("simd_or(x)", lambda a: np.full(32, np.bitwise_or.reduce(a))),
    "xor": ("simd_xor(x)", lambda a: np.full(32, np.bitwise_xor.reduce(a))),
    "broadcast": ("simd_broadcast(x, 5)", lambda a: np.full(32, a[5])),
    "broadcast_first": ("simd_broadcast_first(x)", lambda a: np.full(32, a[0])),
    "shuffle": ("simd_shuffle(x, (i * 7) % 32)", lambda a: a[LANES * 7 % 32]),
    "shuffle_xor": ("simd_shuffle_xor(x, 9)", lambda a: a[LANES ^ 9]),
    "shuffle_down": ("simd_shuffle_down(x, 3)", lambda a: np.where(LANES < 29, np.roll(a, -3), a)),
    "shuffle_up": ("simd_shuffle_up(x, 3)", lambda a: np.where(LANES >= 3, np.roll(a, 3), a)),
    "rotate_down": ("simd_shuffle_rotate_down(x, 3)", lambda a: np.roll(a, -3)),
    "rotate_up": ("simd_shuffle_rotate_up(x, 3)", lambda a: np.roll(a, 3)),
    "fill_down": ("simd_shuffle_and_fill_down(x, -int(i), 3)", lambda a: np.concatenate([a[3:], -LANES[:3]])),
    "fill_up": ("simd_shuffle_and_fill_up(x, -int(i), 3)", lambda a: np.concatenate([-LANES[29:], a[:29]])),
    "inclusive": ("simd_prefix_inclusive_sum(x)", np.cumsum),
    "exclusive": ("simd_prefix_exclusive_sum(x)", lambda a: np.cumsum(a) - a),
    "all": ("simd_all(x >= 0) + 2 * simd_all(x > 50)", lambda a: np.full(32, 1)),
    "any": ("simd_any(x == 77) + 2 * simd_any(x > 50)", lambda a: np.full(32, 2)),
    "ballot": ("int(simd_vote::vote_t(simd_ballot(i % 2 == 0)))", lambda a: np.full(32, 0x55555555)),
    "quad_sum": ("quad_sum(x)", lambda a: np.repeat(a.reshape(8, 4).sum(1), 4)),
    "quad_xor": ("quad_shuffle_xor(x, 1)", lambda a: a[LANES ^ 1]),
    "quad_broadcast": ("quad_broadcast(x, 2)", lambda a: np.repeat(a[2::4], 4)),
    "vector": ("simd_sum(int2(x, 1)).x + simd_sum(int2(x, 1)).y", lambda a: np.full(32, a.sum() + 32)),
}


def test_simd_functions(run: Any, rng: np.random.Generator) -> None:
    """All in one kernel: what differs is told by its row."""
    a = np.where((b := rng.integers(0, 76, 32)) < 60, b, 60).astype(np.int32)
    a[3] = 60
    lines = "\n".join(f"out[{row} * 32 + i] = {code};" for row, (code, _) in enumerate(SIMD.values()))
    (out,) = run(f"int x = a[i];\n{lines}", [((len(SIMD), 32), mx.int32)], a=a)
    for row, (name, (_, right)) in zip(np.array(out), SIMD.items()):
        assert np.array_equal(row, right(a)), name


def test_lanes_that_do_not_exist_take_no_part(run: Any) -> None:
    (out,) = run("out[i] = simd_sum(1.0f) + simd_max(float(i));", [((40,), mx.float32)], 40)
    same(out, [32 + 31.0] * 32 + [8 + 39.0] * 8)


def test_positions_at_the_edge_of_the_grid(run: Any) -> None:
    names = [
        "thread_position_in_grid",
        "thread_position_in_threadgroup",
        "threadgroup_position_in_grid",
        "threads_per_threadgroup",
        "dispatch_threads_per_threadgroup",
        "threadgroups_per_grid",
        "threads_per_grid",
    ]
    fields = [f"{n}.{c}" for n in names for c in "xyz"]
    fields += [
        "thread_index_in_threadgroup",
        "simdgroup_index_in_threadgroup",
        "thread_index_in_simdgroup",
        "simdgroups_per_threadgroup",
        "threads_per_simdgroup",
    ]
    grid, group = np.array([7, 5, 3]), np.array([4, 2, 3])
    source = "uint at = (thread_position_in_grid.z * 5 + thread_position_in_grid.y) * 7 + thread_position_in_grid.x;\n"
    source += "\n".join(f"out[at * {len(fields)} + {k}] = {f};" for k, f in enumerate(fields))
    kernel = MetalKernel("edges", [], ["out"], source)
    (out,) = kernel(
        inputs=[],
        grid=(7, 5, 3),
        threadgroup=(4, 2, 3),
        output_shapes=[(3, 5, 7, len(fields))],
        output_dtypes=[mx.uint32],
        check=True,
    )
    got = np.array(out)
    for z, y, x in np.ndindex(3, 5, 7):
        at = np.array([x, y, z])
        place, size = at // group, np.minimum(group, grid - at // group * group)
        inside = at - place * group
        index = (inside[2] * size[1] + inside[1]) * size[0] + inside[0]
        right = [*at, *inside, *place, *size, *group, 2, 3, 1, *grid]
        right += [index, index // 32, index % 32, -(-size.prod() // 32), 32]
        assert got[z, y, x].tolist() == right, (x, y, z)


# Matrices and atomics


def test_matrix_layout_and_product(run: Any, rng: np.random.Generator) -> None:
    a, b, c = (rng.integers(-8, 8, (8, 8)).astype(np.float32) for _ in range(3))
    source = """simdgroup_float8x8 x, y, z, d;
simdgroup_load(x, a, 8); simdgroup_load(y, b, 8, ulong2(0, 0), true); simdgroup_load(z, c, 8);
simdgroup_multiply_accumulate(d, x, y, z);
simdgroup_store(d, out, 8);
simdgroup_store(x, out2, 8, ulong2(0, 0), true);
const uint qid = i / 4, row = (qid & 4) + (i / 2) % 4, col = (qid & 2) * 2 + (i % 2) * 2;  // MLX's get_coord
out3[row * 8 + col] = x.thread_elements()[0]; out3[row * 8 + col + 1] = x.thread_elements()[1];"""
    shape = ((8, 8), mx.float32)
    product, transposed, layout = run(source, [shape] * 3, a=a, b=b, c=c)
    same(product, a @ b.T + c)
    same(transposed, a.T)
    same(layout, a)


def test_matrix_of_halves(run: Any, rng: np.random.Generator) -> None:
    a, b = (rng.integers(-8, 8, (16, 8)).astype(np.float16) for _ in range(2))
    source = """simdgroup_half8x8 x, y; simdgroup_float8x8 d = make_filled_simdgroup_matrix<float, 8, 8>(1.0f);
simdgroup_load(x, a, 8, ulong2(0, 8)); simdgroup_load(y, b, 8);
simdgroup_multiply_accumulate(d, x, y, d); simdgroup_store(d, out, 8);"""
    (out,) = run(source, [((8, 8), mx.float32)], a=a, b=b)
    same(out, a[8:].astype(np.float32) @ b[:8].astype(np.float32) + 1)


def test_atomics(run: Any) -> None:
    source = """threadgroup atomic_uint count; threadgroup atomic_int low;
if (i == 0) {
  atomic_store_explicit(&count, 0u, memory_order_relaxed);
  atomic_store_explicit(&low, 1000, memory_order_relaxed);
}
threadgroup_barrier(mem_flags::mem_threadgroup);
atomic_fetch_add_explicit(&count, i, memory_order_relaxed);
atomic_fetch_min_explicit(&low, int(i) - 20, memory_order_relaxed);
threadgroup_barrier(mem_flags::mem_threadgroup);
if (i == 0) out[0] = atomic_load_explicit(&count, memory_order_relaxed);
if (i == 0) out[1] = atomic_load_explicit(&low, memory_order_relaxed);"""
    (out,) = run(source, [((2,), mx.int32)], 64)
    same(out, [2016, -20])


def test_atomic_outputs(rng: np.random.Generator) -> None:
    kernel = MetalKernel(
        "add",
        ["a"],
        ["out"],
        """uint i = thread_position_in_grid.x;
atomic_fetch_add_explicit(&out[i % 4], a[i], memory_order_relaxed);""",
        atomic_outputs=True,
    )
    a = mx.array(rng.integers(0, 9, 100).astype(np.float32))
    (out,) = kernel(
        inputs=[a],
        grid=(100, 1, 1),
        threadgroup=(32, 1, 1),
        output_shapes=[(4,)],
        output_dtypes=[mx.float32],
        init_value=1.5,
        check=True,
    )
    same(out, np.array(a).reshape(25, 4).sum(0) + 1.5)
