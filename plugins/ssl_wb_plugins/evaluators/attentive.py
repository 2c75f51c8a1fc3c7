"""Attention over tokens: what a clip's frames tell that their mean does not."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, ClassVar, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ssl_wb.api import DataError, Evaluator, Field, Level, ProbeTask, Result, SplitScores, hookimpl, summarise
from ssl_wb_plugins.evaluators.attention_pool import AttentionPool
from ssl_wb_plugins.evaluators.heads import Decays, HeadOptions, Rates, grid_of, train_head
from ssl_wb_plugins.evaluators.scaling import ROWS, Inputs, Scaling

#: Numbers read at a time where all clips are gone through: 32 MiB in float32.
NUMBERS = 2**23


class AttentiveOptions(HeadOptions):
    """Options of the attention over tokens."""

    lr: Rates = Field(
        default_factory=lambda: [1e-3, 3e-3],
        description="Adam's learning rate; of several, the validation part chooses.",
    )
    weight_decay: Decays = Field(1e-2, description="L2 penalty on matrices; of several, the validation part chooses.")
    width: int | None = Field(
        256, ge=1, description="Width of keys and values; the embedding's own without a number, as in AudioMosaic."
    )
    batch_size: int = Field(64, ge=1, description="Clips per step, at most the clips there are.")
    epochs: int = Field(50, ge=1, description="Passes over the training clips, at most.")
    standardise: bool = Field(
        True, description="Scale every dimension to mean 0 and variance 1 over the frames of the training clips."
    )


class Frames(NamedTuple):
    """Frames of n clips.

    Attributes:
        values: float32 ``[n, T, D]``, T as long as the longest of them; 0 past a clip's end.
        past: bool ``[n, T]``, where a clip has ended.
    """

    values: Tensor
    past: Tensor


class _Reader:
    """Frames of some clips of a task, scaled, read when they are asked for: all at once need not fit into memory."""

    def __init__(self, task: ProbeTask, rows: NDArray[np.int64], mean: Tensor, std: Tensor) -> None:
        self._task, self._rows = task, rows
        self._mean, self._std = mean, std  # [D]

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, rows: Tensor | slice) -> Frames:
        """Read clips by their place among these, int64 ``[n]`` or a slice."""
        chosen = self._rows[rows if isinstance(rows, slice) else rows.numpy()]
        values, past = _read(self._task, chosen)
        mask = torch.from_numpy(past)
        scaled = (torch.from_numpy(values) - self._mean) / self._std
        return Frames(scaled.masked_fill(mask[:, :, None], 0.0), mask)


class _FrameScaling(Scaling):
    """Mean and deviation over the frames of training clips, per dimension; padding counts for nothing."""

    def _shape(self, task: ProbeTask) -> tuple[int, ...]:
        return task.embeddings.shape[2:]

    def _at_once(self, task: ProbeTask) -> int:
        return min(ROWS, max(1, NUMBERS // int(np.prod(task.embeddings.shape[1:]))))

    def _average(
        self, task: ProbeTask, rows: NDArray[np.int64], function: Callable[[NDArray[Any]], NDArray[Any]]
    ) -> NDArray[np.float64]:
        total, frames = np.zeros(self._shape(task)), 0
        for first in range(0, len(rows), self.at_once):
            values, past = _read(task, rows[first : first + self.at_once])
            own = values[~past].astype(np.float64)  # [frames, D]
            total += function(own).sum(axis=0)
            frames += len(own)
        return total / frames

    def inputs(self, task: ProbeTask, rows: NDArray[np.int64]) -> Inputs:
        """Return what reads the frames of clips, scaled."""
        return _Reader(task, rows, torch.from_numpy(self.mean).float(), torch.from_numpy(self.std).float())


def _read(task: ProbeTask, rows: NDArray[np.int64]) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Read the frames of clips, ``[n, T, D]``, no longer than the longest, and where each has ended, ``[n, T]``."""
    assert task.frames is not None
    counts = task.frames[rows]
    longest = int(counts.max())
    # Indices copy, so that these clips alone are read of embeddings that are mapped.
    values = np.asarray(task.embeddings[rows, :longest], dtype=np.float32)
    return values, np.arange(longest) >= counts[:, None]


def _check(task: ProbeTask) -> None:
    """Refuse embeddings without frames, and clips without any."""
    if task.embeddings.ndim != 3 or task.frames is None:
        raise DataError(
            f"task {task.name!r}: attentive needs one embedding per frame and the number of frames of each clip",
            hint="Use linear for encoders that embed whole clips only.",
        )
    clips, places = task.embeddings.shape[:2]
    if task.frames.shape != (clips,):
        raise DataError(
            f"task {task.name!r}: {clips} clips, and numbers of frames of shape {task.frames.shape}",
            hint="Give one number for each clip.",
        )
    wrong = np.flatnonzero((task.frames < 1) | (task.frames > places))
    if len(wrong):
        raise DataError(
            f"task {task.name!r}: clip {wrong[0]} is said to have {task.frames[wrong[0]]} frames of {places}",
            hint="A clip has one frame at least, and no more than its embedding has.",
        )


class TokenAttention(AttentionPool):
    """Attention over tokens: one learned query, one head, LayerNorm before; then LayerNorm and Linear."""

    def __init__(self, width: int, outputs: int, inner: int) -> None:
        super().__init__(1, width, outputs, inner)

    def weights(self, inputs: Frames) -> Tensor:
        """Return what each clip takes from each of its frames, ``[n, T]``; 0 past its end."""
        return self._shares(self._normed(inputs.values), inputs.past)

    def forward(self, inputs: Frames) -> Tensor:
        """Return logits ``[n, C]``."""
        return self._pooled(inputs.values, inputs.past)


class AttentiveProbe(Evaluator):
    """Attention over tokens: a learned query attends to the frames of the last layer, then a linear layer.

    Mean pooling gives a bird that sings for a tenth of a clip a tenth of the embedding; the query can look for it. The
    head is AudioMosaic's attentive probe with a clip's frames in the place of layers: LayerNorm, one learned query,
    keys and values without bias, LayerNorm, Linear. Frames are standardised by those of the training clips; padding
    has no part in anything. A frame is what the encoder gives for one column of patches, its rows side by side.
    Embeddings stay where they are mapped and are read batch by batch.
    """

    name = "attentive"
    reference = "AudioMosaic (attentive probe, there over layers); probing of patch tokens, arXiv 2509.24901"
    level: ClassVar[Level] = "tokens"
    Options = AttentiveOptions
    options: AttentiveOptions

    def __call__(self, task: ProbeTask, seeds: Sequence[int]) -> Result:
        """Probe ``task.embeddings`` ``[clips, T, D]`` with every seed on every split.

        Raises:
            DataError: embeddings are not one per frame, a clip has no frame, or training diverged.
        """
        _check(task)
        grid = grid_of(self.options.lr, self.options.weight_decay)
        found, choices = [], {}
        for split in task.splits:
            trained = train_head(task, split, seeds, grid, self._build, self.options, scaling=_FrameScaling)
            choices[split.name] = trained.chosen
            found.append(SplitScores(split, trained.scores))
        settings = {**self.options.model_dump(), "seeds": list(seeds), "chosen": choices}
        return summarise(task, self.name, found, settings=settings, resamples=self.options.resamples)

    def _build(self, point: dict[str, Any], shape: torch.Size, outputs: int) -> TokenAttention:
        return TokenAttention(shape[1], outputs, self.options.width or shape[1])


@hookimpl
def ssl_wb_evaluators() -> list[type[Evaluator]]:
    """Register the attention over tokens."""
    return [AttentiveProbe]
