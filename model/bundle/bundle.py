"""Open a bundle: config.json, model.safetensors, the codec, and T5. Validated whole before memory is taken.

The layout is that of `aufklarer/Instruct-MusicGen-MLX-4bit`; see `model.bundle.tensors` for the canonical names.
Which modules are quantized is told by the presence of their `.scales`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import mlx.core as mx

from ..config import CodecConfig, Config, LMConfig, Quantization
from ..errors import UserError
from ..formats.safetensors_file import FLOATS, Header, lazy, read_header, read_json
from . import hub
from . import tensors as layout
from .codec_weights import codec_config
from .config_json import parse
from .names import canonical

SHOWN = 20
"""Names that an error lists, of each kind."""


@dataclass(frozen=True)
class Source:
    """Where a canonical tensor is."""

    file: Path
    name: str
    dtype: mx.Dtype
    shape: layout.Shape


@dataclass(frozen=True)
class Bundle:
    """A validated bundle. Its tensors are lazy: nothing is in memory until it is evaluated."""

    path: Path
    config: Config
    sources: Mapping[str, Source]
    """Every stored tensor by canonical name; gates stored one by one are `cp_transformer.gates.N`."""
    raw_config: Mapping[str, Any]

    @cached_property
    def tensors(self) -> dict[str, mx.array]:
        """The LM's and adapter's tensors by canonical name, lazy; projections and heads as stored, the rest dense."""
        return self._load(self.sources)

    def reload(self, names: Iterable[str]) -> dict[str, mx.array]:
        """Fresh lazy arrays of the given canonical names: evaluate and drop them, and their memory is free again."""
        names = set(names)
        modules = {name.removesuffix(".weight") for name in names}
        wanted = [n for n in self.sources if n in names or n.rpartition(".")[0] in modules | names]
        loaded = self._load(wanted)
        return {name: loaded[name] for name in names}

    def _load(self, wanted: Iterable[str]) -> dict[str, mx.array]:
        wanted = list(wanted)
        files = {path: lazy(path) for path in {self.sources[n].file for n in wanted}}
        found = {n: files[self.sources[n].file][self.sources[n].name] for n in wanted}
        gates = [n for n in found if n.startswith("cp_transformer.gates.")]
        gates.sort(key=lambda name: int(name.rpartition(".")[2]))
        if gates:
            found["cp_transformer.gates"] = mx.stack([found.pop(n).reshape(()) for n in gates])
        elif "cp_transformer.gates" in found:
            found["cp_transformer.gates"] = found["cp_transformer.gates"].reshape(-1)
        packed = [n.removesuffix(".scales") for n in found if n.endswith(".scales")]
        for module in [m for m in packed if not stays_packed(m)]:
            scales, biases = found.pop(f"{module}.scales"), found.pop(f"{module}.biases")
            q = self.config.packing(module)
            assert q is not None
            weight = found[f"{module}.weight"]
            found[f"{module}.weight"] = mx.dequantize(weight, scales, biases, group_size=q.group_size, bits=q.bits)
        return found

    @property
    def random_weights(self) -> bool:
        """Whether it was written by `model.synthetic`: nothing in it was learned, its output is a smoke test."""
        return self.raw_config.get("random_weights") is True

    @property
    def codec_path(self) -> Path:
        """EnCodec: audiocraft's file, or a Hugging Face folder named `encodec`."""
        return _codec_path(self.path)

    @property
    def t5_path(self) -> Path:
        """The bundle's `t5` folder, else the T5 repo that config.json names (or t5-base), fetched if needed."""
        folder = self.path / "t5"
        if not folder.is_dir():
            return hub.resolve(self.t5_name, allow_patterns=hub.T5_FILES)
        return folder

    @property
    def t5_name(self) -> str:
        """The repo that T5 comes from where the bundle has no `t5` folder."""
        text = self.raw_config.get("text_encoder")
        name = text.get("_name_or_path") if isinstance(text, dict) else None
        if not isinstance(name, str) or not hub.is_repo_name(name):
            return hub.T5
        return f"google-t5/{name}" if name.startswith("t5-") else name


def stays_packed(module: str) -> bool:
    """Whether a packed module is computed with as it is stored: projections and heads, which every step reads."""
    return module.startswith(("layers.", "linears."))


