"""Bundles to compare; and the tests that need torch, deselected without it (the run's last lines say so)."""

from __future__ import annotations

import importlib.util
import shutil
from pathlib import Path

import mlx.core as mx
import pytest

from model.convert import convert

GOLDEN = Path(__file__).parent.parent / "golden" / "A"
TORCH = importlib.util.find_spec("torch") is not None


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "eval: needs torch (pip install -e '.[test,eval]')")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    out = [item for item in items if item.get_closest_marker("eval") and not TORCH]
    if out:
        config.hook.pytest_deselected(items=out)
        items[:] = [item for item in items if item not in out]


@pytest.fixture(scope="session")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The golden model as `exact` (32 bits), `eight`, `four`, and `damaged`: four with layer 1's scales 10 % off."""
    folder = tmp_path_factory.mktemp("bundles")
    out = {}
    for name, bits in (("exact", 32), ("eight", 8), ("four", 4)):
        out[name] = convert(
            adapter=GOLDEN / "upstream.ckpt", base=GOLDEN / "base", t5=GOLDEN / "t5", out=folder / name, bits=bits
        )
    out["damaged"] = folder / "damaged"
    shutil.copytree(out["four"], out["damaged"])
    tensors = mx.load(str(out["four"] / "model.safetensors"))
    assert isinstance(tensors, dict)
    for name in [n for n in tensors if n.startswith("layers.1.") and n.endswith(".scales")]:
        tensors[name] = (tensors[name] * 1.1).astype(tensors[name].dtype)
    mx.eval(tensors)
    mx.save_safetensors(str(out["damaged"] / "model.safetensors"), tensors, {"format": "mlx"})
    return out
