"""LoRA as peft stores it: find each module's A and B in a checkpoint, and merge them into its weight.

Low-rank adaptation (Hu et al., arXiv 2106.09685): the weight in use is W + alpha / r · B A.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from ..errors import UserError
from ..formats.pickle_symbols import Placeholder
from ..formats.torch_file import FLOATS, Tensor

SCALING = 2.0
"""alpha / r of the published adapter (64 / 32), where the checkpoint doesn't say otherwise."""
NAME = re.compile(r"(.*)\.lora_([AB])(?:\.(\w+))?\.weight")
MAX_DEPTH = 12
"""Objects within objects that are searched for alpha."""


class Lora(NamedTuple):
    """One module's low-rank update: A [r,K] and B [N,r]."""

    a: Tensor
    b: Tensor


def find(stored: Mapping[str, Tensor], path: Path) -> dict[str, Lora]:
    """Return every module's A and B by canonical name.

    Raises UserError if one of a pair is missing, their shapes don't match, they are not floats, or a module has two.
    """
    found: dict[tuple[str, str], dict[str, Tensor]] = {}
    for name, tensor in stored.items():
        if match := NAME.fullmatch(name):
            module = match[1].replace(".cross_attention.", ".cross_attn.")
            found.setdefault((module, match[3] or ""), {})[match[2]] = tensor
    pairs: dict[str, Lora] = {}
    for (module, _), pair in found.items():
        a, b = pair.get("A"), pair.get("B")
        if a is None or b is None or len(a.shape) != 2 or len(b.shape) != 2 or a.shape[0] != b.shape[1]:
            found_a, found_b = (list(each.shape) if each is not None else "none" for each in (a, b))
            raise UserError(
                f"{path}: LoRA of {module} needs matching lora_A [r, K] and lora_B [N, r], and has {found_a} and "
                f"{found_b}; export the checkpoint again"
            )
        if a.dtype not in FLOATS or b.dtype not in FLOATS:
            raise UserError(
                f"{path}: LoRA of {module} is {a.dtype} and {b.dtype}, needs float dtypes; export the checkpoint again"
            )
        if module in pairs:
            raise UserError(f"{path}: {module} has several LoRA adapters; keep one")
        pairs[module] = Lora(a, b)
    return pairs


def scaling(tree: Any, loras: Mapping[str, Lora]) -> float:
    """Return alpha / r: r from the shapes, alpha from the checkpoint's hyper-parameters if they name it."""
    alpha = _find_alpha(tree.get("hyper_parameters") if isinstance(tree, dict) else None, 0)
    if alpha is None or not loras:
        return SCALING
    return alpha / next(iter(loras.values())).a.shape[0]


def merged(weight: npt.NDArray[Any], lora: Lora, scaling: float) -> npt.NDArray[np.float32]:
    """Return weight [N,K] + scaling · B A, summed in float64 and rounded to float32."""
    a, b = (each.numpy().astype(np.float64) for each in lora)
    return (weight.astype(np.float64) + scaling * (b @ a)).astype(np.float32)


def _find_alpha(node: Any, depth: int) -> float | None:
    if depth > MAX_DEPTH:
        return None
    if isinstance(node, Placeholder):
        node = [node.state, node.items]
    if isinstance(node, dict):
        value = node.get("lora_alpha")
        if isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < 1e6:
            return float(value)
        node = list(node.values())
    if isinstance(node, list | tuple):
        for each in node[:1000]:
            if (value := _find_alpha(each, depth + 1)) is not None:
                return value
    return None
