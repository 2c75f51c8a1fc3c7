"""The patch grid; spectrograms to patches, and rows of patches by index."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor

__all__ = ["Grid", "gather_rows", "patchify"]


class Grid(NamedTuple):
    """Patch grid of a spectrogram; the patch index is frequency-major, ``f * time + t``.

    Frequency-major as in M2D, MSM-MAE and MATPAC; AudioMAE, EAT and AudioMosaic count time-major, ``t * freq + f``.

    Attributes:
        freq: rows of patches.
        time: columns of patches.
    """

    freq: int
    time: int

    @property
    def cells(self) -> int:
        """Number of patches ``N``."""
        return self.freq * self.time


def patchify(spectrogram: Tensor, patch: tuple[int, int]) -> Tensor:
    """Cut a spectrogram into patches, frequency-major.

    Args:
        spectrogram: ``[B, F, T]``; what is left over at the top or the end of a whole patch is cut off.
        patch: height (mel bins) and width (frames).

    Returns:
        ``[B, N, P]`` with patch index ``f * time + t`` and ``P = height * width``, rows of a patch first.
    """
    height, width = patch
    batch, mels, frames = spectrogram.shape
    freq, time = mels // height, frames // width
    cut = spectrogram[:, : freq * height, : time * width]
    tiles = cut.reshape(batch, freq, height, time, width).permute(0, 1, 3, 2, 4)  # [B, f, t, height, width]
    return tiles.reshape(batch, freq * time, height * width)


def gather_rows(rows: Tensor, indices: Tensor) -> Tensor:
    """Take rows by index, clip by clip.

    Args:
        rows: ``[B, N, D]``, or ``[1, N, D]`` to take from one table.
        indices: int64 ``[B, K]``.

    Returns:
        ``[B, K, D]``.
    """
    batch, count = indices.shape
    # Both expands are views: nothing is copied but the rows taken.
    return rows.expand(batch, -1, -1).gather(1, indices[:, :, None].expand(batch, count, rows.shape[2]))
