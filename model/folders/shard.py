"""Which files are this process's: chosen by a hash of their names, so that processes need not communicate."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from ..errors import UsageError


class Shard(NamedTuple):
    """Part `number` of `size`, counted from 1. `source` says who set it."""

    number: int = 1
    size: int = 1
    source: str = ""

    def holds(self, name: str) -> bool:
        """Tell whether a file of this name is this shard's: of all shards exactly one says so."""
        digest = hashlib.sha256(name.encode("utf-8", "surrogateescape")).digest()
        return int.from_bytes(digest[:8], "big") % self.size == self.number - 1

    def __str__(self) -> str:
        """Return it as `--shard` takes it."""
        return f"{self.number}/{self.size}"


def parse(text: str) -> Shard:
    """Read "I/N". Raises UsageError unless 1 <= I <= N."""
    found = re.fullmatch(r"(\d{1,9})/(\d{1,9})", text.strip())
    if not found or not 1 <= int(found[1]) <= int(found[2]):
        raise UsageError(f"--shard {text}: must be I/N with I from 1 to N, as 3/8 for the third of eight")
    return Shard(int(found[1]), int(found[2]), "--shard")


def of_environment(environment: Mapping[str, str] | None = None) -> Shard:
    """Return the shard that a launcher's variables name; 1 of 1 where there are none.

    mlx.launch sets MLX_RANK, and MLX_WORLD_SIZE or a file of hosts; Open MPI's mpirun OMPI_COMM_WORLD_RANK and _SIZE;
    srun SLURM_PROCID and SLURM_STEP_NUM_TASKS; a Slurm array SLURM_ARRAY_TASK_ID, _MIN, _MAX and _COUNT. An array
    whose tasks start several processes each is dealt to all of them. Raises UsageError where the variables contradict
    each other.
    """
    known = os.environ if environment is None else environment
    found = _mlx(known) or _pair(known, "OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE")
    if found:
        return found
    step, array = _pair(known, "SLURM_PROCID", "SLURM_STEP_NUM_TASKS"), _array(known)
    if step and array:
        index = (array.number - 1) * step.size + step.number
        return Shard(index, array.size * step.size, f"{array.source} and {step.source}")
    return step or array or Shard()


def _mlx(known: Mapping[str, str]) -> Shard | None:
    if "MLX_RANK" not in known:
        return None
    if "MLX_WORLD_SIZE" in known:
        return _pair(known, "MLX_RANK", "MLX_WORLD_SIZE")
    for name in ("MLX_HOSTFILE", "MLX_IBV_DEVICES", "MLX_JACCL_DEVICES"):
        if name in known:
            try:
                text = Path(known[name]).read_text(encoding="utf-8").strip()
                size = len(json.loads(text)) if text else 1  # one process: an empty file
            except (OSError, ValueError, TypeError) as e:
                raise UsageError(f"{name}={known[name]}: cannot be read as a list of hosts ({e}); give --shard") from e
            return _checked(known["MLX_RANK"], str(size), "MLX_RANK", name)
    raise UsageError("MLX_RANK is set, but nothing says of how many processes; give --shard I/N")


def _pair(known: Mapping[str, str], rank: str, size: str) -> Shard | None:
    return _checked(known[rank], known[size], rank, size) if rank in known and size in known else None


def _array(known: Mapping[str, str]) -> Shard | None:
    if "SLURM_ARRAY_TASK_ID" not in known or "SLURM_ARRAY_TASK_COUNT" not in known:
        return None
    names = [f"SLURM_ARRAY_TASK_{part}" for part in ("ID", "MIN", "MAX", "COUNT")]
    try:
        own, low, high, count = (int(known[name]) for name in names)
        step = (high - low) // (count - 1) if count > 1 else 1
        if low + step * (count - 1) != high or (own - low) % step or not low <= own <= high:
            raise ValueError("not a range of even steps")
    except (KeyError, ValueError, ZeroDivisionError) as e:
        raise UsageError(
            f"SLURM_ARRAY_TASK_ID={known['SLURM_ARRAY_TASK_ID']}: its place in the array cannot be told ({e}); "
            "give --shard I/N, or an array as 1-8"
        ) from e
    return Shard((own - low) // step + 1, count, "SLURM_ARRAY_TASK_ID")


def _checked(rank: str, size: str, name: str, size_name: str) -> Shard:
    """Return ranks from 0 as a shard."""
    if not (rank.isdecimal() and size.isdecimal() and int(rank) < int(size)):
        raise UsageError(f"{name}={rank} is not a rank of {size_name}={size}; give --shard I/N")
    return Shard(int(rank) + 1, int(size), name)
