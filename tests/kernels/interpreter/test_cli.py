"""`metal-check`: its verdict, its exit status, and what it prints."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from kernels.interpreter import faults
from kernels.interpreter.cli import main
from kernels.interpreter.compiler import HERE

pytestmark = pytest.mark.backend("interpreter")

SUMS = """// Row sums.
// check: --input a=float16[4,100] --output out=float32[4] --grid 32 4 --threadgroup 32 --template T=float16
// check: --input a=float32[2,7] --output out=float32[2] --grid 32 2 --threadgroup 32 --template T=float32
uint row = thread_position_in_grid.y;
float total = 0;
for (int i = thread_index_in_simdgroup; i < a_shape[1]; i += 32) total += float(a[row * a_shape[1] + i]);
total = simd_sum(total);
if (thread_index_in_simdgroup == 0) out[row] = total;
"""


def check(tmp_path: Path, source: str, *options: str) -> int:
    file = tmp_path / "sums.metal"
    file.write_text(source)
    return main(["check", str(file), *options])


def test_a_clean_file(tmp_path: Path, capsys: Any) -> None:
    assert check(tmp_path, SUMS, "--fp", "off", "fast") == 0
    out = capsys.readouterr().out
    assert out.count("clean;") == 2
    assert " 800          800          800" in out  # a: size, loaded, of them once


def test_a_fault_is_named_with_its_line(tmp_path: Path, capsys: Any) -> None:
    assert check(tmp_path, SUMS.replace("out[row]", "out[row + 1]"), "--seeds", "0") == 1
    out = capsys.readouterr().out
    assert "sums at line 8: out-of-bounds" in out
    assert "buffer out, byte 16" in out


def test_results_that_depend_on_the_order_of_threads(tmp_path: Path, capsys: Any) -> None:
    source = """device atomic_uint* count = (device atomic_uint*)n;
out[thread_position_in_grid.x] = atomic_fetch_add_explicit(count, 1u, memory_order_relaxed);"""
    launch = ["-o", "n=uint32[1]", "-o", "out=uint32[64]", "-g", "64", "-t", "64", "--init-value", "0"]
    assert check(tmp_path, source, *launch) == 1
    assert "the order of threads matters" in capsys.readouterr().out


def test_files_as_inputs(tmp_path: Path, capsys: Any) -> None:
    np.save(tmp_path / "a.npy", np.arange(8, dtype=np.int32))
    source = "out[thread_position_in_grid.x] = a[thread_position_in_grid.x];"
    assert check(tmp_path, source, "-i", f"a={tmp_path}/a.npy", "-o", "out=int32[8]", "-g", "8", "-t", "8") == 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ([], "has no output"),
        (["-o", "out=floa[1]"], "is not a dtype"),
        (["-o", "out"], "is not NAME=DTYPE[SHAPE]"),
        (["-o", "out=float[1]"], "--grid needs"),
    ],
)
def test_wrong_usage_says_what_is_right(tmp_path: Path, capsys: Any, options: list[str], message: str) -> None:
    assert check(tmp_path, "out[0] = 1;", *options) == 2
    assert message in capsys.readouterr().err


WHOLE = """#include <metal_stdlib>
#include "scale.h"
using namespace metal;

constant int SIDE = 2;

// check: -i a=float16[9] -i n=uint32[1]*9 -o out=float32[9] -g 32 -t 32 --template T=float16
template <typename T>
kernel void scaled(
    device const T* a [[buffer(0)]],
    constant uint& n [[buffer(1)]],  // how many
    device float* out [[buffer(2)]],
    uint gid [[thread_position_in_grid]],
    ushort2 place [[thread_position_in_threadgroup]])
{
  if (gid >= n || place.y > 0) return;
  out[gid] = scaled_by(float(a[gid]), SIDE);
}
"""
SCALE = "inline float scaled_by(float x, int by) {\n  return x * by;\n}\n"


def whole(tmp_path: Path, source: str = WHOLE, header: str = SCALE, *options: str) -> int:
    (tmp_path / "scale.h").write_text(header)
    (tmp_path / "whole.metal").write_text(source)
    return main([str(tmp_path / "whole.metal"), *options])


def test_a_whole_function_runs_as_it_stands(tmp_path: Path, capsys: Any) -> None:
    np.save(tmp_path / "a.npy", np.arange(9, dtype=np.float16))
    np.save(tmp_path / "right.npy", 2 * np.arange(9, dtype=np.float32))
    source = WHOLE.replace("a=float16[9]", "a=a.npy").replace("T=float16", "T=float16 --expect right.npy")
    assert whole(tmp_path, source) == 0
    out = capsys.readouterr().out
    assert "out as expected: largest difference 0," in out and "clean;" in out


def test_faults_of_a_whole_function_have_its_files_lines(tmp_path: Path, capsys: Any) -> None:
    assert whole(tmp_path, WHOLE.replace("gid >= n ||", "")) == 1
    out = capsys.readouterr().out
    line = WHOLE[: WHOLE.index("out[gid] =")].count("\n") + 1
    assert f"whole at line {line}: out-of-bounds" in out
    header = "inline float scaled_by(float x, int by) {\n  thread float y[2];\n  return x * y[by];\n}\n"
    assert whole(tmp_path, WHOLE, header) == 1
    assert f"[{tmp_path}/scale.h:3]" in capsys.readouterr().out


def test_one_of_several_functions_is_chosen(tmp_path: Path, capsys: Any) -> None:
    source = """// check: -o out=int32[1] -g 1 -t 1
