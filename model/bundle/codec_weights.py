"""EnCodec's weights from the files it comes in, under audiocraft's names and in MLX's layout.

Three forms: audiocraft's `compression_state_dict.bin` (weight norm as g and v, settings as YAML in the file), a Hugging
Face folder (`facebook/encodec_32khz`), and mlx-community's conversion of that one (weight norm merged, convolutions
channels last, LSTM biases summed).
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np

from ..config import HOP, SAMPLE_RATE, CodecConfig
from ..errors import UserError
from ..formats import torch_file
from ..formats.safetensors_file import Shape, Shapes, lazy, read_header, read_json
from ..formats.settings import SettingsReader
from . import hub
from . import tensors as layout
from .finite import not_finite
from .weight_norm import Array, Read, conv_parts, conv_weight

PAD_MODES = ("reflect", "constant")
TRAINING_ONLY = re.compile(r".*(?:_codebook|codebook)\.(?:inited|cluster_size|embed_avg)|.*\.codebook_usage")
PRETRAINED = re.compile(r"(?://pretrained/)?(facebook/encodec_[\w]+)")
DECODER_ONLY = {"trim_right_ratio", "final_activation", "final_activation_params"}
MAX_WEIGHTS = 1 << 30
"""EnCodec at 32 kHz has 58 million."""


def codec_config(path: str | Path) -> CodecConfig:
    """Return the settings alone, as `load_codec` returns them; no weights are read."""
    return _open(Path(path))[0]


def load_codec(path: str | Path) -> tuple[CodecConfig, dict[str, mx.array]]:
    """Read a codec: a `compression_state_dict.bin`, or a folder of Hugging Face's or mlx-community's form.

    Return its settings and its tensors (names and shapes as `layout.codec_shapes`), float32, evaluated: convolutions
    [out, k, in] with weight norm merged (also the transposed ones), LSTM as in torch, codebooks [bins, dimension].
    Raises UserError if tensors are unreadable, missing, mis-shaped, NaN or infinite, or not the 32 kHz EnCodec's.
    """
    config, read_tensors = _open(Path(path))
    tensors = read_tensors()
    if damaged := not_finite(dict(tensors)):
        raise UserError(f"{path}: NaN or infinity in {', '.join(damaged)}; get a whole copy")
    return config, tensors


def _open(path: Path) -> tuple[CodecConfig, Callable[[], dict[str, mx.array]]]:
    """Return the settings, and what reads the tensors."""
    if not path.is_dir():
        return _from_audiocraft(path)
    file = path / "compression_state_dict.bin"
    return _from_audiocraft(file) if file.exists() else _from_folder(path)


# audiocraft


def _from_audiocraft(path: Path) -> tuple[CodecConfig, Callable[[], dict[str, mx.array]]]:
    tree = torch_file.load(path)
    if not isinstance(tree, dict):
        raise UserError(f"{path} is not a codec exported by audiocraft; give its compression_state_dict.bin")
    if isinstance(name := tree.get("pretrained"), str):
        return _from_folder(pretrained(name, path))
    if "best_state" not in tree or not isinstance(tree.get("xp.cfg"), str):
        raise UserError(
            f"{path} is not a codec exported by audiocraft (it lacks best_state or xp.cfg); give its "
            "compression_state_dict.bin"
        )
    config = _audiocraft_config(SettingsReader(tree["xp.cfg"], path))
    stored = torch_file.tensors(tree["best_state"], path)
    _compare(_demanded(config, stored), {name: tensor.shape for name, tensor in stored.items()}, path)
    return config, lambda: _assemble(
        config, stored, lambda name: stored[name].numpy(), lambda name: stored[name].array()
    )


def pretrained(name: str, path: Path) -> Path:
    """Return the folder that an audiocraft export, `{'pretrained': name}`, refers to, from the cache or the Hub."""
    known = PRETRAINED.fullmatch(name)
    if known is None:
        raise UserError(f"{path} refers to the codec {name!r:.80}; only facebook/encodec_32khz can be used")
    return hub.resolve(known[1], allow_patterns=hub.CODEC_FILES)


def _audiocraft_config(xp: SettingsReader) -> CodecConfig:
    xp.require("channels", 1)
    xp.require("encodec.autoencoder", "seanet")
    xp.require("encodec.quantizer", "rvq")
    for key, value in {
        "causal": False, "channels": 1, "activation": "ELU", "norm": "weight_norm", "true_skip": True,
        "disable_norm_outer_blocks": 0, "decoder.trim_right_ratio": 1.0, "decoder.final_activation": None,
        "activation_params.alpha": 1.0,
    }.items():  # fmt: skip
        xp.require(f"seanet.{key}", value)
    # What stands under `encoder` and `decoder` overrides the settings above for that half.
    for half, known in {"encoder": set[str](), "decoder": DECODER_ONLY}.items():
        own = xp.get(f"seanet.{half}", {}) or {}
        if not isinstance(own, dict) or set(own) - known:
            raise UserError(
                f"{xp.path}: seanet.{half} is {own!r:.80}; settings of one half are not supported; "
                "give the 32 kHz EnCodec of MusicGen"
            )
    xp.require("encodec.renormalize", False)
    xp.require("encodec.causal", False)
    return _checked(
        CodecConfig(
            dimension=xp.integer("seanet.dimension"),
            n_filters=xp.integer("seanet.n_filters"),
            ratios=tuple(xp.integers("seanet.ratios")),
            codebooks=xp.integer("rvq.n_q"),
            bins=xp.integer("rvq.bins"),
            pad_mode=xp.text("seanet.pad_mode", "reflect"),  # where it is absent, as audiocraft's SEANet
            kernel_size=xp.integer("seanet.kernel_size", 7),
            last_kernel_size=xp.integer("seanet.last_kernel_size", 7),
            residual_kernel_size=xp.integer("seanet.residual_kernel_size", 3),
            n_residual_layers=xp.integer("seanet.n_residual_layers", 1),
            dilation_base=xp.integer("seanet.dilation_base", 2),
            compress=xp.integer("seanet.compress", 2),
            lstm=xp.integer("seanet.lstm", 0, least=0),
            sample_rate=xp.integer("sample_rate"),
        ),
        xp.path,
    )


# Hugging Face and mlx-community


def _from_folder(path: Path) -> tuple[CodecConfig, Callable[[], dict[str, mx.array]]]:
    raw = read_json(path / "config.json")
    file = path / "model.safetensors"
    if not file.exists():
        raise UserError(f"{path} has no model.safetensors; give a complete EnCodec folder")
    header = read_header(file)
    codebooks = sum(1 for name in header if re.fullmatch(r"quantizer\.layers\.\d+\.codebook\.embed", name))
    config = _hugging_face_config(raw, codebooks, path / "config.json")
    names: dict[str, str] = {}
    for stored in header:
        name = _audiocraft_name(stored, config)
        if name in names:
            raise UserError(f"{file}: {stored} and {names[name]} are the same tensor; remove one of them")
        names[name] = stored
    arrays = lazy(file)
    channels_last = any(name.endswith(".Wx") for name in header)
    shapes = {name: header[stored][1] for name, stored in names.items()}

    def array(name: str) -> mx.array:
        return arrays[names[name]].astype(mx.float32)

    def read(name: str) -> Array:
        return np.array(array(name))

    _compare(_demanded_mlx(config) if channels_last else _demanded(config, shapes), shapes, file)
    return config, lambda: _assemble_mlx(config, array) if channels_last else _assemble(config, shapes, read, array)


def _audiocraft_name(name: str, config: CodecConfig) -> str:
    """Return audiocraft's name of a tensor that is spelled as Hugging Face or mlx-community spell it."""
    name = re.sub(r"^quantizer\.layers\.(\d+)\.codebook\.", r"quantizer.vq.layers.\1._codebook.", name)
    name = re.sub(r"^(encoder|decoder)\.layers\.", r"\1.model.", name)
    # mlx-community: `.lstm.0.Wx`; its summed bias takes the place of the first of torch's two.
    name = re.sub(r"\.lstm\.(\d+)\.Wx$", r".lstm.weight_ih_l\1", name)
    name = re.sub(r"\.lstm\.(\d+)\.Wh$", r".lstm.weight_hh_l\1", name)
    name = re.sub(r"\.lstm\.(\d+)\.bias$", r".lstm.bias_ih_l\1", name)
    # Hugging Face calls a transposed convolution `conv` too: its place tells.
    module, conv, part = name.rpartition(".conv.")
    upsampling = {m.removesuffix(".convtr.convtr") for m, _ in layout.codec_convs(config) if ".convtr." in m}
    return f"{module}.convtr.convtr.{part}" if module in upsampling else f"{module}.conv.conv.{part}" if conv else name


