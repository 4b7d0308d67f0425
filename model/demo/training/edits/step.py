"""Take training steps.

On a GPU a step's launches are captured once as a graph and replayed: there they cost more than the arithmetic.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .muon import Muon
from .network import Model
from .objective import WEIGHTS, SubjectProbe, losses

Batch = dict[str, Tensor]
"""inputs [P, K, T]; targets [P*R, K, T], ids [P*R, L], keep [P*R], hidden [P*R, K, S]; probe_ids and probe_asked."""

PLAIN = 3
"""Steps on a GPU before the capture: libraries choose their algorithms in them."""


class Step:
    """The model, the probe and their optimizers, updated on batches of one shape."""

    def __init__(self, model: Model, probe: SubjectProbe, probe_weight: float, device: str) -> None:
        self.model, self.probe, self.probe_weight = model, probe, probe_weight
        self.device = torch.device(device)
        matrices = [p for n, p in model.named_parameters() if p.ndim == 2 and n.startswith(("layers.", "merge_"))]
        chosen = {id(p) for p in matrices}
        rest = [(n, p) for n, p in model.named_parameters() if id(p) not in chosen]
        free = [p for n, p in rest if p.ndim < 2 or n.startswith("emb.") or "shared" in n or n == "pos_emb"]
        decayed = [p for n, p in rest if all(p is not other for other in free)]
        groups = [
            {"params": [*decayed, *probe.parameters()], "weight_decay": 0.05},
            {"params": free, "weight_decay": 0.0},
        ]
        gpu = self.device.type == "cuda"
        self.muon = Muon(matrices)
        self.adam = torch.optim.AdamW(groups, 0.0, betas=(0.9, 0.98), capturable=gpu)
        self.rates = torch.zeros(2, device=self.device)
        if gpu:
            self._rates_on_device()
        self.weights = torch.tensor(WEIGHTS, device=self.device) / sum(WEIGHTS) * len(WEIGHTS)
        self.taken = 0
        self.static: Batch = {}
        self.graph: torch.cuda.CUDAGraph | None = None

    def _rates_on_device(self) -> None:
        for group in self.adam.param_groups:
            group["lr"] = self.rates[0]

    def state(self) -> dict[str, object]:
        """Return the optimizers' state."""
        return {"adam": self.adam.state_dict(), "muon": self.muon.state()}

    def load(self, state: dict[str, object]) -> None:
        """Restore the optimizers' state."""
        self.adam.load_state_dict(state["adam"])  # type: ignore[arg-type]
        self.muon.load(state["muon"])  # type: ignore[arg-type]
        for group in self.adam.param_groups:
            group["capturable"] = self.device.type == "cuda"
        if self.device.type == "cuda":
            self._rates_on_device()

    def __call__(self, batch: Batch, rate: float, matrices_rate: float) -> Tensor:
        """Take a step at AdamW's and Muon's rates, and return the codebooks' losses [K], which are not waited for."""
        if self.device.type != "cuda":
            for group in self.adam.param_groups:
                group["lr"] = rate
            return self._step(batch, matrices_rate)
        self.rates.copy_(torch.tensor([rate, matrices_rate]).pin_memory(), non_blocking=True)
        if not self.static:
            self.static = {name: torch.empty_like(part, device=self.device) for name, part in batch.items()}
        for name, part in batch.items():
            self.static[name].copy_(part.pin_memory(), non_blocking=True)
        self.taken += 1
        if self.taken <= PLAIN:
            return self._on_a_stream()
        if self.graph is None:
            self._capture()
        self.graph.replay()  # type: ignore[union-attr]
        return self.each.clone()

    def _on_a_stream(self) -> Tensor:
        """Take a plain step on a stream of its own, as a capture asks for beforehand."""
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            each = self._step(self.static, self.rates[1])
        torch.cuda.current_stream().wait_stream(stream)
        return each

    def _capture(self) -> None:
        self.model.zero_grad(set_to_none=True)
        self.probe.zero_grad(set_to_none=True)
        self.graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self.graph):
            self.each = self._step(self.static, self.rates[1])

    def _step(self, batch: Batch, matrices_rate: float | Tensor) -> Tensor:
        # A graph may not keep autocast's copies of weights: they would be stale at the next replay.
        with torch.autocast(self.device.type, dtype=torch.bfloat16, cache_enabled=self.device.type != "cuda"):
            names = ("inputs", "targets", "ids", "keep", "hidden")
            each = losses(self.model, *(batch[name] for name in names))
            probe = self.probe(self.model, batch["probe_ids"], batch["probe_asked"])
        total = (each * self.weights).mean() + self.probe_weight * probe
        self.model.zero_grad(set_to_none=True)
        self.probe.zero_grad(set_to_none=True)
        total.backward()
        nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.adam.step()
        self.muon.step(matrices_rate)
        return each.detach()
