"""The writer of safetensors files: what it was promised, in that order, and nothing else."""

from __future__ import annotations

from pathlib import Path

import mlx.core as mx
import numpy as np
import pytest

from model.formats import tensor_writer as writer


def test_the_writer_refuses_what_does_not_fit_its_header(tmp_path: Path) -> None:
    stored = {"a": (mx.float32, (2, 3)), "b": (mx.bfloat16, (4,)), "c": (mx.uint32, ())}
    values = {"a": mx.ones((2, 3)), "b": mx.arange(4).astype(mx.bfloat16), "c": np.array(7, np.uint32)}
    with writer.TensorWriter(tmp_path / "x.safetensors", stored) as file:
        for name, value in values.items():
            file.write(name, value)
    found = mx.load(str(tmp_path / "x.safetensors"))
    assert isinstance(found, dict)
    for name, value in values.items():
        assert found[name].dtype == stored[name][0] and mx.array_equal(found[name], mx.array(value))
    for name, value in {"b": values["b"], "a": mx.ones((3, 2))}.items():
        with pytest.raises(ValueError, match="is expected"), writer.TensorWriter(tmp_path / "y", stored) as file:
            file.write(name, value)
    with pytest.raises(ValueError, match="float16"), writer.TensorWriter(tmp_path / "y", stored) as file:
        file.write("a", mx.ones((2, 3)).astype(mx.float16))
    with pytest.raises(ValueError, match="not every tensor"), writer.TensorWriter(tmp_path / "y", stored):
        pass


@pytest.mark.parametrize("name", ["a", "a name", "a name that is a good deal longer than a cache line of 64 bytes is"])
def test_the_first_tensor_begins_at_a_cache_line(tmp_path: Path, name: str) -> None:
    path = tmp_path / "x.safetensors"
    with writer.TensorWriter(path, {name: (mx.float32, (3,))}) as file:
        file.write(name, mx.ones(3))
    assert (path.stat().st_size - 12) % 64 == 0
    found = mx.load(str(path))
    assert isinstance(found, dict) and list(found) == [name]
