"""CLAP score: the cosine between a recording's and a sentence's embedding, by transformers' ClapModel.

Needs torch (extra `eval`), for this alone; nothing of the model's own path uses it.
"""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from huggingface_hub import try_to_load_from_cache

from .. import audio
from ..errors import UserError
from ..instructions import Vocabulary, meaning

CHECKPOINT = "laion/clap-htsat-unfused"
"""The checkpoint of the published card."""

Embedding = npt.NDArray[np.float32]


class Clap:
    """A ClapModel with its processor, on the CPU in float32; embeddings have unit length."""

    def __init__(self, checkpoint: str = CHECKPOINT, otherwise: str = "use --no-clap") -> None:
        """Load a checkpoint: a Hugging Face repo (cached or fetched) or a folder.

        Raises UserError if it can't be used; the message ends with `otherwise`, what to do instead.
        """
        try:
            self._torch: Any = importlib.import_module("torch")
            transformers: Any = importlib.import_module("transformers")
        except ImportError as e:
            raise UserError(
                f"the CLAP score needs torch ({e}); pip install 'instruct-musicgen-mlx[eval]', or {otherwise}"
            ) from e
        transformers.utils.logging.disable_progress_bar()
        try:
            self._model: Any = transformers.ClapModel.from_pretrained(checkpoint).eval().to(self._torch.float32)
            self._processor: Any = transformers.ClapProcessor.from_pretrained(checkpoint)
        except Exception as e:  # of another model's folder transformers says so in many ways
            reason = str(e).strip().partition("\n")[0][:200]
            raise UserError(
                f"cannot load CLAP from {checkpoint}: {reason}; name a folder with --clap, or {otherwise}"
            ) from e
        self.checkpoint = checkpoint
        self._extractor: Any = self._processor.feature_extractor

    def text(self, texts: Sequence[str]) -> Embedding:
        """Embed sentences: [n,d]. They run one at a time, so that no result depends on the others."""
        out = []
        for text in texts:
            inputs = self._processor.tokenizer(text, return_tensors="pt", truncation=True)
            out.append(self._unit("get_text_features", inputs))
        return np.stack(out)

    def audio(self, samples: npt.NDArray[np.float32], rate: int) -> Embedding:
        """Embed samples [n] at `rate` Hz, resampled to CLAP's 48 kHz: [d].

        A recording longer than CLAP's window (10 s) is cut into equal parts and their embeddings averaged (not made
        unit again: the cosine of the mean is the mean of the parts' cosines). transformers would take a random crop
        of it, and no score could be repeated.
        """
        target = int(self._extractor.sampling_rate)
        samples = audio.resample(np.asarray(samples, dtype=np.float32), rate, target)
        parts = np.array_split(samples, -(-len(samples) // int(self._extractor.nb_max_samples)))
        out = []
        for part in parts:
            inputs = self._extractor(part, sampling_rate=target, return_tensors="pt")
            out.append(self._unit("get_audio_features", inputs))
        return np.asarray(np.mean(out, axis=0), dtype=np.float32)

    def _unit(self, method: str, inputs: Any) -> Embedding:
        with self._torch.inference_mode():
            found = getattr(self._model, method)(**inputs)
            # transformers 4 returns the features, 5 an output object that holds them.
            features = found if self._torch.is_tensor(found) else found.pooler_output
            unit = self._torch.nn.functional.normalize(features[0], dim=-1)
        return np.asarray(unit.numpy(), dtype=np.float32)


def ready(checkpoint: str = CHECKPOINT) -> bool:
    """Tell whether torch is installed and the checkpoint is in the cache: nothing has to be fetched."""
    return importlib.util.find_spec("torch") is not None and isinstance(
        try_to_load_from_cache(checkpoint, "config.json"), str
    )


def clap_of(clap: Clap, samples: npt.NDArray[np.float32], rate: int, text: str, vocabulary: Vocabulary) -> float:
    """Score an edit [n] by its sentence: the cosine with the instrument's name, negative where that should be gone.

    CLAP does not understand instructions; a sentence that says no single thing is compared as it is.
    """
    found = meaning(text, vocabulary)
    cosine = clap_score(clap.audio(samples, rate), clap.text([found[1].lower() if found else text])[0])
    return -cosine if found and found[0] == "No" else cosine


def clap_score(recording: Embedding, sentence: Embedding) -> float:
    """Return the cosine, -1 to 1, of two embeddings [d]."""
    return float(np.dot(recording.astype(np.float64), sentence.astype(np.float64)))
