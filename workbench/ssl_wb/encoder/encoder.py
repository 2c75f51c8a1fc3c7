"""The frozen encoder: any length, the same result whatever the padding."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ssl_wb.audio.front_end import FrontEnd
from ssl_wb.encoder.waveforms import checked_waveform
from ssl_wb.errors import UsageError
from ssl_wb.layers.patches import patchify
from ssl_wb.plugin.backbone import Backbone
from ssl_wb.plugin.evaluator import Assigned
from ssl_wb.plugin.masker import Grid, Mask, visible_count

__all__ = ["Assign", "FrozenEncoder"]

#: Reads chunks ``[n, N, P]`` of one grid and says each patch's probabilities ``[n, N, K]``, by objective.
Assign = Callable[[Tensor, Grid], dict[str, Tensor]]

#: Patches embedded in one pass, to bound the memory of long recordings and large batches.
PATCHES_PER_PASS = 16_384


@dataclass(frozen=True)
class _Chunk:
    """A stretch of one clip: row of the batch, first patch column, columns."""

    row: int
    first: int
    columns: int


class FrozenEncoder(nn.Module):
    """Front end and backbone of a pre-trained encoder, without gradient.

    A spectrogram is padded to whole patches with the front end's ``pad_value`` (by default 0, the data's mean), cut
    into chunks of at most ``chunk_frames`` frames, each encoded alone, the last one short. Chunks of equal
    length share a pass and no others, so a clip's embedding does not depend on what it is batched with.

    Args:
        front_end: makes spectrograms.
        backbone: encodes their patches.
        chunk_frames: most frames encoded at once.
        pretext: returns what asks the objectives of the run for their classes, loaded at the first call; None where no
            run is at hand or no objective has classes.

    Attributes:
        sample_rate: samples per second that waveforms must have.
        hop_seconds: seconds between the frames of ``embed_frames``: the width of a patch.
        dim: width of an embedding: rows of the patch grid x width of the backbone.
    """

    def __init__(
        self,
        front_end: FrontEnd,
        backbone: Backbone,
        chunk_frames: int,
        pretext: Callable[[], Assign] | None = None,
    ) -> None:
        super().__init__()
        self._pretext = pretext
        self.front_end = front_end
        self.backbone = backbone
        self.patch_width = backbone.patch[1]
        self.chunk_columns = max(1, chunk_frames // self.patch_width)
        self.rows = backbone.grid_of(self.patch_width).freq
        self.dim = self.rows * backbone.dim
        self.sample_rate = front_end.sample_rate
        self.hop_seconds = front_end.hop_seconds * self.patch_width
        self.requires_grad_(False)
        self.eval()

    def columns_of(self, samples: int) -> int:
        """Return the frames ``embed_frames`` gives for a clip of ``samples`` samples."""
        return -(-self.front_end.frames_of(samples) // self.patch_width)

    @torch.no_grad()
    def embed_frames(self, waveform: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Embed waveforms frame by frame.

        Args:
            waveform: ``[B, S]`` or ``[S]`` at ``sample_rate``, full scale 1.
            lengths: int64 ``[B]``, samples of each clip; all of S when None.

        Returns:
            float32 ``[B, T, D]``, one embedding per ``hop_seconds``; past a clip's end 0. The rows of the patch grid
            are joined in the feature axis, low frequencies first.

        Raises:
            UsageError: the waveform has another shape, holds no sample, or is not finite.
        """
        return self._embed(waveform, lengths, lambda tokens: [self.backbone(tokens)])[0]

    @torch.no_grad()
    def layers(self, waveform: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Embed waveforms with every layer: ``waveform`` ``[B, S]`` to ``[B, layers, T, D]``, the last one normed."""
        return torch.stack(self._embed(waveform, lengths, self.backbone.layers), dim=1)

    @torch.no_grad()
    def embed_clip(self, waveform: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Embed whole clips: ``waveform`` ``[B, S]`` to ``[B, D]``, the mean over each clip's own frames."""
        frames = self.embed_frames(waveform, lengths)  # [B, T, D]
        waveform, lengths = self._checked(waveform, lengths)
        counts = torch.tensor([self.columns_of(int(length)) for length in lengths], device=frames.device)
        return frames.sum(dim=1) / counts[:, None]

    @torch.no_grad()
    def embed_masked(
        self, waveform: Tensor, lengths: Tensor | None = None, *, ratios: Sequence[float], seeds: Sequence[int]
    ) -> Tensor:
        """Embed whole clips from a share of their patches, the others hidden at random.

        An embedding is the mean latent over the patches left visible; with nothing hidden that is ``embed_clip`` with
        the rows of the patch grid averaged in place of joined. The share is kept in every chunk, one patch at least.

        Args:
            waveform: ``[B, S]`` or ``[S]`` at ``sample_rate``, full scale 1.
            lengths: int64 ``[B]``, samples of each clip; all of S when None.
            ratios: shares of the patches hidden, each 0 to below 1; what a smaller one hides, a larger one hides too.
            seeds: one for each clip; a clip's masks follow from its seed and length alone.

        Returns:
            float32 ``[R, B, D]``, one embedding for each of the R ratios, D the width of the backbone.

        Raises:
            UsageError: a ratio outside 0 to 1, seeds and clips of different number, or an unusable waveform.
        """
        waveform, lengths = self._checked(waveform, lengths)
        if not ratios or not all(0.0 <= ratio < 1.0 for ratio in ratios) or len(seeds) != len(waveform):
            raise UsageError(
                f"masking by ratios {list(ratios)} with {len(seeds)} seeds for {len(waveform)} clips is not possible",
                hint="give ratios from 0 to below 1 and one seed for each clip",
            )
        counts = [self.columns_of(int(length)) for length in lengths]
        scores = torch.zeros(len(waveform), max(counts), self.rows)  # [B, T, F]
        for row, (count, seed) in enumerate(zip(counts, seeds, strict=True)):
            scores[row, :count] = torch.rand(count, self.rows, generator=torch.Generator().manual_seed(seed))

        def read(patches: Tensor, grid: Grid, scores: Tensor) -> list[Tensor]:
            order = scores.transpose(1, 2).flatten(1)  # [n, N], frequency-major
            kept = [max(1, visible_count(grid.cells, ratio)) for ratio in ratios]
            return [self._total(patches, grid, Mask.from_scores(order, count).visible) for count in kept]

        totals = torch.stack(self._by_chunk(waveform, lengths, read, scores.to(waveform.device)))  # [R, B, T, D + 1]
        summed = totals.sum(dim=2)  # [R, B, D + 1]
        return summed[..., :-1] / summed[..., -1:]

    def _total(self, patches: Tensor, grid: Grid, visible: Tensor) -> Tensor:
        """Sum the latents of the patches ``visible`` ``[n, Nv]`` of ``[n, N, P]`` and count them, ``[n, t, D + 1]``.

        Sum and count stand in a chunk's first column, since all that is wanted is their total over the clip.
        """
        latents = self.backbone(self.backbone.embed(patches, grid, visible))[:, self.backbone.prefix_tokens :]
        total = latents.new_zeros(len(patches), grid.time, latents.shape[2] + 1, dtype=torch.float32)
        total[:, 0, :-1] = latents.float().sum(dim=1)
        total[:, 0, -1] = visible.shape[1]
        return total

    @torch.no_grad()
    def assign(self, waveform: Tensor, lengths: Tensor | None = None) -> dict[str, Assigned]:
        """Ask the objectives of the run to which of their classes they assign clips, read whole.

        Args:
            waveform: ``[B, S]`` or ``[S]`` at ``sample_rate``, full scale 1.
            lengths: int64 ``[B]``, samples of each clip; all of S when None.

        Returns:
            Assignments by the objective's label in the run; empty where no run is at hand or none has classes.

        Raises:
            UsageError: the waveform has another shape, holds no sample, or is not finite.
            RunFolderError: the run's weights cannot be read any more.
        """
        if self._pretext is None:
            return {}
        ask, labels = self._pretext(), list[str]()

        def read(patches: Tensor, grid: Grid) -> list[Tensor]:
            told = ask(patches, grid)
            labels[:] = told
            found: list[Tensor] = []
            for probabilities in told.values():  # [n, N, K]
                tiles = probabilities.unflatten(1, grid)  # [n, f, t, K]
                # Counted from 1: what is past a clip's end stays 0.
                found += [tiles.mean(dim=1), tiles.argmax(dim=-1).transpose(1, 2) + 1]
            return found

        waveform, lengths = self._checked(waveform, lengths)
        results = self.by_chunk(waveform, lengths, read)
        counts = torch.tensor([self.columns_of(int(length)) for length in lengths], device=waveform.device)
        return {
            label: Assigned(frames.sum(dim=1) / counts[:, None], classes.long() - 1)
            for label, frames, classes in zip(labels, results[0::2], results[1::2], strict=True)
        }

    def _checked(self, waveform: Tensor, lengths: Tensor | None) -> tuple[Tensor, Tensor]:
        """Bring ``[S]`` or ``[B, S]`` and optional lengths to ``[B, S]`` and ``[B]`` on the encoder's device."""
        return checked_waveform(waveform, lengths, self.front_end.mean.device)

    def _embed(
        self, waveform: Tensor, lengths: Tensor | None, encode: Callable[[Tensor], list[Tensor]]
    ) -> list[Tensor]:
        """Embed ``[B, S]`` as one ``[B, T, D]`` for each latent that ``encode`` returns."""

        def read(patches: Tensor, grid: Grid) -> list[Tensor]:
            return [self._join_rows(latents, grid) for latents in encode(self.backbone.embed(patches, grid))]

        return self.by_chunk(waveform, lengths, read)

    def by_chunk(
        self, waveform: Tensor, lengths: Tensor | None, read: Callable[[Tensor, Grid], list[Tensor]]
    ) -> list[Tensor]:
        """Cut clips into chunks, have them read, and put what comes back in place.

        Args:
            waveform: ``[B, S]`` or ``[S]`` at ``sample_rate``, full scale 1.
            lengths: int64 ``[B]``, samples of each clip; all of S when None.
            read: called as ``read(patches, grid)`` with ``[n, N, P]`` of n chunks of one length; returns one or several
                ``[n, grid.time, d]``.

        Returns:
            One float32 ``[B, T, d]`` for each that ``read`` returns; past a clip's end 0.

        Raises:
            UsageError: the waveform has another shape, holds no sample, or is not finite.
        """
        waveform, lengths = self._checked(waveform, lengths)
        return self._by_chunk(waveform, lengths, lambda patches, grid, _: read(patches, grid), None)

    def _by_chunk(
        self,
        waveform: Tensor,
        lengths: Tensor,
        read: Callable[[Tensor, Grid, Tensor], list[Tensor]],
        beside: Tensor | None,
    ) -> list[Tensor]:
        """As :meth:`by_chunk`; what stands ``beside`` the frames, ``[B, T, k]``, is cut along and handed over."""
        spectrogram, frames = self.front_end(waveform, lengths)  # [B, F, frames], [B]
        columns = [-(-int(count) // self.patch_width) for count in frames]
        width = max(columns)
        short = max(0, width * self.patch_width - spectrogram.shape[2])
        spectrogram = F.pad(spectrogram, (0, short), value=float(self.front_end.pad_value))
        beside = spectrogram.new_zeros(len(waveform), width, 0) if beside is None else beside
        results: list[Tensor] = []
        for chunks in self._passes(columns):
            pieces = torch.stack(
                [
                    spectrogram[c.row, :, c.first * self.patch_width : (c.first + c.columns) * self.patch_width]
                    for c in chunks
                ]
            )  # [chunks, F, frames]
            grid = Grid(self.rows, chunks[0].columns)
            along = torch.stack([beside[c.row, c.first : c.first + c.columns] for c in chunks])  # [chunks, t, k]
            for number, values in enumerate(read(patchify(pieces, self.backbone.patch), grid, along)):
                if len(results) <= number:
                    results.append(torch.zeros(len(waveform), width, values.shape[2], device=waveform.device))
                for chunk, value in zip(chunks, values.float(), strict=True):
                    results[number][chunk.row, chunk.first : chunk.first + chunk.columns] = value
        return results

    def _join_rows(self, latents: Tensor, grid: Grid) -> Tensor:
        """Turn latents ``[n, prefix + f * t, d]`` into frames ``[n, t, f * d]``."""
        patches = latents[:, self.backbone.prefix_tokens :]
        tiles = patches.reshape(len(patches), grid.freq, grid.time, -1)
        return tiles.transpose(1, 2).reshape(len(patches), grid.time, -1)

    def _passes(self, columns: list[int]) -> Iterator[list[_Chunk]]:
        """Cut clips of the given numbers of columns into chunks and group chunks of equal length."""
        groups: dict[int, list[_Chunk]] = {}
        for row, count in enumerate(columns):
            for first in range(0, count, self.chunk_columns):
                chunk = _Chunk(row, first, min(self.chunk_columns, count - first))
                groups.setdefault(chunk.columns, []).append(chunk)
        for length, chunks in sorted(groups.items()):
            size = max(1, PATCHES_PER_PASS // (length * self.rows))
            for begin in range(0, len(chunks), size):
                yield chunks[begin : begin + size]
