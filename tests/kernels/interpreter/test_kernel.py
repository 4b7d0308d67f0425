"""The kernel object: the source is MLX's, arguments arrive as MLX passes them, and wrong ones are refused."""

from __future__ import annotations

import errno
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
import pytest

from kernels import interpreter
from kernels.interpreter import cache, compiler
from kernels.interpreter.frontend import signature

pytestmark = pytest.mark.backend("interpreter")

DTYPES = list(signature.TYPE_NAMES)


def printed(capfd: Any, tmp_path: Path, options: dict[str, Any], inputs: list[mx.array], **call: Any) -> str:
    """What MLX says that it would compile."""
    kernel: Any = mx.fast.metal_kernel(**options)
    capfd.readouterr()
    mx.export_function(
        str(tmp_path / "trace.mlxfn"),
        lambda *a: kernel(inputs=list(a), grid=(4, 1, 1), threadgroup=(4, 1, 1), verbose=True, stream=mx.gpu, **call),
        *inputs,
    )
    return str(capfd.readouterr().out)


ATTRIBUTES = " ".join(name for name, _, _ in signature.ATTRIBUTES)
SOURCES = {
    "nothing mentioned": ("out[0] = 1;", ""),
    "facts": ("a_shape a_strides b_ndim c_shape c_ndim", "// a header\n"),
    "every attribute": (ATTRIBUTES, ""),
    "facts and an attribute": ("a_shape b_ndim thread_position_in_grid", ""),
    "parts of longer words": ("data_shape mythreads_per_gridx dispatch_threads_per_threadgroup // b_strides", "int q;"),
    "empty": ("", ""),
}


@pytest.mark.parametrize("atomic", [False, True])
@pytest.mark.parametrize("name", SOURCES)
def test_the_source_is_mlxs(capfd: Any, tmp_path: Path, name: str, atomic: bool) -> None:
    source, header = SOURCES[name]
    options = {
        "name": "same",
        "input_names": ["a", "b", "c"],
        "output_names": ["out", "more"],
        "source": source,
        "header": header,
        "atomic_outputs": atomic,
    }
    template = [("T", mx.bfloat16), ("N", -3), ("flag", True), ("off", False), ("U", mx.complex64)]
    for inputs in (
        [mx.zeros((4, 4)), mx.zeros((7,), mx.uint8), mx.array(2.0)],
        [mx.zeros((0,), mx.int64), mx.zeros((8,), mx.bool_), mx.zeros((1, 1), mx.float16)],
    ):
        for chosen in (template, []):
            call: dict[str, Any] = {"output_shapes": [(4,), ()], "output_dtypes": [mx.float32, mx.int32]}
            call |= {"template": chosen} if chosen else {}
            ours = interpreter.metal_kernel(**options).signature(inputs, call["output_dtypes"], chosen)
            assert printed(capfd, tmp_path, options, inputs, **call) == (
                f"Generated source code for `same`:\n```\n{ours.text}\n```\n"
            )


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_the_source_is_mlxs_for_every_dtype(capfd: Any, tmp_path: Path, dtype: mx.Dtype) -> None:
    options = {"name": "typed", "input_names": ["a"], "output_names": ["out"], "source": "out[0] = a[0];"}
    call = {"output_shapes": [(4,)], "output_dtypes": [dtype], "template": [("T", dtype)]}
    inputs = [mx.zeros((9,)).astype(dtype)]
    ours = interpreter.metal_kernel(**options).signature(inputs, [dtype], [("T", dtype)])
    assert ours.text in printed(capfd, tmp_path, options, inputs, **call)


@pytest.mark.parametrize("check", [False, True])
def test_every_dtype_passes_through(check: bool) -> None:
    kernel = interpreter.metal_kernel("copy", ["a"], ["out"], "uint i = thread_position_in_grid.x; out[i] = a[i];")
    for dtype in DTYPES:
        a = mx.array([0, 1, 1, 0, 1, 1, 0, 1, 1, 1]).astype(dtype)
        (out,) = kernel(
            inputs=[a],
            grid=(10, 1, 1),
            threadgroup=(4, 1, 1),
            output_shapes=[(10,)],
            output_dtypes=[dtype],
            check=check,
        )
        assert out.dtype == dtype
        assert mx.array_equal(out, a)


