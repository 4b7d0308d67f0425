"""The spellings under which bundles name the same tensors."""

from __future__ import annotations

import re

PREFIX = re.compile(r"(?:(?:lm|model|transformer)\.)+")
TEXT_PREFIX = re.compile(r"(?:condition_provider\.)?conditioners\.description\.(?=output_proj\.)")
GATE = re.compile(r"(?:cp_transformer\.)?gates?\.(\d{1,6})(?:\.weight)?")


def canonical(name: str) -> str:
    """The canonical form of a stored name: without prefixes, in our spelling (see `model.bundle.tensors`).

    Gates stored one by one become `cp_transformer.gates.N`.
    """
    name = PREFIX.sub("", name, count=1) if PREFIX.match(name) else name
    name = TEXT_PREFIX.sub("text_conditioner.", name).replace(".cross_attention.", ".cross_attn.")
    if gate := GATE.fullmatch(name):
        return f"cp_transformer.gates.{int(gate[1])}"
    return "cp_transformer.gates" if name in ("gates", "cp_transformer.gate", "gate") else name
