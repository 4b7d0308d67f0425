"""Random models in upstream's formats, converted and run on every backend, against the float64 oracle.

Other head counts, dims, layers, adapters on the last layers only, gates, dtypes, codecs, T5s, batches and texts than
the golden vectors have. Tokens must be equal as long as every choice before them was clear; scores are compared always.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from threadpoolctl import threadpool_limits

from model import InstructMusicGen
from model.bundle.bundle import open_bundle
from model.cli import main
from model.config import Quantization
from model.decoding.decode import Decoder
from model.decoding.sampling import Sampling
from tests import backends
from tests.numpy_model import adapter, bundles, codec, files, generate, random_upstream, text
from tests.numpy_model.random_upstream import CodecShape, Shape, T5Shape

from .golden import RELATIVE

pytestmark = pytest.mark.slow

RVQ_CLEAR = 3e-3
"""Squared distances closer than this may be chosen either way; the golden vectors' own bound."""
ACTIVATIONS = {"native": 100 * 2.0**-16 * 4 / 3**0.5}
"""As RELATIVE, for a backend that rounds the activations of a packed product to 16-bit integers: half a step of the
largest, which is about four times the root mean square, uniformly distributed, through the hundred products."""
TEXTS = ["Music piece. Instruct: Only Drums.", "Add piano", "", "Remove the guitar, and add strings. ♪", " "]
RATIOS = [(8, 5, 4, 4), (4, 4, 5, 8), (5, 4, 8, 4), (10, 8, 8), (20, 32), (2, 4, 4, 4, 5)]


@st.composite
def shapes(draw: st.DrawFn) -> Shape:
    """Small models; about half of them have dims that 4 bits can be packed in."""
    heads, head_dim = draw(st.sampled_from([(4, 8), (2, 12), (5, 12), (4, 16), (4, 24), (6, 16), (1, 32), (3, 64)]))
    dim, layers = heads * head_dim, draw(st.integers(1, 4))
    ffn = draw(st.sampled_from([2, 3, 4])) * dim
    compress = draw(st.sampled_from([1, 2, 4]))
    return Shape(
        seed=draw(st.integers(0, 2**20)),
        dim=dim,
        heads=heads,
        ffn=ffn,
        layers=layers,
        start_layer=draw(st.integers(0, layers - 1)),
        card=draw(st.integers(17, 70)),
        rank=draw(st.integers(1, 5)),
        max_frames=draw(st.integers(3, 14)),
        gates=tuple(draw(st.lists(st.sampled_from([0.0, -1.5, 0.25, 1.0, 20.0]), min_size=1, max_size=4))),
        dtype=draw(st.sampled_from(["float16", "bfloat16", "float32"])),
        codec=CodecShape(
            n_filters=4 * draw(st.integers(1, 2)),
            dimension=draw(st.integers(3, 20)),
            ratios=draw(st.sampled_from(RATIOS)),
            pad_mode=draw(st.sampled_from(["constant", "reflect"])),
            lstm=draw(st.integers(0, 3)),
            kernel_size=draw(st.sampled_from([3, 7])),
            last_kernel_size=draw(st.sampled_from([5, 7])),
            residual_kernel_size=draw(st.sampled_from([3, 5])),
            compress=compress,
            form=draw(st.sampled_from(["weight_g", "original", "weight"])),
        ),
        t5=T5Shape(
            d_model=draw(st.sampled_from([24, 40, 48])),
            d_kv=draw(st.sampled_from([4, 8])),
            heads=draw(st.integers(1, 6)),
            layers=draw(st.integers(1, 3)),
        ),
    )


@dataclass(frozen=True)
class Drawn:
    """One random model: what the oracle reads, and its bundles."""

    shape: Shape
    up: files.Upstream
    paths: dict[str, Any]
    folder: Path

    def convert(self, bits: int) -> int:
        """By the command line, to `self.bundle(bits)`; gives the exit code."""
        named = [part for name, path in self.paths.items() for part in (f"--{name}", str(path))]
        return main(["convert", *named, "--out", str(self.bundle(bits)), "--bits", str(bits)])

    def bundle(self, bits: int) -> Path:
        return self.folder / f"{bits}-bit"

    def models(self, bits: int) -> Iterator[InstructMusicGen]:
        """The bundle on every backend of this machine."""
        bundle = open_bundle(self.bundle(bits))
        for name in backends.names():
            yield InstructMusicGen(bundle, backends.load(name))


@contextmanager
def drawn(shape: Shape) -> Iterator[Drawn]:
    with tempfile.TemporaryDirectory() as folder, threadpool_limits(1, "blas"):
        paths = random_upstream.write(shape, Path(folder) / "upstream")
        yield Drawn(shape, files.read(paths["adapter"], paths["base"], paths["t5"]), paths, Path(folder))


def assert_close(got: mx.array, want: Any, what: str, relative: float = RELATIVE) -> None:
    g, scale = np.asarray(got.astype(mx.float32)), np.abs(want).max()
    assert g.shape == want.shape, f"{what}: {g.shape}, oracle {want.shape}"
    error = np.abs(g - want).max()
    assert error <= relative * scale, f"{what}: off by {error:.3g} where {relative * scale:.3g} is rounding"


