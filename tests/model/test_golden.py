"""The pipeline against upstream's own PyTorch run and, on another configuration, against the float64 oracle.

Integers are equal, floats equal to float32 rounding. Every folder in tests/golden is tested; nothing here is A's own.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import mlx.core as mx
import numpy as np
import pytest

from model import InstructMusicGen
from model.bundle.codec_weights import load_codec
from model.config import FRAME_RATE
from model.decoding.decode import Decoder, DecoderState
from model.decoding.delay_pattern import apply_delay, frame_index, undo_delay
from model.decoding.sampling import Sampling, top_k
from model.decoding.windows import plan
from model.network.encodec import EnCodec
from model.network.t5 import T5Encoder

from .conftest import Converted
from .decoding.upstream_windows import upstream_plan
from .golden import Golden, assert_close, assert_equal, recording


@pytest.fixture(scope="module")
def m(golden: Golden, converted: Converted) -> InstructMusicGen:
    return InstructMusicGen.from_pretrained(converted(golden, 32), backend="reference")


def stream(m: InstructMusicGen, texts: list[str], condition: mx.array, frames: int, *, rows: int = 2) -> DecoderState:
    text = m.lm.text_kv(m.condition(texts))
    return DecoderState(
        m.lm,
        text,
        m.adapter(condition),
        start_layer=m.adapter.config.start_layer,
        rows=rows * condition.shape[0],
        slots=frames + 4,
        query_rows=frames,
    )


@pytest.mark.slow
def test_every_choice_is_clear(golden: Golden) -> None:
    """What lets float32 be asked for equal integers."""
    assert min(golden.config["info"]["margins"].values()) > 3e-3


def test_text(m: InstructMusicGen, golden: Golden) -> None:
    want = golden.tensors("text")
    ids, mask = m.tokenizer(golden.texts)
    batch = len(golden.texts)
    assert_equal(ids, want["input_ids"][:batch])
    assert_equal(mask, want["attention_mask"][:batch])
    assert_close(m.condition(golden.texts), want["cond"][:batch], "cond")
    assert float(mx.abs(want["cond"][batch:]).max()) == 0  # the null rows that we leave out


def test_t5_hidden_states(m: InstructMusicGen, golden: Golden) -> None:
    want = golden.tensors("text")
    ids, mask = m.tokenizer(golden.texts)
    hidden = T5Encoder(m.bundle.t5_path, m.ops)(ids, mask)
    # Masked positions see the same keys upstream, so they agree too.
    assert_close(hidden, want["t5_last_hidden"][: len(golden.texts)], "t5")


def test_null_text_is_zero(m: InstructMusicGen, golden: Golden) -> None:
    both = m.conditioner.encode([golden.texts[0], ""], T5Encoder(m.bundle.t5_path, m.ops))
    assert float(mx.abs(both[1]).max()) == 0
    assert float(mx.abs(both[0]).max()) > 0


def test_adapter(m: InstructMusicGen, golden: Golden) -> None:
    want = golden.tensors("cp")
    prefixes = m.adapter(want["condition_codes"])
    assert len(prefixes) == golden.config["layers"]
    for i, prefix in enumerate(prefixes):
        for part in "qkv":
            assert_close(getattr(prefix, part), want[f"layer{i}.{part}"], f"layer{i}.{part}")
        assert_close(prefix.gate, want["gates"][i : i + 1], f"gate {i}")


def test_adapter_block_outputs(m: InstructMusicGen, golden: Golden) -> None:
    want = golden.tensors("cp")
    content = m.lm.embed(want["condition_codes"])
    positions = m.bundle.tensors["cp_transformer.pos_emb"][:, : content.shape[1]]
    x = mx.broadcast_to(positions[0], content.shape)
    assert_close(x, want["layer0.x_in"], "x_in")
    for i in range(golden.config["layers"]):
        x, _ = m.adapter.layer(i, x, content, positions[i + 1])
        assert_close(x, want[f"layer{i}.o"], f"layer{i}.o")


def test_teacher_forced_one_position_at_a_time(m: InstructMusicGen, golden: Golden) -> None:
    want = golden.tensors("lm_teacher")
    frames, batch = want["codes"].shape[2], want["codes"].shape[0]
    sequence, known = apply_delay(want["codes"], frames, golden.config["special_token_id"])
    assert known.all()
    assert_equal(sequence, want["seq_full"])
    s = stream(m, golden.texts, want["condition_codes"], frames)
    got = []
    for j in range(sequence.shape[2] - 1):
        token = sequence[:, :, j : j + 1]
        got.append(m.lm.logits(s(mx.concatenate([token, token]))))
    logits = mx.concatenate(got, axis=2)
    assert_close(logits[:batch], want["stream_logits_cond"], "conditional")
    assert_close(logits[batch:], want["stream_logits_uncond"], "unconditional")


def test_teacher_forced_at_once(m: InstructMusicGen, golden: Golden) -> None:
    """Upstream's training form: all positions in one chunk, the query row of the extra frame included."""
    want = golden.tensors("lm_teacher")
    frames = want["codes"].shape[2]
    s = stream(m, golden.texts, want["condition_codes"], frames + 1, rows=1)
    logits = m.lm.logits(s(want["seq_valid"]))
    assert_close(logits, want["logits_nonstreaming"], "training form")
    mask = want["logits_mask"][..., None]
    padded = mx.pad(logits, [(0, 0), (0, 0), (0, 4), (0, 0)])
    reverted = mx.stack([padded[:, k, k : k + frames] for k in range(logits.shape[1])], axis=1)
    assert_close(reverted * mask, want["logits_reverted"] * mask, "reverted")


