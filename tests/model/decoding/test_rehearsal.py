"""Kernels are compiled as a stage before the first step, and then an edit compiles no more."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import mlx.core as mx
import pytest

import kernels
from kernels import metal
from model import InstructMusicGen
from model.bundle.bundle import open_bundle
from model.config import AdapterConfig, CodecConfig, Config, LMConfig, Quantization
from model.decoding.windows import Window
from model.progress import Progress
from model.stages import COMPILE
from model.synthetic import write_bundle
from model.synthetic.t5 import T5Dims

from ...backends import load

pytestmark = pytest.mark.backend("native")
PLAN = [Window(0, 4, 0), Window(2, 4, 2)]
"""The second has a prompt."""


class Borrowed:
    """Builds kernels that give zeros, of any threads up to a limit: which are launched is what is looked at."""

    def __init__(self, limit: int) -> None:
        self.limit, self.built, self.launched = limit, list[str](), list[str]()

    def __call__(self, **options: Any) -> Any:
        self.built.append(options["name"])

        def call(**arguments: Any) -> list[mx.array]:
            threads = arguments["threadgroup"][0]
            if threads > self.limit:
                raise ValueError(
                    f"Thread group size ({threads}) is greater than  the maximum allowed threads per threadgroup "
                    f"({self.limit})."
                )
            self.launched.append(options["name"])
            return [mx.zeros(s, dtype=t) for s, t in zip(arguments["output_shapes"], arguments["output_dtypes"])]

        return call


class Listener:
    def __init__(self, borrowed: Borrowed) -> None:
        self.heard, self.told, self._borrowed = list[str](), list[tuple[int, int]](), borrowed
        self.launched: dict[str, list[str]] = {}

    @contextmanager
    def __call__(self, stage: str) -> Iterator[Progress | None]:
        before = len(self._borrowed.launched)
        self.heard.append(stage)
        yield lambda done, total: self.told.append((done, total))
        self.launched.setdefault(stage, []).extend(self._borrowed.launched[before:])


@pytest.fixture(scope="module", params=(None, 0))
def bundle(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two layers, both with a prefix or only the second."""
    lm = LMConfig(dim=128, heads=2, ffn=256, layers=2, card=32, text_dim=64)
    adapter = AdapterConfig(1, 50, start_layer=1) if request.param == 0 else AdapterConfig(2, 50)
    config = Config(lm, adapter, mx.float16, Quantization(4, 64))
    out = tmp_path_factory.mktemp("rehearsed") / "bundle"
    codec, t5 = CodecConfig(dimension=32, n_filters=4, bins=32), T5Dims(64, 16, 4, 128, 1, 512)
    return write_bundle(out, config=config, codec=codec, t5=t5)


def edit(bundle: Path, borrowed: Borrowed) -> tuple[Listener, InstructMusicGen]:
    listener = Listener(borrowed)
    ops = metal.MetalOps("interpreter", metal.Engine(borrowed, probe=True))
    model = InstructMusicGen(open_bundle(bundle), ops, listener)
    run(model)
    return listener, model


def run(model: InstructMusicGen) -> None:
    codes = mx.zeros((2, 4, 6), dtype=mx.int32)
    model.edit_codes(codes, ["Add Piano.", "Only Drums, please, and nothing else."], greedy=True, plan=PLAN)


def test_all_kernels_are_compiled_before_the_first_step(bundle: Path) -> None:
    borrowed = Borrowed(1024)
    listener, model = edit(bundle, borrowed)
    assert listener.heard.count(COMPILE) == 1
    assert listener.heard.index(COMPILE) < min(map(listener.heard.index, ("text k/v", "adapter", "steps")))
    count = len(listener.launched[COMPILE])
    assert listener.told == [(done, count) for done in range(count + 1)]
    assert len(borrowed.built) == count == len(set(listener.launched[COMPILE])), "no kernel is built later"
    used = {name for stage, names in listener.launched.items() if stage != COMPILE for name in names}
    assert used == set(listener.launched[COMPILE]), "what is compiled is what is used"
    run(model)
    assert listener.heard.count(COMPILE) == 1 and len(borrowed.built) == count


def test_refused_kernels_are_answered_in_that_stage(bundle: Path) -> None:
    """With fewer simdgroups, or with stock MLX; the steps raise and warn of nothing."""
    borrowed = Borrowed(32)
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        listener, model = edit(bundle, borrowed)
    lines = [str(w.message) for w in told]
    assert any("runs with 32 threads a threadgroup" in line for line in lines)
    assert any(line.startswith("stock MLX computes what int4_matmul_tiled.metal would") for line in lines)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        run(model)
    assert listener.heard.count(COMPILE) == 1


def test_an_edit_with_every_kernel_refused_has_the_reference_s_tokens(bundle: Path) -> None:
    codes = mx.zeros((1, 4, 6), dtype=mx.int32)
    edited = []
    for ops in (metal.MetalOps("interpreter", metal.Engine(Borrowed(31), probe=True)), load("reference")):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            model = InstructMusicGen(open_bundle(bundle), ops)
            edited.append(model.edit_codes(codes, "Add Piano.", greedy=True, plan=PLAN))
    assert mx.array_equal(*edited)


def test_other_backends_have_no_such_stage(bundle: Path) -> None:
    listener = Listener(Borrowed(1024))
    run(InstructMusicGen(open_bundle(bundle), kernels.load("native"), listener))
    assert COMPILE not in listener.heard
