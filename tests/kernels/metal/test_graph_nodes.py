"""The nodes of a decode step's graph, each of which Python and MLX handle every step, besides the kernels."""

from __future__ import annotations

from typing import Any

import mlx.core as mx
import pytest

import kernels
import reference
from bench.edit.evidence import primitives
from kernels import Ops, metal
from model.bundle.bundle import demo_path, open_bundle
from model.decoding.decode import DecoderState
from model.network.state import LayerPrefix, TextKV
from model.pipeline import InstructMusicGen

LAUNCHES, OTHERS = 8, 24
"""A layer's, at most: launches of kernels (the write into the cache is one), and nodes that are no kernel or a view."""
WERE = 26
"""Nodes of a layer besides its launches, before activations kept their axes and launches were planned: 17 reshapes, 3
squeezes, 3 slices, 2 transposes, a split. Counted in the graph, as here."""
VIEWS = ("Reshape", "Transpose", "Squeeze", "Slice", "Split", "ExpandDims", "Flatten", "Unflatten", "Broadcast")


def traced(**options: Any) -> Any:
    """Build a kernel whose launch is a node of the graph, "CustomTransforms", that depends on its inputs."""

    def call(inputs: list[mx.array], **arguments: Any) -> list[mx.array]:
        zeros = [mx.zeros(s, dtype=t) for s, t in zip(arguments["output_shapes"], arguments["output_dtypes"])]
        mx.eval(zeros)
        launch = mx.custom_function(lambda *_: zeros)
        launch.vjp(lambda *_: inputs)  # without any, there would be no node
        result: Any = launch(*inputs)
        return list(result)

    return call


def layer_nodes(ops: Ops) -> dict[str, int]:
    """Count the nodes of one layer of a guidance pair's step, by primitive."""
    counts = []
    for layers in (1, 2):  # of 4: what they differ by is a layer
        model = InstructMusicGen(open_bundle(demo_path()), ops)
        lm = model.lm
        c = lm.config
        lm.layers, lm.config = lm.layers[:layers], c.__class__(**{**vars(c), "layers": layers})
        kv, q = (mx.zeros((1, c.heads, n, c.head_dim), dtype=lm.dtype) for n in (5, 4))
        gate, text = mx.array([0.5]), mx.zeros((1, c.heads, 3, c.head_dim), dtype=lm.dtype)
        mx.eval(kv, q, gate, text)
        state = DecoderState(
            lm, [TextKV(text, text)] * layers, [LayerPrefix(q, kv, kv, gate)] * layers,
            start_layer=0, rows=2, slots=7, query_rows=4,
        )  # fmt: skip
        mx.eval([layer.cache.kv for layer in state.layers], state.positions)
        counts.append(primitives(state(mx.zeros((2, c.codebooks, 1), dtype=mx.int32))))
    return {name: n - counts[0].get(name, 0) for name, n in counts[1].items() if n != counts[0].get(name, 0)}


def test_a_layer_is_eight_launches_and_few_other_nodes() -> None:
    nodes = layer_nodes(metal.MetalOps("interpreter", metal.Engine(traced)))
    nodes.pop("StopGradient")  # the stand-in's
    assert nodes.pop("CustomTransforms") == 7 and nodes.pop("SliceUpdate") == 1
    assert set(nodes) <= set(VIEWS), f"more launches: {set(nodes) - set(VIEWS)}"
    assert sum(nodes.values()) <= 10 <= OTHERS
    assert 2 * sum(nodes.values()) <= WERE


def test_a_layer_has_no_more_nodes_than_the_views_of_a_stock_composition() -> None:
    """Whose launches (26 by kernels/README.md; here, on a CPU, MLX takes several of them apart) come on top."""
    ours = layer_nodes(metal.MetalOps("interpreter", metal.Engine(traced)))
    ours.pop("StopGradient")
    stock = layer_nodes(reference)
    assert sum(ours.values()) <= sum(n for name, n in stock.items() if name in VIEWS and name != "Broadcast")
    assert sum(n for name, n in stock.items() if name not in VIEWS) >= 26


def test_a_node_more_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A copy that nobody needs, in the middle of a layer."""
    plain = metal.MetalOps("interpreter", metal.Engine(traced))
    own = plain.self_attention
    monkeypatch.setattr(plain, "self_attention", lambda qkv, *a, **k: own(mx.contiguous(qkv), *a, **k))
    assert set(layer_nodes(plain)) - {"StopGradient", "CustomTransforms", "SliceUpdate"} > {"Reshape"}
    assert not set(layer_nodes(plain)) - {"StopGradient", "CustomTransforms", "SliceUpdate"} <= set(VIEWS)


@pytest.mark.backend("native")
def test_a_layer_is_seven_nodes_on_native() -> None:
    assert layer_nodes(kernels.load("native")) == {"int4_matmul": 5, "self_attention": 1, "cross_attention": 1}
