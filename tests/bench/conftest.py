"""Bundles to compare; and the tests that need torch, deselected without it (the run's last lines say so)."""

from __future__ import annotations

import importlib.util
import resource
import shutil
import signal
from pathlib import Path
from typing import Any

import mlx.core as mx
import pytest

from bench import cli
from model.convert.convert import convert

GOLDEN = Path(__file__).parent.parent / "golden" / "A"
TORCH = importlib.util.find_spec("torch") is not None


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "eval: needs torch (pip install -e '.[test,eval]')")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    out = [item for item in items if item.get_closest_marker("eval") and not TORCH]
    if out:
        config.hook.pytest_deselected(items=out)
        items[:] = [item for item in items if item not in out]


def full_disk() -> None:
    """A process that may write 32 KiB a file stands for one."""
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 15, 1 << 15))


@pytest.fixture(scope="session")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The golden model as `exact` (32 bits), `eight`, `four`, and `damaged`: four with layer 1's scales 10 % off."""
    folder = tmp_path_factory.mktemp("bundles")
    out = {}
    for name, bits in (("exact", 32), ("eight", 8), ("four", 4)):
        out[name] = convert(
            adapter=GOLDEN / "upstream.ckpt", base=GOLDEN / "base", t5=GOLDEN / "t5", out=folder / name, bits=bits
        )
    out["damaged"] = damaged(out["four"], folder / "damaged", "layers.1.")
    return out


def damaged(bundle: Path, out: Path, prefix: str, row: int | None = None, factor: float = 1.1) -> Path:
    """A copy whose scales of the modules that begin with `prefix` are 10 % too large, of one row or of all."""
    shutil.copytree(bundle, out)
    tensors = mx.load(str(bundle / "model.safetensors"))
    assert isinstance(tensors, dict)
    names = [n for n in tensors if f"{n.rpartition('.')[0]}.".startswith(prefix) and n.endswith(".scales")]
    assert names
    for name in names:
        factors = mx.ones((len(tensors[name]), 1))
        factors[slice(None) if row is None else row] = factor
        tensors[name] = (tensors[name] * factors).astype(tensors[name].dtype)
    mx.eval(tensors)
    mx.save_safetensors(str(out / "model.safetensors"), tensors, {"format": "mlx"})
    return out


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A folder of the module's own for the bundles that `--size` makes."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("INSTRUCT_MUSICGEN_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory, cache: Any) -> Any:
    """A real run, saved: two columns in processes of their own."""
    path = tmp_path_factory.mktemp("bench") / "run.json"
    code = cli.main(
        ["--seconds", "0.2", "--repeat", "3", "--size", "tiny", "--columns", "fused,reference", "--save", str(path)]
    )
    assert code == 0
    return path