COPY = """uint i = thread_position_in_grid.x, j = thread_position_in_grid.y;
out[j * a_shape[1] + i] = a[j * a_strides[0] + i * a_strides[1]];
if (i + j == 0) facts[0] = a_strides[0], facts[1] = a_strides[1], facts[2] = a_ndim;"""
VIEWS = {
    "plain": (lambda a: a, (8, 1)),
    "transposed": (lambda a: a.T, (1, 8)),
    "sliced": (lambda a: a[1::2, ::3], (16, 3)),
    "reversed": (lambda a: a[::-1], (-8, 1)),
    "broadcast": (lambda a: mx.broadcast_to(a[:1], (5, 8)), (0, 1)),
    "lazy": (lambda a: (a + 1).T, (1, 8)),
}


@pytest.mark.parametrize("check", [False, True])
@pytest.mark.parametrize("contiguous", [False, True])
@pytest.mark.parametrize("dtype", [mx.float32, mx.bfloat16], ids=str)
def test_views_arrive_with_their_strides(dtype: mx.Dtype, contiguous: bool, check: bool) -> None:
    kernel = interpreter.metal_kernel("views", ["a"], ["out", "facts"], COPY, ensure_row_contiguous=contiguous)
    base = mx.arange(48, dtype=mx.float32).reshape(6, 8).astype(dtype)
    mx.eval(base)
    for name, (view, strides) in VIEWS.items():
        a = view(base)
        out, facts = kernel(
            inputs=[a],
            grid=(a.shape[1], a.shape[0], 1),
            threadgroup=(2, 2, 1),
            output_shapes=[a.shape, (3,)],
            output_dtypes=[dtype, mx.int64],
            check=check,
        )
        assert mx.array_equal(out, view(base)), name
        assert facts.tolist() == [*((a.shape[1], 1) if contiguous else strides), 2], name


def test_scalars_constants_and_init_value() -> None:
    source = "if (thread_position_in_grid.x == 0) out[0] = a + b[1] + (flag ? 1 : 0) + N;"
    kernel = interpreter.metal_kernel("scalars", ["a", "b", "flag"], ["out"], source)
    (out,) = kernel(
        inputs=[2.5, mx.array([1, 2]), True],
        template=[("N", 10)],
        grid=(32, 1, 1),
        threadgroup=(32, 1, 1),
        output_shapes=[(3,)],
        output_dtypes=[mx.float32],
        init_value=7,
        check=True,
    )
    assert out.tolist() == [15.5, 7, 7]


def test_the_threadgroup_is_no_larger_than_the_grid() -> None:
    source = "out[thread_position_in_grid.x] = threads_per_threadgroup.x;"
    kernel = interpreter.metal_kernel("small", [], ["out"], source)
    (out,) = kernel(inputs=[], grid=(5, 1, 1), threadgroup=(64, 1, 1), output_shapes=[(5,)], output_dtypes=[mx.int32])
    assert out.tolist() == [5] * 5


def test_results_do_not_depend_on_the_seed_and_counters_repeat() -> None:
    source = """threadgroup float s[64]; uint t = thread_position_in_threadgroup.x, i = thread_position_in_grid.x;
s[t] = a[i]; threadgroup_barrier(mem_flags::mem_threadgroup); out[i] = s[63 - t] * simd_sum(a[i]);"""
    kernel = interpreter.metal_kernel("orders", ["a"], ["out"], source)
    a = mx.array(np.random.default_rng(0).normal(size=256).astype(np.float32))
    results = []
    for seed in (0, 1, 17, 12345):
        (out,) = kernel(
            inputs=[a],
            grid=(256, 1, 1),
            threadgroup=(64, 1, 1),
            output_shapes=[(256,)],
            output_dtypes=[mx.float32],
            check=True,
            seed=seed,
        )
        results.append((out.tolist(), kernel.counters))
    assert all(r == results[0] for r in results)


def test_strict_decides_what_raises() -> None:
    kernel = interpreter.metal_kernel("half_written", [], ["out"], "if (thread_position_in_grid.x < 4) out[0] = 1;")
    call: dict[str, Any] = {
        "inputs": [],
        "grid": (8, 1, 1),
        "threadgroup": (8, 1, 1),
        "output_shapes": [(2,)],
        "output_dtypes": [mx.float32],
        "check": True,
    }
    with pytest.raises(interpreter.KernelFault) as caught:
        kernel(**call)
    assert [i.kind for i in caught.value.issues] == ["unwritten-output"]
    kernel(**call, strict=False)
    assert [i.kind for i in kernel.issues] == ["unwritten-output"]


