"""Conformance of the Metal library's stand-in: types, vectors and functions, under each compiler.

Right answers come from numpy, from mlx (bfloat), or from the Metal Shading Language Specification's words.
"""

from __future__ import annotations

from typing import Any

import mlx.core as mx
import numpy as np
import numpy.typing as npt
import pytest

from kernels.interpreter import CompilerError, compilers
from kernels.interpreter.kernel import MetalKernel
from reference import tolerance

from ..conftest import LANES, same

pytestmark = pytest.mark.backend("interpreter")


@pytest.fixture(params=compilers(), ids=lambda c: c.family)
def using_namespace(request: pytest.FixtureRequest) -> Any:
    """(source, header) -> list of 32 integers"""

    def call(source: str, header: str) -> list[mx.array]:
        kernel = MetalKernel(
            "names", [], ["out"], "uint i = thread_position_in_grid.x;\n" + source, header, using=request.param
        )
        return kernel(
            inputs=[],
            grid=(32, 1, 1),
            threadgroup=(32, 1, 1),
            output_shapes=[(32,)],
            output_dtypes=[mx.int32],
            check=True,
        )

    return call


# Types


def floats(rng: np.random.Generator) -> npt.NDArray[np.float32]:
    """Ordinary, tiny, huge, special, and halfway between two halves or bfloats."""
    bits = rng.integers(0, 2**32, 4000, dtype=np.uint64).astype(np.uint32)
    halves = np.arange(0, 0x7C00, 37, dtype=np.uint16).view(np.float16).astype(np.float32)
    halfway = np.nextafter(halves, np.float32(np.inf), dtype=np.float32)
    between = (halves[:-1] + halves[1:]) / 2
    bf = (rng.integers(0, 2**15, 500, dtype=np.uint32) << 16 | 0x8000).astype(np.uint32).view(np.float32)
    special = np.array([0.0, -0.0, np.inf, -np.inf, np.nan, 65504, 65520, 65519.99, 1e-8, 6e-8, 3e38], np.float32)
    return np.concatenate([bits.view(np.float32), halves, halfway, between, bf, special]).astype(np.float32)


@pytest.mark.filterwarnings("ignore:overflow", "ignore:invalid")
def test_conversions(run: Any, rng: np.random.Generator) -> None:
    x = floats(rng)
    source = "out[i] = half(a[i]); out2[i] = float(half(a[i])); out3[i] = bfloat16_t(a[i]);"
    shape = (x.size,)
    half, back, bf = run(source, [(shape, mx.float16), (shape, mx.float32), (shape, mx.bfloat16)], x.size, False, a=x)
    same(half, x.astype(np.float16))
    same(back, x.astype(np.float16).astype(np.float32))
    finite = ~np.isnan(x)
    right = np.array(mx.array(x).astype(mx.bfloat16).view(mx.uint16))
    assert np.array_equal(np.array(bf.view(mx.uint16))[finite], right[finite])
    assert np.isnan(np.array(bf.astype(mx.float32))[~finite]).all()


@pytest.mark.filterwarnings("ignore:overflow", "ignore:invalid", "ignore:divide")
def test_half_rounds_after_every_operation(run: Any, rng: np.random.Generator) -> None:
    a, b, c = (rng.normal(size=512).astype(np.float16) for _ in range(3))
    source = """half s = a[i] * b[i] + c[i]; out[i] = s;
out2[i] = a[i] / b[i] - c[i];
half t = a[i]; t += b[i]; t *= c[i]; out3[i] = t;"""
    shape = ((512,), mx.float16)
    first, second, third = run(source, [shape] * 3, 512, a=a, b=b, c=c)
    same(first, a * b + c)
    same(second, a / b - c)
    same(third, (a + b) * c)


def test_bfloat_rounds_after_every_operation(run: Any, rng: np.random.Generator) -> None:
    a, b, c = (mx.array(rng.normal(size=512)).astype(mx.bfloat16) for _ in range(3))
    source = """bfloat16_t s = a[i] * b[i] + c[i]; out[i] = s;
out2[i] = a[i] + 1.5f;       // a float: bfloat converts to it
bfloat16_t t = a[i]; t -= b[i]; t *= 3; out3[i] = t;"""
    outputs = [((512,), t) for t in (mx.bfloat16, mx.float32, mx.bfloat16)]
    first, second, third = run(source, outputs, 512, a=a, b=b, c=c)
    assert mx.array_equal(first, a * b + c)
    assert mx.array_equal(second, a.astype(mx.float32) + 1.5)
    assert mx.array_equal(third, (a - b) * mx.array(3, dtype=mx.bfloat16))


