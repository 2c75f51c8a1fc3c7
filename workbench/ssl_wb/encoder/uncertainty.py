"""Uncertainty of each frame: the disagreement between the hypotheses that predict it when it is masked."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import cast

import torch
from torch import Tensor, nn

from ssl_wb.encoder.encoder import FrozenEncoder
from ssl_wb.encoder.load import build_pretext, open_run, run_weights
from ssl_wb.errors import UsageError
from ssl_wb.plugin.front_end import FrontEnd
from ssl_wb.plugin.masker import Grid, Mask, visible_count
from ssl_wb.plugin.objective import Objective, View
from ssl_wb.pretext.crop import crop_frames
from ssl_wb.pretext.model import PretextModel
from ssl_wb.runs.device import named_device

__all__ = ["UncertaintyModel", "covering_masks", "load_uncertainty"]

#: Mask ratio where the run's masker has no option ``ratio``.
RATIO = 0.7
#: Passes over a chunk: each patch is predicted from about ``RATIO * PASSES`` different contexts.
PASSES = 8


def covering_masks(grid: Grid, ratio: float, device: torch.device) -> Iterator[Mask]:
    """Yield masks that together mask every patch of a grid at least once.

    The patches stand in a random order, the same for every grid of this size, as a ring; the visible ones are a window
    that moves on along the ring from mask to mask.

    Args:
        grid: the patch grid.
        ratio: share masked; at least one patch is masked and, if there are several, at least one stays visible.
        device: where the masks are wanted.

    Yields:
        Masks of one row.
    """
    cells = grid.cells
    visible = min(max(visible_count(cells, ratio), 1), cells - 1)
    order = torch.randperm(cells, generator=torch.Generator().manual_seed(cells)).to(device)  # [N]
    # At a low ratio more passes are needed until every patch has been masked.
    passes = max(PASSES, -(-cells // (cells - visible)))
    for number in range(passes):
        ring = order.roll(-(number * cells // passes))  # [N]
        yield Mask(ring[:visible].sort().values[None], ring[visible:].sort().values[None])


class UncertaintyModel(nn.Module):
    """A run's whole pretext model, which measures how uncertain its predictions of masked patches are.

    A clip is cut into chunks as :class:`FrozenEncoder` cuts it. Several passes mask every patch of a chunk and predict
    it from the visible patches. A patch's uncertainty is what the objectives' ``uncertainty`` returns, averaged over
    its passes; a frame's is the mean over the rows of the patch grid. The masks are random ones, whatever the masker of
    the run, and the same for all clips.

    Attributes:
        encoder: the run's frozen encoder, with the same frames.
    """

    def __init__(self, front_end: FrontEnd, model: PretextModel, chunk_frames: int) -> None:
        super().__init__()
        self.encoder = FrozenEncoder(front_end, model.backbone, chunk_frames)
        self.predictor = model.predictor
        self.objectives = model.objectives
        ratio = getattr(model.masker.options, "ratio", None)
        self.ratio = ratio if isinstance(ratio, float) and 0.0 < ratio < 1.0 else RATIO
        self.requires_grad_(False)
        self.eval()

    @torch.no_grad()
    def frames(self, waveform: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Return the uncertainty of each frame.

        Args:
            waveform: ``[B, S]`` or ``[S]`` at the encoder's ``sample_rate``, full scale 1.
            lengths: int64 ``[B]``, samples of each clip; all of S when None.

        Returns:
            float32 ``[B, T]``, one value per frame of ``encoder.embed_frames``, 0 after a clip's end.

        Raises:
            UsageError: the waveform has another shape, is empty, or is not finite; or no objective has an uncertainty.
        """
        return self.encoder.by_chunk(waveform, lengths, self._read)[0].squeeze(2)

    def _read(self, patches: Tensor, grid: Grid) -> list[Tensor]:
        """Average the uncertainty of chunks ``[n, N, P]`` over passes and rows, as one ``[n, t, 1]``."""
        total = torch.zeros(patches.shape[:2], device=patches.device)  # [n, N]
        times = torch.zeros_like(total)  # [n, N], how often each patch was masked
        for one in covering_masks(grid, self.ratio, patches.device):
            mask = Mask(one.visible.expand(len(patches), -1), one.masked.expand(len(patches), -1))
            uncertainty = self._masked_uncertainty(patches, grid, mask)  # [n, Nm]
            total.scatter_add_(1, mask.masked, uncertainty)
            times.scatter_add_(1, mask.masked, torch.ones_like(uncertainty))
        return [(total / times).view(-1, grid.freq, grid.time).mean(dim=1)[:, :, None]]

    def _masked_uncertainty(self, patches: Tensor, grid: Grid, mask: Mask) -> Tensor:
        """Predict the masked patches of ``[n, N, P]`` and return their uncertainty ``[n, Nm]``."""
        backbone = self.encoder.backbone
        found: list[Tensor] = []
        if self.predictor is not None:
            latents = backbone(backbone.embed(patches, grid, mask.visible))  # [n, prefix + Nv, D]
            features = self.predictor(latents, mask, grid)  # [n, Nm, Dd]
            view = View(mask=mask, latents=latents[:, backbone.prefix_tokens :], patches=patches, features=features)
            each = (cast(Objective, objective).uncertainty(view) for objective in self.objectives.values())
            found = [uncertainty.float() for uncertainty in each if uncertainty is not None]
        if not found:
            raise UsageError(
                f"no objective of the run tells its uncertainty; it has: {', '.join(self.objectives)}",
                hint="train with one that predicts several hypotheses per patch: an objective 'mcl'",
            )
        return torch.stack(found).mean(dim=0)


def load_uncertainty(
    path: str | Path, *, checkpoint: str = "last", device: str | torch.device = "cpu"
) -> UncertaintyModel:
    """Load the whole pretext model of a run, to measure its uncertainty.

    Args:
        path: a run folder.
        checkpoint: ``last`` or ``best``.
        device: where it computes.

    Raises:
        RunFolderError: this is no run folder, it has no checkpoint yet, or its weights do not fit its recipe.
        UsageError: no objective of the run has an uncertainty.
    """
    device = named_device(device)
    folder, loaded, front_end = open_run(path)
    model = build_pretext(folder, loaded, run_weights(folder, checkpoint))
    frames = crop_frames(loaded, model.backbone.patch[1])
    uncertainty = UncertaintyModel(front_end, model, frames).to(device)
    # One crop of silence, so that a run whose objectives have no uncertainty fails before any file is read.
    uncertainty.frames(torch.zeros(1, front_end.samples_of(frames)))
    return uncertainty
