"""How far apart the predictions for what is hidden lie: the spread of the hypotheses, frame by frame."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import cast

import torch
from torch import Tensor, nn

from ssl_wb.audio.front_end import FrontEnd
from ssl_wb.encoder.encoder import FrozenEncoder
from ssl_wb.encoder.load import build_pretext, open_run, run_weights
from ssl_wb.errors import UsageError
from ssl_wb.plugin.masker import Grid, Mask, visible_count
from ssl_wb.plugin.objective import Objective, View
from ssl_wb.pretext.build import crop_frames
from ssl_wb.pretext.model import PretextModel

__all__ = ["HeldOut", "held_out_masks", "load_held_out"]

#: Share of patches hidden at a time where the run's masker has no option ``ratio``.
RATIO = 0.7
#: Passes over a chunk: a patch is predicted from about RATIO times as many different contexts.
PASSES = 8


def held_out_masks(grid: Grid, ratio: float, device: torch.device) -> Iterator[Mask]:
    """Hide every patch of a grid at least once, a share of them at a time.

    The patches are put in a random order, always the same for a grid, and a window over it, closed to a ring, moves on
    from pass to pass.

    Args:
        grid: the patch grid.
        ratio: share hidden; one patch at least is hidden and, where there are several, one stays visible.
        device: where the masks are wanted.

    Yields:
        Masks of one row.
    """
    cells = grid.cells
    visible = min(max(visible_count(cells, ratio), 1), cells - 1)
    order = torch.randperm(cells, generator=torch.Generator().manual_seed(cells)).to(device)  # [N]
    passes = max(PASSES, -(-cells // (cells - visible)))
    for number in range(passes):
        ring = order.roll(-(number * cells // passes))
        yield Mask(ring[:visible].sort().values[None], ring[visible:].sort().values[None])


class HeldOut(nn.Module):
    """A run's whole pretext model, asked how sure it is of what it does not see.

    A clip is cut into chunks as :class:`FrozenEncoder` cuts it. Of each chunk every patch is hidden in several passes
    and predicted from the patches left visible; its uncertainty is what the objectives' ``uncertainty`` says, averaged
    over these passes, a frame's the mean over the rows of the patch grid. The masks are random ones, whatever the
    masker of the run, and the same for all clips.

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
        """Tell each frame's uncertainty.

        Args:
            waveform: ``[B, S]`` or ``[S]`` at the encoder's ``sample_rate``, full scale 1.
            lengths: int64 ``[B]``, samples of each clip; all of S when None.

        Returns:
            float32 ``[B, T]``, one value per frame of ``encoder.embed_frames``; past a clip's end 0.

        Raises:
            UsageError: the waveform has another shape, holds no sample, or is not finite; or no objective answers.
        """
        return self.encoder.by_chunk(waveform, lengths, self._read)[0].squeeze(2)

    def _read(self, patches: Tensor, grid: Grid) -> list[Tensor]:
        """Average the spread of chunks ``[n, N, P]`` over passes and rows, as one ``[n, t, 1]``."""
        total = torch.zeros(patches.shape[:2], device=patches.device)  # [n, N]
        times = torch.zeros_like(total)
        for one in held_out_masks(grid, self.ratio, patches.device):
            mask = Mask(one.visible.expand(len(patches), -1), one.masked.expand(len(patches), -1))
            spread = self._spread(patches, grid, mask)  # [n, Nm]
            total.scatter_add_(1, mask.masked, spread)
            times.scatter_add_(1, mask.masked, torch.ones_like(spread))
        return [(total / times).view(-1, grid.freq, grid.time).mean(dim=1)[:, :, None]]

    def _spread(self, patches: Tensor, grid: Grid, mask: Mask) -> Tensor:
        """Predict the masked patches of ``[n, N, P]`` and return their uncertainty ``[n, Nm]``."""
        backbone = self.encoder.backbone
        answers: list[Tensor] = []
        if self.predictor is not None:
            latents = backbone(backbone.embed(patches, grid, mask.visible))  # [n, prefix + Nv, D]
            features = self.predictor(latents, mask, grid)  # [n, Nm, Dd]
            view = View(mask=mask, latents=latents[:, backbone.prefix_tokens :], patches=patches, features=features)
            told = (cast(Objective, objective).uncertainty(view) for objective in self.objectives.values())
            answers = [answer.float() for answer in told if answer is not None]
        if not answers:
            raise UsageError(
                f"no objective of the run tells its uncertainty; it has: {', '.join(self.objectives)}",
                hint="train with one that predicts several hypotheses per patch: an objective 'mcl'",
            )
        return torch.stack(answers).mean(dim=0)


def load_held_out(path: str | Path, *, checkpoint: str = "last", device: str | torch.device = "cpu") -> HeldOut:
    """Load the whole pretext model of a run, to be asked for its uncertainty.

    Args:
        path: a run folder.
        checkpoint: ``last`` or ``best``.
        device: where it computes.

    Raises:
        RunFolderError: this is no run folder, it has no checkpoint yet, or its weights are another recipe's.
        UsageError: the run has no objective that tells its uncertainty.
    """
    folder, loaded, front_end = open_run(path)
    model = build_pretext(folder, loaded, run_weights(folder, checkpoint))
    frames = crop_frames(loaded, model.backbone.patch[1])
    held_out = HeldOut(front_end, model, frames).to(device)
    held_out.frames(torch.zeros(1, front_end.samples_of(frames)))  # whether anybody answers, before any file is read
    return held_out
