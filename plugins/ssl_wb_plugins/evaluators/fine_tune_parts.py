"""What fine-tuning trains and on what: the encoder with a head, spectrograms of clips, their augmentation."""

from __future__ import annotations

import copy
from typing import Any, Literal, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from ssl_wb.api import Backbone, Grid, Mask, ProbeTask, patchify, visible_count
from ssl_wb_plugins.maskers.structured import lines_masked

__all__ = ["FineTuned", "Spectrograms", "TrainableEncoder", "mixup", "random_resized_crop", "spec_augment"]

Pool = Literal["rows", "mean"]

#: Spread of the head's first weights (EVAR).
HEAD_STD = 0.01
#: Random resized crop (EVAR): canvas in widths of the clip, and the range of either side.
CANVAS, SCALES = 1.5, (0.6, 1.5)


class TrainableEncoder(Protocol):
    """What an encoder has to offer beyond embeddings to be fine-tuned."""

    front_end: Any
    backbone: Backbone
    chunk_columns: int
    sample_rate: int


class Spectrograms:
    """Normalised spectrograms of a task's clips, kept in memory as far as they fit.

    Attributes:
        frames: what every clip is padded or cut to: the longest clip, ``max_seconds`` at most, in whole patches and
            whole chunks of the encoder.
    """

    def __init__(self, task: ProbeTask, encoder: TrainableEncoder, max_seconds: float, memory: float) -> None:
        assert task.read is not None
        self._read, self._encoder = task.read, encoder
        self._room = memory * 2**30  # bytes
        self._kept: dict[int, Tensor] = {}
        self._width = encoder.backbone.patch[1]
        limit = max(1, int(max_seconds / float(encoder.front_end.hop_seconds)))
        longest = min(limit, max(self._clip(row).shape[1] for row in range(len(task.labels))))
        columns = -(-longest // self._width)
        if columns > encoder.chunk_columns:
            columns = -(-columns // encoder.chunk_columns) * encoder.chunk_columns
        self.frames = columns * self._width

    def _clip(self, row: int) -> Tensor:
        """Return the spectrogram ``[F, T]`` of a clip."""
        if row not in self._kept:
            waveform = torch.from_numpy(np.array(self._read(row), dtype=np.float32))
            device = self._encoder.front_end.mean.device
            with torch.no_grad():
                clip: Tensor = self._encoder.front_end(waveform[None].to(device))[0][0].cpu()
            size = clip.numel() * clip.element_size()
            if size > self._room:
                return clip
            self._room -= size
            self._kept[row] = clip
        return self._kept[row]

    def batch(self, rows: NDArray[np.int64], *, random: bool) -> tuple[Tensor, Tensor]:
        """Gather clips, padded behind or cut at random, or to their beginning.

        Returns:
            ``[B, F, frames]``, and the patch columns of each that hold sound, int64 ``[B]``.
        """
        clips = [self._clip(int(row)) for row in rows]
        pad = float(self._encoder.front_end.pad_value)
        batch = torch.full((len(clips), clips[0].shape[0], self.frames), pad)
        columns = torch.empty(len(clips), dtype=torch.int64)
        for number, clip in enumerate(clips):
            spare = clip.shape[1] - self.frames
            start = int(torch.randint(spare + 1, ())) if random and spare > 0 else 0
            piece = clip[:, start : start + self.frames]
            batch[number, :, : piece.shape[1]] = piece
            columns[number] = -(-piece.shape[1] // self._width)
        return batch, columns


class FineTuned(nn.Module):
    """A copy of the encoder's backbone, a pooling, and EVAR's head: BatchNorm without affine, Linear of std 0.01.

    Clips are cut into the chunks that the frozen encoder reads, so a model trained on short crops is not asked for
    positions it never saw. Pooled over a clip's own columns: ``rows`` keeps the rows of the patch grid apart, as the
    frozen encoder's embeddings do (``[B, rows * dim]``), ``mean`` is one mean over patches (``[B, dim]``).
    """

    def __init__(self, encoder: TrainableEncoder, outputs: int, pool: Pool, patchout: float) -> None:
        super().__init__()
        self.backbone = copy.deepcopy(encoder.backbone).requires_grad_(True)
        self.chunk_columns, self.pool, self.patchout = encoder.chunk_columns, pool, patchout
        rows = self.backbone.grid_of(self.backbone.patch[1]).freq
        width = self.backbone.dim * (rows if pool == "rows" else 1)
        self.norm = nn.BatchNorm1d(width, affine=False)
        self.linear = nn.Linear(width, outputs)
        nn.init.normal_(self.linear.weight, std=HEAD_STD)
        nn.init.zeros_(self.linear.bias)

    def forward(self, spectrogram: Tensor, columns: Tensor) -> Tensor:
        """Return logits ``[B, C]`` of ``[B, F, T]``, of which the first ``columns [B]`` patch columns hold sound."""
        return self.linear(self.norm(self.embed(spectrogram, columns)))

    def embed(self, spectrogram: Tensor, columns: Tensor) -> Tensor:
        """Pool a clip's latents to ``[B, D]``; in training some patches are left out."""
        batch, _, frames = spectrogram.shape
        every = frames // self.backbone.patch[1]
        width = min(every, self.chunk_columns)
        tiles = spectrogram.unflatten(2, (every // width, -1)).permute(0, 2, 1, 3).flatten(0, 1)  # [B * c, F, t]
        grid = self.backbone.grid_of(tiles.shape[2])
        sound = torch.arange(every, device=columns.device) < columns[:, None]  # [B, c * t]
        sound = sound.view(-1, width).float()  # [B * c, t]
        patches = patchify(tiles, self.backbone.patch)  # [B * c, N, P]
        weights = sound.repeat(1, grid.freq)  # [B * c, N]
        visible = self._visible(grid, sound) if self.training and self.patchout > 0 else None
        if visible is not None:
            weights = weights.gather(1, visible)  # [B * c, K]
        latents = self.backbone(self.backbone.embed(patches, grid, visible))
        latents = latents[:, self.backbone.prefix_tokens :].float() * weights[:, :, None]  # [B * c, K, d]
        parts = grid.freq if self.pool == "rows" else 1
        summed = latents.reshape(batch, -1, parts, latents.shape[1] // parts, latents.shape[2]).sum(dim=(1, 3))
        counts = weights.reshape(batch, -1, parts, weights.shape[1] // parts).sum(dim=(1, 3))  # [B, parts]
        return (summed / counts.clamp(min=1.0)[:, :, None]).flatten(1)

    def _visible(self, grid: Grid, sound: Tensor) -> Tensor:
        """Choose the patches that are kept, int64 ``[B * c, K]``, sorted: structured, or whole columns for ``rows``.

        Columns of padding (0 in ``sound [B * c, t]``) go first: a clip shorter than the others keeps some of its sound.
        """
        generator = torch.Generator(sound.device).manual_seed(int(torch.randint(2**62, ())))
        if self.pool == "mean":
            return _structured(grid, sound, self.patchout, generator)
        noise = torch.rand(sound.shape, generator=generator, device=sound.device) - sound
        kept = max(1, visible_count(grid.time, self.patchout))
        times = noise.argsort(dim=1)[:, :kept].sort(dim=1).values  # [B * c, k]
        lines = torch.arange(grid.freq, device=times.device) * grid.time
        return (lines[:, None] + times[:, None, :]).flatten(1)

    def groups(self, rate: float, decay: float, layer_decay: float, *, freeze_embedding: bool) -> list[dict[str, Any]]:
        """Return AdamW's groups with layer-wise rates: ``rate * d ** (layers - id)``.

        The embedding has id 0, block k (from 0) id k + 1, all behind the blocks, as the head, the last id,
        blocks + 1. Vectors are not decayed.
        """
        depth = 1 + max((_block(name) for name, _ in self.named_parameters()), default=-1)
        groups: dict[tuple[int, bool], dict[str, Any]] = {}
        for name, parameter in self.named_parameters():
            place = depth + 1
            if name.startswith("backbone.") and not name.startswith(("backbone.trunk.", "backbone.pool_norm.")):
                place = 0
                parameter.requires_grad_(not freeze_embedding)
            elif _block(name) >= 0:
                place = _block(name) + 1
            key = (place, parameter.dim() > 1)
            settings = {"lr": rate * layer_decay ** (depth + 1 - place), "weight_decay": decay * key[1], "params": []}
            groups.setdefault(key, settings)["params"].append(parameter)
        return list(groups.values())


def _structured(grid: Grid, sound: Tensor, ratio: float, generator: torch.Generator) -> Tensor:
    """Return the patches, int64 ``[B, K]``, that structured patchout keeps (M2D), columns without sound dropped first.

    The masker ``structured`` where all of ``sound [B, T]`` is 1.
    """
    share = float(torch.rand((), generator=generator, device=sound.device))
    rows, columns = lines_masked(grid, ratio, share)
    noise = torch.rand(len(sound), grid.freq + grid.time, generator=generator, device=sound.device)
    row_rank = noise[:, : grid.freq].argsort(dim=1).argsort(dim=1)  # [B, F]
    column_rank = (noise[:, grid.freq :] + sound).argsort(dim=1).argsort(dim=1)  # [B, T]
    masked = ((row_rank < rows)[:, :, None] | (column_rank < columns)[:, None, :]).flatten(1)  # [B, N]
    return Mask.from_scores(masked.float(), (grid.freq - rows) * (grid.time - columns)).visible


def _block(name: str) -> int:
    """Return the number of the block a parameter belongs to; -1 if to none."""
    start = "backbone.trunk.blocks."
    return int(name.removeprefix(start).split(".")[0]) if name.startswith(start) else -1


def spec_augment(spectrogram: Tensor, freq: int, time: int) -> Tensor:
    """Set a band of up to ``freq`` mels and a stretch of up to ``time`` frames of each ``[B, F, T]`` to the mean."""
    from torchaudio.functional import mask_along_axis_iid  # the import takes seconds

    for axis, size in ((2, freq), (3, time)):
        if size > 0:
            spectrogram = mask_along_axis_iid(spectrogram[:, None], size, 0.0, axis)[:, 0]
    return spectrogram


def mixup(spectrogram: Tensor, columns: Tensor, targets: Tensor, alpha: float) -> tuple[Tensor, Tensor, Tensor]:
    """Mix each clip with another, share of its own drawn from Beta(alpha, alpha); targets likewise.

    Args:
        spectrogram: ``[B, F, T]``.
        columns: int64 ``[B]``, columns with sound; the longer of both counts.
        targets: ``[B, C]``.
        alpha: 0 mixes nothing.
    """
    if alpha <= 0:
        return spectrogram, columns, targets
    share = torch.from_numpy(np.random.default_rng(int(torch.randint(2**62, ()))).beta(alpha, alpha, len(targets)))
    share = share.to(spectrogram)  # [B]
    other = torch.randperm(len(targets)).to(spectrogram.device)
    mixed = torch.lerp(spectrogram[other], spectrogram, share[:, None, None])
    return mixed, columns.maximum(columns[other]), torch.lerp(targets[other], targets, share[:, None])


def random_resized_crop(spectrogram: Tensor, widths: Tensor) -> Tensor:
    """Cut a stretch of random place and size out of each clip of ``[B, F, T]`` and resize it (EVAR).

    The clip lies in the middle of a canvas of its height and 1.5 times its width, 0 around it; either side of the crop
    is 0.6 to 1.5 of the clip's, the canvas at most; resized by bicubic interpolation. EVAR's clips are all of one
    width, and all of it is pooled. Here each clip is cut and resized within its own width: it still is what is pooled,
    more than half of it sound, and what lies behind stays padding.

    Args:
        spectrogram: ``[B, F, T]``.
        widths: int64 ``[B]``, frames of each clip that are pooled, 1 to T.
    """
    mels = spectrogram.shape[1]
    results = spectrogram.clone()
    for number, frames in enumerate(widths.tolist()):
        canvas = spectrogram.new_zeros(mels, int(frames * CANVAS))
        place = (canvas.shape[1] - frames) // 2
        canvas[:, place : place + frames] = spectrogram[number, :, :frames]
        low, high = SCALES
        up, along = torch.rand(2).tolist()
        height = max(1, min(mels, int(mels * (low + (high - low) * up))))
        width = max(1, min(canvas.shape[1], int(frames * (low + (high - low) * along))))
        top = int(torch.randint(mels - height + 1, ()))
        left = int(torch.randint(canvas.shape[1] - width + 1, ()))
        piece = canvas[None, None, top : top + height, left : left + width]
        resized = functional.interpolate(piece, (mels, frames), mode="bicubic", align_corners=True)
        results[number, :, :frames] = resized[0, 0]
    return results
