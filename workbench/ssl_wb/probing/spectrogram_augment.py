"""Augmentation of labelled spectrograms in fine-tuning: SpecAugment, mixup, random resized crops."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

__all__ = ["mixup", "mixup_draw", "random_resized_crop", "roll_in_time", "spec_augment"]

#: Random resized crop (EVAR): width of the canvas in widths of the clip, and the range of either side of the crop.
CANVAS, SCALES = 1.5, (0.6, 1.5)


def spec_augment(spectrogram: Tensor, freq: int, time: int) -> Tensor:
    """Mask a band of up to ``freq`` mels and up to ``time`` consecutive frames of each ``[B, F, T]`` with 0, the mean.

    SpecAugment, arXiv 1904.08779, without time warping.
    """
    from torchaudio.functional import mask_along_axis_iid  # the import takes seconds

    for axis, size in ((2, freq), (3, time)):
        if size > 0:
            spectrogram = mask_along_axis_iid(spectrogram[:, None], size, 0.0, axis)[:, 0]
    return spectrogram


def mixup_draw(clips: int, alpha: float, share: float = 1.0) -> tuple[Tensor, Tensor]:
    """Draw the partner and the weight of each clip of a batch, from torch's generator.

    Args:
        clips: B.
        alpha: of Beta(alpha, alpha).
        share: of the clips that are mixed; the others have weight 1.

    Returns:
        int64 ``[B]``, the partners, and float64 ``[B]``, each clip's own weight.
    """
    # NumPy's generator is seeded from torch's, so that the draw follows from the evaluator's seed.
    random = np.random.default_rng(int(torch.randint(2**62, ())))
    weight = torch.from_numpy(random.beta(alpha, alpha, clips))
    if share < 1:
        weight[torch.from_numpy(random.random(clips)) >= share] = 1.0
    return torch.randperm(clips), weight


def roll_in_time(spectrogram: Tensor, widths: Tensor) -> Tensor:
    """Shift each clip of ``[B, F, T]`` in a circle within its own ``widths [B]`` frames, by a random number of them."""
    results = spectrogram.clone()
    for row, frames in enumerate(widths.tolist()):
        results[row, :, :frames] = spectrogram[row, :, :frames].roll(int(torch.randint(frames, ())), dims=1)
    return results


def mixup(
    spectrogram: Tensor, columns: Tensor, targets: Tensor, alpha: float, share: float = 1.0
) -> tuple[Tensor, Tensor, Tensor]:
    """Mix each clip with another of the batch by a weight drawn from Beta(alpha, alpha); targets by the same weight.

    Args:
        spectrogram: ``[B, F, T]``.
        columns: int64 ``[B]``, columns of patches with sound; the mixed clip has the larger number of both.
        targets: ``[B, C]``.
        alpha: 0 mixes nothing.
        share: of the clips that are mixed.

    Returns:
        The three, mixed.
    """
    if alpha <= 0:
        return spectrogram, columns, targets
    other, weight = mixup_draw(len(targets), alpha, share)
    other, weight = other.to(spectrogram.device), weight.to(spectrogram)  # [B], [B]
    mixed = torch.lerp(spectrogram[other], spectrogram, weight[:, None, None])
    return mixed, columns.maximum(columns[other]), torch.lerp(targets[other], targets, weight[:, None])


def random_resized_crop(spectrogram: Tensor, widths: Tensor) -> Tensor:
    """Cut a rectangle of random place and size out of each clip of ``[B, F, T]`` and resize it (EVAR).

    The clip lies in the middle of a canvas of its height and 1.5 times its width, 0 around it; either side of the crop
    is 0.6 to 1.5 of the clip's, the canvas at most; resized by bicubic interpolation. EVAR's clips all have one width,
    and all of it is pooled. Here each clip is cut and resized within its own width, so that the pooled part stays more
    than half sound and the padding behind it stays padding.

    Args:
        spectrogram: ``[B, F, T]``.
        widths: int64 ``[B]``, frames of each clip that are pooled, 1 to T.
    """
    mels = spectrogram.shape[1]
    results = spectrogram.clone()
    for row, frames in enumerate(widths.tolist()):
        canvas = spectrogram.new_zeros(mels, int(frames * CANVAS))
        place = (canvas.shape[1] - frames) // 2
        canvas[:, place : place + frames] = spectrogram[row, :, :frames]
        low, high = SCALES
        up, along = torch.rand(2).tolist()
        height = max(1, min(mels, int(mels * (low + (high - low) * up))))
        width = max(1, min(canvas.shape[1], int(frames * (low + (high - low) * along))))
        top = int(torch.randint(mels - height + 1, ()))
        left = int(torch.randint(canvas.shape[1] - width + 1, ()))
        piece = canvas[None, None, top : top + height, left : left + width]
        resized = functional.interpolate(piece, (mels, frames), mode="bicubic", align_corners=True)
        results[row, :, :frames] = resized[0, 0]
    return results
