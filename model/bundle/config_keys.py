"""What a config.json states, under whichever keys and in whichever section its writer put it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ..config import GROUP_SIZES, PACKED_BITS, Quantization
from ..errors import UserError

DEPTH = 4
"""Sections within sections that are looked into."""

SECTIONS = {
    "decoder": "decoder lm languagemodel transformerlm lmconfig decoderconfig musicgen transformer model",
    "adapter": "cptransformer adapter cp conditionencoder cptransformerconfig adapterconfig",
    "text": "textencoder t5 textconditioner conditioner textencoderconfig t5config",
    "audio": "audioencoder encodec codec compressionmodel audioencoderconfig",
    "quantization": "quantization quantizationconfig quant quantconfig",
}
KEYS = {
    "dim": "hiddensize dim dmodel embeddim modeldim hiddendim nembd width",
    "heads": "numattentionheads numheads nheads nhead nhead attentionheads decoderattentionheads heads",
    "ffn": "ffndim intermediatesize dimfeedforward feedforwarddim decoderffndim ffdim mlpdim ffnsize ffn",
    "layers": "numhiddenlayers numlayers nlayers nlayer numdecoderlayers decoderlayers depth layers",
    "card": "vocabsize card codebooksize cardinality numcodes",
    "codebooks": "numcodebooks nq ncodebooks codebooks",
    "text_dim": "dmodel hiddensize dim textdim",
    "flat text_dim": "textdim textencoderdim textembeddim t5dim conddim",
    "adapter layers": "numlayers layers numhiddenlayers nlayers numadapterlayers adapterlayers",
    "flat adapter layers": "numadapterlayers adapternumlayers adapterlayers cpnumlayers cplayers",
    "frames": "maxnframes maxframes numframes nframes",
    "start layer": "startlayer firstlayer startfrom layeroffset",
    "trained frames": "trainedframes",
    "bits": "bits qbits nbits numbits quantizationbits",
    "group size": "groupsize qgroupsize quantizationgroupsize",
}


def plain(key: str) -> str:
    """Return a key without case and punctuation: `hiddenSize`, `hidden-size` and `hidden_size` are the same."""
    return "".join(c for c in key.lower() if c.isalnum())


class StatedConfig:
    """A config.json, asked by what is meant."""

    def __init__(self, raw: Mapping[str, Any], path: Path) -> None:
        self.raw, self.path = raw, path

    def section(self, name: str) -> Mapping[str, Any]:
        """Return the first section of that kind, from the outside in; empty if there is none."""
        for alias in SECTIONS[name].split():
            for level in self._levels():
                for key, value in level.items():
                    if plain(key) != alias or value is None:
                        continue
                    if isinstance(value, dict):
                        return value
                    if name == "text" and isinstance(value, str):
                        return {"_name_or_path": value}
                    if alias == SECTIONS[name].split()[0]:
                        raise UserError(f"{self.path}: {key} is {value!r:.40}; it must be an object")
        return {}

    def integer(
        self, name: str, sections: tuple[Mapping[str, Any], ...], *, least: int = 1, most: int = 1 << 20
    ) -> int | None:
        """Return a whole number that one of the sections states; None: none does."""
        for section in sections:
            keys = {plain(key): key for key in reversed(list(section))}
            for alias in KEYS[name].split():
                if alias in keys and (value := section[keys[alias]]) is not None:
                    return self.checked(value, keys[alias], least, most)
        return None

    def checked(self, value: Any, key: str, least: int, most: int) -> int:
        """Return the value. Raises UserError if it is no whole number from `least` to `most`."""
        if type(value) is not int or not least <= value <= most:
            raise UserError(f"{self.path}: {key} is {value!r:.40}; it must be an integer from {least} to {most}")
        return value

    def quantization(self) -> tuple[Quantization | None, dict[str, Quantization]]:
        """Return the default, and what is stated for single modules by their stored names.

        MLX's writers put it at the top, as `quantization` and again as `quantization_config`, or into the model's
        section; entries for single modules (mlx-lm: an object, or false for none) stand beside `bits` or below a key.
        """
        found = list(self._quantizations())
        for other in found[1:]:
            if other != found[0]:
                raise UserError(f"{self.path} states its quantization twice, and differently; remove the wrong one")
        return found[0] if found else (None, {})

    def _quantizations(self) -> Iterator[tuple[Quantization | None, dict[str, Quantization]]]:
        wanted = SECTIONS["quantization"].split()
        for level in self._levels():
            for key, value in level.items():
                if plain(key) not in wanted or value is None:
                    continue
                if not isinstance(value, dict):
                    raise UserError(
                        f"{self.path}: {key} is {value!r:.40}; it must be an object with bits and group_size"
                    )
                yield self._pair(value), dict(self._modules(value, ""))

    def _modules(self, stated: Mapping[str, Any], before: str) -> Iterator[tuple[str, Quantization]]:
        for name, value in stated.items():
            if isinstance(value, dict) and before.count(".") < 64:
                if _get(value, "bits") is not None:
                    yield f"{before}{name}", self._pair(value)
                else:
                    yield from self._modules(value, f"{before}{name}.")

    def _pair(self, stated: Mapping[str, Any]) -> Quantization:
        if stated.get("mode", "affine") != "affine":
            raise UserError(f"{self.path}: quantization mode {stated['mode']!r:.40} is not supported; only affine is")
        bits, size = _get(stated, "bits"), _get(stated, "group size")
        size = 64 if size is None else size
        if isinstance(bits, bool) or bits not in PACKED_BITS or isinstance(size, bool) or size not in GROUP_SIZES:
            raise UserError(
                f"{self.path}: quantization with bits={bits!r:.40}, group_size={size!r:.40} is not supported; "
                "bits must be 4 or 8 and group_size 32, 64 or 128"
            )
        return Quantization(bits, size)

    def _levels(self) -> Iterator[Mapping[str, Any]]:
        """Yield the object, then its sections, breadth first.

        Those of the codec and of T5 have their own dimensions.
        """
        levels: list[Mapping[str, Any]] = [self.raw]
        others = (*SECTIONS["text"].split(), *SECTIONS["audio"].split(), *SECTIONS["quantization"].split())
        for _ in range(DEPTH):
            yield from levels
            levels = [
                value
                for level in levels
                for key, value in level.items()
                if isinstance(value, dict) and plain(key) not in others
            ]


def _get(stated: Mapping[str, Any], name: str) -> Any:
    aliases = KEYS[name].split()
    return next((value for key, value in stated.items() if plain(key) in aliases), None)
