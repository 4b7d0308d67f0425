"""Train the codec: wave first, then spectra; then the decoder alone on frozen codes.

Phase one trains everything. It begins without quantization, fits the codebooks by k-means once latents have formed, and
ends by averaging the weights and fitting the codebooks again: from there on the codes never change, so a language model
can train on them while phase two goes on improving the decoder.
"""

from __future__ import annotations

import math
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ..workspace import Workspace, check_settings, replace
from .data import Windows, validation
from .losses import log_mel, relative_error, si_sdr, spectral_loss
from .network import Codec

AVERAGE = 0.998
"""How much of the averaged weights each step keeps."""


@dataclass(frozen=True, slots=True)
class CodecSettings:
    """What a codec run is made of; all schedules count steps."""

    filters: int = 10
    dimension: int = 64
    codebooks: int = 4
    bins: int = 256
    batch: int = 8
    window: int = 32_000
    plain: int = 300
    steps: int = 3000
    decoder_steps: int = 6000
    rate: float = 3e-3
    decoder_rate: float = 1.5e-3
    seed: int = 0

    def spectral_weight(self, step: int) -> float:
        """Return the weight of the spectra: 0.1 at first, 0.5 from 60 % of phase one, then 0.7.

        In the last third of phase two it is 0.35: the wave, which suffered from 0.7, comes back.
        """
        if step >= self.steps:
            return 0.7 if 3 * (step - self.steps) < 2 * self.decoder_steps else 0.35
        return 0.1 + 0.4 * min(max((step / self.steps - 0.3) / 0.3, 0.0), 1.0)

    def learning_rate(self, step: int) -> float:
        """Return the learning rate: a cosine to a tenth in phase one, to a fiftieth in phase two."""
        if step < self.steps:
            return self.rate * min(1, (step + 1) / 100) * (0.1 + 0.45 * (1 + math.cos(math.pi * step / self.steps)))
        done = (step - self.steps) / max(1, self.decoder_steps)
        warm = min(1, (step - self.steps + 1) / 50)
        return self.decoder_rate * warm * (0.02 + 0.49 * (1 + math.cos(math.pi * min(1, done))))


class Run:
    """The state of a run: weights, their average, moments, the step and the random numbers."""

    def __init__(self, settings: CodecSettings, device: str) -> None:
        torch.manual_seed(settings.seed)
        shape = (settings.filters, settings.dimension, settings.codebooks, settings.bins)
        self.settings, self.device, self.step, self.seconds, self.frozen = settings, device, 0, 0.0, False
        self.codec = Codec(*shape).to(device)
        self.average = Codec(*shape).to(device).requires_grad_(False)
        self.average.load_state_dict(self.codec.state_dict())
        self.optimizer = self._optimizer(self.codec)
        self.latents: list[Tensor] = []

    def _optimizer(self, module: nn.Module) -> torch.optim.Optimizer:
        return torch.optim.AdamW(module.parameters(), self.settings.rate, betas=(0.8, 0.99), weight_decay=0)

    def state(self) -> dict[str, Any]:
        """Return everything that a checkpoint holds."""
        return {
            "settings": asdict(self.settings), "step": self.step, "seconds": self.seconds,
            "codec": self.codec.state_dict(),
            "average": self.average.state_dict(), "optimizer": self.optimizer.state_dict(), "latents": self.latents,
            "random": torch.get_rng_state(), "device_random": _device_random(self.device), "frozen": self.frozen,
        }  # fmt: skip

    def load(self, path: Path) -> None:
        """Go on from a checkpoint. Raises UserError if it is of other settings."""
        state = torch.load(path, map_location=self.device, weights_only=True)
        check_settings(path, state["settings"], asdict(self.settings))
        self.step, self.seconds, self.latents = state["step"], state["seconds"], state["latents"]
        self.codec.load_state_dict(state["codec"])
        self.average.load_state_dict(state["average"])
        self.frozen = state["frozen"]
        if self.frozen:
            self.codec.encoder.requires_grad_(False)
            self.optimizer = self._optimizer(self.codec.decoder)
        self.optimizer.load_state_dict(state["optimizer"])
        torch.set_rng_state(state["random"].cpu())
        if self.device != "cpu":
            torch.cuda.set_rng_state(state["device_random"].cpu())

    def update(self, audio: Tensor) -> dict[str, Tensor]:
        """Take one step on audio [B, 1, n], and return the losses, which are not waited for."""
        settings, codec = self.settings, self.codec
        for group in self.optimizer.param_groups:
            group["lr"] = settings.learning_rate(self.step)
        commitment = audio.new_zeros(())
        if self.frozen:
            with torch.no_grad():
                latent = codec.quantizer.vectors(codec.encode(audio))
        elif self.step < settings.plain:
            latent = codec.encoder(audio)
            flat = latent.detach().permute(0, 2, 1).reshape(-1, settings.dimension)
            self.latents = [*self.latents, flat][-32:]
        else:
            if self.step == settings.plain:
                codec.quantizer.fit(torch.cat(self.latents))
                self.latents = []
            latent, commitment = codec.quantizer(codec.encoder(audio))
        output = codec.decoder(latent)
        spectral, relative = spectral_loss(output, audio), relative_error(output, audio)
        loss = settings.spectral_weight(self.step) * spectral + 2 * relative + 0.25 * commitment
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(codec.parameters(), 5.0)
        self.optimizer.step()
        self.step += 1
        self._average()
        return {
            "spectral": spectral.detach(),
            "relative": relative.detach(),
            "commitment": commitment.detach(),
        }

    @torch.no_grad()
    def _average(self) -> None:
        since = self.step if self.step <= self.settings.steps else self.step - self.settings.steps
        keep = min(AVERAGE, since / (since + 10))
        torch._foreach_lerp_(list(self.average.parameters()), list(self.codec.parameters()), 1 - keep)
        for mean, new in zip(self.average.buffers(), self.codec.buffers()):
            mean.copy_(new)

    @torch.no_grad()
    def freeze(self, windows: Windows, rng: np.random.Generator) -> None:
        """End phase one: from here on only the decoder is trained.

        Loads the averaged weights and fits the codebooks to their latents.
        """
        self.codec.load_state_dict(self.average.state_dict())
        latents = []
        for _ in range(60):
            latents.append(
                self.codec.encoder(windows.draw(rng, 8)).permute(0, 2, 1).reshape(-1, self.settings.dimension)
            )
        self.codec.quantizer.fit(torch.cat(latents), rounds=30)
        self.frozen = True
        self.codec.encoder.requires_grad_(False)
        self.average.load_state_dict(self.codec.state_dict())
        self.optimizer = self._optimizer(self.codec.decoder)


