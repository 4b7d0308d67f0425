"""`--keys MAP.json`: what names leave open is one error with both lists, and a map settles it."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
import pytest

from model.bundle.bundle import open_bundle
from model.errors import UserError
from model.pipeline import InstructMusicGen

from ..cli.conftest import Run, run  # noqa: F401
from ..conftest import Tensors, refused
from .dialects import Way, respelled
from .test_dialects import assert_same, opened


def renamed(*changes: tuple[str, str]) -> Callable[[Tensors], Tensors]:
    """Names with regular expressions replaced."""

    def change(tensors: Tensors) -> Tensors:
        for pattern, new in changes:
            tensors = {re.sub(pattern, new, name): value for name, value in tensors.items()}
        return tensors

    return change


SECRET = renamed((r"^layers\.(\d+)\.self_attn\.(\w)\w*_proj", r"blub.\1.a\2"), (r"^cp_transformer\.gates", "zoo"))
SECRET_KEYS = {
    "blub.*.aq": "layers.*.self_attn.q_proj", "blub.*.ak": "layers.*.self_attn.k_proj",
    "blub.*.av": "layers.*.self_attn.v_proj", "blub.*.ao.weight": "layers.*.self_attn.out_proj.weight",
    "blub.*.ao": "layers.*.self_attn.out_proj", "zoo": "cp_transformer.gates",
}  # fmt: skip


def keys_for(bits: int) -> dict[str, str | None]:
    return {k: v for k, v in SECRET_KEYS.items() if bits == 4 or k != "blub.*.ao"}


def test_what_is_left_is_one_error_with_both_lists(edited: Callable[..., Path]) -> None:
    message = refused(edited(32, SECRET))
    for name in ("layers.0.self_attn.q_proj.weight", "layers.2.self_attn.out_proj.weight"):
        assert name in message.partition("unexpected:")[0]
    for name in ("blub.0.aq.weight [64, 64]", "blub.2.ao.weight [64, 64]"):
        assert name in message.partition("unexpected:")[2]
    assert "--keys MAP.json" in message


@pytest.mark.parametrize("bits", [4, 32])
@pytest.mark.parametrize("form", ["file", "mapping"])
def test_a_map_settles_it(
    edited: Callable[..., Path], golden_bundles: Callable[[int], Path], tmp_path: Path, bits: int, form: str
) -> None:
    path = edited(bits, SECRET)
    keys: Any = keys_for(bits)
    if form == "file":
        (tmp_path / "map.json").write_text(json.dumps(keys))
        keys = tmp_path / "map.json"
    assert_same(open_bundle(path, keys=keys), open_bundle(golden_bundles(bits)))
    m = InstructMusicGen.from_pretrained(path, "reference", keys=keys)
    assert m.bundle.config == open_bundle(golden_bundles(bits)).config


def test_a_bundle_may_carry_its_map(edited: Callable[..., Path], golden_bundle: Path) -> None:
    path = edited(32, SECRET)
    (path / "keys.json").write_text(json.dumps(keys_for(32)))
    assert_same(open_bundle(path), open_bundle(golden_bundle))
    with pytest.raises(UserError, match="missing"):
        open_bundle(path, keys={"zoo": "cp_transformer.gates"})  # one that is given stands in its place


def test_lora_that_is_not_merged_is_named(edited: Callable[..., Path]) -> None:
    lora = "layers.0.cross_attn.q_proj.lora_A.default.weight"
    message = refused(edited(32, lambda t: t | {lora: mx.zeros((4, 64))}))
    assert f"unexpected: {lora} [4, 64]" in message and "LoRA must be merged first" in message


def test_a_map_may_name_fused_and_stacked_tensors_and_leave_some_out(
    edited: Callable[..., Path], golden_bundle: Path
) -> None:
    def hide(tensors: Tensors) -> Tensors:
        out = respelled(tensors, Way("ours", fused="both", ends="stacked", merges="stacked"))
        out = renamed((r"self_attn\.in_proj", "mixer1"), (r"cross_attn\.in_proj", "mixer2"), ("^emb", "foo"))(out)
        return out | {"training.step": mx.zeros((1,))}

    keys = {"layers.*.mixer1": "layers.*.self_attn.qkv", "layers.*.mixer2": "layers.*.cross_attn.in_proj",
            "foo": "emb", "training": None}  # fmt: skip
    path = edited(32, hide)
    assert "training.step" in refused(path)
    assert_same(open_bundle(path, keys=keys), open_bundle(golden_bundle))


def test_two_tensors_for_one_role_are_ambiguous(edited: Callable[..., Path], golden_bundle: Path) -> None:
    path = edited(32, lambda t: t | {"lm.layers.1.linear1.weight": t["layers.1.linear1.weight"] * 2})
    message = refused(path)
    assert "ambiguous: layers.1.linear1.weight may be layers.1.linear1.weight or lm.layers.1.linear1.weight" in message
    assert "--keys" in message
    assert_same(open_bundle(path, keys={"lm.layers.1.linear1.weight": None}), open_bundle(golden_bundle))


def test_unknown_words_with_one_fitting_shape_are_taken_with_a_warning(
    edited: Callable[..., Path], golden_bundle: Path
) -> None:
    path = edited(32, renamed((r"^text_conditioner\.output_proj", "text.zork"), (r"\.linear1\.", ".zonk.")))
    with pytest.warns(UserWarning, match="5 tensors were told by their shapes alone; look at them with info --keys"):
        assert_same(open_bundle(path), open_bundle(golden_bundle))


def test_one_odd_name_is_not_guessed_whatever_its_shape(edited: Callable[..., Path]) -> None:
    for known, odd in (("layers.1.linear2.weight", "odd"), ("cp_transformer.gates", "odd"), ("out_norm.bias", "odd.b")):
        path = edited(32, lambda t, known=known, odd=odd: {odd if n == known else n: v for n, v in t.items()})
        message = refused(path)
        assert f"missing: {known}" in message and f"unexpected: {odd} [" in message
        shutil.rmtree(path)


def test_shapes_that_fit_several_roles_are_not_guessed(edited: Callable[..., Path]) -> None:
    message = refused(edited(32, renamed((r"cross_attn\.q_proj", "zig"), (r"cross_attn\.k_proj", "zag"))))
    assert "missing: layers.0.cross_attn.q_proj.weight" in message and "layers.0.zig.weight" in message


WRONG: dict[str, tuple[Any, str]] = {
    "unused": ({"nothing": "emb"}, "no tensor is called nothing"),
    "a number": ({"emb.0.weight": 3}, "emb.0.weight is mapped to 3"),
    "unsettled": ({"emb.0.weight": "?"}, "emb.0.weight is mapped to '?'"),
    "blank": ({"emb.0.weight": " "}, "emb.0.weight is mapped to ' '"),
    "too many stars": ({"emb.*.weight": "a.*.*"}, "has more \\* than"),
    "no object": ([1], "it holds a list"),
    "not JSON": ("{", "cannot read"),
    "needed": ({"emb.0.weight": None}, "missing: emb.0.weight"),
    "twice": ({"emb.0.weight": "emb.1.weight"}, "ambiguous: emb.1.weight"),
    "a mistake": ({"emb.0.weight": "whatever"}, "unexpected: emb.0.weight"),
}


@pytest.mark.parametrize("case", WRONG)
def test_maps_that_are_refused(golden_bundle: Path, tmp_path: Path, case: str) -> None:
    keys, fragment = WRONG[case]
    (tmp_path / "map.json").write_text(keys if isinstance(keys, str) else json.dumps(keys))
    with pytest.raises(UserError, match=fragment) as caught:
        open_bundle(golden_bundle, keys=tmp_path / "map.json")
    assert "\n" not in str(caught.value)


# The command line


def test_info_prints_the_mapping(edited: Callable[..., Path], run: Run) -> None:  # noqa: F811
    way = Way("Hugging Face", fused="self")
    done = run("info", edited(32, lambda tensors: respelled(tensors, way)), "--keys")
    assert done.code == 0 and not done.err
    lines = done.out.splitlines()
    assert "decoder.model.decoder.layers.0.fc1.weight -> layers.0.linear1.weight" in lines
    joint = "decoder.model.decoder.layers.2.self_attn.qkv_proj.weight rows 64 to 127"
    assert f"{joint} -> layers.2.self_attn.k_proj.weight" in lines


def test_info_shows_what_a_map_must_settle(
    edited: Callable[..., Path],
    golden_bundle: Path,
    tmp_path: Path,
    run: Run,  # noqa: F811
) -> None:
    path = edited(32, SECRET)
    done = run("info", path, "--keys")
    assert done.code == 1 and done.err.startswith("error: ") and "blub.0.aq.weight [64, 64] -> ?" in done.out
    found = json.loads(run("info", path, "--keys", "--json").out)
    assert found["blub.0.aq.weight"] == "?" and found["emb.0.weight"] == "emb.0.weight"
    for name in [name for name, known in found.items() if known == "?"]:
        (entry,) = (e for e in keys_for(32) if re.fullmatch(e.replace("*", r"\d+") + r"(\.weight)?", name))
        number = (re.findall(r"\d+", name) or [""])[0]
        found[name] = str(SECRET_KEYS[entry]).replace("*", number).removesuffix(".weight") + (
            ".weight" if name.endswith(".weight") else ""
        )
    (tmp_path / "map.json").write_text(json.dumps(found))
    shown = run("info", path, "--keys", tmp_path / "map.json")
    assert shown.code == 0 and "blub.0.aq.weight -> layers.0.self_attn.q_proj.weight" in shown.out
    assert "3 layers, dim 64" in shown.out
    described = json.loads(run("info", path, "--keys", tmp_path / "map.json", "--json").out)
    assert described["language_model"]["layers"] == 3
    assert_same(open_bundle(path, keys=tmp_path / "map.json"), open_bundle(golden_bundle))


@pytest.mark.parametrize("way", [
    Way(), Way("T5", fused="both", positions="apart", ends="flat", gates="in layers"),
    Way("Hugging Face", merges="stacked", fused="self", ends="stacked", first=1),
])  # fmt: skip
def test_the_printed_map_is_one_that_keys_reads(
    edited: Callable[..., Path],
    golden_bundle: Path,
    tmp_path: Path,
    run: Run,  # noqa: F811
    way: Way,
) -> None:
    path = edited(32, lambda tensors: respelled(tensors, way))
    (tmp_path / "map.json").write_text(run("info", path, "--keys", "--json").out)
    assert_same(opened(path), open_bundle(golden_bundle))
    assert_same(open_bundle(path, keys=tmp_path / "map.json"), open_bundle(golden_bundle))


def test_edit_takes_the_map(edited: Callable[..., Path], tmp_path: Path, run: Run) -> None:  # noqa: F811
    import soundfile

    path, clip = edited(32, SECRET), tmp_path / "clip.wav"
    soundfile.write(clip, np.random.default_rng(0).normal(0, 0.1, 6400), 32_000)
    edit = ("edit", clip, "-i", "Music piece. Instruct: No Drums.", "-o", tmp_path / "out.wav", "--model", path,
            "--backend", "reference", "--greedy")  # fmt: skip
    run(*edit).fails(1, "missing:", "blub.0.aq.weight", "--keys MAP.json")
    (tmp_path / "map.json").write_text(json.dumps(keys_for(32)))
    assert run(*edit, "--keys", tmp_path / "map.json").code == 0 and (tmp_path / "out.wav").exists()
    run(*edit, "--keys", tmp_path / "absent.json").fails(1, "absent.json")
