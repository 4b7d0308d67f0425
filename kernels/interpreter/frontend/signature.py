"""The Metal source that MLX generates around a kernel body, reproduced character for character.

Source: mlx/backend/metal/custom_kernel.cpp (`write_signature`); tests compare with what MLX itself prints.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import mlx.core as mx

TemplateValue: TypeAlias = bool | int | mx.Dtype

# Inputs with fewer elements than this arrive in the constant address space.
CONSTANT_BELOW = 8

TYPE_NAMES: dict[mx.Dtype, str] = {
    mx.bool_: "bool",
    mx.uint8: "uint8_t",
    mx.uint16: "uint16_t",
    mx.uint32: "uint32_t",
    mx.uint64: "uint64_t",
    mx.int8: "int8_t",
    mx.int16: "int16_t",
    mx.int32: "int32_t",
    mx.int64: "int64_t",
    mx.float16: "float16_t",
    mx.float32: "float",
    mx.bfloat16: "bfloat16_t",
    mx.complex64: "complex64_t",
}

# Attribute, its type, and the field of `mtl_thread` (metal_stdlib/abi.h) or the expression that holds it.
ATTRIBUTES: tuple[tuple[str, str, str], ...] = (
    ("dispatch_quadgroups_per_threadgroup", "uint", "t->dispatch_simdgroups_per_threadgroup * 8"),
    ("dispatch_simdgroups_per_threadgroup", "uint", "t->dispatch_simdgroups_per_threadgroup"),
    ("dispatch_threads_per_threadgroup", "uint3", "t->dispatch_threads_per_threadgroup"),
    ("grid_origin", "uint3", "mtl_zero"),
    ("grid_size", "uint3", "t->threads_per_grid"),
    ("quadgroup_index_in_threadgroup", "uint", "t->index_in_threadgroup / 4"),
    ("quadgroups_per_threadgroup", "uint", "t->simdgroups_per_threadgroup * 8"),
    ("simdgroup_index_in_threadgroup", "uint", "t->simdgroup"),
    ("simdgroups_per_threadgroup", "uint", "t->simdgroups_per_threadgroup"),
    ("thread_execution_width", "uint", "32"),
    ("thread_index_in_quadgroup", "uint", "t->lane % 4"),
    ("thread_index_in_simdgroup", "uint", "t->lane"),
    ("thread_index_in_threadgroup", "uint", "t->index_in_threadgroup"),
    ("thread_position_in_grid", "uint3", "t->position_in_grid"),
    ("thread_position_in_threadgroup", "uint3", "t->position_in_threadgroup"),
    ("threadgroup_position_in_grid", "uint3", "t->threadgroup_position"),
    ("threadgroups_per_grid", "uint3", "t->threadgroups_per_grid"),
    ("threads_per_grid", "uint3", "t->threads_per_grid"),
    ("threads_per_simdgroup", "uint", "32"),
    ("threads_per_threadgroup", "uint3", "t->threads_per_threadgroup"),
)


@dataclass(frozen=True)
class Argument:
    """One buffer of the kernel: an input, a fact about an input, or an output."""

    name: str
    type: str  # the C++ type of an element
    space: str  # "device" or "constant"
    by_reference: bool  # a scalar passed as `T&`
    role: str  # "input", "shape", "strides", "ndim" or "output"
    index: int  # of the input or output it belongs to


@dataclass(frozen=True)
class Signature:
    """A generated kernel's text in parts."""

    name: str
    header: str
    prologue: str
    source: str
    epilogue: str
    arguments: tuple[Argument, ...]
    attributes: tuple[tuple[str, str, str], ...]
    template_arguments: tuple[str, ...]

    @property
    def ends_early(self) -> bool:
        """Whether MLX closes the parameter list early: with several outputs, facts of inputs and no attribute."""
        return self.prologue.count(") {\n") > 1

    @property
    def text(self) -> str:
        """The whole text, as `mx.fast.metal_kernel(..., verbose=True)` prints it."""
        return self.header + self.prologue + self.source + self.epilogue


