"""The likely cause of a result of the model that is not finite."""

from __future__ import annotations

from .bundle import Bundle
from .finite import not_finite


def explanation(bundle: Bundle, what: str, suspect: str = "") -> str:
    """Return what to say of a result of the model that is not finite.

    The likely cause is weights that are not finite; they are named.

    `suspect` names other weights that may be, where the bundle's own are finite.
    """
    damaged = not_finite(bundle.load(list(bundle.tensors)))
    if damaged:
        cause = f"NaN or infinity in {', '.join(damaged)}; get a whole copy of the bundle, or convert it again"
    elif suspect:
        cause = f"the bundle's weights are finite, but maybe not {suspect}; get a whole copy"
    else:
        cause = "the bundle's weights are finite; try another backend, and report it"
    return f"{bundle.path}: the model's {what}: NaN or infinite. The cause: {cause}"
