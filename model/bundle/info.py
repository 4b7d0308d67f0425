"""What a bundle holds: sizes, quantization, parameter counts, license."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
from rich.console import Console
from rich.table import Table

from ..config import FRAME_RATE
from ..formats.safetensors_file import read_header
from . import tensors as layout
from . import tiled
from .bundle import Bundle
from .codec_weights import codec_config
from .positions import variance_step

LICENSE = "CC-BY-NC-4.0"
NOTICE = (
    "The published Instruct-MusicGen and MusicGen weights, and every bundle made from them, are licensed CC-BY-NC 4.0: "
    "attribution, no commercial use. (This program is under the MIT license.)"
)
RANDOM_NOTICE = "Its weights are random: what it makes is a smoke test, not music, and no license restricts it."


def describe(bundle: Bundle) -> dict[str, Any]:
    """Return a bundle in numbers, ready for JSON.

    For each part and in all: `bytes` on disk, `parameters` as stored (a packed word counts as one, as model cards
    count) and `weights` (every weight counts, packed or not). `positions`: the variance of the position tables' rows
    and where it steps (see `model.bundle.positions`). Nothing but headers and these tables is read.
    """
    lm, adapter, trained = bundle.config.lm, bundle.config.adapter, bundle.config.instructions
    codec = codec_config(bundle.codec_path)
    parts = _stored_parts(bundle)
    weights = layout.count(layout.codec_shapes(codec))
    parts["codec"] = {"bytes": _bytes(bundle.codec_path), "parameters": weights, "weights": weights}
    t5 = bundle.path / "t5"
    if t5.is_dir():
        shapes = {n: shape for n, (_, shape) in read_header(t5 / "model.safetensors").items()}
        weights = layout.count(shapes)
        parts["T5 text encoder"] = {"bytes": _bytes(t5), "parameters": weights, "weights": weights}
    return {
        "path": str(bundle.path),
        "license": license_of(bundle),
        "random_weights": bundle.random_weights,
        "notice": _notice(bundle),
        "dtype": str(bundle.config.dtype).rpartition(".")[2],
        "quantization": _quantization(bundle),
        "layout": tiled.describe(bundle.raw_config, bundle.sources),
        "language_model": asdict(lm) | {"head_dim": lm.head_dim},
        "adapter": asdict(adapter) | {"seconds": adapter.max_n_frames / FRAME_RATE},
        "positions": _positions(bundle),
        "codec": asdict(codec) | {"ratios": list(codec.ratios), "hop": math.prod(codec.ratios)},
        "instructions": {"instruments": list(trained.instruments), "everyday": trained.everyday},
        "t5": "in the bundle" if t5.is_dir() else f"{bundle.t5_name} (Hugging Face)",
        "parts": parts,
        "total": {key: sum(part[key] for part in parts.values()) for key in ("bytes", "parameters", "weights")},
    }


def license_of(bundle: Bundle) -> str | None:
    """Return the license of a bundle and of what it makes: what config.json states, else the published weights'.

    None for random weights, which no license restricts.
    """
    if bundle.random_weights:
        return None
    stated = bundle.raw_config.get("license")
    return " ".join(stated.split())[:80] if isinstance(stated, str) and stated.strip() else LICENSE


def _notice(bundle: Bundle) -> str:
    if bundle.random_weights:
        return RANDOM_NOTICE
    stated = license_of(bundle)
    return NOTICE if stated == LICENSE else f"Its config.json says that its license is {stated}."


def show(description: Mapping[str, Any], console: Console | None = None) -> None:
    """Print what `describe` found."""
    console = console or Console(highlight=False, soft_wrap=True)
    lm, adapter, codec, asked = (description[key] for key in ("language_model", "adapter", "codec", "instructions"))
    positions = description["positions"]
    rows = {
        "bundle": description["path"],
        "quantization": _quantization_text(description["quantization"], description["dtype"]),
        "layout": _layout_text(description["layout"]),
        "language model": f"{lm['layers']} layers, dim {lm['dim']}, {lm['heads']} heads of {lm['head_dim']}, "
        f"ffn {lm['ffn']}, {lm['codebooks']} codebooks of {lm['card']}",
        "adapter": f"{adapter['layers']} layers from layer {adapter['start_layer']} on, windows of "
        f"{positions['window_seconds']:g} s ({positions['window_frames']} frames) by default, at most "
        f"{adapter['seconds']:g} s ({adapter['max_n_frames']} frames)",
        "positions": _positions_text(positions),
        "codec": f"EnCodec {codec['sample_rate']} Hz, {codec['n_filters']} filters, ratios "
        f"{'·'.join(map(str, codec['ratios']))} (hop {codec['hop']}), {codec['pad_mode']} padding",
        "T5": f"{description['t5']}, {lm['text_dim']} features",
        "instructions": f"{', '.join(asked['instruments'])}{'; everyday sentences too' if asked['everyday'] else ''}",
    }
    for key, text in rows.items():
        console.print(f"{key:<15} {text}", markup=False)
    table = Table(box=None, pad_edge=False)
    table.add_column("part")
    for heading in ("size", "parameters", "weights"):
        table.add_column(heading, justify="right")
    for name, part in {**description["parts"], "total": description["total"]}.items():
        table.add_row(name, size_text(part["bytes"]), _count(part["parameters"]), _count(part["weights"]))
    console.print(table)
    console.print("(parameters: a packed word counts as one; weights: each counts)", markup=False)
    console.print(f"license         {description['notice']}", markup=False)


GROUPS = {
    "layers.": "layer projections", "emb.": "embeddings", "linears.": "output heads", "out_norm.": "norms",
    "text_conditioner.": "text projection", "cp_transformer.": "adapter",
}  # fmt: skip


def _part(name: str) -> str:
    if name.startswith("layers.") and ".norm" in name:
        return "norms"
    return next(part for prefix, part in GROUPS.items() if name.startswith(prefix))


def _stored_parts(bundle: Bundle) -> dict[str, dict[str, int]]:
    """Sum up `model.safetensors` by what its tensors are for."""
    names = ("layer projections", "embeddings", "output heads", "norms", "text projection", "adapter")
    parts = {name: {"bytes": 0, "parameters": 0, "weights": 0} for name in names}
    for name, source in bundle.sources.items():
        part, size = parts[_part(name)], math.prod(source.shape)
        part["parameters"] += size
        part["bytes"] += size * source.dtype.size
    for name, shape in layout.lm_shapes(bundle.config.lm, bundle.config.adapter).items():
        parts[_part(name)]["weights"] += math.prod(shape)
    return parts


def _positions(bundle: Bundle) -> dict[str, Any]:
    """Return the step in the variance of the rows, what config.json says was trained, and the window that follows."""
    adapter = bundle.config.adapter
    tables = bundle.load(["cp_transformer.pos_emb"])["cp_transformer.pos_emb"]
    step = variance_step(np.array(tables[i].astype(mx.float32)) for i in range(adapter.layers + 1))
    return asdict(step) | {
        "step_frames": step.trained_frames,
        "trained_frames": adapter.trained_frames,
        "window_frames": adapter.window_frames,
        "window_seconds": adapter.window_frames / FRAME_RATE,
    }


def _positions_text(found: Mapping[str, Any]) -> str:
    if found["row"] is None:
        variance = f"variance {found['before']:.4g} throughout (no step)"
    else:
        variance = (
            f"variance {found['before']:.4g} before row {found['row']}, {found['after']:.4g} from there on "
            f"(t {found['t']:.0f})"
        )
    trained = found["trained_frames"]
    said = f"config.json: {trained} frames were trained" if trained else "config.json doesn't say how many were trained"
    return f"{found['rows']} rows, {variance}; {said}"


def _quantization(bundle: Bundle) -> dict[str, Any] | None:
    """Return how the quantized modules are packed, with how many modules are packed each way."""
    default = bundle.config.quantization
    if default is None:
        return None
    modules = [name.removesuffix(".scales") for name in bundle.sources if name.endswith(".scales")]
    kinds = Counter(q for module in modules if (q := bundle.config.packing(module)))
    others = [asdict(q) | {"modules": n} for q, n in kinds.items() if q != default]
    recipe = (bundle.raw_config.get("quantization") or {}).get("recipe")
    return asdict(default) | {"modules": kinds[default], "others": others, "recipe": recipe}


def _quantization_text(found: Mapping[str, Any] | None, dtype: str) -> str:
    if found is None:
        return f"none, {dtype}"
    kinds = [found, *found["others"]]
    each = [f"{q['modules']} projections in {q['bits']} bits, groups of {q['group_size']}; " for q in kinds]
    recipe = f" (recipe {found['recipe']})" if isinstance(found["recipe"], str) else ""
    return f"{''.join(each)}the rest {dtype}{recipe}"


def _layout_text(found: Mapping[str, Any] | None) -> str:
    if found is None:
        return "as mx.quantize makes it"
    return f"{found['name']} (version {found['version']}), {found['matrices']} matrices"


def _bytes(path: Path) -> int:
    return sum(p.stat().st_size for p in path.rglob("*") if p.is_file()) if path.is_dir() else path.stat().st_size


def size_text(nbytes: int) -> str:
    """Return a number of bytes for people, in GB or MB."""
    return f"{nbytes / 1e9:.2f} GB" if nbytes >= 1e9 else f"{nbytes / 1e6:.2f} MB"


def _count(n: int) -> str:
    return f"{n / 1e9:.2f} G" if n >= 1e9 else f"{n / 1e6:.1f} M" if n >= 1e6 else f"{n / 1e3:.1f} k"