kernel void one(device int* out [[buffer(0)]]) { out[0] = 1; }
[[kernel]] void two(device int* out [[buffer(0)]], uint3 thread_position_in_grid [[thread_position_in_grid]]) {
  out[thread_position_in_grid.x] = 2;
}
"""
    np.save(tmp_path / "two.npy", np.array([2], dtype=np.int32))
    assert whole(tmp_path, source) == 2
    assert "has the kernels one, two; choose one with --function NAME" in capsys.readouterr().err
    assert whole(tmp_path, source, "", "--function", "two", "--expect", "two.npy") == 0
    assert whole(tmp_path, source, "", "--function", "one", "--expect", "two.npy") == 1
    assert "NOT as expected: largest difference 0.5, allowed 0" in capsys.readouterr().out
    assert whole(tmp_path, source, "", "--function", "three") == 2


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("device const T* a", "device const float4* a", "single numbers (float*, not float4*"),
        ("uint gid [[thread_position_in_grid]]", "threadgroup float* t [[threadgroup(0)]]", "inside the body"),
        ("-i n=uint32[1]*9", "", "lacks an --input or --output for n"),
        ("-i n=uint32[1]*9", "-i n=uint32[1]*9 -i m=uint32[1]", "has no m"),
        ('"scale.h"', '"other.h"', 'whole.metal:2 includes "other.h", and there is no'),
        ("SIDE);\n}", "SIDE);", "whole.metal:15: this '{' is never closed; add"),
        ("-g 32", "-g 32 --grip 3", "whole.metal:7: unrecognized arguments: --grip 3"),
        ("-g 32", "-g '32", "whole.metal:7: No closing quotation"),
    ],
)
def test_what_a_whole_function_cannot_be_is_one_line(
    tmp_path: Path, capsys: Any, old: str, new: str, message: str
) -> None:
    assert old in WHOLE
    assert whole(tmp_path, WHOLE.replace(old, new)) == 2
    err = capsys.readouterr().err
    assert message in err and err.count("\n") == 1


def test_text_of_other_machines(tmp_path: Path, capsys: Any) -> None:
    """Byte order marks, Windows line ends, names with spaces, and headers beside the kernel."""
    folder = tmp_path / "a folder"
    folder.mkdir()
    (folder / "two.h").write_bytes(b"\xef\xbb\xbfconstant int TWO = 2;\r\n")
    file = folder / "my kernel.metal"
    file.write_bytes(
        b"\xef\xbb\xbf// check: --output out=int32[1] --grid 1 --threadgroup 1 --header two.h\r\nout[0] = TWO;\r\n"
    )
    assert main(["check", str(file)]) == 0
    file.write_bytes(b"out[0] = 1; // caf\xe9\n")
    assert main([str(file)]) == 2
    assert "is not text in UTF-8 (byte 18)" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.array(["x"]), "holds <U1"),
        (np.zeros(2, dtype=[("a", "f4")]), "which no Metal buffer can"),
        (np.zeros(2, dtype="M8[s]"), "which no Metal buffer can"),
        (np.zeros(2), "holds float64, which Metal lacks"),
        (np.zeros(2, dtype=np.complex128), "complex128, which Metal lacks"),
        (np.array([{}], dtype=object), "a.npy is not an array that can be read"),
        (b"\x93NUMPY\x01\x00", "a.npy is not an array that can be read"),
    ],
)
def test_arrays_that_no_buffer_holds_are_one_line(tmp_path: Path, capsys: Any, array: Any, message: str) -> None:
    if isinstance(array, bytes):
        (tmp_path / "a.npy").write_bytes(array)
    else:
        np.save(tmp_path / "a.npy", array, allow_pickle=True)
    assert check(tmp_path, "out[0] = 1;", "-i", "a=a.npy", "-o", "out=int32[1]", "-g", "1", "-t", "1") == 2
    err = capsys.readouterr().err
    assert message in err and "a.npy" in err and err.count("\n") == 1


@pytest.mark.parametrize("dtype", [">f4", ">i2", "bool", "uint8", "complex64"])
def test_arrays_of_any_byte_order(tmp_path: Path, capsys: Any, dtype: str) -> None:
    np.save(tmp_path / "a.npy", np.array([1, 0, 1, 1] * 4).astype(dtype)[::2])
    name = np.dtype(dtype).newbyteorder("=").name
    source = "out[thread_position_in_grid.x] = a[thread_position_in_grid.x];"
    np.save(tmp_path / "right.npy", np.ones(8, dtype=np.dtype(dtype).newbyteorder("=")))
    options = ["-i", "a=a.npy", "-o", f"out={name}[8]", "-g", "8", "-t", "8", "--expect", "out=right.npy"]
    assert check(tmp_path, source, *options) == 0


def test_what_is_expected_must_fit(tmp_path: Path, capsys: Any) -> None:
    np.save(tmp_path / "five.npy", np.zeros(5))
    launch = ["-o", "out=float32[2]", "-g", "2", "-t", "2"]
    source = "out[thread_position_in_grid.x] = 1.0f + 0.001f * thread_position_in_grid.x;"
    for expect, message in (
        ("five.npy", "five.npy has the shape [5], output out has [2]"),
        ("b=five.npy", "there is no output b"),
        ("none.npy", "there is no file none.npy"),
    ):
        assert check(tmp_path, source, *launch, "--expect", expect) == 2
        assert message in capsys.readouterr().err
    np.save(tmp_path / "right.npy", np.array([1.0, 1.0]))
    assert check(tmp_path, source, *launch, "--expect", "right.npy") == 1
    assert check(tmp_path, source, *launch, "--expect", "right.npy", "--tolerance", "0.002") == 0
    np.save(tmp_path / "nan.npy", np.array([1.0, np.nan]))
    assert check(tmp_path, source, *launch, "--expect", "nan.npy", "--tolerance", "9") == 1


def test_json_is_all_that_is_printed(tmp_path: Path, capsys: Any) -> None:
    assert check(tmp_path, SUMS, "--json", "--seeds", "0") == 0
    told = json.loads(capsys.readouterr().out)
    assert told["clean"] and [launch["clean"] for launch in told["launches"]] == [True, True]
    assert told["launches"][0]["buffers"]["a"]["loaded"] == 800
    assert check(tmp_path, SUMS.replace("out[row]", "out[row + 1]"), "--json", "--seeds", "0") == 1
    (fault, *_) = json.loads(capsys.readouterr().out)["launches"][0]["faults"]
    assert fault["kind"] == "out-of-bounds" and fault["place"].endswith("sums.metal:8") and fault["buffer"] == "out"


def test_the_readmes_example_prints_what_it_says(tmp_path: Path, monkeypatch: Any, capsys: Any) -> None:
    readme = (HERE / "README.md").read_text()
    source, printed = re.findall(r"<<'END'\n(.*?)END\n.*?```\n+```\n(.*?)```", readme, re.DOTALL)[0]
    monkeypatch.chdir(tmp_path)
    Path("twice.metal").write_text(source)
    assert main(["twice.metal"]) == 1
    assert capsys.readouterr().out.endswith(printed)
    Path("twice.metal").write_text(source.replace("[i + 1]", "[i]"))
    assert main(["twice.metal"]) == 0


def test_every_fault_is_in_the_readmes_table() -> None:
    readme = (HERE / "README.md").read_text()
    rows = [row for row in readme.splitlines() if row.startswith("| `")]
    for kind in faults.KINDS.values():
        (row,) = (row for row in rows if f"`{kind}`" in row)
        assert (f"`{kind}` °" in row) == (kind in faults.TOLERATED), kind


def test_the_command_starts_without_the_pipeline() -> None:
    """Neither the model nor what it needs is imported, directly or through `kernels`."""
    code = """