def demo_path() -> Path:
    """The bundle that comes with the package: tiny, structurally exact, its weights random."""
    return Path(__file__).parents[1] / "demo" / "bundle"


def open_bundle(path_or_repo: str | Path, *, revision: str | None = None) -> Bundle:
    """Open and validate a bundle folder, or a Hugging Face repo's (cached or fetched).

    Raises UserError, one line: not there, truncated, or missing, unexpected or mis-shaped tensors (all of them, up to
    twenty a kind), or a config.json that contradicts the weights.
    """
    path = hub.resolve(path_or_repo, revision=revision, allow_patterns=hub.BUNDLE_FILES)
    if not path.is_dir():
        raise UserError(f"{path} is a file; give the bundle's folder (the one with config.json)")
    raw = read_json(path / "config.json")
    sources = _sources(path)
    config = parse(raw, {name: (s.dtype, s.shape) for name, s in sources.items()}, path / "config.json")
    config = _validate(config, sources, raw, path)
    check_codec(codec_config(_codec_path(path)), config.lm, path)
    if (path / "t5").is_dir():
        d_model = read_json(path / "t5" / "config.json").get("d_model")
        if d_model != config.lm.text_dim:
            needs = config.lm.text_dim
            raise UserError(f"{path / 't5'} has d_model={d_model!r:.40}; the bundle's text projection needs {needs}")
    return Bundle(path, config, sources, raw)


def _sources(path: Path) -> dict[str, Source]:
    """All tensors of model.safetensors (or of its shards), by canonical name, from the headers alone."""
    single = path / "model.safetensors"
    files = [single] if single.exists() else sorted(path.glob("model-*-of-*.safetensors"))
    if not files:
        raise UserError(f"{path} has no model.safetensors; is it a bundle? (instruct-musicgen convert makes one)")
    if files != [single] and (missing := hub.missing_shards([file.name for file in files])):
        raise UserError(f"{path} lacks {', '.join(missing[:SHOWN])} of its {len(missing) + len(files)} weight files")
    sources: dict[str, Source] = {}
    for file in files:
        header: Header = read_header(file)
        for stored, (dtype, shape) in header.items():
            name = canonical(stored)
            if name in sources:
                raise UserError(f"{file}: {stored} and {sources[name].name} are the same tensor {name}")
            sources[name] = Source(file, stored, dtype, shape)
    return sources


def _validate(config: Config, sources: Mapping[str, Source], raw: Mapping[str, Any], path: Path) -> Config:
    """The config with each module's quantization; UserError listing all that doesn't fit."""
    problems = _Problems()
    found: dict[str, Quantization] = {}
    used: set[str] = set()
    for name, shape in layout.lm_shapes(config.lm, config.adapter).items():
        module = name.removesuffix(".weight")
        if name == "cp_transformer.gates":
            used |= _check_gates(sources, config.adapter.layers, problems)
        elif name.endswith(".weight") and len(shape) == 2 and f"{module}.scales" in sources:
            used |= {name, f"{module}.scales", f"{module}.biases"}
            if quantization := _check_packed(module, shape, sources, problems):
                found[module] = quantization
        elif name not in sources:
            problems.missing.append(name)
        else:
            used.add(name)
            problems.check(name, sources[name], shape)
    problems.unexpected = [f"{n} {list(sources[n].shape)}" for n in sources if n not in used]
    if message := problems.message():
        raise UserError(f"{path}: the weights do not fit config.json: {message}")
    return _quantized(config, found, raw, path)


class _Problems:
    def __init__(self) -> None:
        self.missing: list[str] = []
        self.unexpected: list[str] = []
        self.wrong: list[str] = []

    def check(self, name: str, source: Source, shape: layout.Shape) -> None:
        if source.dtype not in FLOATS:
            self.wrong.append(f"{name} is {_dtype_name(source.dtype)}, needs a float dtype")
        elif source.shape != shape:
            self.wrong.append(f"{name} {list(source.shape)}, needs {list(shape)}")

    def message(self) -> str:
        kinds = {"missing": self.missing, "unexpected": self.unexpected, "mis-shaped": self.wrong}
        return "; ".join(f"{kind}: {_listed(names)}" for kind, names in kinds.items() if names)


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more


def _dtype_name(dtype: mx.Dtype) -> str:
    return str(dtype).rpartition(".")[2]


