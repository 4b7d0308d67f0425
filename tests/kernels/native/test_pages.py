"""Where packed matrices lie: side by side in mappings that go back to the system with the last of them."""

from __future__ import annotations

import subprocess
import sys
from types import ModuleType

import mlx.core as mx
import numpy as np
import pytest

from reference.contract import Packed

pytestmark = [pytest.mark.backend("native"), pytest.mark.skipif(sys.platform != "linux", reason="mappings of Linux")]

N, K = 8192, 2048  # 9.4 MB at 4 bits: seven of them fill an arena


def packed(seed: int) -> Packed:
    rng = np.random.default_rng(seed)
    words = mx.array(rng.integers(0, 2**32, (N, K // 8), dtype=np.uint32))
    scales = mx.array(rng.random((N, K // 64)).astype(np.float16))
    return Packed(words, scales, -scales, 64, 4)


def test_matrices_over_several_mappings_keep_their_bits(native: ModuleType) -> None:
    """Freed in another order than made, new ones among old ones."""
    kept = {seed: native.pack(packed(seed)) for seed in range(10)}
    for seed in (3, 0, 9, 6):
        del kept[seed]
    kept |= {seed: native.pack(packed(seed)) for seed in (20, 21, 22)}
    for seed, matrix in kept.items():
        for mine, original in zip(matrix.plain().arrays(), packed(seed).arrays()):
            assert bool(mx.array_equal(mine, original)), seed


FREED = """
import sys
import mlx.core as mx
import kernels.native as native
from tests.kernels.native.test_pages import packed

def resident():
    return int(open("/proc/self/statm").read().split()[1]) * 4096

raw = packed(0)
mx.eval(native.pack(raw).data)
before = resident()
kept = [native.pack(raw) for _ in range(16)]
mx.eval([each.data for each in kept])
grown = resident() - before
del kept
left = resident() - before
assert grown > 16 * 9.4e6, grown
assert left < grown / 4, (grown, left)
"""


@pytest.mark.slow
def test_the_memory_of_matrices_goes_back_to_the_system() -> None:
    done = subprocess.run([sys.executable, "-c", FREED], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
