"""A quantized bundle's logits differ from 32 bits only by what quantization explains."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import mlx.core as mx
import numpy as np
import pytest

import reference
from model import InstructMusicGen
from model.bundle.bundle import open_bundle
from model.decoding.decode import Decoder
from model.decoding.sampling import Sampling
from reference import oracle

from ..golden import RELATIVE, TEXTS, assert_close, tensors


class Dequantized:
    """A bundle whose packed matrices were unpacked by the oracle, bit by bit in numpy."""

    def __init__(self, bundle: Any) -> None:
        q = bundle.config.quantization
        self.tensors = {}
        for name, tensor in bundle.tensors.items():
            module = name.removesuffix(".weight")
            if name.endswith((".scales", ".biases")):
                continue
            if f"{module}.scales" in bundle.tensors:
                scales, biases = (bundle.tensors[f"{module}.{p}"].astype(mx.float32) for p in ("scales", "biases"))
                tensor = mx.array(
                    oracle.dequantize(tensor, scales, biases, group_size=q.group_size, bits=q.bits).astype(np.float32)
                )
            self.tensors[name] = tensor.astype(mx.float32)
        self.config = replace(bundle.config, dtype=mx.float32, quantization=None)
        self.codec_path, self.t5_path = bundle.codec_path, bundle.t5_path

    def tiles(self) -> dict[str, Any]:
        return {}

    def load(self, names: Any) -> Any:
        return {name: self.tensors[name] for name in names}


def guided_logits(m: InstructMusicGen) -> mx.array:
    want = tensors("greedy")
    frames = want["short_codes"].shape[2]
    job = Decoder(m.lm, m.adapter, m.lm.text_kv(m.condition(TEXTS)), 3.0, Sampling())
    stream = job.start(want["short_condition_codes"], frames)
    sequence = want["short_delay_seq"]
    return mx.stack([job.predict(stream, sequence[:, :, j : j + 1]) for j in range(sequence.shape[2] - 1)], axis=2)


@pytest.mark.parametrize("bits", [4, 8])
def test_logits_are_those_of_the_dequantized_weights(golden_bundles: Any, bits: Any) -> None:
    bundle = open_bundle(golden_bundles(bits))
    packed, dense = InstructMusicGen(bundle, reference), InstructMusicGen(Dequantized(bundle), reference)
    assert_close(guided_logits(packed), guided_logits(dense), f"{bits} bits")
    assert mx.array_equal(*(m.condition(TEXTS) for m in (packed, dense)))


def test_fewer_bits_cost_more(golden_bundles: Any) -> None:
    want = tensors("greedy")["short_cfg_logits"]
    errors = {}
    for bits in (32, 16, 8, 4):
        got = guided_logits(InstructMusicGen.from_pretrained(golden_bundles(bits), backend="reference"))
        errors[bits] = float(mx.abs(got - want).max() / mx.abs(want).max())
    assert errors[32] < RELATIVE < errors[16] < errors[8] < errors[4], errors


@pytest.mark.parametrize("bits", [32, 16, 8, 4])
def test_everything_is_held_once(golden_bundles: Any, bits: Any) -> None:
    """Stacked q, k and v keep no second copy: what the LM holds is what the file holds of it."""
    bundle = open_bundle(golden_bundles(bits))
    m = InstructMusicGen(bundle, reference)
    held = sum(
        a.size
        for layer in m.lm.layers
        for part in (layer.qkv, layer.self_out, layer.cross_q, layer.cross_kv, layer.cross_out, layer.linear1,
                     layer.linear2)
        for a in part.arrays()
    )  # fmt: skip
    assert held == sum(t.size for n, t in bundle.tensors.items() if n.startswith("layers.") and ".norm" not in n)
