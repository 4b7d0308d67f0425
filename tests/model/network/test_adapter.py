"""The adapter's place in the LM."""

from __future__ import annotations

import io
from dataclasses import replace
from typing import Any

import mlx.core as mx
import numpy as np
import pytest

import reference
from model import InstructMusicGen
from model.bundle.bundle import open_bundle
from model.decoding.decode import DecoderState
from model.network.adapter import Adapter
from model.network.projection import Weights
from model.network.transformer import LanguageModel

from ..golden import CONFIG, TEXTS, assert_equal, tensors

START = 1


class Shifted:
    """Golden A with the adapter's last layers only, beginning at LM layer `START`."""

    def __init__(self, path: Any) -> None:
        whole = open_bundle(path)
        layers = whole.config.adapter.layers - START
        self.config = replace(whole.config, adapter=replace(whole.config.adapter, layers=layers, start_layer=START))
        self.tensors = dict(whole.tensors)
        self.tensors["cp_transformer.gates"] = whole.tensors["cp_transformer.gates"][:layers]
        self.codec_path, self.t5_path = whole.codec_path, whole.t5_path

    def tiles(self) -> dict[str, Any]:
        return {}

    def load(self, names: Any) -> Any:
        return {name: self.tensors[name] for name in names}


def test_adapter_layer_i_uses_lm_layer_start_plus_i(golden_bundle: Any) -> None:
    bundle = Shifted(golden_bundle)
    weights = Weights(dict(bundle.tensors), bundle.config, reference)
    lm = LanguageModel(weights)
    codes = tensors("cp")["condition_codes"]
    shifted = Adapter(weights, lm, bundle.load)(codes)
    # The same adapter over an LM that lacks the layers below it.
    upper = LanguageModel(Weights(dict(bundle.tensors), bundle.config, reference))
    upper.layers = upper.layers[START:]
    unshifted = replace(bundle.config, adapter=replace(bundle.config.adapter, start_layer=0))
    direct = Adapter(Weights(dict(bundle.tensors), unshifted, reference), upper, bundle.load)(codes)
    assert len(shifted) == len(direct) == CONFIG["layers"] - START
    for a, b in zip(shifted, direct):
        for part in "qkv":
            assert_equal(getattr(a, part), getattr(b, part))


def test_layers_below_the_adapter_get_no_prefix(golden_bundle: Any) -> None:
    bundle = Shifted(golden_bundle)
    m = InstructMusicGen(bundle, reference)
    codes = tensors("cp")["condition_codes"]
    batch, _, n = codes.shape
    prefix = m.adapter(codes)
    stream = DecoderState(
        m.lm, m.lm.text_kv(m.condition(TEXTS)), prefix, start_layer=START, rows=batch, slots=n, query_rows=n - 1
    )
    assert [p is not None for p in stream.prefix] == [False] * START + [True] * (CONFIG["layers"] - START)
    special = mx.full((batch, 4, 1), CONFIG["special_token_id"], dtype=mx.int32)
    assert stream(special).shape == (batch, 1, CONFIG["dim"])
    edited = m.edit_codes(codes[:, :, :-1], TEXTS, greedy=True)
    assert edited.shape == codes[:, :, :-1].shape


def test_gates_are_arrays_of_their_own(golden_bundle: Any) -> None:
    """Metal binds a view at its offset, and constant buffers need not take offsets of 4 bytes."""
    m = InstructMusicGen.from_pretrained(golden_bundle, backend="reference")
    starts = [np.asarray(memoryview(gate)).ctypes.data for gate in m.adapter.gates]
    assert len(starts) > 1 and all(start % 8 == 0 for start in starts)
    stored = open_bundle(golden_bundle).tensors["cp_transformer.gates"].astype(mx.float32)
    assert_equal(mx.concatenate(m.adapter.gates), stored)


def test_more_frames_than_positions_are_refused(golden_bundle: Any) -> None:
    m = InstructMusicGen.from_pretrained(golden_bundle, backend="reference")
    codes = mx.zeros((1, 4, CONFIG["max_n_frames"] + 2), dtype=mx.int32)
    with pytest.raises(ValueError, match="edit in windows"):
        m.adapter(codes)


def test_a_clip_asks_for_its_matrices_once_and_in_one_go(golden_bundle: Any) -> None:
    """The file's header is parsed each time; the matrices are lazy, and freed one by one."""
    bundle = open_bundle(golden_bundle)
    weights = Weights(dict(bundle.tensors), bundle.config, reference)
    asked: list[list[str]] = []

    def load(names: list[str]) -> dict[str, mx.array]:
        asked.append(names)
        return bundle.load(names)

    adapter = Adapter(weights, LanguageModel(weights), load)
    adapter(tensors("cp")["condition_codes"])
    assert sorted(len(names) for names in asked) == [1, CONFIG["layers"]]


def test_what_the_last_layer_gives_on_is_not_computed(golden_bundle: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing reads it. Of a stack that is cut short, every layer is whole."""
    bundle = open_bundle(golden_bundle)
    weights = Weights(dict(bundle.tensors), bundle.config, reference)
    adapter, given = Adapter(weights, LanguageModel(weights), bundle.load), list[mx.array]()

    def layer(*args: Any, **kwargs: Any) -> Any:
        x, prefix = Adapter.layer(adapter, *args, **kwargs)
        given.append(x)
        return x, prefix

    def waits(x: mx.array) -> bool:
        graph = io.StringIO()
        mx.export_to_dot(graph, x)
        return "label" in graph.getvalue()

    monkeypatch.setattr(adapter, "layer", layer)
    whole = adapter(tensors("cp")["condition_codes"])
    assert [waits(x) for x in given] == [False] * (len(whole) - 1) + [True]
    given.clear()
    cut = adapter(tensors("cp")["condition_codes"], len(whole) - 1)
    assert len(cut) == len(given) == len(whole) - 1 and not any(waits(x) for x in given)
    assert_equal(cut[-1].v, whole[-2].v)
