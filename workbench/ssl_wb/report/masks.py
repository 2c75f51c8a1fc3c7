"""What a picture of masks shows: crops as training takes them, and what each masker makes of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ssl_wb.audio.clip import Clip, ClipSet
from ssl_wb.audio.decode import info
from ssl_wb.data.augmenter import Augmenter
from ssl_wb.data.dataset import CropDataset
from ssl_wb.encoder.load import open_run, run_weights
from ssl_wb.errors import AudioError, RunFolderError, UsageError
from ssl_wb.plugin.front_end import FrontEnd
from ssl_wb.plugin.masker import Grid
from ssl_wb.pretext.build import build_model
from ssl_wb.pretext.crop import crop_shape
from ssl_wb.pretext.model import PretextModel, draw_masks
from ssl_wb.recipe.load import LoadedRecipe, load_recipe
from ssl_wb.report.maskers import LabelledMasker, maskers_of
from ssl_wb.runs.folder import RunFolder

__all__ = ["Cell", "MaskColumn", "MaskPreview", "MaskRow", "MaskView", "prepare_masks"]

#: Log-mel values of crops that deviate less are silence, or one value throughout.
SMALLEST_STD = 1e-3


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
    """What one masker makes of one clip at one point of training.

    Attributes:
        views: its masks.
        importance: float32 ``[f, t]`` by which it chooses patches: none where all are alike, one where all views hear
            the clip alike, else one for each view.
    """

    views: tuple[MaskView, ...]
    importance: tuple[NDArray[np.float32], ...]


@dataclass(frozen=True)
class MaskColumn:
    """A masker: its name as asked for, and whose latents it reads (empty where it reads none)."""

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
        seconds: length of what the patches cover.
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

    All points of progress share their crops and their randomness, so that they differ by the masker's schedule only.

    Args:
        source: a recipe file, the name of a shipped recipe, or a run folder: its weights then give the latents that
            a masker asks for, where a recipe's are those of the untrained model.
        audio: files; the crop of each is taken, repeated or padded as the recipe says.
        overrides: ``key.path=value`` for a recipe.
        maskers: ``name`` or ``name:key=value,key=value``; the recipe's own when empty.
        progress: shares of training done, 0 to 1.
        seed: of crops, augmentation and masks; the recipe's unless given.
        checkpoint: of a run: ``last`` or ``best``.

    Raises:
        UsageError: no audio, a progress that is none, settings for a run folder, or a masker that reads a teacher's
            latents where there is no teacher.
        AudioError: a file is absent, cannot be read, or is silent.
        RecipeError: mistakes in the recipe or the maskers.
        RunFolderError: no run folder, or one without a checkpoint where latents are asked for.
    """
    if not audio:
        raise UsageError("no audio to mask", hint="add --audio FILE")
    for share in progress:
        if not 0.0 <= share <= 1.0:
            raise UsageError(
                f"progress {share:g} is outside 0 to 1", hint="0 is the start of training, 0.5 its half, 1 its end"
            )
    loaded, folder, front_end = _opened(source, overrides)
    chosen = maskers_of(loaded, maskers)
    for path in audio:
        info(path)  # what is absent or no audio is said before a model is built
    seed = loaded.recipe.seed if seed is None else seed
    latents = any(one.masker.needs_latents for one in chosen)
    model = _model(loaded, folder if latents else None, checkpoint, latents=latents)
    crops = _Crops(loaded, model, audio, seed, front_end)
    cells = [_cells(model, one, crops.spectrogram(one.masker.views), progress, seed) for one in chosen]
    rows = [MaskRow(Path(path).name, share) for path in audio for share in progress]
    grid, patch = model.backbone.grid_of(crops.frames), model.backbone.patch
    return MaskPreview(
        title=loaded.recipe.title or loaded.path.stem,
        columns=tuple(MaskColumn(one.label, _whose(one, trained=folder is not None)) for one in chosen),
        rows=tuple(rows),
        cells=tuple(zip(*cells, strict=True)),
        grid=grid,
        patch=patch,
        seconds=grid.time * patch[1] * crops.front_end.hop_seconds,
        bin_hz=_bin_centres(crops.front_end),
        normalised_by=crops.normalised_by if front_end is None else "the run's data",
    )