def test_prompt_chunk_equals_single_steps(m: InstructMusicGen, golden: Golden) -> None:
    want = golden.tensors("lm_teacher")
    frames, p = want["codes"].shape[2], 13
    sequence = want["seq_full"]
    pairs = mx.concatenate([sequence, sequence])
    one, many = (stream(m, golden.texts, want["condition_codes"], frames) for _ in range(2))
    for j in range(p):
        single = one(pairs[:, :, j : j + 1])
    chunk = many(pairs[:, :, :p])
    assert_close(chunk[:, -1:], single, "chunk")
    assert_close(many(pairs[:, :, p : p + 1]), one(pairs[:, :, p : p + 1]), "after the chunk")


def test_inside_the_layers(m: InstructMusicGen, golden: Golden) -> None:
    """Attention, prefix attention, the gated sum, and each block's input and output, at five positions."""
    want = golden.tensors("stream_step")
    teacher = golden.tensors("lm_teacher")
    sequence, frames = teacher["seq_full"], teacher["codes"].shape[2]
    s = stream(m, golden.texts, teacher["condition_codes"], frames)
    checked = 0
    for j in range(sequence.shape[2] - 1):
        token = sequence[:, :, j : j + 1]
        with recording(m.ops, "prefix_attention", "linear") as calls:
            s(mx.concatenate([token, token]))
        if f"step{j}.layer0.merged" not in want:
            continue
        merged = [c for c in calls if c[0] == "prefix_attention"]
        dense = [c for c in calls if c[0] == "linear"]
        per_layer = len(dense) // golden.config["layers"]
        for i, (_, args, named, out) in enumerate(merged):
            q, k, v, pq, pk, pv, gate = args
            main = m.ops.prefix_attention(q, k, v, pq, pk, pv, 0.0, **named)
            assert_close(out, want[f"step{j}.layer{i}.merged"], f"merged {j} {i}")
            assert_close(main, want[f"step{j}.layer{i}.main_attn"], f"main {j} {i}")
            assert_close((out - main) / gate, want[f"step{j}.layer{i}.dt_attn"], f"dt {j} {i}")
            of_layer = dense[i * per_layer : (i + 1) * per_layer]
            assert_close(of_layer[0][1][0], want[f"step{j}.layer{i}.block_in"], f"in {j} {i}")
            assert_close(of_layer[-1][3], want[f"step{j}.layer{i}.block_out"], f"out {j} {i}")
            cross = of_layer[3]
            assert_close(cross[3] - cross[2]["residual"], want[f"step{j}.layer{i}.cross_out"], f"cross {j} {i}")
            checked += 1
    assert checked == 5 * golden.config["layers"]


