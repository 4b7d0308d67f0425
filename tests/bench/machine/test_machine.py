"""What the machine gives: every word of the buffer is read; sgemm goes where it should."""

from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import pytest

from bench.machine import bandwidth, hardware, openblas
from model.system import machine

SGEMM = """
import mlx.core as mx
import numpy as np

a, b = (np.random.default_rng(n).standard_normal((65, 65), dtype=np.float32) for n in (0, 1))
got = np.array(mx.array(a, dtype=mx.float32) @ mx.array(b, dtype=mx.float32).T)
assert np.allclose(got, a @ b.T, atol=1e-4)
"""


@pytest.mark.backend("native")
@pytest.mark.parametrize("count", [0, 1, 15, 16, 17, (1 << 19) - 1, (1 << 20) + 3])
def test_every_word_is_read(count: int) -> None:
    """A single bit in any place shows in the result: at both ends, in the middle, and none elsewhere."""
    from kernels import native

    words = np.zeros(count, dtype=np.uint64)
    assert native.stream(words) == 0
    for place in {0, count // 2, count - 1} if count else ():
        words[place] = 1 << (place % 64)
        assert native.stream(words) == 1 << (place % 64)
        words[place] = 0


def test_numpy_reads_where_the_extension_is_not_built(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kernels.native.unavailable", lambda: "not here")
    stream = bandwidth.StreamedBuffer(1 << 20)
    assert stream.method.startswith("numpy maximum") and stream.read() > 0
    found = stream.measure(3)
    assert found.bytes == 1 << 20 and len(found.seconds) == 3 and min(found.seconds) > 0


@pytest.mark.slow
def test_the_machine_has_a_name_memory_and_a_cache() -> None:
    assert machine.processor() and hardware.slug().endswith(f"-{machine.cores()}c")
    assert 0 < machine.available() <= machine.memory() and machine.cache_bytes() >= 1 << 16
    span = hardware.Busy(1.0, 3.0, 1.0)
    assert hardware.others([span, span]) == 2.0 and hardware.others([hardware.Busy(0.01, 3.0, 1.0)]) is None


@pytest.mark.skipif(openblas.unavailable() is not None, reason="no shim here, as `bench` says")
def test_the_shim_hands_products_to_openblas() -> None:
    """The product is right with it; and where the library that it names is not there, the process says so and ends."""
    given = os.environ | openblas.environment()
    done = subprocess.run([sys.executable, "-c", SGEMM], env=given, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    wrong = subprocess.run(
        [sys.executable, "-c", SGEMM], env=given | {"INSTRUCT_MUSICGEN_OPENBLAS": "/nowhere"}, capture_output=True,
        text=True,
    )  # fmt: skip
    assert wrong.returncode != 0 and "/nowhere has no scipy_cblas_sgemm" in wrong.stderr