def _hugging_face_config(raw: Mapping[str, Any], codebooks: int, path: Path) -> CodecConfig:
    xp = SettingsReader(dict(raw), path)
    for key, value in {
        "audio_channels": 1, "normalize": False, "norm_type": "weight_norm", "use_causal_conv": False,
        "use_conv_shortcut": False, "trim_right_ratio": 1.0,
    }.items():  # fmt: skip
        xp.require(key, value)
    return _checked(
        CodecConfig(
            dimension=xp.integer("hidden_size", 128),
            n_filters=xp.integer("num_filters", 32),
            ratios=tuple(xp.integers("upsampling_ratios")),
            codebooks=max(codebooks, 1),
            bins=xp.integer("codebook_size", 1024),
            pad_mode=xp.text("pad_mode", "reflect"),
            kernel_size=xp.integer("kernel_size", 7),
            last_kernel_size=xp.integer("last_kernel_size", 7),
            residual_kernel_size=xp.integer("residual_kernel_size", 3),
            n_residual_layers=xp.integer("num_residual_layers", 1),
            dilation_base=xp.integer("dilation_growth_rate", 2),
            compress=xp.integer("compress", 2),
            lstm=xp.integer("num_lstm_layers", 2, least=0),
            sample_rate=xp.integer("sampling_rate"),
        ),
        path,
    )