@pytest.mark.parametrize("run", ["short", "max"])
def test_greedy(m: InstructMusicGen, golden: Golden, run: Any) -> None:
    want = golden.tensors("greedy")
    codes = want[f"{run}_condition_codes"][:, :, :-1]
    got = m.edit_codes(codes, golden.texts, greedy=True)
    assert_equal(got, want[f"{run}_codes"])
    sequence, _ = apply_delay(got, got.shape[2], golden.config["special_token_id"])
    assert_equal(sequence, want[f"{run}_delay_seq"])
    assert_equal(undo_delay(sequence, got.shape[2]), got)


def test_greedy_with_null_text(m: InstructMusicGen, golden: Golden) -> None:
    want = golden.tensors("greedy")
    codes = want["short_condition_codes"][:, :, :-1]
    assert_equal(m.edit_codes(codes, "", greedy=True), want["short_empty_text_codes"])


def test_guided_logits(m: InstructMusicGen, golden: Golden) -> None:
    want = golden.tensors("greedy")
    sequence, frames = want["short_delay_seq"], want["short_codes"].shape[2]
    job = Decoder(m.lm, m.adapter, m.lm.text_kv(m.condition(golden.texts)), golden.config["cfg_coef"], Sampling())
    s = job.start(want["short_condition_codes"], frames)
    got = [job.predict(s, sequence[:, :, j : j + 1]) for j in range(sequence.shape[2] - 1)]
    assert_close(mx.stack(got, axis=2), want["short_cfg_logits"], "guided logits")


def test_pattern(golden: Golden) -> None:
    want = golden.tensors("greedy")
    index = np.asarray(want["pattern_timestep_index"])[0]
    frames = want["short_codes"].shape[2]
    ours = frame_index(frames)
    book = np.arange(4)[:, None]
    np.testing.assert_array_equal(np.where(ours >= 0, ours + 1000 * book, -1), index)
    np.testing.assert_array_equal((ours >= 0).astype(int), np.asarray(want["pattern_mask"]))


@pytest.mark.parametrize("temperature", ["1.0", "0.8"])
def test_sampling_distribution(golden: Golden, temperature: Any) -> None:
    want = golden.tensors("sampling")
    probabilities = mx.softmax(want["cfg_logits"] / float(temperature), axis=-1)
    assert_close(probabilities, want[f"softmax_t{temperature}"], "softmax")
    assert_close(top_k(probabilities, golden.config["top_k"]), want[f"topk_probs_t{temperature}"], "top-k")


@pytest.mark.parametrize("case", ["overlap", "trunc", "trunc_single", "gap"])
def test_windows(m: InstructMusicGen, golden: Golden, case: Any) -> None:
    want, notes = golden.tensors("long"), golden.json("long")
    layout, text = notes[case], notes["text"][0]
    codes = want[f"{case}.condition_codes"][:, :, :-1]
    upstream = upstream_plan(codes.shape[2], layout["max_duration"], layout["extend_stride"])
    assert [(w.offset, w.frames, w.prompt) for w in upstream] == [
        (w["offset"], w["max_gen_len"], w["prompt_len"]) for w in layout["windows"]
    ]
    assert_equal(m.edit_codes(codes, text, greedy=True, plan=upstream), want[f"{case}.codes"], case)
    if case == "overlap":
        stride = int(FRAME_RATE * layout["extend_stride"])
        assert upstream == plan(codes.shape[2], golden.config["max_n_frames"], stride)
        got = m.edit_codes(codes, text, greedy=True, stride_frames=stride)
        assert_equal(got, want[f"{case}.codes"], "our own plan")


