"""`kernels.load` by name."""

from __future__ import annotations

import pytest

import kernels


def test_a_listed_backend_without_a_branch_is_not_another_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernels, "BACKENDS", (*kernels.BACKENDS, "abacus"))
    with pytest.raises(NotImplementedError, match=r"backend 'abacus' is in BACKENDS; add a branch"):
        kernels.load("abacus")


def test_a_name_that_is_not_listed_is_refused_with_those_that_are() -> None:
    with pytest.raises(ValueError, match=r"backend='abacus' is not known; use one of auto, metal, native"):
        kernels.load("abacus")
