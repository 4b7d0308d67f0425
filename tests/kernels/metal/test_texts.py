"""`python -m kernels.beside_mlx.texts`: a kernel's whole text, as it is compiled."""

from __future__ import annotations

import re

import pytest

from kernels.beside_mlx import texts
from kernels.beside_mlx.registers import VARIANTS

from .compiled import signatures


@pytest.mark.parametrize("name", VARIANTS)
def test_a_kernels_text_is_what_mlx_compiles(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert texts.main([name]) == 0
    said = capsys.readouterr().out
    (kernel,) = [made for made in signatures().values() if made.text in said]
    assert said.count("[[kernel]] void") == 1 and f"void {kernel.name}(" in said
    assert re.search(r"\[\[max_total_threads_per_threadgroup\(\d+\)\]\]\s*\[\[kernel\]\]", said)
    assert said.index("#include <metal_stdlib>") < said.index(kernel.text)


def test_names_are_listed_and_others_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert texts.main([]) == 0
    assert capsys.readouterr().out.split("\n")[:-1] == list(VARIANTS)
    assert texts.main(["product, 9 rows"]) == 2
    said = capsys.readouterr()
    assert said.out == "" and "'product, 9 rows'" in said.err and "product, 8 rows" in said.err
