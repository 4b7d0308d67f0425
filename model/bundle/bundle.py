"""Open a bundle: config.json, model.safetensors, the codec, and T5. Validated whole before memory is taken.

The layout is that of `aufklarer/Instruct-MusicGen-MLX-4bit`; see `model.bundle.tensors` for the canonical names.
Which modules are quantized is told by the presence of their `.scales`.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import mlx.core as mx

from reference.tiles import Tiles

from ..config import CodecConfig, Config, LMConfig
from ..errors import UserError
from ..formats.safetensors_file import lazy, read_header, read_json
from . import hub
from . import tensors as layout
from .check_tensors import MAX_LISTED, check_tensors
from .codec_weights import codec_config
from .config_json import hints, parse
from .config_keys import StatedConfig
from .names import keys as key_map
from .names.elimination import eliminate
from .names.match import Match, match
from .source import Source
from .tiled import TilesPart, expanded

KEYS_FILE = "keys.json"
IN_PARTS = re.compile(r"(cp_transformer\.(?:gates|pos_emb))\.\d+(?:\.(?:weight|scales|biases))?")
"""Tensors that may be stored in parts, which are put together when they are read."""


@dataclass(frozen=True)
class Bundle:
    """A validated bundle. Its tensors are lazy: nothing is in memory until it is evaluated."""

    path: Path
    config: Config
    sources: Mapping[str, Source]
    """Every stored tensor by canonical name; where gates and positions are stored one by one they are
    `cp_transformer.gates.N` and `cp_transformer.pos_emb.N.weight`."""
    raw_config: Mapping[str, Any]

    @cached_property
    def tensors(self) -> dict[str, mx.array]:
        """The LM's and adapter's tensors by canonical name, lazy; projections and heads as stored, the rest dense."""
        return self._load(self.sources)

    def load(self, names: Iterable[str]) -> dict[str, mx.array]:
        """Return new lazy arrays of these canonical names; dropping them frees their memory."""
        names = set(names)
        modules = {name.removesuffix(".weight") for name in names}
        wanted = [
            n
            for n in self.sources
            if n in names or n.rpartition(".")[0] in modules or ((part := IN_PARTS.fullmatch(n)) and part[1] in names)
        ]
        loaded = self._load(wanted)
        return {name: loaded[name] for name in names}

    def tiles(self) -> dict[str, Tiles]:
        """Return fresh lazy matrices by module, of those that are stored in the order of the native backend."""
        parts = {
            name.removesuffix(".weight"): source
            for name, source in self.sources.items()
            if isinstance(source, TilesPart) and source.part == 0
        }
        files = {path: lazy(path) for path in {part.file for part in parts.values()}}
        return {module: part.tiles(files[part.file]) for module, part in parts.items()}

    def _load(self, wanted: Iterable[str]) -> dict[str, mx.array]:
        wanted = list(wanted)
        files = {path: lazy(path) for path in {self.sources[n].file for n in wanted}}
        found = {n: self.sources[n].read(files[self.sources[n].file]) for n in wanted}
        packed = [n.removesuffix(".scales") for n in found if n.endswith(".scales")]
        for module in [m for m in packed if not is_kept_packed(m)]:
            scales, biases = found.pop(f"{module}.scales"), found.pop(f"{module}.biases")
            q = self.config.packing(module)
            assert q is not None
            weight = found[f"{module}.weight"]
            found[f"{module}.weight"] = mx.dequantize(weight, scales, biases, group_size=q.group_size, bits=q.bits)
        return _whole(found)

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
        return hub.t5_repo(
            StatedConfig(self.raw_config, self.path / "config.json").section("text").get("_name_or_path")
        )


def _whole(tensors: dict[str, mx.array]) -> dict[str, mx.array]:
    """Put gates and positions together where they are stored one by one."""
    parts: dict[str, dict[int, mx.array]] = {}
    for name in [name for name in tensors if IN_PARTS.fullmatch(name)]:
        whole, _, number = name.removesuffix(".weight").rpartition(".")
        parts.setdefault(whole, {})[int(number)] = tensors.pop(name)
    for whole, numbered in parts.items():
        apart = [numbered[number] for number in sorted(numbered)]
        tensors[whole] = mx.stack([a.reshape(()) for a in apart] if whole.endswith("gates") else apart)
    if "cp_transformer.gates" in tensors:
        tensors["cp_transformer.gates"] = tensors["cp_transformer.gates"].reshape(-1)
    return tensors


def is_kept_packed(module: str) -> bool:
    """Tell whether a packed module is computed with as it is stored: projections and heads, which every step reads."""
    return module.startswith(("layers.", "linears."))


DEMO = "demo"
"""The name of the bundle that comes with the package."""


def demo_path() -> Path:
    """Return the bundle that comes with the package: tiny, trained on songs composed for it."""
    return Path(__file__).parents[1] / "demo" / "bundle"


def open_bundle(
    path_or_repo: str | Path, *, revision: str | None = None, keys: str | Path | key_map.Keys | None = None
) -> Bundle:
    """Open and validate a bundle folder, a Hugging Face repo's (cached or fetched), or the package's own ("demo").

    Tensors are matched by what their names say, in any of the dialects in use, and by their shapes; `keys` names those
    that this leaves open (a JSON file or a mapping, see `model.bundle.names.keys`; by default the bundle's own
    keys.json, if it has one).

    Raises UserError, one line, if it is not there or truncated, if tensors are missing, unexpected, ambiguous or
    mis-shaped (all of them, up to twenty a kind), or if config.json contradicts the weights.
    """
    path = folder(path_or_repo, revision=revision)
    found, config, stated = matched(path, keys)
    config = check_tensors(config, found, stated, path)
    if found.guessed:
        warnings.warn(
            f"{path}: {len(found.guessed)} tensors were told by their shapes alone; look at them with info --keys",
            stacklevel=2,
        )
    check_codec(codec_config(_codec_path(path)), config.lm, path)
    if (path / "t5").is_dir():
        d_model = read_json(path / "t5" / "config.json").get("d_model")
        if d_model != config.lm.text_dim:
            needs = config.lm.text_dim
            raise UserError(
                f"{path / 't5'} has d_model={d_model!r:.40}; the bundle's text projection needs {needs}; "
                "put T5 of that width there"
            )
    return Bundle(path, config, found.sources, stated.raw)


def folder(path_or_repo: str | Path, *, revision: str | None = None) -> Path:
    """Return the bundle's folder; `demo` is the one that comes with the package, unless a folder here has that name.

    Raises UserError if it is not there, or is a file.
    """
    if str(path_or_repo) == DEMO and hub.local(DEMO) is None:
        if revision:
            raise UserError(f"--revision {revision}: picks a version of a Hugging Face repo; the demo has none")
        return demo_path()
    path = hub.resolve(path_or_repo, revision=revision, allow_patterns=hub.BUNDLE_FILES)
    if not path.is_dir():
        raise UserError(f"{path} is a file; give the bundle's folder (the one with config.json)")
    return path


def matched(path: Path, keys: str | Path | key_map.Keys | None = None) -> tuple[Match, Config, StatedConfig]:
    """Return what became of every stored tensor, the dimensions, and what config.json states; not yet whether they fit.

    Raises UserError for files that can't be read, and dimensions that neither config.json nor the weights tell.
    """
    stated = StatedConfig(read_json(path / "config.json"), path / "config.json")
    stored, called = _stored(path)
    stored = expanded(stored, stated)
    if keys is None and (path / KEYS_FILE).is_file():
        keys = path / KEYS_FILE
    given = key_map.named(key_map.read_keys(keys), [source.name for source in stored], path)
    found = match(stored, called | given, hints(stated))
    config = parse(stated, found.sources)
    eliminate(found, layout.lm_shapes(config.lm, config.adapter), given)
    return found, config, stated


def _stored(path: Path) -> tuple[list[Source], dict[str, str | None]]:
    """List all tensors of model.safetensors, its shards or other weight files, from the headers alone.

    The second result says what the tensors of a file with a name of its own (`adapter.safetensors`) are called with it.
    """
    single = path / "model.safetensors"
    files = [single] if single.exists() else sorted(path.glob("model-*-of-*.safetensors"))
    files = files or sorted(path.glob("*.safetensors"))
    if not files:
        raise UserError(f"{path} has no model.safetensors; give a bundle (instruct-musicgen convert makes one)")
    names = [file.name for file in files]
    if any(hub.SHARD.fullmatch(name) for name in names) and (missing := hub.missing_shards(names)):
        raise UserError(
            f"{path} lacks {', '.join(missing[:MAX_LISTED])} of its {len(missing) + len(files)} weight files; "
            "get a whole copy"
        )
    stored: dict[str, Source] = {}
    called: dict[str, str | None] = {}
    for file in files:
        for name, (dtype, shape) in read_header(file).items():
            if name in stored:
                raise UserError(f"{file}: {name} is in {stored[name].file.name} too; remove one of them")
            stored[name] = Source(file, name, dtype, shape)
            if not file.name.startswith("model"):
                called[name] = f"{file.stem}.{name}"
    return list(stored.values()), called


def check_codec(codec: CodecConfig, lm: LMConfig, path: Path) -> None:
    """Raise UserError unless the codec's tokens are the LM's."""
    if (codec.codebooks, codec.bins) != (lm.codebooks, lm.card):
        raise UserError(
            f"{path}: the codec has {codec.codebooks} codebooks of {codec.bins}, "
            f"the language model needs {lm.codebooks} of {lm.card}; take both from the same bundle"
        )


def _codec_path(path: Path) -> Path:
    for name in ("compression_state_dict.bin", "encodec"):
        if (path / name).exists():
            return path / name
    raise UserError(
        f"{path} has no codec: compression_state_dict.bin (or a Hugging Face folder 'encodec') is missing; "
        "get a whole copy"
    )
