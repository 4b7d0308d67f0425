"""What is compared: a bundle on a backend, or a 16/32-bit bundle quantized in memory by a recipe."""

from __future__ import annotations

from dataclasses import dataclass, replace

import kernels

from ..bundle.bundle import Bundle
from ..errors import UserError
from ..pipeline import InstructMusicGen
from ..quantize.in_memory import stored_bytes


@dataclass(frozen=True)
class Variant:
    """One column of a comparison."""

    label: str
    bundle: Bundle
    backend: str

    def load(self) -> InstructMusicGen:
        """Load the pipeline, its weights read anew. Raises UserError if the backend cannot run here."""
        try:
            # A fresh Bundle, so that the weights it read go with the pipeline.
            return InstructMusicGen(replace(self.bundle), kernels.load(self.backend))
        except kernels.BackendUnavailable as e:
            raise UserError(str(e)) from e

    @property
    def megabytes(self) -> float:
        """The size of the LM's and adapter's tensors, as a file would hold them."""
        return stored_bytes(self.bundle) / 1e6