def _opened(source: str | Path, overrides: Sequence[str]) -> tuple[LoadedRecipe, RunFolder | None, FrontEnd | None]:
    """Read a recipe, or a run folder with its front end."""
    if not Path(source).is_dir():
        return load_recipe(source, overrides), None, None
    if overrides:
        raise UsageError(
            f"--set changes a recipe, and {source} is a run folder",
            hint="name the recipe instead, or give other maskers with --masker",
        )
    folder, loaded, front_end = open_run(source)
    return loaded, folder, front_end


def _model(loaded: LoadedRecipe, folder: RunFolder | None, checkpoint: str, *, latents: bool) -> PretextModel:
    """Build the recipe's model: without memory where nobody asks for latents, else untrained or a run's."""
    if not latents:
        with torch.device("meta"):
            return build_model(loaded, total_steps=1)
    with torch.random.fork_rng(devices=[]):  # the caller's random numbers are not ours to seed
        model = build_model(loaded, total_steps=1)
    if folder is not None:
        try:
            model.load_state_dict(run_weights(folder, checkpoint))
        except RuntimeError as error:
            raise RunFolderError(
                f"{folder.path}: the weights do not fit the recipe's model ({error})", hint="the run folder was changed"
            ) from error
    return model.eval()


class _Crops:
    """The clips' crops and their spectrograms.

    Attributes:
        front_end: with the statistics it normalises by.
        normalised_by: whose statistics these are.
        frames: of a crop.
    """

    def __init__(
        self,
        loaded: LoadedRecipe,
        model: PretextModel,
        audio: Sequence[str | Path],
        seed: int,
        front_end: FrontEnd | None,
    ) -> None:
        data = loaded.recipe.data
        crop = crop_shape(loaded, model.backbone)
        self.frames, samples = crop.frames, crop.samples
        unfitted = loaded.front_end.build()
        rate = unfitted.sample_rate
        augment = Augmenter(loaded.augmentations, rate) if loaded.augmentations else None
        # A set for each file: in one of several an unreadable clip would be replaced by the next.
        sets = [ClipSet((Clip(Path(path)),), Path(path), "") for path in audio]
        self._plain = [CropDataset(clips, rate, samples, seed, data.short) for clips in sets]
        self._augmented = augment is not None
        self._read = self._plain
        if augment is not None:
            self._read = [
                CropDataset(clips, rate, samples, seed, data.short, augment=augment, views=model.masker.views)
                for clips in sets
            ]
        self._refuse_silence()
        self.normalised_by = "the recipe"
        options = loaded.front_end.options
        if front_end is None and options.mean is not None and options.std is not None:
            front_end = loaded.front_end.build(options.mean, options.std)
        if front_end is None:
            self.normalised_by = "these clips" if len(audio) > 1 else "this clip"
            front_end = loaded.front_end.build(*self._measured(unfitted))
        self.front_end = front_end

    def _refuse_silence(self) -> None:
        for dataset in self._plain:
            waveform = dataset[(0, 0)].waveform  # [1, S]
            if np.ptp(waveform) == 0.0:
                seconds = dataset.samples / dataset.sample_rate
                raise AudioError(
                    f"{dataset.clips.source}: the {seconds:.2f} s drawn from it are silent, there is nothing to see",
                    hint="name another file; another --seed draws another stretch of a longer one",
                )

    @torch.no_grad()
    def _measured(self, front_end: FrontEnd) -> tuple[float, float]:
        """Return mean and standard deviation of the crops' log-mel values, as training measures those of its data."""
        values = []
        for dataset in self._plain:
            crop = dataset[(0, 0)]
            log_mel, frames = front_end.log_mel(torch.from_numpy(crop.waveform), torch.tensor([crop.length]))
            values.append(log_mel[0, :, : int(frames)].flatten())  # [F * frames]
        every = torch.cat(values).double()
        return float(every.mean()), max(float(every.std(correction=0)), SMALLEST_STD)

    @torch.no_grad()
    def spectrogram(self, views: int) -> Tensor:
        """Return the crops as training hands them to the model: ``[B, F, T]``, or ``[B, V, F, T]`` where augmented."""
        spectrograms = []
        for dataset in self._read:
            dataset.views = views
            crop = dataset[(0, 0)]
            waveform = torch.from_numpy(crop.waveform)  # [V, S]
            lengths = torch.full((len(waveform),), crop.length)
            spectrograms.append(self.front_end(waveform, lengths)[0])  # [V, F, T]
        stacked = torch.stack(spectrograms)  # [B, V, F, T]
        return stacked if self._augmented and views > 1 else stacked[:, 0]


