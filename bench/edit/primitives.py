"""What the primitives of a step's graph tell: which are MLX's arithmetic, which move elements, which are ours."""

from __future__ import annotations

from collections.abc import Mapping

from ..records import OPERATIONS, EditColumn

FUSED = ("int4_matmul", "prefix_attention", "cross_attention")
"""Operations that have a kernel of ours on every fused backend; the others are stock MLX on Metal."""

STOCK = ("QuantizedMatmul", "Matmul", "AddMM", "ScaledDotProductAttention", "Convolution")
"""MLX's own primitives that do the arithmetic of `OPERATIONS`: a fused step must have none of them."""

PLAIN = (
    "Abs",
    "Add",
    "Arange",
    "ArgPartition",
    "ArgReduce",
    "ArgSort",
    "AsType",
    "AsStrided",
    "Broadcast",
    "BroadcastAxes",
    "Compiled",
    "Concatenate",
    "Contiguous",
    "Copy",
    "Cos",
    "Depends",
    "Divide",
    "DynamicSlice",
    "DynamicSliceUpdate",
    "Equal",
    "Erf",
    "Exp",
    "ExpandDims",
    "Expm1",
    "Flatten",
    "Full",
    "Gather",
    "GatherAxis",
    "Greater",
    "GreaterEqual",
    "LayerNorm",
    "Less",
    "LessEqual",
    "Log",
    "LogicalAnd",
    "LogicalNot",
    "LogicalOr",
    "Maximum",
    "Minimum",
    "Multiply",
    "Negative",
    "NotEqual",
    "NumberOfElements",
    "Pad",
    "Partition",
    "Power",
    "RMSNorm",
    "RandomBits",
    "Reduce",
    "Reshape",
    "Rsqrt",
    "Scan",
    "Scatter",
    "Select",
    "Sigmoid",
    "Sin",
    "Slice",
    "SliceUpdate",
    "Softmax",
    "Sort",
    "Split",
    "Sqrt",
    "Square",
    "Squeeze",
    "StopGradient",
    "Subtract",
    "Sum",
    "Max",
    "Min",
    "Prod",
    "Tanh",
    "Transpose",
    "Unflatten",
    "View",
)
"""MLX's primitives that move or map elements; what is neither here nor in `STOCK` is a fused kernel."""


def stock_primitives(counts: Mapping[str, int]) -> dict[str, int]:
    """Return those of `counts` that are stock MLX's arithmetic."""
    return {name: n for name, n in counts.items() if name in STOCK}


def fused_primitives(counts: Mapping[str, int]) -> dict[str, int]:
    """Return those of `counts` that are not MLX's own (or are `CustomKernel`, which runs Metal source of ours)."""
    return {name: n for name, n in counts.items() if name not in PLAIN and name not in STOCK}


def unfused(column: EditColumn) -> dict[str, int]:
    """Count what a fused column computed without its own kernels; empty as it should be, and for the reference."""
    if column.backend == "reference":
        return {}
    native = column.backend == "native"  # has kernels for everything; the Metal ones leave the rest to stock MLX
    own, stock = (OPERATIONS, STOCK) if native else (FUSED, ("QuantizedMatmul",))
    calls = {name: n for name, n in column.reference_calls.items() if name in own}
    return calls | {name: n for name, n in column.step_primitives.items() if name in stock}
