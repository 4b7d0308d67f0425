"""T5's folder: either of its tokenizers, and one clear line for what cannot be."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import mlx.core as mx
import pytest
from tokenizers import Tokenizer as Fast
from tokenizers.models import WordLevel

import reference
from model.bundle.bundle import demo_path
from model.errors import UserError
from model.network.t5 import MAX_TOKENS, T5Encoder, Tokenizer

from ..golden import TEXTS, A, assert_equal, tensors


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return Path(shutil.copytree(A.folder / "t5", tmp_path / "t5"))


@pytest.mark.parametrize("absent", ["tokenizer.json", "spiece.model"])
def test_one_of_the_tokenizers_is_enough(folder: Path, absent: str) -> None:
    (folder / absent).unlink()
    for name in ("tokenizer_config.json", "special_tokens_map.json", "added_tokens.json"):
        (folder / name).unlink()
    ids, mask = Tokenizer(folder)([*TEXTS, ""])
    want = tensors("text")
    assert_equal(ids[:-1], want["input_ids"][: len(TEXTS)])
    assert_equal(mask[:-1], want["attention_mask"][: len(TEXTS)])
    assert ids[-1].tolist() == [1] + [0] * (ids.shape[1] - 1) and not mask[-1].any()


@pytest.mark.parametrize(("name", "content"), [
    ("tokenizer.json", b"{}"), ("tokenizer.json", b""), ("spiece.model", b"garbage"), ("spiece.model", b""),
])  # fmt: skip
def test_damaged_tokenizers(folder: Path, name: str, content: bytes) -> None:
    (folder / "tokenizer.json").unlink()
    (folder / name).write_bytes(content)
    with pytest.raises(UserError, match=f"{name} is not a tokenizer that can be read"):
        Tokenizer(folder)


def test_another_model_s_tokenizer(folder: Path) -> None:
    Fast(WordLevel({"[UNK]": 0, "Music": 7}, unk_token="[UNK]")).save(str(folder / "tokenizer.json"))
    with pytest.raises(UserError, match=r"makes \[\] of an empty text where T5's makes \[1\]"):
        Tokenizer(folder)


def test_tokens_that_the_weights_lack(folder: Path) -> None:
    """Looked up beyond the table they would be whatever lies there in memory."""
    shutil.copy(demo_path() / "t5" / "tokenizer.json", folder)
    with pytest.raises(UserError, match=r"gives token \d+, and its weights have 96"):
        Tokenizer(folder)(TEXTS)


def test_instructions_that_would_not_fit_in_memory(folder: Path) -> None:
    with pytest.raises(UserError, match=f"at most {MAX_TOKENS} are taken; shorten it"):
        Tokenizer(folder)(["a b " * MAX_TOKENS])


@pytest.mark.parametrize(("key", "value"), [
    ("num_layers", 10**9), ("num_layers", True), ("d_kv", [8]), ("num_heads", 10**30), ("d_model", 32.0),
    ("layer_norm_epsilon", "x"), ("layer_norm_epsilon", None), ("layer_norm_epsilon", -1),
    ("relative_attention_num_buckets", 0), ("relative_attention_num_buckets", "a"),
    ("relative_attention_max_distance", 0), ("relative_attention_max_distance", 8),
    ("feed_forward_proj", "gated-gelu"), ("vocab_size", 10**12),
])  # fmt: skip
def test_impossible_settings_are_named(folder: Path, key: str, value: object) -> None:
    config = json.loads((folder / "config.json").read_text()) | {key: value}
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(UserError, match=f": {key} is "):
        T5Encoder(folder, reference)


def test_weights_that_do_not_fit(folder: Path) -> None:
    path = folder / "model.safetensors"
    weights = mx.load(str(path))
    assert isinstance(weights, dict)
    norm, final = "encoder.block.1.layer.0.layer_norm.weight", "encoder.final_layer_norm.weight"
    changed = {n: a for n, a in weights.items() if n != norm} | {final: mx.zeros(32, dtype=mx.int32)}
    mx.eval(changed)
    mx.save_safetensors(str(path), changed)
    with pytest.raises(UserError, match="does not fit its config") as caught:
        T5Encoder(folder, reference)
    assert f"{norm} missing (needs [32] floats)" in str(caught.value)
    assert f"{final} [32] int32 (needs [32] floats)" in str(caught.value)
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(UserError, match="truncated"):
        T5Encoder(folder, reference)
