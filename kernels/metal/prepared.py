"""A packed matrix prepared for the Metal kernels: what depends on it alone is made once."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass, field

import mlx.core as mx

from reference.contract import Norm, Packed

from .engine import Engine, Plans
from .folding import Folded, fold


@dataclass(frozen=True)
class Prepared(Packed):
    """A matrix that remembers its planned launches, and the constants of the norms that come before it.

    Its arrays never change, so that a call of a known kind finds its plan by its other arguments alone.
    """

    plans: Plans = field(default_factory=dict, compare=False, repr=False)
    _constants: dict[int, tuple[mx.array, Folded]] = field(default_factory=dict, compare=False, repr=False)

    def folded(self, norm: Norm) -> Folded:
        """Return the constants of a norm, made when first asked for."""
        # The norm's weight is kept beside them: its id stays its own.
        found = self._constants.get(id(norm[0]))
        if found is None:
            found = self._constants[id(norm[0])] = norm[0], fold(self, norm)
        return found[1]


def plans_of(engine: Engine, weight: Packed, key: tuple[Hashable, ...]) -> tuple[Plans, Hashable]:
    """Return the dict of launch plans for a product with `weight`, and the key to look one up.

    `key` holds all that a launch depends on besides the matrix.
    """
    if isinstance(weight, Prepared):
        return weight.plans, (engine.state, key)
    parts = [(a.shape, a.dtype) for a in (weight.w, weight.scales, weight.biases)]
    return engine.plans, (key, weight.bits, weight.group_size, *parts)
