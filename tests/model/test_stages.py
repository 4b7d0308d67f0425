"""The pipeline announces each stage of an edit once it begins and once it has ended."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import mlx.core as mx
import pytest

import reference
from model import InstructMusicGen
from model.bundle.bundle import demo_path, open_bundle
from model.decoding.windows import Window
from model.stages import STAGES


class Listener:
    def __init__(self) -> None:
        self.heard: list[str] = []
        self.running = 0

    @contextmanager
    def __call__(self, stage: str) -> Iterator[None]:
        assert stage in STAGES and self.running == 0, f"{stage} runs inside another stage"
        self.heard.append(stage)
        self.running += 1
        yield
        self.running -= 1


def test_stages_come_in_order_and_none_runs_inside_another() -> None:
    listener = Listener()
    m = InstructMusicGen(open_bundle(demo_path()), reference, listener)
    m.generate("Music piece. Instruct: Only Drums.", mx.zeros((3 * 640,)) + 0.1, seed=1)
    assert listener.heard == ["codec encode", "t5 load", "text", "text k/v", "adapter", "steps", "codec decode"]
    assert sorted(listener.heard) == sorted(STAGES) and listener.running == 0


def test_every_window_has_its_adapter_and_steps_and_a_known_text_is_not_read_again() -> None:
    listener = Listener()
    m = InstructMusicGen(open_bundle(demo_path()), reference, listener)
    codes = mx.zeros((1, 4, 6), dtype=mx.int32)
    plan = [Window(0, 4, 0), Window(2, 4, 2)]
    for _ in range(2):
        m.edit_codes(codes, "Add Piano.", greedy=True, plan=plan)
    windows = ["text k/v", *["adapter", "steps"] * 2]
    assert listener.heard == ["t5 load", "text", *windows, *windows]


def test_a_stage_ends_when_an_edit_is_cancelled() -> None:
    listener = Listener()
    m = InstructMusicGen(open_bundle(demo_path()), reference, listener)
    with pytest.raises(KeyboardInterrupt):
        m.edit_codes(mx.zeros((1, 4, 6), dtype=mx.int32), "Add Piano.", progress=interrupt)
    assert listener.heard[-1] == "steps"


def interrupt(_done: int, _total: int) -> None:
    raise KeyboardInterrupt
