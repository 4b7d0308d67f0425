"""What the kernels ask for over what they need, as the interpreter counts it."""

from __future__ import annotations

import mlx.core as mx
import pytest

from kernels.beside_mlx import mlx_kernels, traffic
from kernels.cases import Draw

pytestmark = pytest.mark.backend("interpreter")


@pytest.mark.slow
@pytest.mark.parametrize("rows", range(1, 9))
def test_weights_are_read_once(rows: int) -> None:
    r = Draw()
    for norm in (None, r.norm(traffic.DIM)):
        x = r.normal(rows, traffic.DIM)
        row = traffic.measured("", "int4_matmul", x=x, w=r.packed(37, traffic.DIM), norm=norm)
        assert row.ratios["weights"] == 1.0
        assert row.launches == 1


def test_a_pair_reads_the_prefix_once() -> None:
    r = Draw()
    q, cache = r.normal(2, 2, 1, 64), r.normal(2, 2, 2, 90, 64)
    prefix = [r.normal(1, 2, n, 64) for n in (1, 77, 77)]
    arrays = {"q": q, "k": cache[0], "v": cache[1], "gate": mx.array(0.5)}
    arrays |= dict(zip(("prefix_q", "prefix_k", "prefix_v"), prefix))
    row = traffic.measured("", "prefix_attention", **arrays, scale=0.125, length=83)
    assert row.ratios == {"cache": 1.0, "prefix": 1.0}
    assert row.launches == 1
    # Slots from `length` on are not even asked for.
    needed = 2 * 2 * 2 * 83 * 64 + 2 * 2 * 77 * 64 + 2 * 2 * 64 + 2 * 64
    assert row.megabytes == pytest.approx(2 * needed / 1e6)


def test_text_attention_reads_once_for_all_rows() -> None:
    r = Draw()
    k, v = (r.normal(2, 2, 9, 64) for _ in range(2))
    x, w = r.normal(3, 1, traffic.DIM), r.packed(128, traffic.DIM)
    row = traffic.measured("", "cross_attention", x=x, w=w, k=k, v=v, scale=0.125, norm=r.norm(traffic.DIM))
    assert (row.ratios["weights"], row.ratios["cache"], row.launches) == (1.0, 1.0, 1)


def test_the_tiled_kernel_reads_the_weights_once_per_64_rows() -> None:
    r = Draw()
    row = traffic.measured("", "int4_matmul", x=r.normal(150, 128), w=r.packed(70, 128))
    assert row.ratios["weights"] == 3.0


@pytest.mark.slow
def test_stock_reads_the_weights_once_per_row() -> None:
    """MLX's decode kernel before M3: the count can tell the difference."""
    r = Draw()
    x, w = r.normal(2, 512), r.packed(16, 512)
    kernel, y = mlx_kernels.qmv_fast(x, w).run()
    assert traffic.compared("", "int4_matmul", {"x": x, "w": w}, [kernel], y).ratios["weights"] == 2.0
