"""A generated kernel as one C++ translation unit: MLX's prelude, the header, the body, and an entry for the runtime."""

from __future__ import annotations

import re

from ..compiler import HEADER_LINES
from . import prelude
from .rewrite import rewrite
from .signature import Argument, Signature

_MLX_INCLUDE = re.compile(r'^([ \t]*)#[ \t]*include[ \t]*"mlx/[^"\n]*"', re.MULTILINE)


def _pointer(a: Argument, slot: int, atomic: bool) -> str:
    element = f"atomic<{a.type}>" if atomic and a.role == "output" else a.type
    const = "" if a.role == "output" else "const "
    return f"{'*' if a.by_reference else ''}({const}{element}*)b[{slot}]"


def unit(signature: Signature, *, check: bool, atomic_outputs: bool) -> str:
    """Return the C++ text. Lines of the kernel's source keep their numbers; the header's count from `HEADER_LINES`.

    `#include "mlx/..."` lines are dropped: MLX resolves them from its own folder, and a header handed to
    `metal_kernel` has to bring what they name.
    """
    before = signature.prologue.count("\n")
    mlx, header, kernel = parts(signature)
    arguments = [_pointer(a, slot, atomic_outputs) for slot, a in enumerate(signature.arguments)]
    for _, type_name, value in signature.attributes:
        arguments.append(f"metal::mtl_uint3({value})" if type_name == "uint3" else f"({type_name})({value})")
    template = f"<{', '.join(signature.template_arguments)}>" if signature.template_arguments else ""
    lines = [
        "#define MTL_CHECK 1" if check else "",
        '#include "metal_stdlib"',
        '#line 1 "prelude"',
        mlx,
        "static const unsigned mtl_zero[3] = {0, 0, 0};",
        f'#line {HEADER_LINES + 1} "header"',
        header,
        # The signature's lines are numbered so that the source's first line is line 1.
        f'#line {0 if before == 0 else 1} "signature"',
        _renumbered(kernel, before),
        '#line 1 "entry"',
        # Not instrumented: the argument table is the runtime's memory.
        'extern "C" __attribute__((visibility("default"), no_sanitize("thread")))',
        "void mtl_entry(void* const* b, const mtl_thread* t) {",
        f"  {signature.name}{template}({', '.join(arguments)});",
        "}",
    ]
    return "\n".join(lines) + "\n"


def parts(signature: Signature) -> tuple[str, str, str]:
    """Return MLX's prelude, the kernel's header and its function as C++, for a target without address spaces."""
    header = _MLX_INCLUDE.sub(r"\1", signature.header)
    own = prelude.brought(header)
    header = _one_pointer_element(rewrite(prelude.without_internals(header) if own else header))
    return "" if own else prelude.compiled(), header, rewrite(signature.prologue + "\n" + signature.source + "\n}\n")


_POINTER_ELEMENT = re.compile(r"template\s*<\s*typename T\s*>\s*struct pointer_element<\s*T\*>\s*\{[^}]*\}\s*;")
_CONST_POINTER_ELEMENT = re.compile(_POINTER_ELEMENT.pattern.replace(r"<\s*T\*", r"<const\s+T\*"))


def _one_pointer_element(header: str) -> str:
    """Keep one of MLX's specializations of `pointer_element`, which has one for each address space."""
    header = _CONST_POINTER_ELEMENT.sub(lambda m: "\n" * m.group().count("\n"), header)
    first = _POINTER_ELEMENT.search(header)
    if first is None:
        return header
    rest = _POINTER_ELEMENT.sub(lambda m: "\n" * m.group().count("\n"), header[first.end() :])
    return header[: first.end()] + rest


def _renumbered(kernel: str, before: int) -> str:
    """Put a `#line` after the signature, whose lines come first."""
    lines = kernel.split("\n")
    return "\n".join([*lines[:before], '#line 1 "source"', *lines[before + 1 :]])