# Common


def _checked(config: CodecConfig, path: Path) -> CodecConfig:
    if config.pad_mode not in PAD_MODES:
        raise UserError(f"{path}: pad_mode {config.pad_mode!r:.40} is not supported; use one of {', '.join(PAD_MODES)}")
    if config.n_residual_layers != 1:
        raise UserError(f"{path}: n_residual_layers is {config.n_residual_layers}; EnCodec 32 kHz has 1")
    if config.sample_rate != SAMPLE_RATE or math.prod(config.ratios) != HOP:
        raise UserError(
            f"{path}: {config.sample_rate} Hz with ratios {list(config.ratios)} is not EnCodec 32 kHz; its frames must "
            f"have {HOP} samples at {SAMPLE_RATE} Hz"
        )
    width = config.n_filters * 2 ** len(config.ratios)
    largest = max(width * width * 4, width * config.bins)
    if len(config.ratios) > 8 or config.lstm > 8 or config.codebooks > 64 or largest > MAX_WEIGHTS:
        raise UserError(
            f"{path}: its dimensions ({config.n_filters} filters, ratios {config.ratios}) are not EnCodec's; give the "
            "32 kHz EnCodec of MusicGen"
        )
    return config


def _demanded(config: CodecConfig, stored: Iterable[str]) -> Shapes:
    """Return the tensors that torch's form must have.

    Convolutions in whichever form of weight norm `stored` names them.
    """
    demanded: Shapes = {}
    convs = dict(layout.codec_convs(config))
    for name, shape in layout.codec_shapes(config).items():
        module = name.removesuffix(".weight")
        if name.endswith(".weight") and module in convs:
            demanded |= conv_parts(module, shape, stored)
        else:
            demanded[name] = shape
    return demanded


def _demanded_mlx(config: CodecConfig) -> Shapes:
    """Return the tensors of mlx-community's form: an LSTM's one bias is the sum of torch's two."""
    return {n: s for n, s in layout.codec_shapes(config).items() if ".lstm.bias_hh" not in n}


def _assemble(
    config: CodecConfig, stored: Iterable[str], read: Read, array: Callable[[str], mx.array]
) -> dict[str, mx.array]:
    """Merge weight norm and turn torch's convolutions channels last; the rest is as `array` gives it."""
    convs = dict(layout.codec_convs(config))

    def get(name: str) -> Array:
        return np.asarray(read(name), np.float32)

    tensors: dict[str, mx.array] = {}
    for name in layout.codec_shapes(config):
        module = name.removesuffix(".weight")
        if name.endswith(".weight") and module in convs:
            weight = conv_weight(module, stored, get)
            # torch: conv [out, in, k], transposed conv [in, out, k]; MLX: [out, k, in] for both.
            weight = weight.transpose(1, 2, 0) if ".convtr." in module else weight.transpose(0, 2, 1)
            tensors[name] = mx.array(np.ascontiguousarray(weight))
        else:
            tensors[name] = array(name).astype(mx.float32)
    mx.eval(tensors)
    return tensors


def _assemble_mlx(config: CodecConfig, array: Callable[[str], mx.array]) -> dict[str, mx.array]:
    """Read mlx-community's form: convolutions are as they should be; the second LSTM bias becomes zeros."""
    demanded = _demanded_mlx(config)
    tensors = {
        name: array(name) if name in demanded else mx.zeros(shape)
        for name, shape in layout.codec_shapes(config).items()
    }
    mx.eval(tensors)
    return tensors


def _compare(demanded: Mapping[str, Shape], stored: Mapping[str, Shape], path: Path) -> None:
    missing = [n for n in demanded if n not in stored]
    extra = [n for n in stored if n not in demanded and not TRAINING_ONLY.fullmatch(n)]
    wrong = [f"{n} {list(stored[n])}, needs {list(s)}" for n, s in demanded.items() if n in stored and stored[n] != s]
    kinds = {"missing": missing, "unexpected": extra, "mis-shaped": wrong}
    if found := "; ".join(f"{kind}: {', '.join(names[:20])}" for kind, names in kinds.items() if names):
        raise UserError(f"{path} does not fit its settings: {found}")
