"""The results that `bench` saves, with every sample: tables can be made again without MLX or that machine.

JSON files become these dataclasses through msgspec, which checks types and that every time is a positive number:
against a NaN nothing would be slower, and no regression would be found.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Any

import msgspec

from .machine.bandwidth import Bandwidth
from .machine.environment import Environment
from .machine.hardware import Busy
from .stats import Samples, Seconds

SCHEMA = 2

OPERATIONS = (
    "int4_matmul", "linear", "self_attention", "prefix_attention", "cross_attention", "attention", "conv1d",
    "conv_transpose1d", "lstm",
)  # fmt: skip
FUSED = ("int4_matmul", "prefix_attention", "cross_attention")
"""Both equal to what `kernels` calls so (a test compares them), which can't be read without MLX."""
STOCK = "stock MLX"
SGEMM = "float32 sgemm"
"""A yardstick, not a backend of ours: the BLAS that the native backend calls, on the dequantized matrix."""
OURS = "ours, no prefix"
NO_TIME = Busy(0.0, None, 0.0)


@dataclass
class Round:
    """One round of an edit. `measured`: how much of each divisible stage ran, of how much; memory in bytes by stage."""

    seconds: dict[str, Seconds]
    measured: dict[str, tuple[int, int]]
    busy: Busy
    step_seconds: Samples
    first_step: float = 0.0
    peak_rss: dict[str, int] = field(default_factory=dict)
    mlx_peak: dict[str, int] = field(default_factory=dict)
    calls: dict[str, int] = field(default_factory=dict)
    build_seconds: Samples = field(default_factory=list)
    """Seconds to build a step's graph without running it; empty where a backend computes each operation at once."""


@dataclass
class Geometry:
    """The dimensions of the model that ran, and of the run."""

    bits: int
    frames: int
    steps: int
    batch: int
    layers: int = 0
    dim: int = 0
    heads: int = 0
    ffn: int = 0
    card: int = 0
    codebooks: int = 0
    text_dim: int = 0
    adapter_layers: int = 0
    group_size: int | None = None
    windows: int = 1
    text_tokens: int = 0


@dataclass
class EditColumn:
    """A backend's edits: the records of warming up, then the rounds."""

    backend: str
    geometry: Geometry
    step_bytes: dict[str, float]
    label: str = ""
    rounds: list[Round] = field(default_factory=list)
    info: dict[str, Any] | None = None
    """The native backend's report about itself."""
    fallback: str | None = None
    """The reason why the reference ran where any fused backend would have done."""
    load_seconds: float = 0.0
    load_kernel_seconds: float | None = None
    """CPU seconds of the operating system's kernel while loading: reading files, and giving out memory."""
    first_sound: float | None = None
    """Seconds from samples to the first second of a stream, measured once; None where a round is projected."""
    load_rss: int = 0
    first_round_seconds: float = 0.0
    warmup: dict[str, Round] = field(default_factory=dict)
    step_primitives: dict[str, int] = field(default_factory=dict)
    reference_calls: dict[str, int] = field(default_factory=dict)
    step_positions: list[int] = field(default_factory=list)
    adapter_flops: float = 0.0
    dtypes: dict[str, str] = field(default_factory=dict)


@dataclass
class EditSettings:
    """The settings of an edit.

    `steps`: decode steps to run. `limit`: seconds that a stage may take, beyond which a part of it is run and the rest
    projected. None: all of it.
    """

    name: str
    bits: int | None = None
    backend: str = "auto"
    seconds: float = 0.0
    batch: int = 1
    steps: int | None = None
    limit: float | None = None
    repeat: int = 1


@dataclass
class KernelColumn:
    """A backend's samples of one case: seconds of a call, and `reads`, the bytes that it must read."""

    backend: str
    reads: int
    error: dict[str, float | str]
    """The distance from the float64 oracle; JSON has a NaN as text."""
    copies: int = 1
    calls: int = 1
    seconds: Samples = field(default_factory=list)