@given(shape=shapes(), rows=st.integers(1, 2), samples=st.integers(640, 9000))
def test_codec(shape: Any, rows: Any, samples: Any) -> None:
    audio = np.stack([random_upstream.clip(samples, shape.seed + row) for row in range(rows)])
    with drawn(shape) as d:
        assert d.convert(32) == 0
        oracle = codec.Codec(d.up)
        want = oracle.encode(audio[:, None])
        # A codebook's residual is right where every choice before it was clear.
        clear = np.cumprod(np.stack(oracle.margin.gaps, axis=1) > RVQ_CLEAR, axis=1).astype(bool)
        sound = oracle.decode(want)[:, 0]
        for m in d.models(32):
            got = np.asarray(m.encode(mx.array(audio)))
            assert got.shape == want.shape
            assert (got == want)[clear].all(), m.backend
            assert_close(m.codec.latent(mx.array(audio)).swapaxes(1, 2), oracle.latent(audio[:, None]), "latent")
            assert_close(m.decode(mx.array(want.astype(np.int32))), sound, f"sound {m.backend}")


@given(
    shape=shapes(),
    texts=st.lists(st.sampled_from(TEXTS), min_size=1, max_size=3),
    bits=st.sampled_from([4, 8, 16, 32]),
)
def test_adapter_and_guided_scores(shape: Any, texts: Any, bits: Any) -> None:
    """Teacher-forced on random codes: the prefix of every layer, and the guided scores of every position."""
    with drawn(shape) as d:
        if bits in (4, 8) and shape.dim % 32:
            assert d.convert(bits) == 2
            return
        assert d.convert(bits) == 0
        up = d.up if bits == 32 else bundles.as_stored(d.up, open_bundle(d.bundle(bits)))
        frames, rows = shape.max_frames, len(texts)
        clip = random_upstream.codes(shape, rows, frames + 1, "clip")
        sequence = generate.delayed(random_upstream.codes(shape, rows, frames, "teacher"), shape.card)[:, :, :-1]
        cond, prefix = text.condition(up, texts), adapter.prefixes(up, clip)
        want, _, _ = generate.guided(up, sequence, clip, cond, frames)
        for m in d.models(bits):
            rounding = ACTIVATIONS.get(m.backend, RELATIVE) if bits in (4, 8) else RELATIVE
            assert_close(m.condition(texts), cond, "text")
            for i, (got, part) in enumerate(zip(m.adapter(mx.array(clip)), prefix, strict=True)):
                for name in "qkv":
                    assert_close(getattr(got, name), getattr(part, name), f"{name} {i} {m.backend}", rounding)
            job = Decoder(m.lm, m.adapter, m.lm.text_kv(m.condition(texts)), 3.0, Sampling())
            stream, tokens = job.start(mx.array(clip), frames), mx.array(sequence.astype(np.int32))
            scores = [job.predict(stream, tokens[:, :, j : j + 1]) for j in range(sequence.shape[2])]
            assert_close(mx.stack(scores, axis=2), want, f"scores {m.backend}", rounding)


@given(
    shape=shapes(),
    texts=st.lists(st.sampled_from(TEXTS), min_size=1, max_size=3),
    guidance=st.sampled_from([1.0, 3.0, 0.0]),
    windows=st.sampled_from([0.4, 1.0, 2.3]),
)
def test_greedy_tokens_in_windows(shape: Any, texts: Any, guidance: Any, windows: Any) -> None:
    total = max(1, int(windows * shape.max_frames))
    codes = random_upstream.codes(shape, len(texts), total, "windows")
    with drawn(shape) as d:
        assert d.convert(32) == 0
        oracle = generate.Greedy(d.up, texts, guidance)
        stride = max(shape.max_frames // 2, 1)
        want = generate.exact_windows(codes, shape.card, shape.max_frames, stride, oracle)
        unclear = next((i for i, gap in enumerate(oracle.margin.gaps) if gap.min() < clear_gap(oracle)), None)
        for m in d.models(32):
            # The oracle's window: a small random position table may look as if a part of it were trained.
            got = np.asarray(
                m.edit_codes(
                    mx.array(codes),
                    texts,
                    greedy=True,
                    guidance=guidance,
                    window_frames=shape.max_frames,
                )
            )
            assert got.shape == want.shape
            if unclear is None:
                assert (got == want).all(), m.backend
            else:  # the first window's positions up to there
                length = min(shape.max_frames, total)
                one, two = (generate.delayed(x[:, :, :length], shape.card) for x in (got, want))
                sure = min(unclear + 1, length + 4)
                assert (one[:, :, :sure] == two[:, :, :sure]).all(), m.backend


def clear_gap(oracle: generate.Greedy) -> float:
    """Twice what rounding may move a score by: each of two scores may move."""
    return 2 * RELATIVE * oracle.largest


def test_dims_that_no_group_divides_are_a_clear_error(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    with drawn(Shape(dim=60, heads=5, ffn=120)) as d:
        assert d.convert(4) == 2
        assert "--group-size 64 does not divide dim=60; use --bits 16 or 32" in capsys.readouterr().err
        assert not d.bundle(4).exists()


@pytest.mark.parametrize(("dim", "group_size"), [(64, 64), (96, 32), (128, 64)])
def test_the_group_size_fits_the_model_unless_told(dim: Any, group_size: Any) -> None:
    with drawn(Shape(dim=dim, heads=4, ffn=2 * dim)) as d:
        assert d.convert(4) == 0
        assert open_bundle(d.bundle(4)).config.quantization == Quantization(4, group_size)
