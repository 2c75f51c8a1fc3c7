"""One training step of a micro-batch: spectrogram, masks, encoding, losses, backward pass."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from ssl_wb.data.loader import Batch
from ssl_wb.errors import DivergedError
from ssl_wb.layers.parts import part
from ssl_wb.plugin.front_end import FrontEnd
from ssl_wb.plugin.masker import Mask
from ssl_wb.pretext.inputs import StepInputs
from ssl_wb.pretext.model import PretextOutput
from ssl_wb.runs.device import autocast_dtype

__all__ = ["TrainingStep"]


class TrainingStep:
    """Forward and backward passes of a run's micro-batches.

    Args:
        model: the pretext model, as it is or wrapped for several processes.
        accelerator: device, number format, gradient scale of fp16.
        front_end: on the same device.
        batch_size: clips in the global batch of an optimiser step.
    """

    def __init__(self, model: nn.Module, accelerator: Accelerator, front_end: FrontEnd, batch_size: int) -> None:
        self.model = model
        self.accelerator = accelerator
        self.front_end = front_end
        self.batch_size = batch_size
        # Asked once: Accelerate keeps one precision for the process, that of the engine built last, and the benchmark
        # builds several.
        self._precision = accelerator.mixed_precision

    def __call__(
        self, batch: Batch, *, step: int, measure: bool = False, passes: int = 1, last: bool = True
    ) -> PretextOutput:
        """Add the gradient of one micro-batch's loss to the parameters'.

        Args:
            batch: the micro-batch, on any device.
            step: optimiser steps done before this one.
            measure: compute health figures too.
            passes: micro-batches of the optimiser step; its gradient is their mean.
            last: whether this is the last of them, at which several processes average their gradients.

        Returns:
            The loss, detached, and the figures: what is kept until all passes are done has no graph.
        """
        inputs = self.inputs(batch, step=step, measure=measure)
        with nullcontext() if last else self.accelerator.no_sync(self.model):
            with self.autocast():
                try:
                    output: PretextOutput = self.model(inputs)
                except torch.linalg.LinAlgError as error:  # a decomposition in a masker or a figure
                    raise DivergedError(
                        f"step {step + 1}: numbers of the model are no longer finite ({error})",
                        hint="Lower optimizer.lr, lengthen train.warmup, or set train.precision = 'fp32'.",
                    ) from error
            with part("backward"):
                self.accelerator.backward(output.loss / passes)
        return PretextOutput(output.loss.detach(), output.metrics)

    def inputs(
        self, batch: Batch, *, step: int, measure: bool = False, masks: tuple[Mask, ...] | None = None
    ) -> StepInputs:
        """Bring a micro-batch to the device and compute its spectrogram.

        Args:
            batch: the micro-batch.
            step: optimiser steps done before this one.
            measure: compute health figures too.
            masks: use these instead of the masker's.
        """
        batch = batch.to(self.accelerator.device)
        with part("front end"):
            spectrogram = self.spectrogram(batch)
        return StepInputs(
            spectrogram,
            step=step,
            captions=batch.captions,
            first_row=batch.first_row,
            global_rows=self.batch_size,
            measure=measure,
            masks=masks,
        )

    @torch.no_grad()
    def spectrogram(self, batch: Batch) -> Tensor:
        """Return the front end's ``[B, F, T]``, or ``[B, V, F, T]`` where each view has its own augmentation."""
        rows, views, _ = batch.waveform.shape  # [B, V, S]
        lengths = batch.lengths.repeat_interleave(views)  # [B * V]
        spectrogram, _ = self.front_end(batch.waveform.flatten(0, 1), lengths)  # [B * V, F, T]
        return spectrogram if views == 1 else spectrogram.unflatten(0, (rows, views))

    def autocast(self) -> AbstractContextManager[object]:
        """Return a context in which matrix products run in the run's number format."""
        if self._precision == "no":
            return nullcontext()
        return torch.autocast(self.accelerator.device.type, autocast_dtype(self._precision))