import sys
import kernels.interpreter.cli, kernels.interpreter
roots = {name.partition(".")[0] for name in sys.modules}
print(sorted(roots & {"model", "reference", "bench", "transformers", "tokenizers", "huggingface_hub", "soundfile"}))
print(sorted(name for name in sys.modules if name.startswith(("kernels.metal", "kernels.native"))))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["[]", "[]"]


@pytest.mark.parametrize("home", ["/dev/null", "/proc/none"])
def test_a_home_that_cannot_be_written(tmp_path: Path, home: str) -> None:
    """Kernels are compiled in a temporary folder, and one line says what to set."""
    (tmp_path / "k.metal").write_text("// check: --output out=int32[1] --grid 1 --threadgroup 1\nout[0] = 1;\n")
    env = {k: v for k, v in os.environ.items() if not k.startswith(("XDG_", "INSTRUCT_"))} | {"HOME": home}
    command = [sys.executable, "-m", "kernels.interpreter", "check", str(tmp_path / "k.metal"), "--seeds", "0"]
    done = subprocess.run(command, capture_output=True, text=True, env=env | {"TMPDIR": str(tmp_path)}, check=False)
    assert done.returncode == 0, done.stderr
    assert "INSTRUCT_MUSICGEN_INTERPRETER_CACHE" in done.stderr and done.stderr.count("\n") == 1
    assert [p.name for p in tmp_path.iterdir()] == ["k.metal"]
    env["INSTRUCT_MUSICGEN_INTERPRETER_CACHE"] = f"{home}/cache"
    done = subprocess.run(command, capture_output=True, text=True, env=env, check=False)
    assert done.returncode == 2
    assert f"INSTRUCT_MUSICGEN_INTERPRETER_CACHE={home}/cache cannot be written" in done.stderr