@torch.no_grad()
def _cells(
    model: PretextModel, chosen: LabelledMasker, spectrogram: Tensor, progress: Sequence[float], seed: int
) -> list[Cell]:
    """Draw a masker's masks of all clips at each progress; ordered by clip, then by progress."""
    if chosen.masker.needs_latents and chosen.masker.latents_from == "teacher" and model.teacher is None:
        raise UsageError(
            f"masker {chosen.label!r} reads the teacher's latents, and no objective of the recipe has a teacher built",
            hint="let it read the student's: latents=student",
        )
    masker, grid = chosen.masker, model.backbone.grid_of(spectrogram.shape[-1])
    model.masker = masker
    drawn = []
    for share in progress:
        masks = draw_masks(masker, model.mask_requests(spectrogram, progress=share, seed=seed))
        # Asked anew: a map may draw from the generator too.
        requests = model.mask_requests(spectrogram, progress=share, seed=seed)
        weights = [one for one in map(masker.importance, requests) if one is not None]  # [B, N] for each reading
        drawn.append((masks, weights))
    height, width = model.backbone.patch
    readings = spectrogram.unbind(dim=1) if spectrogram.dim() == 4 else (spectrogram,) * masker.views
    cells = []
    for row in range(len(spectrogram)):
        for masks, weights in drawn:
            views = []
            for mask, heard in zip(masks, readings, strict=True):
                masked = torch.zeros(grid.cells, dtype=torch.bool)
                masked[mask.masked[row]] = True
                cut = heard[row, : grid.freq * height, : grid.time * width]  # [F, T]
                views.append(MaskView(cut.numpy(), masked.view(*grid).numpy()))
            importance = tuple(one[row].float().view(*grid).numpy() for one in weights)
            cells.append(Cell(tuple(views), importance))
    return cells


def _whose(chosen: LabelledMasker, *, trained: bool) -> str:
    """Say whose latents a masker reads, as ``untrained student``; nothing where it reads none."""
    if not chosen.masker.needs_latents:
        return ""
    return f"{'trained' if trained else 'untrained'} {chosen.masker.latents_from}"


def _bin_centres(front_end: FrontEnd) -> NDArray[np.float64]:
    """Return the centre of each mel bin in Hz ``[F]``; of bins narrower than the FFT's resolution, between others'.

    A front end without ``filters`` has its bands spread evenly up to half the sample rate.
    """
    filters = getattr(front_end, "filters", None)
    if not isinstance(filters, torch.Tensor):
        return np.linspace(0.0, front_end.sample_rate / 2, int(front_end.options.n_mels))
    filters = filters.double()  # [n_fft // 2 + 1, F]
    hz = torch.linspace(0.0, front_end.sample_rate / 2, len(filters), dtype=torch.float64)
    weight = filters.sum(dim=0)  # [F]
    centres = (filters * hz[:, None]).sum(dim=0) / weight.clamp_min(1e-12)
    bins, known = np.arange(len(weight)), (weight > 0).numpy()
    return np.interp(bins, bins[known], centres.numpy()[known])
