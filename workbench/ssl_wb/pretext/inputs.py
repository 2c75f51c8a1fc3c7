"""What a forward pass of the pretext model is given."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from ssl_wb.plugin.masker import Mask

__all__ = ["StepInputs"]


@dataclass(frozen=True)
class StepInputs:
    """One (micro-)batch of a training step.

    Masks and the layers' noise follow from (seed, step, row of the global batch), so equal inputs give equal views.

    Attributes:
        spectrogram: ``[B, F, T]`` normalised, or ``[B, V, F, T]`` where each of V views has its own augmentation.
        step: optimiser steps done before this one.
        captions: ``[B, C]`` caption embeddings, where the data has them.
        first_row: position of this batch's first clip in the global batch of the step.
        global_rows: clips in the global batch; B when None.
        measure: compute health figures too.
        masks: use these instead of the masker's.
    """

    spectrogram: Tensor
    step: int
    captions: Tensor | None = None
    first_row: int = 0
    global_rows: int | None = None
    measure: bool = False
    masks: tuple[Mask, ...] | None = None

    @property
    def rows(self) -> int:
        """Clips of this batch, ``B``."""
        return len(self.spectrogram)

    @property
    def all_rows(self) -> int:
        """Clips of the global batch."""
        return self.global_rows or self.rows