def test_a_choice_of_bfloat_and_float_is_a_float(run: Any) -> None:
    a = mx.arange(32).astype(mx.bfloat16)
    (out,) = run("auto x = i % 2 ? a[i] : 0.1f; out[i] = x + (i % 2 ? 0.0f : a[i]);", [((32,), mx.float32)], a=a)
    same(out, np.where(LANES % 2, LANES, np.float32(0.1) + LANES).astype(np.float32))


@pytest.mark.parametrize("value", ["1.5f", "half(1.5f)"])
def test_nothing_becomes_bfloat_by_itself(run: Any, value: str) -> None:
    with pytest.raises(CompilerError):
        run(f"out[i] = {value};", [((32,), mx.bfloat16)])
    run(f"out[i] = bfloat16_t({value});", [((32,), mx.bfloat16)])


def test_literals_are_single_precision(run: Any) -> None:
    source = """auto x = 0.1; auto h = 1.5h;
out[0] = sizeof(x); out[1] = sizeof(h); out[2] = x == 0.1f; out[3] = 1e-1 == 0.1f;"""
    (out,) = run(source, [((4,), mx.int32)], 1)
    same(out, [4, 2, 1, 1])


def test_sizes_and_signs(run: Any) -> None:
    source = """out[0] = sizeof(long); out[1] = sizeof(size_t); out[2] = sizeof(float3); out[3] = sizeof(packed_float3);
out[4] = sizeof(half4); out[5] = alignof(float4); out[6] = char(-1) < 0;
out[7] = sizeof(bfloat4); out[8] = sizeof(bool4);"""
    (out,) = run(source, [((9,), mx.int32)], 1)
    same(out, [8, 8, 16, 12, 8, 16, 1, 8, 4])


# Vectors


def test_swizzles(run: Any) -> None:
    source = """float4 v(1.0, 2.0, 3.0, 4.0);
v.xy = v.yx;                       // 2 1 3 4
v.zw += float2(10.0, 20.0);        // 2 1 13 24
const float4 c = v;
float4 w = c.wzyx;                 // 24 13 1 2
w.rgb = float3(7.0);               // 7 7 7 2
float2 p = c.xw;
float3 q = float3(p, w.a);         // 2 24 2
v.x = w.w; v[1] = q.y;
float4 r = float4(v.xy, q.zx);     // 2 24 2 2
for (int k = 0; k < 4; k++) { out[k] = v[k]; out[4 + k] = w[k]; out[8 + k] = r[k]; }
w.xy = c.xy; out[12] = w.x; out[13] = w.y; out[14] = w.z; out[15] = c.xyz.zy.y;"""
    (out,) = run(source, [((16,), mx.float32)], 1)
    same(out, [2, 24, 13, 24, 7, 7, 7, 2, 2, 24, 2, 2, 2, 1, 7, 1])


def test_braces_fill_up_with_zeros(run: Any) -> None:
    source = """uint4 a = {1u, 2u, 3u}; float2 b{5.5f}; int n = 7; half2 c = {half(1), n}; int3 d = {};
float4 e = {float2(1, 2), b}; packed_float3 f = {7, 8, 9}; uint3 g = {2 * i, i + 1, 4};
out[0] = a.z; out[1] = a.w; out[2] = b.x; out[3] = b.y; out[4] = c.y; out[5] = d.z; out[6] = e.z; out[7] = f[2];
out[8] = g.y;"""
    (out,) = run(source, [((9,), mx.float32)], 1)
    same(out, [3, 0, 5.5, 0, 7, 0, 5.5, 9, 1])


def test_parentheses_want_every_component(run: Any) -> None:
    with pytest.raises(CompilerError, match="wrong number of components"):
        run("out[i] = float4(1.0f, 2.0f, 3.0f).x;", [((32,), mx.float32)])


def test_vector_arithmetic(run: Any, rng: np.random.Generator) -> None:
    source = """const device float4* p = (const device float4*)a;
float4 v = p[0], w = p[1];
float4 r = 2.0f * v - w / v;
bool4 less = v < w;
float4 s = select(v, w, less), m = fma(v, w, float4(1.0f)), n = max(v, 0.0f);
uint4 u = uint4(1u, 2u, 3u, 4u) << 2u;
half2 h = half2(v.xy); int2 k = int2(float2(1.9, -1.9));
((device float4*)out)[0] = r; ((device float4*)out)[1] = s; ((device float4*)out)[2] = m; ((device float4*)out)[3] = n;
out[16] = dot(v, w); out[17] = any(less); out[18] = all(less); out[19] = u.w; out[20] = float(h.y);
out[21] = k.x; out[22] = k.y;
out[23] = length(v.xyz);"""
    a = rng.normal(size=8).astype(np.float32)
    (out,) = run(source, [((24,), mx.float32)], 1, a=a)
    v, w = a[:4].astype(np.float64), a[4:].astype(np.float64)
    right = np.concatenate(
        [
            2 * v - w / v,
            np.where(v < w, w, v),
            v * w + 1,
            np.maximum(v, 0),
            [v @ w, (v < w).any(), (v < w).all(), 16, np.float16(a[1]), 1, -1, np.linalg.norm(v[:3])],
        ]
    )
    terms = np.abs(right)  # what adds up to it, before it cancels
    terms[:4], terms[8:12], terms[16] = 2 * np.abs(v) + np.abs(w / v), np.abs(v * w) + 1, np.abs(v) @ np.abs(w)
    # Up to four roundings (the dot product's), each of half a unit.
    assert (np.abs(np.array(out) - right) <= 4 * tolerance.EPS32 / 2 * terms).all()