def _device_random(device: str) -> Tensor:
    """Return the state of a GPU's random numbers; empty on a CPU."""
    return torch.empty(0, dtype=torch.uint8) if device == "cpu" else torch.cuda.get_rng_state()


@torch.no_grad()
def measure(codec: Codec, sounds: dict[str, np.ndarray[Any, np.dtype[np.float32]]], device: str) -> dict[str, Any]:
    """Return the median SI-SDR and the mean log-mel distance in dB of a round trip, by kind of sound."""
    codec.eval()
    result: dict[str, Any] = {}
    for name, audio in sounds.items():
        rows = torch.tensor(audio, device=device)
        outputs = torch.cat([codec.decode(codec.encode(part)) for part in rows.split(4)])
        distance = (log_mel(outputs) - log_mel(rows)).abs().mean()
        result[name] = [round(float(si_sdr(outputs, rows).median()), 2), round(float(distance), 2)]
    codec.train()
    return result


def train_codec(work: Workspace, settings: CodecSettings, device: str, every: float, measured: int) -> None:
    """Train until the last step, or go on from the checkpoint in the work folder.

    `every` is the seconds of CPU time between checkpoints, `measured` the steps between validations. Writes
    codec/state.pt, codec/frozen.pt at the end of phase one and codec/last.pt with every checkpoint of phase two.
    """
    folder = work.folder("codec")
    state = folder / "state.pt"
    run = Run(settings, device)
    if state.is_file():
        run.load(state)
    windows = Windows(work, settings.window, device)
    sounds = validation(work, "held-out", 24)
    clock, total = time.process_time(), settings.steps + settings.decoder_steps
    losses: list[dict[str, Tensor]] = []

    def save() -> None:
        nonlocal clock
        now = time.process_time()
        run.seconds, clock = run.seconds + now - clock, now
        replace(state, lambda path: torch.save(run.state(), path))
        if run.frozen:
            save_codec(run.average, settings, folder / "last.pt")

    while run.step < total:
        rng = np.random.default_rng((settings.seed, run.step))
        if run.step >= settings.steps and not run.frozen:
            run.freeze(windows, rng)
            save_codec(run.codec, settings, folder / "frozen.pt")
            work.append_log("codec", {"step": run.step, "frozen": True, **measure(run.codec, sounds, device)})
            save()
        losses.append(run.update(windows.draw(rng, settings.batch)))
        if run.step % measured == 0 or run.step == total:
            mean = {name: round(float(torch.stack([row[name] for row in losses]).mean()), 4) for name in losses[0]}
            losses = []
            windows.refresh()
            save()
            row = {"step": run.step, "cpu_seconds": round(run.seconds), "loss": mean}
            if run.codec.quantizer.fitted:
                row |= measure(run.average, sounds, device)
            work.append_log("codec", row)
        elif time.process_time() - clock > every:
            save()


def save_codec(codec: Codec, settings: CodecSettings, path: Path) -> None:
    """Write a codec alone, with its settings."""
    replace(path, lambda aside: torch.save({"settings": asdict(settings), "codec": codec.state_dict()}, aside))


def load_codec(path: Path, device: str = "cpu") -> tuple[Codec, CodecSettings]:
    """Read a codec that `save_codec` wrote, ready for use."""
    saved = torch.load(path, map_location=device, weights_only=True)
    settings = CodecSettings(**saved["settings"])
    codec = Codec(settings.filters, settings.dimension, settings.codebooks, settings.bins).to(device)
    codec.load_state_dict(saved["codec"])
    return codec.eval().requires_grad_(False), settings