def _check_gates(sources: Mapping[str, Source], layers: int, problems: _Problems) -> set[str]:
    """The gates as one tensor, or one scalar each."""
    whole = sources.get("cp_transformer.gates")
    if whole is not None:
        same = math.prod(whole.shape) == layers
        problems.check("cp_transformer.gates", whole, whole.shape if same else (layers,))
        return {"cp_transformer.gates"}
    names = [f"cp_transformer.gates.{i}" for i in range(layers)]
    missing = [n for n in names if n not in sources]
    problems.missing += ["cp_transformer.gates"] if len(missing) == layers else missing
    for name in set(names) - set(missing):
        same = math.prod(sources[name].shape) == 1
        problems.check(name, sources[name], sources[name].shape if same else ())
    return set(names)


def _check_packed(
    module: str, shape: layout.Shape, sources: Mapping[str, Source], problems: _Problems
) -> Quantization | None:
    """Bits and group size that the shapes of a packed module tell; None (and a problem) if they tell none."""
    names = [f"{module}.{part}" for part in ("weight", "scales", "biases")]
    if missing := [n for n in names if n not in sources]:
        problems.missing += missing
        return None
    weight, scales, biases = (sources[n] for n in names)
    rows, k = shape
    if weight.dtype != mx.uint32:
        problems.wrong.append(f"{names[0]} is {_dtype_name(weight.dtype)}, needs uint32 beside its scales")
        return None
    for name, source in zip(names[1:], (scales, biases)):
        if source.dtype not in FLOATS:
            problems.wrong.append(f"{name} is {_dtype_name(source.dtype)}, needs a float dtype")
    fits = len(weight.shape) == len(scales.shape) == 2 and weight.shape[0] == scales.shape[0] == rows
    if fits and scales.shape == biases.shape and weight.shape[1] and scales.shape[1]:
        for bits in (4, 8):
            for group_size in (32, 64, 128):
                if (weight.shape[1] * 32, scales.shape[1] * group_size) == (k * bits, k):
                    return Quantization(bits, group_size)
    problems.wrong.append(
        f"{module}.weight {list(weight.shape)} with scales {list(scales.shape)} and biases {list(biases.shape)} "
        f"(is no 4 or 8 bit form of {list(shape)} in groups of 32, 64 or 128)"
    )
    return None


def _quantized(config: Config, found: Mapping[str, Quantization], raw: Mapping[str, Any], path: Path) -> Config:
    """Check what the shapes tell against config.json's default and its entries for single modules."""
    default, overrides = config.quantization, config.recipe
    if default is not None and not found:
        raise UserError(f"{path / 'config.json'} says {default.bits} bits, but no weight has scales: a contradiction")
    kinds = list(found.values())
    if default is None and found:
        default = max(set(kinds), key=kinds.count)
    stated = raw.get("quantization") is not None
    for module, quantization in found.items():
        expected = overrides.get(module, default)
        if stated and quantization != expected:
            assert expected is not None
            raise UserError(
                f"{path}: {module} is packed with {quantization.bits} bits in groups of {quantization.group_size}, and "
                f"config.json says {expected.bits} in groups of {expected.group_size}; it contradicts the weights"
            )
    if ghosts := [m for m in overrides if m not in found]:
        raise UserError(f"{path / 'config.json'} quantizes modules that have no scales: {_listed(ghosts)}")
    usual = replace(config, quantization=default, recipe={})
    modules = [name.removesuffix(".weight") for name in layout.lm_shapes(config.lm, config.adapter)]
    return replace(usual, recipe={m: found.get(m) for m in modules if found.get(m) != usual.packing(m)})


def check_codec(codec: CodecConfig, lm: LMConfig, path: Path) -> None:
    """UserError unless the codec's tokens are the LM's."""
    if (codec.codebooks, codec.bins) != (lm.codebooks, lm.card):
        raise UserError(
            f"{path}: the codec has {codec.codebooks} codebooks of {codec.bins}, "
            f"the language model needs {lm.codebooks} of {lm.card}"
        )


def _codec_path(path: Path) -> Path:
    for name in ("compression_state_dict.bin", "encodec"):
        if (path / name).exists():
            return path / name
    raise UserError(f"{path} has no codec: compression_state_dict.bin (or a Hugging Face folder 'encodec') is missing")
