"""Calling a kernel of MLX's from the body of another: arguments in the order that its declaration asks for."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from typing import Any

import mlx.core as mx

from kernels.interpreter.frontend.signature import ATTRIBUTES

_DTYPES = {"int": mx.int32, "uint": mx.uint32, "size_t": mx.uint64, "int64_t": mx.int64, "float": mx.float32}
_MARKS = re.compile(r"\[\[(.*?)\]\]", re.DOTALL)
_DECLARED = re.compile(r"\s*(.*?)(\w+)\s*(\[\w*\])?\s*", re.DOTALL)
_COORDINATES = {name for name, kind, _ in ATTRIBUTES if kind == "uint3"}


def _parameters(header: str, kernel: str) -> list[tuple[str, str, str]]:
    """(type, name, what stands in `[[...]]`) of each parameter of the function marked as a kernel."""
    text = re.sub(r"//[^\n]*", "", header)
    start = re.search(rf"\[\[kernel[^\]]*\]\]\s*void\s+{kernel}\s*\(", text)
    assert start, f"{kernel} is not in the header"
    end, depth = start.end(), 1
    while depth:
        depth += {"(": 1, ")": -1}.get(text[end], 0)
        end += 1
    found = []
    for parameter in re.split(r",(?![^\[]*\]\])(?![^<]*>)", text[start.end() : end - 1]):
        marks = " ".join(_MARKS.findall(parameter))
        match = _DECLARED.fullmatch(_MARKS.sub("", parameter))
        assert match, parameter
        found.append((match.group(1) + ("*" if match.group(3) else ""), match.group(2), marks))
    return found


def call(
    header: str,
    kernel: str,
    template: str,
    given: Mapping[str, Any],
    outputs: Collection[str],
    texts: Mapping[str, str],
) -> tuple[str, dict[str, mx.array]]:
    """(statement that calls `kernel<template>`, its inputs by name).

    given: arrays and numbers for parameters by name. texts: what to write for a parameter instead of its name. Names
    get a `_`, as MLX would take `in_shape` for the shape of `in`. Pointers that nobody names are null.
    """
    inputs: dict[str, mx.array] = {}
    arguments = []
    for kind, name, marks in _parameters(header, kernel):
        if name in given:
            value = given[name]
            if not isinstance(value, mx.array):
                value = mx.array(value, next(d for n, d in _DTYPES.items() if n in re.findall(r"\w+", kind)))
            inputs[f"{name}_"] = value
        if name in texts:
            arguments.append(texts[name])
        elif name in given or name in outputs:
            arguments.append(f"{name}_")
        elif "*" in kind:
            arguments.append("nullptr")
        elif "&" in kind:
            arguments.append(f"*(const constant {re.sub(r'const|constant|device|&', '', kind)}*)nullptr")
        else:
            width = {"uint": ".x", "uint2": ".xy"}.get(kind.split()[-1], "")
            arguments.append(marks + (width if marks in _COORDINATES else ""))
    instance = f"{kernel}<{template}>" if template else kernel
    return f"{instance}({', '.join(arguments)});", inputs
