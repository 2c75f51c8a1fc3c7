"""Attention over frames: what a clip's frames tell that their mean does not."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ssl_wb.api import (
    AttentionPool,
    DataError,
    Decays,
    Evaluator,
    Field,
    HeadOptions,
    Inputs,
    InputScaling,
    Level,
    ProbeTask,
    Rates,
    Result,
    Split,
    TrainedHeads,
    hookimpl,
    probe_splits,
    settings_grid,
    train_heads,
    unfit_parts,
)

#: Numbers read at a time when all clips are gone through: 32 MiB in float32.
NUMBERS = 2**23


class AttentiveOptions(HeadOptions):
    """Options of the attention over frames."""

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
        past: bool ``[n, T]``, True past a clip's end.
    """

    values: Tensor
    past: Tensor


class FrameGroups(NamedTuple):
    """Frames of n clips of very different lengths, in groups, so that none is padded to more than twice its length.

    Attributes:
        places: int64 ``[m]`` of each group, where its m clips are among the n.
        groups: frames of each.
    """

    places: list[Tensor]
    groups: list[Frames]


class _Reader:
    """Frames of some clips of a task, scaled, read when they are indexed: all at once need not fit into memory."""

    def __init__(self, task: ProbeTask, clips: NDArray[np.int64], mean: Tensor, std: Tensor) -> None:
        self._task, self._clips = task, clips
        self._mean, self._std = mean, std  # [D]

    def __len__(self) -> int:
        return len(self._clips)

    def __getitem__(self, rows: Tensor | slice) -> Frames | FrameGroups:
        """Read clips by their place among these, int64 ``[n]`` or a slice."""
        clips = self._clips[rows if isinstance(rows, slice) else rows.numpy()]
        places = _grouped(self._task, clips)
        groups = [self._scaled(clips[place]) for place in places]
        return groups[0] if len(groups) == 1 else FrameGroups([torch.from_numpy(place) for place in places], groups)

    def _scaled(self, clips: NDArray[np.int64]) -> Frames:
        values, past = _read(self._task, clips)
        mask = torch.from_numpy(past)  # [n, T]
        scaled = (torch.from_numpy(values) - self._mean) / self._std  # [n, T, D]
        return Frames(scaled.masked_fill(mask[:, :, None], 0.0), mask)


class _FrameScaling(InputScaling):
    """Mean and standard deviation over the frames of the training clips, per dimension; padding counts for nothing."""

    def clips_at_once(self, task: ProbeTask) -> int:
        """Return so many clips that ``NUMBERS`` numbers are read at most."""
        assert task.frames is not None
        # Padding at most doubles the frames of a group.
        frames = min(task.embeddings.shape[1], 2 * int(np.ceil(task.frames.mean())))
        return min(super().clips_at_once(task), max(1, NUMBERS // (frames * task.embeddings.shape[2])))

    def vectors(self, task: ProbeTask, clips: NDArray[np.int64]) -> NDArray[np.float64]:
        """Return the frames of clips, ``[frames, D]``."""
        groups = [_read(task, clips[place]) for place in _grouped(task, clips)]
        return np.concatenate([values[~past] for values, past in groups]).astype(np.float64)

    def inputs(self, task: ProbeTask, clips: NDArray[np.int64]) -> Inputs:
        """Return what reads the frames of clips, scaled."""
        return _Reader(task, clips, torch.from_numpy(self.mean).float(), torch.from_numpy(self.std).float())


def _grouped(task: ProbeTask, clips: NDArray[np.int64]) -> list[NDArray[np.int64]]:
    """Return where clips are that are read together: all, or groups of similar length where padding takes much memory.

    A recording of 20 minutes among clips of seconds would make each of them as long as itself.
    """
    assert task.frames is not None
    counts = task.frames[clips]  # [n]
    padded = len(clips) * int(counts.max())
    if padded * task.embeddings.shape[2] <= NUMBERS or padded <= 2 * int(counts.sum()):
        return [np.arange(len(clips))]
    order = np.argsort(counts, kind="stable")  # [n]
    groups, first = [], 0
    for place in range(1, len(order) + 1):
        if place == len(order) or counts[order[place]] > 2 * counts[order[first]]:
            groups.append(order[first:place])
            first = place
    return groups


def _read(task: ProbeTask, clips: NDArray[np.int64]) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Read the frames of clips, ``[n, T, D]``, no longer than the longest, and where each has ended, ``[n, T]``."""
    assert task.frames is not None
    counts = task.frames[clips]  # [n]
    longest = int(counts.max())
    # Indexing by an array copies, so that only these clips of memory-mapped embeddings are read.
    values = np.asarray(task.embeddings[clips, :longest], dtype=np.float32)
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
            hint="A clip has at least one frame, and at most as many as its embedding.",
        )


class FrameAttention(AttentionPool):
    """Attention over frames: one learned query, one head, one LayerNorm before it for all frames."""

    def __init__(self, width: int, outputs: int, inner: int) -> None:
        super().__init__(1, width, outputs, inner)

    def weights(self, inputs: Frames) -> Tensor:  # type: ignore[override]
        """Return the attention weight of each frame, ``[n, T]``; 0 past a clip's end."""
        return super().weights(inputs.values, inputs.past)

    def forward(self, inputs: Frames | FrameGroups) -> Tensor:  # type: ignore[override]
        """Return logits ``[n, C]``."""
        if isinstance(inputs, Frames):
            return super().forward(inputs.values, inputs.past)
        logits = torch.cat([super(FrameAttention, self).forward(one.values, one.past) for one in inputs.groups])
        return logits[torch.cat(inputs.places).argsort()]


class AttentiveProbe(Evaluator):
    """Attention over frames: a learned query attends to the frames of the last layer, then a linear layer.

    With mean pooling a bird that sings for a tenth of a clip is a tenth of the embedding; a query can attend to it. The
    head is AudioMosaic's attentive probe, over frames instead of layers: LayerNorm, one learned query, keys and values
    without bias, LayerNorm, Linear. Frames are standardised by those of the training clips; padding has no effect. A
    frame is the encoder's embedding of one column of patches, its rows concatenated. Embeddings may be memory-mapped
    and are read batch by batch.
    """

    name = "attentive"
    reference = "AudioMosaic (attentive probe, there over layers); probing of patch tokens, arXiv 2509.24901"
    level: ClassVar[Level] = "frames"
    Options = AttentiveOptions
    options: AttentiveOptions

    def fits(self, task: ProbeTask) -> str | None:
        """Return why no head can be trained on a task, as an empty part of a split; None where one can."""
        return unfit_parts(task)

    def __call__(self, task: ProbeTask, seeds: Sequence[int]) -> Result:
        """Probe ``task.embeddings`` ``[clips, T, D]`` with every seed on every split.

        Raises:
            DataError: embeddings are not one per frame, a clip has no frame, or training diverged.
        """
        _check(task)
        grid = settings_grid(lr=self.options.lr, weight_decay=self.options.weight_decay)

        def build(_: dict[str, Any], shape: torch.Size, outputs: int) -> FrameAttention:
            return FrameAttention(shape[1], outputs, self.options.width or shape[1])

        def probe(split: Split) -> TrainedHeads:
            return train_heads(task, split, seeds, grid, build, self.options, scaling=_FrameScaling)

        return probe_splits(self, task, seeds, probe)


@hookimpl
def ssl_wb_evaluators() -> list[type[Evaluator]]:
    """Register the attention over frames."""
    return [AttentiveProbe]
