"""`python -m kernels.beside_mlx.texts [NAME]`: the whole text that MLX compiles for one of our kernels.

It is ready for Xcode or `xcrun metal`. Without a name the names are listed; they are those of the table of registers.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

from ..interpreter.frontend import prelude
from ..interpreter.kernel import MetalKernel
from ..metal import Engine
from .registers import VARIANTS, launched


def whole(kernel: MetalKernel, arguments: dict[str, Any]) -> str:
    """Return the text of a kernel as it is launched: MLX's prelude, then what MLX generates around our source."""
    text = kernel.signature(arguments["inputs"], arguments["output_dtypes"], arguments["template"]).text
    return f"// {kernel.name}\n#include <metal_stdlib>\n{prelude.source()}\n{text}"


def main(argv: Sequence[str] | None = None) -> int:
    """Print a kernel's text, or all names. Return 2 for a name that is not there."""
    names = sys.argv[1:] if argv is None else list(argv)
    if not names:
        print("\n".join(VARIANTS))
        return 0
    name = " ".join(names)
    if name not in VARIANTS:
        print(f"there is no kernel {name!r}; use one of: {'; '.join(VARIANTS)}", file=sys.stderr)
        return 2
    launched(VARIANTS[name], lambda kernel, arguments: print(whole(kernel, arguments)), Engine)
    return 0


if __name__ == "__main__":
    sys.exit(main())
