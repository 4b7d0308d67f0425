"""MLX's products by parts, its tiled attention and the gated delta rule."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import mlx.core as mx
import numpy as np
import pytest

from .launch import EPS, F32, Case, attention, normal, product, run, wide


def vector_product_transposed() -> Case:
    m, v = normal(50, 64), normal(50, seed=1)
    given = {
        "mat": m,
        "in_vec": v,
        "in_vec_size": 50,
        "out_vec_size": 64,
        "marix_ld": 64,
        "alpha": 1.0,
        "beta": 0.0,
        "batch_ndim": 1,
        "batch_shape": [1],
        "vector_batch_stride": [0],
        "matrix_batch_stride": [0],
        "bias_batch_stride": [0],
        "bias_stride": 1,
    }
    return Case(
        ("gemv.h",),
        "gemv_t",
        "float, 1, 2, 8, 4, 4, 4, false, false",
        given,
        F32,
        wide(v) @ wide(m),
        (64, 2, 1),
        (32, 2, 1),
        product(wide(v), wide(m)),
        out="out_vec",
    )


def gemm_params(m: int, n: int, k: int, lda: int, ldb: int, batch_d: int = 0) -> str:
    numbers = (m, n, k, lda, ldb, n, -(-n // 32), -(-m // 32), 0, 0, batch_d, 0, k // 16, 1)
    return f"const mlx::steel::GEMMParams p = {{{', '.join(map(str, numbers))}}};"


MULTIPLIED = {"params": "(const constant mlx::steel::GEMMParams*)&p"}


def masked_product() -> Case:
    m, n, k = 64, 96, 64
    a, b = normal(m, k), normal(n, k, seed=1)
    rng = np.random.default_rng(3)
    out, left, right = (rng.random(s) < 0.6 for s in ((2, 3), (2, 2), (2, 3)))
    big = [np.kron(x, np.ones((32, 32))) for x in (out, left, right)]
    y = (wide(a) * big[1]) @ (wide(b).T * big[2]) * big[0]
    given = {
        "A": a,
        "B": b,
        "batch_shape": [1],
        "batch_strides": [0, 0, 0, 0, 0],
        "out_mask": mx.array(out),
        "lhs_mask": mx.array(left),
        "rhs_mask": mx.array(right),
        "mask_strides": [1, 3, 1, 2, 1, 3],
    }
    return Case(
        ("steel/gemm/gemm.h", "steel/gemm/kernels/steel_gemm_masked.h"),
        "block_masked_gemm",
        "float, bool, bool, 32, 32, 16, 2, 2, false, true, true, true",
        given,
        F32,
        y,
        (96, 4, 2),
        (32, 2, 2),
        product(wide(a), wide(b).T),
        out="D",
        before=gemm_params(m, n, k, k, k),
        texts=MULTIPLIED,
    )


def segmented_product() -> Case:
    m, n, k = 40, 33, 50
    a, b, parts = normal(m, k), normal(k, n, seed=1), [[0, 7], [7, 40], [16, 48], [3, 50]]
    y = np.stack([wide(a)[:, s:e] @ wide(b)[s:e] for s, e in parts])
    given = {"A": a, "B": b, "segments": mx.array(parts, dtype=mx.uint32)}
    flags = {"segments_contiguous": "true", "align_M": "false", "align_N": "false"}
    return Case(
        ("steel/gemm/gemm.h", "steel/gemm/kernels/steel_gemm_segmented.h"),
        "segmented_mm",
        "float, 32, 32, 16, 2, 2, false, false",
        given,
        F32,
        y,
        (64, 4, 8),
        (32, 2, 2),
        product(wide(a), wide(b)),
        out="C",
        before=gemm_params(m, n, k, k, n, m * n),
        texts=MULTIPLIED,
        constants=flags,
    )


def steel_attention() -> Case:
    h, t, d = 2, 40, 64
    q, k, v = (normal(1, h, t, d, seed=i) for i in range(3))
    tiles = -(-t // 32)
    facts = {
        "B": 1,
        "H": h,
        "D": d,
        "qL": t,
        "kL": t,
        "gqa_factor": 1,
        "scale": 0.125,
        "NQ": tiles,
        "NK": tiles,
        "NQ_aligned": t // 32,
        "NK_aligned": t // 32,
        "qL_rem": t % 32,
        "kL_rem": t % 32,
        "qL_off": 0,
    }
    strides = "".join(f"p.{m}_strides[{i}] = {s};" for m in "QKVO" for i, s in enumerate((h * t * d, t * d, d)))
    before = "mlx::steel::AttnParams p; " + "".join(f"p.{n} = {x};" for n, x in facts.items()) + strides
    flags = ("align_Q", "align_K", "has_mask", "do_causal", "has_sinks")
    weights = 4 * (t + d) * EPS[F32] * float(np.abs(wide(v)).max())
    return Case(
        ("steel/attn/attn.h", "steel/attn/kernels/steel_attention.h"),
        "attention",
        "float, 32, 32, 64, 64, 4, 1, float, float",
        {"Q": q, "K": k, "V": v},
        F32,
        attention(q, k, v),
        (32 * tiles, 4 * h, 1),
        (32, 4, 1),
        weights,
        out="O",
        before=before,
        texts={"params": "(const constant mlx::steel::AttnParams*)&p"},
        constants=dict.fromkeys(flags, "false"),
    )


def gated_delta() -> Case:
    b, t, h, d = 1, 5, 2, 32
    q, k, v = (normal(b, t, h, d, seed=i) / 4 for i in range(3))
    g, beta = mx.sigmoid(normal(b, t, h, seed=3)), mx.sigmoid(normal(b, t, h, seed=4))
    state = wide(normal(b, h, d, d, seed=5))
    given = {"q": q, "k": k, "v": v, "state_in": mx.array(state, dtype=F32), "g": g, "beta": beta, "T": t}
    y = np.zeros((b, t, h, d))
    for i in range(t):
        state = state * wide(g)[:, i, :, None, None]
        delta = (wide(v)[:, i] - np.einsum("bhvk,bhk->bhv", state, wide(k)[:, i])) * wide(beta)[:, i, :, None]
        state = state + delta[..., None] * wide(k)[:, i, :, None]
        y[:, i] = np.einsum("bhvk,bhk->bhv", state, wide(q)[:, i])
    return Case(
        ("gated_delta_update.h",),
        "gated_delta_seq",
        f"float, {d}, {d}, {h}, {h}, 4",
        given,
        F32,
        y,
        (32, d, b * h),
        (32, 4, 1),
        8 * t * d * EPS[F32] * float(np.abs(state).max()),
        out="y",
        also={"state_out": (F32, state)},
        texts={"T": "T_"},
        constants={"save_state": "false"},
    )


FAMILIES: tuple[Callable[[], Case], ...] = (
    vector_product_transposed,
    masked_product,
    segmented_product,
    steel_attention,
    gated_delta,
)


@pytest.mark.backend("interpreter")
@pytest.mark.parametrize("family", FAMILIES, ids=lambda f: f.__name__)
def test_a_family(folder: Path, family: Callable[[], Case]) -> None:
    assert run(family(), FAMILIES.index(family), folder).issues == []
