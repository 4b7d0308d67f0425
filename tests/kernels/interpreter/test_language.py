"""The language is Metal's: what clang takes as C++14 (Metal 3, up to macOS 15), or as C++17 (Metal 4)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import mlx.core as mx
import pytest

from kernels.interpreter import CompilerError
from kernels.interpreter.cli import main
from kernels.interpreter.kernel import MetalKernel

pytestmark = pytest.mark.backend("interpreter")

# Metal 3 refuses these, and Metal 4 takes them.
OF_METAL_4 = {
    "a class template without its arguments": (
        "template <typename T> struct Box { T x; Box(T y) : x(y) {} };",
        "Box b(2.0f); out[0] = b.x;",
    ),
    "a template of any value": ("template <auto V> constexpr int twice() { return 2 * V; }", "out[0] = twice<1>();"),
}
# No Metal takes these.
OF_NONE = {
    "requires": ("template <typename T> requires (sizeof(T) > 2) T two(T x) { return 2 * x; }", "out[0] = two(1.0f);"),
    "auto parameters": ("float two(auto x) { return 2 * x; }", "out[0] = two(1.0f);"),
    "consteval": ("consteval int two() { return 2; }", "out[0] = two();"),
}
# clang takes these before their time, as Metal's compiler does, and MLX's own kernels use the first.
OF_BOTH = {
    "if constexpr": ("template <int N> float two() { if constexpr (N == 1) { return 2; } return 0; }", "two<1>()"),
    "a fold": ("template <typename... T> float sum(T... x) { return (x + ... + 0.0f); }", "sum(1.0f, 1.0f)"),
    "an inline variable": ("inline constexpr float of_two = 2.0f;", "of_two"),
    "a hexadecimal float": ("constant constexpr float of_two = 0x1p+1f;", "of_two"),
    "a name that GNU's C++ defines": ("inline float two(float linux) { return linux * 2; }", "two(1)"),
}


def run(using: Any, header: str, source: str, **options: Any) -> float:
    kernel = MetalKernel("language", [], ["out"], source, header + "\n", using=using)
    (out,) = kernel(
        inputs=[], grid=(1, 1, 1), threadgroup=(1, 1, 1), output_shapes=[(1,)], output_dtypes=[mx.float32], **options
    )
    return float(out[0])


@pytest.mark.parametrize("name", OF_METAL_4)
def test_cpp17_is_metal_4(using: Any, name: str) -> None:
    with pytest.raises(CompilerError):
        run(using, *OF_METAL_4[name])
    assert run(using, *OF_METAL_4[name], metal=4) == 2


@pytest.mark.parametrize("name", OF_NONE)
def test_cpp20_is_no_metal(using: Any, name: str) -> None:
    if using.family == "gcc" and name == "auto parameters":
        pytest.skip("g++ takes auto parameters in C++14 as well, as an extension of its own")
    for metal in (3, 4):
        with pytest.raises(CompilerError):
            run(using, *OF_NONE[name], metal=metal)


@pytest.mark.parametrize("name", OF_BOTH)
def test_what_clang_takes_before_its_time_is_taken(using: Any, name: str) -> None:
    header, value = OF_BOTH[name]
    assert run(using, header, f"out[0] = {value};") == 2


def test_the_version_is_told(using: Any) -> None:
    assert [run(using, "", "out[0] = __METAL_VERSION__;", metal=metal) for metal in (3, 4)] == [310, 400]
    with pytest.raises(ValueError, match="metal=5 is not known; use one of 3, 4"):
        run(using, "", "out[0] = 1;", metal=5)


def test_the_command_line_takes_the_language(tmp_path: Path, capsys: Any) -> None:
    file, header = tmp_path / "k.metal", tmp_path / "box.h"
    header.write_text(OF_METAL_4["a class template without its arguments"][0] + "\n")
    file.write_text('#include "box.h"\n// check: -o out=float32[1] -g 1 -t 1\nBox b(2.0f); out[0] = b.x;\n')
    assert main([str(file)]) == 1
    assert "does not compile" in capsys.readouterr().out
    assert main([str(file), "--metal", "4"]) == 0