@pytest.mark.parametrize("clip", ["clip", "short"])
def test_codec(m: InstructMusicGen, golden: Golden, clip: Any) -> None:
    want, codec = golden.tensors("encodec"), m.codec
    audio = want["clip.audio"] if clip == "clip" else golden.tensors("chain")["short.audio"]
    active = golden.config["enc"]["pad_mode"]
    codes = m.encode(audio[:, 0])
    assert_equal(codes, want[f"{active}.{clip}.codes"])
    if f"{active}.{clip}.decoded" in want:
        assert_close(m.decode(codes), want[f"{active}.{clip}.decoded"][:, 0], "decoded")
    if clip == "clip":
        latent = codec.latent(audio[:, 0])
        assert_close(latent.swapaxes(1, 2), want[f"{active}.clip.latent"], "latent")
        assert_close(codec.dequantize(codes).swapaxes(1, 2), want[f"{active}.clip.quantized"], "quantized")


def test_codec_other_pad_mode(m: InstructMusicGen, golden: Golden) -> None:
    want = golden.tensors("encodec")
    mode = {"reflect": "constant", "constant": "reflect"}[golden.config["enc"]["pad_mode"]]
    config, tensors = load_codec(m.bundle.codec_path)
    other = EnCodec(replace(config, pad_mode=mode), tensors, m.ops)
    codes = other.encode(want["clip.audio"][:, 0])
    assert_equal(codes, want[f"{mode}.clip.codes"])
    decoded = other.decode(codes)
    head, tail = want[f"{mode}.clip.decoded_head"][:, 0], want[f"{mode}.clip.decoded_tail"][:, 0]
    assert_close(decoded[:, : head.shape[1]], head, "head")
    assert_close(decoded[:, -tail.shape[1] :], tail, "tail")
    assert_equal(other.encode(golden.tensors("chain")["short.audio"][:, 0]), want[f"{mode}.short.codes"])


def test_codec_lengths(m: InstructMusicGen, golden: Golden) -> None:
    for samples, frames, decoded in golden.config["info"]["encodec_lengths_L_frames_decodedlen"]:
        audio = mx.random.normal((1, samples), key=mx.random.key(samples)) * 0.1
        codes = m.encode(audio)
        assert codes.shape == (1, 4, frames)
        assert m.decode(codes).shape == (1, decoded)


@pytest.mark.parametrize("clip", ["short", "long"])
def test_chain(m: InstructMusicGen, golden: Golden, clip: Any) -> None:
    """Audio to codes to edited codes to audio."""
    want, config = golden.tensors("chain"), golden.config
    audio = want["short.audio"] if clip == "short" else golden.tensors("encodec")["clip.audio"]
    text = golden.json("chain")["text"][0]
    codes = m.encode(audio[:, 0])
    assert_equal(codes, want[f"{clip}.condition_codes"][:, :, :-1])
    upstream = upstream_plan(codes.shape[2], config["sec"], config["extend_stride"])
    edited = m.edit_codes(codes, text, greedy=True, plan=upstream)
    assert_equal(edited, want[f"{clip}.codes"])
    out = m.decode(edited)
    if clip == "short":
        assert_close(out, want["short.out_audio"][:, 0], "audio")
    else:
        head, tail = want["long.out_audio_head"][:, 0], want["long.out_audio_tail"][:, 0]
        assert out.shape[1] == want["long.out_audio_len"].item()
        assert_close(out[:, : head.shape[1]], head, "head")
        assert_close(out[:, -tail.shape[1] :], tail, "tail")


@pytest.mark.parametrize("clip", ["short", "long"])
def test_generate_is_the_chain(m: InstructMusicGen, golden: Golden, clip: Any) -> None:
    """With our own windows, which keep the frames that upstream's arithmetic may lose."""
    audio = golden.tensors("chain")["short.audio"] if clip == "short" else golden.tensors("encodec")["clip.audio"]
    text = golden.json("chain")["text"][0]
    out = m.decode(m.edit_codes(m.encode(audio[:, 0]), text, greedy=True))
    whole = m.generate(text, audio[0, 0], greedy=True)
    assert whole.shape == audio[0, 0].shape
    assert_equal(whole, out[0, : whole.shape[0]])
