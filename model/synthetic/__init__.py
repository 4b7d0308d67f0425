"""Bundles of random weights in the exact published layout, of any size: for tests and benchmarks.

    python -m model.synthetic tiny /tmp/tiny              # 4 MB
    python -m model.synthetic large /tmp/large --bits 4   # the published model's geometry, 2.4 GB

Nothing in them was learned; their output is a smoke test, not music. The scales are chosen so that activations keep
their size through the layers, attention has preferences, and text and audio change what comes out. Values come from
integers and correctly rounded operations alone, tensor by tensor from the seed and the tensor's name, so every machine
writes the same bytes.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path

import mlx.core as mx

from ..bundle import config_json as bundle_config
from ..bundle import tensors as layout
from ..config import PACKED_BITS, AdapterConfig, CodecConfig, Config, LMConfig, Quantization
from ..formats.tensor_writer import Layout, TensorWriter, layout_bytes
from ..progress import Progress
from ..whole_folder import need_space, new_folder
from . import codec as codec_file
from . import language_model
from . import t5 as t5_files
from .t5 import T5Dims

REAL_CODEC = CodecConfig()
T5_BASE = T5Dims()


@dataclass(frozen=True)
class Preset:
    """A geometry."""

    lm: LMConfig
    codec: CodecConfig = REAL_CODEC
    t5: T5Dims = T5_BASE
    group_size: int = 64


PRESETS = {
    "tiny": Preset(
        LMConfig(dim=128, heads=4, ffn=512, layers=4, card=256, text_dim=64),
        CodecConfig(dimension=32, n_filters=8, bins=256),
        T5Dims(d_model=64, d_kv=16, heads=4, d_ff=128, layers=2, vocab=512),
        group_size=32,
    ),
    "small": Preset(LMConfig(dim=1024, heads=16, ffn=4096, layers=24, card=2048)),
    "medium": Preset(LMConfig(dim=1536, heads=24, ffn=6144, layers=48, card=2048)),
    "large": Preset(LMConfig(dim=2048, heads=32, ffn=8192, layers=48, card=2048)),
}
"""MusicGen's three sizes, and a tiny one. The adapter spans all layers and 10 s, as upstream's."""

MAX_N_FRAMES = 500


def write_preset(
    name: str, out: str | Path, *, bits: int = 4, group_size: int | None = None, seed: int = 0,
    progress: Progress | None = None,
) -> Path:  # fmt: skip
    """Write a preset's bundle at 4, 8, 16 or 32 bits. `progress` is called with the bytes written and those in all."""
    preset = PRESETS[name]
    quantization = Quantization(bits, group_size or preset.group_size) if bits in PACKED_BITS else None
    dtype = mx.float32 if bits == 32 else mx.float16
    config = Config(preset.lm, AdapterConfig(preset.lm.layers, MAX_N_FRAMES), dtype, quantization)
    return write_bundle(out, config=config, codec=preset.codec, t5=preset.t5, seed=seed, progress=progress)


def write_bundle(
    out: str | Path, *, config: Config, codec: CodecConfig, t5: T5Dims, seed: int = 0,
    progress: Progress | None = None,
) -> Path:  # fmt: skip
    """Write a bundle of random weights, one tensor at a time: the largest takes little memory.

    `out` appears whole or not at all, as with `convert`. `progress`, where given, is called after each tensor with the
    bytes written and those in all. Raises ValueError for dimensions that don't fit each other.
    """
    lm = config.lm
    if t5.d_model != lm.text_dim:
        raise ValueError(f"t5.d_model={t5.d_model} must be the LM's text_dim={lm.text_dim}")
    if codec.bins < lm.card:
        raise ValueError(f"codec.bins={codec.bins} must be at least the LM's card={lm.card}")
    if codec.codebooks < lm.codebooks:
        raise ValueError(f"codec.codebooks={codec.codebooks} must be at least the LM's codebooks={lm.codebooks}")
    for module, (_, k) in layout.projections(lm).items():
        q = config.packing(module)
        if q and k % q.group_size:
            raise ValueError(f"group_size {q.group_size} does not divide the {k} inputs of {module}")
    stored = layout.stored_tensors(config)
    t5_stored: Layout = {name: (mx.float32, shape) for name, shape in t5_files.shapes(t5).items()}
    codec_tensors = codec_file.tensors(codec, seed)
    total = layout_bytes(stored) + layout_bytes(t5_stored) + sum(each.nbytes for each in codec_tensors.values())
    done = 0

    def wrote(nbytes: int) -> None:
        nonlocal done
        done += nbytes
        if progress is not None:
            progress(done, total)

    with new_folder(out) as part:
        need_space(part, total + (1 << 20))
        raw = bundle_config.render(config, codec) | {"random_weights": True}
        (part / "config.json").write_text(json.dumps(raw, indent=2) + "\n")
        with TensorWriter(part / "model.safetensors", stored, wrote) as writer:
            for name in layout.lm_shapes(lm, config.adapter):
                language_model.write_tensor(writer, name, config, stored, seed)
        codec_file.write(part / "compression_state_dict.bin", codec, codec_tensors, wrote)
        t5_files.write(part / "t5", t5, t5_stored, seed, wrote)
    return Path(out)


def sized(preset: str, **changes: int) -> Preset:
    """Return a preset with other dimensions of its language model, for tests and measurements."""
    found = PRESETS[preset]
    return replace(found, lm=replace(found.lm, **changes))
