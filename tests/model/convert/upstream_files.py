"""Golden A's upstream files, for tests of conversion: where they are and what is in them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from model.formats import torch_file

from ..golden import A

ROOT = Path(__file__).parents[3]
LM = "model.peft_model.lm."
LAYERS = f"{LM}transformer.base_model.model.layers"
GOLDEN = A.folder
UPSTREAM: dict[str, Any] = {"adapter": GOLDEN / "upstream.ckpt", "base": GOLDEN / "base", "t5": GOLDEN / "t5"}
State = dict[str, np.ndarray]


def values(path: Path, entry: str) -> State:
    return {name: t.numpy() for name, t in torch_file.load(path)[entry].items()}