def test_a_crash_is_a_fault_and_python_lives_on() -> None:
    kernel = interpreter.metal_kernel("crash", ["a"], ["out"], "out[0] = 7 / a[0]; out[1] = a[1 << 30];")
    with pytest.raises(interpreter.KernelFault, match="crash"):
        kernel(
            inputs=[mx.zeros((16,), mx.int32)],
            grid=(1, 1, 1),
            threadgroup=(1, 1, 1),
            output_shapes=[(2,)],
            output_dtypes=[mx.int32],
        )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"inputs": []}, "Expected `inputs` to have size 1 but got size 0"),
        ({"output_shapes": [(1,), (2,)]}, "Expected `output_shapes` to have size 1 but got size 2"),
        ({"output_dtypes": []}, "Expected `output_dtypes` to have size 1 but got size 0"),
        ({"template": [("T", 1.5)]}, "Invalid template argument"),
        ({"fp": "slow"}, "use one of off, contract, fast"),
        ({"grid": (4, 1)}, "three numbers"),
        ({"threadgroup": (0, 1, 1)}, "threadgroup=\\(0, 1, 1\\) must be three numbers of at least 1"),
        ({"output_dtypes": [mx.float64]}, "Metal has no mlx.core.float64"),
    ],
)
def test_wrong_calls(change: dict[str, Any], message: str) -> None:
    kernel = interpreter.metal_kernel("wrong", ["a"], ["out"], "out[0] = a[0];")
    call: dict[str, Any] = {
        "inputs": [mx.zeros((4,))],
        "grid": (4, 1, 1),
        "threadgroup": (4, 1, 1),
        "output_shapes": [(4,)],
        "output_dtypes": [mx.float32],
    }
    with pytest.raises(ValueError, match=message):
        kernel(**(call | change))


def test_no_compiler_is_said_clearly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiler, "compilers", lambda: ())
    kernel = interpreter.metal_kernel("none", [], ["out"], "out[0] = 1;")
    with pytest.raises(interpreter.CompilerError, match="install g\\+\\+ 12 or later or clang 16 or later"):
        kernel(inputs=[], grid=(1, 1, 1), threadgroup=(1, 1, 1), output_shapes=[(1,)], output_dtypes=[mx.float32])


def test_a_defect_of_mlxs_generator_is_explained() -> None:
    """Reproduced, as it would stop the kernel on a GPU."""
    kernel = interpreter.metal_kernel("early", ["a"], ["out", "more"], "out[0] = a_shape[0]; more[0] = 1;")
    with pytest.raises(interpreter.CompilerError, match="mention one, such as thread_position_in_grid"):
        kernel(
            inputs=[mx.zeros((9,))],
            grid=(1, 1, 1),
            threadgroup=(1, 1, 1),
            output_shapes=[(1,), (1,)],
            output_dtypes=[mx.float32, mx.float32],
        )


def test_what_does_not_compile_is_an_error_with_its_line() -> None:
    kernel = interpreter.metal_kernel("typo", [], ["out"], "out[0] = 1;\nout[1] = undeclared;")
    with pytest.raises(interpreter.CompilerError, match=r"source:2:\d+: error"):
        kernel(inputs=[], grid=(1, 1, 1), threadgroup=(1, 1, 1), output_shapes=[(2,)], output_dtypes=[mx.float32])


def test_what_cannot_be_kept_leaves_nothing_half_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache.keep(tmp_path / "a.txt", "before")

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("kernels.interpreter.cache.os.replace", full)
    with pytest.raises(OSError, match="No space left"):
        cache.keep(tmp_path / "a.txt", "after")
    assert [p.read_text() for p in tmp_path.iterdir()] == ["before"]


def test_compiled_kernels_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("INSTRUCT_MUSICGEN_INTERPRETER_CACHE", str(tmp_path))
    using = compiler.compiler()
    text = 'extern "C" int kept() { return 3; }\n'
    first = compiler.build(text, ["-fPIC"], using, name="kept")
    written = first.stat().st_mtime_ns
    assert compiler.build(text, ["-fPIC"], using, name="kept") == first
    assert first.stat().st_mtime_ns == written
    assert compiler.build(text, ["-fPIC", "-O1"], using, name="kept") != first
    assert sorted(p.suffix for p in tmp_path.iterdir()) == [".so", ".so"]