def test_reinterpretation_and_bits(run: Any) -> None:
    source = """
out[0] = as_type<uint>(1.0f); out[1] = as_type<uint>(half2(half(1.0f), half(2.0f)));
out[2] = as_type<ushort>(half(1.0f));
out[3] = popcount(0xF0F0u); out[4] = clz(1u); out[5] = ctz(8u); out[6] = reverse_bits(1u);
out[7] = mulhi(0x80000000u, 4u);
out[8] = extract_bits(0xABCDu, 4u, 8u);
out[9] = insert_bits(0u, 0xFFu, 8u, 4u); out[10] = rotate(0x80000001u, 1u);
out[11] = abs(-5); out[12] = clamp(9, 1, 4); out[13] = absdiff(3u, 7u); out[14] = addsat(0xFFFFFFFFu, 2u);
out[15] = max3(1, 9, 4);"""
    (out,) = run(source, [((16,), mx.uint32)], 1)
    same(out, [0x3F800000, 0x40003C00, 0x3C00, 8, 31, 3, 0x80000000, 2, 0xBC, 0xF00, 3, 5, 4, 4, 0xFFFFFFFF, 9])


def test_minimum_and_maximum_ignore_nan(run: Any) -> None:
    source = """out[0] = max(NAN, 1.0f); out[1] = min(1.0f, NAN);
out[2] = isnan(fmax(NAN, NAN)); out[3] = isinf(-INFINITY);"""
    (out,) = run(source, [((4,), mx.float32)], 1)
    same(out, [1, 1, 1, 1])


@pytest.mark.parametrize("name", ["exp", "log", "sqrt", "rsqrt", "sin", "tanh", "floor", "rint", "exp2", "trunc"])
def test_functions(run: Any, name: str, rng: np.random.Generator) -> None:
    x = np.abs(rng.normal(size=64)).astype(np.float32) + 0.5
    right = {"rsqrt": lambda v: 1 / np.sqrt(v)}.get(name, getattr(np, name, None))
    source = f"out[i] = metal::{name}(a[i]); out2[i] = fast::{name}(half(a[i]));"
    source += f"out3[i] = precise::{name}(bfloat16_t(a[i]));"
    wide, half, bf = run(source, [((64,), mx.float32), ((64,), mx.float16), ((64,), mx.bfloat16)], 64, a=x)
    assert np.allclose(np.array(wide), right(x.astype(np.float64)), rtol=1e-6)
    assert np.allclose(np.array(half), right(x.astype(np.float16).astype(np.float64)), rtol=2**-10)
    rounded = np.array(mx.array(x).astype(mx.bfloat16).astype(mx.float32)).astype(np.float64)
    assert np.allclose(np.array(bf.astype(mx.float32)), right(rounded), rtol=2**-7)


def test_names_that_metal_leaves_to_kernels(using_namespace: Any) -> None:
    header = """using namespace metal;
constant bool forward [[function_constant(1)]];
template <typename T> void swap(thread T& a, thread T& b) { T c = a; a = forward ? c : b; b = c + 1; }
"""
    (out,) = using_namespace("int a = 1, b = i; swap(a, b); out[i] = 100 * a + b;", header)
    same(out, 100 * LANES + 2)


def test_unions_with_vectors_are_copied(using_namespace: Any) -> None:
    header = """union Bits { uint2 value; uchar4 bytes[2]; };
union One { float f; uint u; };
Bits made(uint x) { Bits b = {uint2(x, 7)}; Bits c; c = b; return c; }
"""
    (out,) = using_namespace(
        "Bits b = made(i + 256); One o = {1.0f}; out[i] = b.bytes[0][0] + b.bytes[1].x + "
        "(o.u == 0x3f800000) + b.bytes[0][1];",
        header,
    )
    same(out, LANES + 9)
