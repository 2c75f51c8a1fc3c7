"""The content of a picture of masks: crops as in training, and each masker's masks of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ssl_wb.audio.decode import info
from ssl_wb.encoder.load import build_pretext, open_run, run_weights
from ssl_wb.errors import UsageError
from ssl_wb.plugin.front_end import FrontEnd
from ssl_wb.plugin.masker import Grid
from ssl_wb.pretext.build import build_model
from ssl_wb.pretext.masks import draw_masks
from ssl_wb.pretext.model import PretextModel
from ssl_wb.recipe.load import LoadedRecipe, load_recipe
from ssl_wb.report.maskers import LabelledMasker, maskers_of
from ssl_wb.report.preview_crops import PreviewCrops, bin_centres
from ssl_wb.runs.folder import RunFolder

__all__ = ["Cell", "MaskColumn", "MaskPreview", "MaskRow", "MaskView", "prepare_masks"]


@dataclass(frozen=True)
class MaskView:
    """One masked reading of a clip.

    Attributes:
        spectrogram: float32 ``[F, T]``, normalised, cut to whole patches; low frequencies first.
        masked: bool ``[f, t]``, the patch grid.
    """

    spectrogram: NDArray[np.float32]
    masked: NDArray[np.bool_]

    @property
    def visible(self) -> int:
        """Patches left visible."""
        return int((~self.masked).sum())


@dataclass(frozen=True)
class Cell:
    """One masker's masks of one clip at one point of training.

    Attributes:
        views: its masks.
        importance: float32 ``[f, t]``, the weights by which it chooses patches: empty for a masker without weights, one
            if all views share a spectrogram, else one for each view.
    """

    views: tuple[MaskView, ...]
    importance: tuple[NDArray[np.float32], ...]


@dataclass(frozen=True)
class MaskColumn:
    """A masker: its text on the command line, and whose latents it uses ("" for none)."""

    label: str
    latents: str


@dataclass(frozen=True)
class MaskRow:
    """A clip at a point of training: file name, and progress from 0 to 1."""

    clip: str
    progress: float


@dataclass(frozen=True)
class MaskPreview:
    """Everything a picture of masks shows.

    Attributes:
        title: of the recipe.
        columns: the maskers.
        rows: clips in the order given, each at every progress.
        cells: ``cells[row][column]``.
        grid: the patch grid.
        patch: patch height (mel bins) and width (frames).
        seconds: length of audio that the patches cover.
        bin_hz: float64 ``[F]``, centre of each mel bin.
        normalised_by: whose mean and standard deviation the spectrograms were normalised with.
    """

    title: str
    columns: tuple[MaskColumn, ...]
    rows: tuple[MaskRow, ...]
    cells: tuple[tuple[Cell, ...], ...]
    grid: Grid
    patch: tuple[int, int]
    seconds: float
    bin_hz: NDArray[np.float64]
    normalised_by: str


# More than fifty lines, half of them the description of the arguments; the steps are read in order.
def prepare_masks(
    source: str | Path,
    audio: Sequence[str | Path],
    *,
    overrides: Sequence[str] = (),
    maskers: Sequence[str] = (),
    progress: Sequence[float] = (1.0,),
    seed: int | None = None,
    checkpoint: str = "last",
) -> MaskPreview:
    """Mask clips as training would, with one or several maskers.

    All points of progress share their crops and their randomness: they differ only by the masker's schedule.

    Args:
        source: a recipe file, the name of a shipped recipe, or a run folder. Maskers that use latents get those of the
            run's model, or of the untrained model for a recipe.
        audio: files; the crop of each is taken, repeated or padded as the recipe says.
        overrides: ``key.path=value`` for a recipe.
        maskers: ``name`` or ``name:key=value,key=value``; the recipe's own when empty.
        progress: shares of training done, 0 to 1.
        seed: of crops, augmentation and masks; the recipe's unless given.
        checkpoint: of a run: ``last`` or ``best``.

    Raises:
        UsageError: no audio, a progress outside 0 to 1, settings for a run folder, or a masker that uses a teacher's
            latents without a teacher.
        AudioError: a file is absent, cannot be read, or is silent.
        RecipeError: mistakes in the recipe or the maskers.
        RunFolderError: no run folder, or one without a checkpoint although a masker uses latents.
    """
    if not audio:
        raise UsageError("no audio to mask", hint="add --audio FILE")
    for share in progress:
        if not 0.0 <= share <= 1.0:
            raise UsageError(
                f"progress {share:g} is outside 0 to 1", hint="0 is the start of training, 0.5 its half, 1 its end"
            )
    folder: RunFolder | None = None
    front_end: FrontEnd | None = None
    if Path(source).is_dir():
        if overrides:
            raise UsageError(
                f"--set changes a recipe, and {source} is a run folder",
                hint="name the recipe instead, or give other maskers with --masker",
            )
        folder, loaded, front_end = open_run(source)
    else:
        loaded = load_recipe(source, overrides)
    selected = maskers_of(loaded, maskers)
    for path in audio:
        info(path)  # a file that is absent or no audio is reported before the model is built
    seed = loaded.recipe.seed if seed is None else seed
    latents = any(one.masker.needs_latents for one in selected)
    model = _model(loaded, folder, checkpoint, latents=latents)
    crops = PreviewCrops(loaded, model.backbone, audio, seed, front_end)
    cells = [_cells(model, one, crops.spectrograms(one.masker.views), progress, seed) for one in selected]
    rows = [MaskRow(Path(path).name, share) for path in audio for share in progress]
    grid, patch = model.backbone.grid_of(crops.frames), model.backbone.patch
    trained = "untrained" if folder is None else "trained"
    return MaskPreview(
        title=loaded.recipe.title or loaded.path.stem,
        columns=tuple(
            MaskColumn(one.label, f"{trained} {one.masker.latents_from}" if one.masker.needs_latents else "")
            for one in selected
        ),
        rows=tuple(rows),
        cells=tuple(zip(*cells, strict=True)),
        grid=grid,
        patch=patch,
        seconds=grid.time * patch[1] * crops.front_end.hop_seconds,
        bin_hz=bin_centres(crops.front_end),
        normalised_by=crops.normalised_by,
    )


def _model(loaded: LoadedRecipe, folder: RunFolder | None, checkpoint: str, *, latents: bool) -> PretextModel:
    """Build the recipe's model, with a run's weights if there is a run; without memory if no masker uses latents."""
    if not latents:
        with torch.device("meta"):
            return build_model(loaded, total_steps=1)
    weights = None if folder is None else run_weights(folder, checkpoint)
    return build_pretext(folder, loaded, weights).eval()


@torch.no_grad()
def _cells(
    model: PretextModel, labelled: LabelledMasker, spectrogram: Tensor, progress: Sequence[float], seed: int
) -> list[Cell]:
    """Draw a masker's masks of all clips at each progress; ordered by clip, then by progress."""
    label, masker = labelled.label, labelled.masker
    grid = model.backbone.grid_of(spectrogram.shape[-1])
    if masker.needs_latents and masker.latents_from == "teacher" and model.teacher_trunk is None:
        raise UsageError(
            f"masker {label!r} reads the teacher's latents, and no objective of the recipe has a teacher built",
            hint="let it read the student's: latents=student",
        )
    model.masker = masker
    by_progress = []
    for share in progress:
        masks = draw_masks(masker, model.mask_requests(spectrogram, progress=share, seed=seed))
        # New requests with the same seed, because the masks above have used up the generators of the first ones.
        requests = model.mask_requests(spectrogram, progress=share, seed=seed)
        weights = [one for one in map(masker.importance, requests) if one is not None]  # each [B, N]
        by_progress.append((masks, weights))
    height, width = model.backbone.patch
    # Augmented views have spectrograms of their own, others share one: [B, F, T] for each view.
    spectrograms = spectrogram.unbind(dim=1) if spectrogram.dim() == 4 else (spectrogram,) * masker.views
    cells = []
    for row in range(len(spectrogram)):
        for masks, weights in by_progress:
            views = []
            for mask, heard in zip(masks, spectrograms, strict=True):
                masked = torch.zeros(grid.cells, dtype=torch.bool)  # [N]
                masked[mask.masked[row]] = True
                cut = heard[row, : grid.freq * height, : grid.time * width]  # [F, T]
                views.append(MaskView(cut.numpy(), masked.view(*grid).numpy()))
            importance = tuple(one[row].float().view(*grid).numpy() for one in weights)
            cells.append(Cell(tuple(views), importance))
    return cells
