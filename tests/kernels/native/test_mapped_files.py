"""Arrays that are the pages of a file: its values, never its writer, and an error where it has shrunk."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType

import mlx.core as mx
import numpy as np
import pytest

from reference.contract import Packed
from reference.tiles import Tiles, lay_out

pytestmark = [pytest.mark.backend("native"), pytest.mark.skipif(sys.platform != "linux", reason="mappings of Linux")]

N, K = 4096, 2048  # 4.7 MB at 4 bits: two or three huge pages
LINE = 64


def mapped(native: ModuleType, path: Path, tensors: Sequence[tuple[int, tuple[int, ...], mx.Dtype]]) -> list[mx.array]:
    with path.open("rb") as file:
        found: list[mx.array] | None = native.file_arrays(file.fileno(), tensors)
    assert found is not None
    return found


@pytest.fixture
def floats(tmp_path: Path, rng: np.random.Generator) -> tuple[Path, np.ndarray]:
    values = rng.normal(size=5000).astype(np.float32)
    path = tmp_path / "floats"
    path.write_bytes(b"8 bytes." + values.tobytes())
    return path, values


USED = """
import mlx.core as mx
from kernels import native
for bytes in range(12000, 12800, 4):
    mx.eval(mx.ones(bytes // 4) + 1)
print(native._extension.can_map_arrays())
"""


def test_a_process_that_has_freed_buffers_can_map_too() -> None:
    """MLX may give out a larger one again, where it is tried whether memory of the file's can be an array's."""
    done = subprocess.run([sys.executable, "-c", USED], capture_output=True, text=True, check=True)
    assert done.stdout == "True\n"


@pytest.mark.parametrize("first", [0, 1, 1022, 1023, 4000])
def test_arrays_are_what_the_file_holds_wherever_they_begin(
    native: ModuleType, floats: tuple[Path, np.ndarray], first: int
) -> None:
    path, values = floats
    (whole,) = mapped(native, path, [(8 + 4 * first, (2, 500), mx.float32)])
    assert whole.dtype == mx.float32
    np.testing.assert_array_equal(np.array(whole), values[first : first + 1000].reshape(2, 500))


def test_computing_in_the_memory_of_an_array_leaves_the_file_as_it_is(
    native: ModuleType, floats: tuple[Path, np.ndarray]
) -> None:
    path, values = floats
    before = path.read_bytes()
    for make in (lambda x: x + 1, mx.exp, lambda x: mx.slice_update(x, mx.zeros(7), mx.array([3]), [0])):
        (x,) = mapped(native, path, [(8, (5000,), mx.float32)])
        mx.eval(x)
        x = make(x)  # nothing else holds it now
        mx.eval(x)
    np.testing.assert_array_equal(np.array(mapped(native, path, [(8, (5000,), mx.float32)])[0]), values)
    assert path.read_bytes() == before


def test_an_array_outlives_the_name_of_its_file(native: ModuleType, floats: tuple[Path, np.ndarray]) -> None:
    path, values = floats
    early, late = mapped(native, path, [(8, (5000,), mx.float32)] * 2)
    mx.eval(early)
    other = path.with_name("other")
    other.write_bytes(bytes(path.stat().st_size))
    os.replace(other, path)
    np.testing.assert_array_equal(np.array(early), values)
    np.testing.assert_array_equal(np.array(late), values)


def test_a_file_that_has_shrunk_is_an_error_of_who_evaluates(
    native: ModuleType, floats: tuple[Path, np.ndarray]
) -> None:
    path, _ = floats
    (x,) = mapped(native, path, [(8, (5000,), mx.float32)])
    os.truncate(path, 8000)
    with pytest.raises(RuntimeError, match="shorter than it was"):
        mx.eval(x)


def test_what_is_not_aligned_or_empty_is_read_otherwise(native: ModuleType, floats: tuple[Path, np.ndarray]) -> None:
    with floats[0].open("rb") as file:
        for where in ((9, (3,), mx.float32), (8, (0, 3), mx.float32), (0, (3,), mx.uint8)):
            assert native.file_arrays(file.fileno(), [where]) is None


def test_files_are_read_where_the_environment_says_so(floats: tuple[Path, np.ndarray]) -> None:
    code = f"import kernels.native as n; file = open({str(floats[0])!r}); print(n.file_arrays(file.fileno(), []))"
    said = {}
    for value in ("read", "mapped", "eaten"):
        environment = {**os.environ, "INSTRUCT_MUSICGEN_FILES": value}
        said[value] = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment)
    assert said["read"].stdout == said["eaten"].stdout == "None\n"
    assert said["mapped"].stdout == "[]\n"
    code = "import kernels.native as n; print(n.unavailable())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment)
    assert "INSTRUCT_MUSICGEN_FILES='eaten' is not known; use one of mapped, read" in done.stdout


class Stored:
    """Matrices in the native order, one behind the other, from byte `start` on."""

    def __init__(self, path: Path, rng: np.random.Generator, start: int, count: int) -> None:
        self.path, self.matrices = path, [packed(rng) for _ in range(count)]
        laid_out = [lay_out(each) for each in self.matrices]
        self.shape = tuple(laid_out[0].shape)
        path.write_bytes(bytes(start) + b"".join(np.array(each).tobytes() for each in laid_out))
        size = laid_out[0].size
        self.places = [(start + n * size, self.shape, mx.uint8) for n in range(count)]

    def tiles(self, native: ModuleType, numbers: Sequence[int]) -> Tiles:
        arrays = mapped(native, self.path, [self.places[n] for n in numbers])
        return Tiles(tuple(arrays), 64, 4)


def packed(rng: np.random.Generator) -> Packed:
    words = mx.array(rng.integers(0, 2**32, (N, K // 8), dtype=np.uint32))
    scales = mx.array(rng.random((N, K // 64)).astype(np.float16))
    return Packed(words, scales, -scales, 64, 4)


@pytest.mark.parametrize("start", [LINE, LINE + 8])
@pytest.mark.parametrize("numbers", [(0,), (2,), (0, 1), (1, 2, 3), (2, 1), (0, 2)])
def test_weights_in_a_file_give_the_bits_of_packed_ones(
    native: ModuleType, tmp_path: Path, rng: np.random.Generator, start: int, numbers: tuple[int, ...]
) -> None:
    """One behind the other at the beginning of a cache line they are mapped, others are copied."""
    stored = Stored(tmp_path / "weights", rng, start, 4)
    x = mx.array(rng.normal(size=(3, K)).astype(np.float32))
    made = native.pack(stored.tiles(native, numbers))
    expected = [native.int4_matmul(x, native.pack(stored.matrices[n])) for n in numbers]
    assert bool(mx.array_equal(native.int4_matmul(x, made), mx.concatenate(expected, axis=-1)))
    originals = [mx.concatenate(parts) for parts in zip(*(stored.matrices[n].arrays() for n in numbers))]
    assert all(bool(mx.array_equal(*pair)) for pair in zip(made.plain().arrays(), originals))


def test_weights_of_a_file_keep_their_bits_while_others_of_it_are_settled(
    native: ModuleType, tmp_path: Path, rng: np.random.Generator
) -> None:
    """They share huge pages at their ends, and threads settle them at once."""
    stored = Stored(tmp_path / "weights", rng, LINE, 6)
    arrays = mapped(native, stored.path, stored.places)
    found: dict[int, mx.array] = {}

    def settle(numbers: Sequence[int]) -> None:
        for n in numbers:
            made = native.pack(Tiles((arrays[n],), 64, 4))
            mx.eval(made.data)
            found[n] = made.data

    threads = [threading.Thread(target=settle, args=(numbers,)) for numbers in ((0, 4, 2), (5, 1, 3))]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    for n, matrix in enumerate(stored.matrices):
        assert bool(mx.array_equal(found[n], lay_out(matrix).reshape(-1))), n


def test_weights_of_a_file_that_has_shrunk_are_an_error(
    native: ModuleType, tmp_path: Path, rng: np.random.Generator
) -> None:
    stored = Stored(tmp_path / "weights", rng, LINE, 1)
    tiles = stored.tiles(native, (0,))
    os.truncate(stored.path, 1 << 20)
    with pytest.raises(RuntimeError, match="shorter than it was"):
        mx.eval(native.pack(tiles).data)
