"""Make a bundle from the upstream files, in little memory: one tensor at a time from mapped files to the new one."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterable, Sequence
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import mlx.core as mx
import numpy as np
from rich.console import Console
from rich.progress import MofNCompleteColumn, TimeElapsedColumn

import kernels
from reference.contract import Packed
from reference.tiles import lay_out

from ..audio import clip_files
from ..bundle import config_json as bundle_config
from ..bundle import hub, tiled
from ..bundle import tensors as layout
from ..bundle.bundle import check_codec, is_kept_packed, open_bundle
from ..bundle.codec_weights import load_codec, pretrained
from ..bundle.download import check_t5
from ..bundle.finite import not_finite
from ..bundle.positions import variance_step
from ..config import GROUP_SIZES, PACKED_BITS, Config, LMConfig, Quantization
from ..errors import UsageError, UserError
from ..formats import torch_file
from ..formats.safetensors_file import lazy, read_json
from ..formats.tensor_writer import Layout, TensorWriter, layout_bytes
from ..instructions import UPSTREAM, Vocabulary
from ..progress import bars_shown, new_bar
from ..quantize import recipes
from ..quantize.calibration import Calibration
from ..quantize.packing import Parts
from ..whole_folder import need_space, new_folder
from .checkpoint import Array, Upstream

BITS = (*PACKED_BITS, 16, 32)
CODEC_FILE = "compression_state_dict.bin"

Pack = Callable[[str, mx.array, Quantization, mx.Dtype], Parts]
"""Canonical name, weight [N, K], bits and group size, dtype of scales -> the packed module."""


def convert(
    *,
    adapter: str | Path,
    base: str | Path,
    t5: str | Path,
    out: str | Path,
    bits: int = 4,
    group_size: int | None = None,
    recipe: str = "plain",
    clips: Sequence[str | Path] = (),
    trained_frames: int | None = None,
    instructions: Vocabulary | None = None,
    license: str | None = None,
    native: bool = False,
) -> Path:
    """Write the bundle `out` from an Instruct-MusicGen checkpoint, its MusicGen base and T5.

    `adapter`: the Lightning checkpoint (or a folder or repo with one); `base`: a folder or repo with `state_dict.bin`
    and `compression_state_dict.bin`; `t5`: a folder, which is copied, or a repo, which is referred to. `bits` 4 or 8
    quantizes the layers' projections (affine, `group_size` inputs a scale: 64, or 32 where 64 does not fit the model,
    unless told) and stores the rest as float16; 16 stores float16 throughout; 32 is lossless. `recipe` (see
    `model.quantize.recipes`) chooses other bits for some modules, or better scales; its name is kept in config.json.
    The calibrated recipes run the 16-bit model over `clips` (files or folders) first, and need room on disk for it
    meanwhile. `trained_frames`: frames of the clips that the adapter was trained on, the default window; without it
    they are told by a step in the variance of the position table's rows, and left open where there is none.
    `instructions`: the instruments and kind of sentences that it was trained on (upstream's unless told). `native`:
    store packed matrices in the order that CPUs read them, so that the native backend needs not make it at each start;
    every backend reads it. `license`: of weights that aren't the published ones or made from them, as `info` and the
    tags of edits tell it. `out` appears whole or not at all. Return its path.

    Raises UsageError for bits, a group size or trained frames that don't fit, UserError for files that can't be used,
    and when the disk is full.
    """
    if bits not in BITS:
        raise UsageError(f"--bits {bits}: choose one of {', '.join(map(str, BITS))}")
    if group_size is not None and group_size not in GROUP_SIZES:
        raise UsageError(f"--group-size {group_size}: choose one of {', '.join(map(str, GROUP_SIZES))}")
    if native and bits not in PACKED_BITS:
        raise UsageError(f"--layout native orders packed matrices and --bits {bits} packs none; use --bits 4")
    chosen = recipes.named(recipe)
    if bits not in PACKED_BITS and recipe != "plain":
        raise UsageError(f"--recipe {recipe} quantizes and --bits {bits} does not; use --bits 4")
    if chosen.calibrated != bool(clips):
        raise UsageError(
            f"--recipe {recipe} needs --clips to calibrate on"
            if chosen.calibrated
            else f"--clips: --recipe {recipe} is not calibrated; use --recipe calibrated"
        )
    files = clip_files(clips)
    checkpoint = _checkpoint(hub.resolve(adapter, allow_patterns=("*.ckpt", "*.bin")))
    folder = hub.resolve(base, allow_patterns=("state_dict.bin", CODEC_FILE))
    upstream = Upstream(checkpoint, _file(folder, "state_dict.bin"))
    codec_source = _codec_source(_file(folder, CODEC_FILE))
    codec = load_codec(codec_source)[0]  # not the settings alone: weights that are no numbers are refused now
    check_codec(codec, upstream.lm, codec_source)
    t5_folder, t5_name = _t5(t5, upstream.lm.text_dim)
    trained = _trained_frames(upstream, trained_frames)
    own = replace(upstream.adapter, trained_frames=trained)
    quantization = Quantization(bits, _group_size(upstream.lm, group_size)) if bits in PACKED_BITS else None
    config = Config(
        upstream.lm, own, mx.float32 if bits == 32 else mx.float16, quantization,
        chosen.overrides(upstream.lm, upstream.adapter, quantization) if quantization else {},
        instructions or UPSTREAM,
    )  # fmt: skip
    stored = layout.stored_tensors(config)
    if native:
        stored = tiled.stored_so(stored, config, is_kept_packed)
    with new_folder(out) as part:
        copies = [codec_source, *([t5_folder] if t5_folder else [])]
        need_space(part, layout_bytes(stored) + sum(_size(path) for path in copies) + (1 << 20))
        dense = part / ".dense"
        pack, seen = _packer(
            chosen, files,
            lambda: convert(
                adapter=adapter, base=base, t5=t5, out=dense, bits=16, trained_frames=trained,
                instructions=instructions,
            ),
        )  # fmt: skip
        _write_tensors(part / "model.safetensors", stored, upstream, config, pack)
        shutil.rmtree(dense, ignore_errors=True)
        _copy_codec(codec_source, part)
        if t5_folder:
            _copy(part / "t5", t5_folder, T5_COPIED)
        raw = bundle_config.render(config, codec, t5_name)
        if instructions:
            raw["instructions"] = instructions.entry()
        if native:
            raw["layout"] = tiled.NATIVE
        if license:
            raw["license"] = license
        if quantization:
            raw["quantization"] |= {"recipe": recipe} | ({"calibration": seen} if seen else {})
        (part / "config.json").write_text(json.dumps(raw, indent=2) + "\n")
        open_bundle(part)
    return Path(out)


T5_COPIED = (
    "config.json", "model.safetensors", "spiece.model", "tokenizer.json", "tokenizer_config.json",
    "special_tokens_map.json", "added_tokens.json",
)  # fmt: skip


def _checkpoint(path: Path) -> Path:
    if not path.is_dir():
        return path
    named = path / "finetuned.ckpt"
    found = [named] if named.exists() else sorted(path.glob("*.ckpt"))
    if len(found) != 1:
        raise UserError(f"{path} has {len(found)} .ckpt files; name the adapter's checkpoint itself")
    return found[0]


def _file(folder: Path, name: str) -> Path:
    if not folder.is_dir() or not (folder / name).is_file():
        raise UserError(f"{folder} has no {name}; --base must be a MusicGen folder (as facebook/musicgen-large)")
    return folder / name


def _codec_source(path: Path) -> Path:
    """Return the file, or what an export that only names its codec refers to."""
    tree = torch_file.load(path)
    name = tree.get("pretrained") if isinstance(tree, dict) else None
    return pretrained(name, path) if isinstance(name, str) else path


def _t5(given: str | Path, text_dim: int) -> tuple[Path | None, str]:
    """Return the folder to copy, or None and the name of the repo to refer to."""
    path = hub.resolve(given, allow_patterns=("config.json",))
    local = hub.local(given) is not None
    if not path.is_dir():
        raise UserError(f"{given} is a file; --t5 must be a T5 folder or a Hugging Face repo name")
    d_model = read_json(path / "config.json").get("d_model")
    if d_model != text_dim:
        raise UserError(f"{given} has d_model={d_model!r:.40}; the text projection needs {text_dim} (t5-base has 768)")
    if local and not (path / "model.safetensors").is_file():
        raise UserError(f"{given} has no model.safetensors; give a T5 folder that has (as google-t5/t5-base)")
    if local:
        check_t5(path)
        if damaged := not_finite(lazy(path / "model.safetensors")):
            raise UserError(f"{path / 'model.safetensors'}: NaN or infinity in {', '.join(damaged)}; get a whole copy")
    return (path, hub.T5) if local else (None, str(given))


def _trained_frames(upstream: Upstream, asked: int | None) -> int | None:
    """Return `asked` if the position table is that long; if None, what a step in the table's variance shows."""
    longest = upstream.adapter.max_n_frames
    if asked is None:
        return variance_step(upstream.read("cp_transformer.pos_emb")).trained_frames
    if not 1 <= asked <= longest:
        raise UsageError(f"--trained-frames {asked} must be between 1 and {longest}, the frames of the position table")
    return asked


def _group_size(lm: LMConfig, asked: int | None) -> int:
    """Return `asked` if it divides the inputs of every projection; by default 64, as published, or 32 if 64 doesn't."""
    fits = [size for size in GROUP_SIZES if lm.dim % size == 0 and lm.ffn % size == 0]
    if asked is None and fits:
        return min(64, max(fits))
    size = asked or 64
    for name, width in (("dim", lm.dim), ("ffn", lm.ffn)):
        if width % size:
            advice = f"use --group-size {' or '.join(map(str, fits))}" if fits else "use --bits 16 or 32"
            raise UsageError(f"--group-size {size} does not divide {name}={width}; {advice}")
    return size


def _packer(recipe: recipes.Recipe, clips: Sequence[Path], dense: Callable[[], Path]) -> tuple[Pack, str]:
    """Return the recipe's packing function, and its calibration data; `dense` makes the 16-bit bundle if needed."""
    if not recipe.calibrated:
        return lambda module, weight, quantization, dtype: recipe.pack(weight, quantization, dtype), ""
    with Console(stderr=True).status("encoding clips") if bars_shown() else nullcontext():
        calibration = Calibration(open_bundle(dense()), kernels.load(), clips)

    def pack(module: str, weight: mx.array, quantization: Quantization, dtype: mx.Dtype) -> Parts:
        if not module.startswith("layers."):
            return recipe.pack(weight, quantization, dtype)
        return calibration.pack(module, weight, quantization, dtype)

    return pack, calibration.summary


def _write_tensors(path: Path, stored: Layout, upstream: Upstream, config: Config, pack: Pack) -> None:
    with new_bar(MofNCompleteColumn(), TimeElapsedColumn()) as progress, TensorWriter(path, stored) as writer:
        for name in progress.track(list(layout.lm_shapes(config.lm, config.adapter)), description="converting"):
            value = upstream.read(name)
            if not np.isfinite(value).all():
                raise UserError(f"{upstream.adapter_path}: {name} holds NaN or infinity; the checkpoint is damaged")
            module = name.removesuffix(".weight")
            if q := config.packing(module):
                parts = pack(module, mx.array(value), q, config.dtype)
                if not all(mx.isfinite(part).all().item() for part in parts[1:]):
                    raise _too_large(name, value)
                if module + tiled.SUFFIX in stored:
                    writer.write(module + tiled.SUFFIX, lay_out(Packed(*parts, q.group_size, q.bits)))
                else:
                    for part, made in zip(tiled.PARTS, parts):
                        writer.write(f"{module}.{part}", made)
            else:
                writer.write(name, _narrowed(name, value, config.dtype))
            mx.clear_cache()


def _narrowed(name: str, value: Array, dtype: mx.Dtype) -> np.ndarray:
    if dtype == mx.float32:
        return value
    with np.errstate(over="ignore"):
        half = value.astype(np.float16)
    if not np.isfinite(half).all():
        raise _too_large(name, value)
    return half


def _too_large(name: str, value: Array) -> UserError:
    return UserError(f"{name} has values up to {np.abs(value).max():.3g}, too large for float16; use --bits 32")


def _size(path: Path) -> int:
    return sum(p.stat().st_size for p in path.iterdir() if p.is_file()) if path.is_dir() else path.stat().st_size


def _copy(target: Path, source: Path, names: Iterable[str]) -> None:
    target.mkdir()
    for name in names:
        if (source / name).is_file():
            shutil.copyfile(source / name, target / name)


def _copy_codec(source: Path, part: Path) -> None:
    if source.is_dir() and not (source / CODEC_FILE).exists():
        _copy(part / "encodec", source, ("config.json", "model.safetensors"))
    else:
        shutil.copyfile(source / CODEC_FILE if source.is_dir() else source, part / CODEC_FILE)