@dataclass
class Traffic:
    """Bytes that a Metal kernel asked for in the interpreter (`loaded`), and those it must read (`needed`)."""

    buffers: dict[str, dict[str, int]]
    loaded: int
    needed: int
    launches: int
    error: dict[str, float | str]


@dataclass
class KernelCase:
    """One operation at one shape. `stream`: seconds of the streaming passes between its samples."""

    case: str
    operation: str
    flops: float
    columns: dict[str, KernelColumn] = field(default_factory=dict)
    stream: Samples = field(default_factory=list)
    busy: Busy = NO_TIME
    traffic: Traffic | None = None


@dataclass
class KernelSettings:
    """The settings of `bench kernels`; `name` is the size whose shapes were taken."""

    name: str = ""
    repeat: int = 1
    limit: float = 0.0


@dataclass
class PeerRound:
    """A round of some decode steps."""

    step_seconds: Samples
    backend: str | None = None


@dataclass
class PeerColumn:
    """A decode step in another project's code. `beside`: our rounds of the same turns."""

    label: str
    rounds: list[PeerRound] = field(default_factory=list)
    beside: list[PeerRound] = field(default_factory=list)
    versions: dict[str, str] = field(default_factory=dict)
    weight_bytes: int = 0
    threads: int = 0


@dataclass
class ProductColumn:
    """One packed matrix by some rows in another project's code; `rounds`: seconds of a product, by rows."""

    label: str
    rounds: list[dict[str, Samples]] = field(default_factory=list)
    errors: dict[str, float] = field(default_factory=dict)
    """The relative L2 distance from the float64 product, by number of rows."""
    copies: int = 1
    ran_on: str = ""
    versions: dict[str, str] = field(default_factory=dict)


@dataclass
class PeerSettings:
    """The settings of `bench peers`.

    Rows of the batch, cache length at the first step, steps a round, tokens of text; `product`: rows and columns of the
    matrix of the products.
    """

    name: str
    rows: int
    start: int
    steps: int
    text: int
    repeat: int
    product: tuple[int, int] = (0, 0)


@dataclass(kw_only=True)
class Result:
    """The fields that every result has. A kind without a record of its own (another tool's file) has nothing more."""

    environment: Environment
    created: str = ""
    schema: int = SCHEMA
    kind: str = ""


@dataclass(kw_only=True)
class EditResult(Result):
    """A result of `bench edit`."""

    kind: str = "edit"
    settings: EditSettings
    bandwidth: Bandwidth
    columns: Annotated[list[EditColumn], msgspec.Meta(min_length=1)]
    left_out: dict[str, str] = field(default_factory=dict)


@dataclass(kw_only=True)
class KernelsResult(Result):
    """A result of `bench kernels`."""

    kind: str = "kernels"
    settings: KernelSettings = field(default_factory=KernelSettings)
    bandwidth: Bandwidth
    cases: Annotated[list[KernelCase], msgspec.Meta(min_length=1)]
    left_out: dict[str, str] = field(default_factory=dict)


@dataclass(kw_only=True)
class PeersResult(Result):
    """A result of `bench peers`."""

    kind: str = "peers"
    settings: PeerSettings
    columns: Annotated[list[PeerColumn], msgspec.Meta(min_length=1)]
    products: list[ProductColumn] = field(default_factory=list)
    left_out: dict[str, str] = field(default_factory=dict)


@dataclass
class _Stats:
    data: Samples = field(default_factory=list)


@dataclass
class Benchmark:
    """One test in a file of pytest-benchmark. `extra_info` of ours: case, column, loops and reference_seconds."""

    name: str = ""
    stats: _Stats = field(default_factory=_Stats)
    extra_info: dict[str, Any] = field(default_factory=dict)


@dataclass
class PytestResult:
    """A file of pytest-benchmark."""

    benchmarks: list[Benchmark]


KINDS: dict[str, type[Result]] = {"edit": EditResult, "kernels": KernelsResult, "peers": PeersResult}