def _template_value(value: TemplateValue) -> tuple[str, str]:
    """Return (parameter kind, argument text) of a template argument. Raises ValueError for a value of another kind."""
    if isinstance(value, bool):
        return "bool", str(int(value))
    if isinstance(value, int):
        return "int", str(value)
    if isinstance(value, mx.Dtype):
        return "typename", TYPE_NAMES[value]
    raise ValueError(f"[metal_kernel] Invalid template argument {value!r}. Must be `mlx.core.Dtype`, `int` or `bool`.")


@dataclass(frozen=True)
class InputKind:
    """All that the signature depends on of one input."""

    dtype: mx.Dtype
    constant: bool  # fewer than CONSTANT_BELOW elements
    scalar: bool  # no dimensions


def generate(
    name: str,
    header: str,
    source: str,
    input_names: Sequence[str],
    inputs: Sequence[InputKind],
    output_names: Sequence[str],
    output_dtypes: Sequence[mx.Dtype],
    template: Sequence[tuple[str, TemplateValue]],
    atomic_outputs: bool,
) -> Signature:
    """Return the kernel's text and its arguments.

    `<input>_shape`, `_strides`, `_ndim` and attributes are arguments only if the source mentions them, anywhere,
    comments and longer words included: MLX looks for the bare string.
    """
    values = [_template_value(value) for _, value in template]
    full = f"custom_kernel_{name}"
    if values:
        full += "_" + "".join("_" + re.sub(r"\W", "_", text) for _, text in values)
    arguments: list[Argument] = []
    for i, (arg, kind) in enumerate(zip(input_names, inputs)):
        type_name = TYPE_NAMES[kind.dtype]
        full += f"_{type_name}" + ("s" if kind.scalar else "c" if kind.constant else "")
        space = "constant" if kind.constant else "device"
        arguments.append(Argument(arg, type_name, space, kind.scalar, "input", i))
        if kind.scalar:
            continue
        for role, role_type, by_reference in (
            ("shape", "int", False),
            ("strides", "int64_t", False),
            ("ndim", "int", True),
        ):
            if f"{arg}_{role}" in source:
                arguments.append(Argument(f"{arg}_{role}", role_type, "constant", by_reference, role, i))
    for i, (arg, dtype) in enumerate(zip(output_names, output_dtypes)):
        full += f"_{TYPE_NAMES[dtype]}"
        arguments.append(Argument(arg, TYPE_NAMES[dtype], "device", False, "output", i))
    attributes = tuple(a for a in ATTRIBUTES if a[0] in source)

    lines = []
    for slot, a in enumerate(arguments):
        symbol = "&" if a.by_reference else "*"
        end = ",\n"
        if a.role == "output":
            element = f"atomic<{a.type}>" if atomic_outputs else a.type
            line = f"  device {element}* {a.name} [[buffer({slot})]]"
            # MLX ends the list by counting slots, which is too early where facts about inputs took some of them.
            end = ",\n" if attributes or slot < len(inputs) + len(output_names) - 1 else ") {\n"
        else:
            line = f"  const {a.space} {a.type}{symbol} {a.name} [[buffer({slot})]]"
        lines.append(line + end)
    for attribute, type_name, _ in attributes:
        end = ") {\n" if attribute == attributes[-1][0] else ",\n"
        lines.append(f"  {type_name} {attribute} [[{attribute}]]{end}")

    prologue = ""
    if template:
        parameters = ", ".join(f"{kind} {arg}" for (kind, _), (arg, _) in zip(values, template))
        prologue += f"template <{parameters}>\n"
    prologue += f"[[kernel]] void {full}(\n" + "".join(lines)
    epilogue = "\n}\n"
    if template:
        instance = f"{full}<{', '.join(text for _, text in values)}>"
        epilogue += f'\ntemplate [[host_name("{full}")]] [[kernel]] decltype({instance}) {instance};\n'
    return Signature(
        full,
        header,
        prologue,
        source,
        epilogue,
        tuple(arguments),
        attributes,
        tuple(text for _, text in values),
    )
