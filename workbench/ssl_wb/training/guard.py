"""Steps whose loss or gradient is not finite: nothing moves, and what is needed to look at them is written down."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from ssl_wb.data.dataset import CropDataset
from ssl_wb.data.order import clips_for
from ssl_wb.errors import DivergedError
from ssl_wb.layers.processes import StepMean
from ssl_wb.recipe.schema import Recipe
from ssl_wb.runs.checkpoint import find_checkpoint
from ssl_wb.runs.folder import RunFolder
from ssl_wb.training.reporting import Reporter

__all__ = ["LOWERED", "StepGuard", "first_not_finite"]

#: Of the learning rate after a run went back to an older checkpoint.
LOWERED = 0.5


class StepGuard:
    """Undoes what the forward pass of a step moved, and counts the steps that were not taken.

    Args:
        model: the pretext model, unwrapped.
        recipe: seed, batch size, and how many steps in a row may be skipped.
        folder: the run's, in which skipped steps are written down.
        dataset: the crops.
        reporter: says that a step was skipped.
        write: whether this process writes; one of several does.

    Attributes:
        row: steps skipped one after the other until now; part of a checkpoint.
        lowered: whether the run went back once and trains with a lower rate; part of a checkpoint.
        fault: what was not finite, and at which step.
    """

    def __init__(
        self,
        model: nn.Module,
        recipe: Recipe,
        folder: RunFolder,
        dataset: CropDataset,
        reporter: Reporter,
        *,
        write: bool,
    ) -> None:
        self.row = 0
        self.lowered = False
        self.fault = ""
        self._model, self._recipe = model, recipe
        self._folder, self._dataset = folder, dataset
        self._reporter, self._write = reporter, write
        self._buffers: list[tuple[Tensor, Tensor]] = []

    @property
    def exhausted(self) -> bool:
        """Whether more steps in a row were skipped than may be."""
        return self.row > self._recipe.train.max_skipped

    @torch.no_grad()
    def begin(self) -> None:
        """Keep what a forward pass may move: running statistics and other buffers, which are small."""
        self._buffers = [(buffer, buffer.clone()) for buffer in self._model.buffers()]

    @torch.no_grad()
    def undo(self) -> None:
        """Put the buffers back and forget what objectives noted for the end of the step."""
        for buffer, before in self._buffers:
            buffer.copy_(before)
        for module in self._model.modules():
            for value in vars(module).values():
                if isinstance(value, StepMean):
                    value.clear()

    def skip(self, step: int, what: str, value: float, *, loss: float, norm: float) -> None:
        """Count a step that was not taken and write down what is needed to look at it.

        Masks follow from the seed and the step, crops from the seed, the epoch and the clip.

        Args:
            step: the step, from 1.
            what: what was not finite.
            value: its value.
            loss: of the step.
            norm: of its gradient.
        """
        self.row += 1
        self.fault = f"the {what} is {value} at step {step}"
        self._reporter.say(f"{self.fault}: the step is not taken; its clips are in {self._folder.skipped}")
        if not self._write or not len(self._dataset):  # the benchmark has no clips and no folder
            return
        batch_size, seed = self._recipe.train.batch_size, self._recipe.seed
        keys = clips_for(range((step - 1) * batch_size, step * batch_size), len(self._dataset), seed)
        paths = self._dataset.clips
        self._folder.append_skipped(
            {
                "step": step,
                "samples_seen": step * batch_size,
                "loss": loss if math.isfinite(loss) else str(loss),  # JSON has no word for them
                "gradient_norm": norm if math.isfinite(norm) else str(norm),
                "in_a_row": self.row,
                "seed": seed,
                "clips": [{"epoch": epoch, "clip": clip, "path": str(paths[clip].path)} for epoch, clip in keys],
            }
        )

    def diverged(self) -> DivergedError:
        """Return the error that ends the run."""
        checkpoint = find_checkpoint(self._folder.checkpoints)
        kept = f"the last checkpoint is {checkpoint}" if checkpoint else "there was no checkpoint yet"
        again = ", with half the learning rate too" if self.lowered else ""
        return DivergedError(
            f"{self._folder.path}: {self.fault}, {self.row} in a row{again}; {kept}",
            hint="lower optimizer.lr, lengthen train.warmup, or set train.precision = 'fp32'; the clips of these steps "
            f"are in {self._folder.skipped}",
        )


def first_not_finite(loss: float, norm: float | None) -> tuple[str, float] | None:
    """Return name and value of what is not finite, the loss before the gradient; None where all is.

    Args:
        loss: of the step, the mean over processes.
        norm: of the gradient; None where the gradient scaler of fp16 looks at it.
    """
    if not math.isfinite(loss):
        return "loss", loss
    return None if norm is None or math.isfinite(norm) else ("gradient norm", norm)
