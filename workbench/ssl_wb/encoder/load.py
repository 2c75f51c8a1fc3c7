"""Loading frozen encoders, and whole pretext models, from run folders."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Collection
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ssl_wb.encoder.assignments import Assigner, has_classes
from ssl_wb.encoder.captioned import CaptionedEncoder, CaptionSpace
from ssl_wb.encoder.encoder import Assign, FrozenEncoder
from ssl_wb.encoder.folder import EncoderParts, is_encoder_folder, read_folder
from ssl_wb.encoder.importing.convert import import_checkpoint
from ssl_wb.encoder.importing.files import has_weights
from ssl_wb.encoder.importing.hub import fetch, is_hub
from ssl_wb.errors import RunFolderError, did_you_mean
from ssl_wb.plugin.base import Kind
from ssl_wb.plugin.caption_space import SharedSpace
from ssl_wb.plugin.front_end import FrontEnd
from ssl_wb.plugin.importer import ClipReading
from ssl_wb.pretext.build import build_backbone, build_model
from ssl_wb.pretext.crop import crop_frames
from ssl_wb.pretext.model import PretextModel
from ssl_wb.recipe.load import LoadedRecipe, load_recipe
from ssl_wb.recipe.schema import CaptionsSection
from ssl_wb.runs.checkpoint import find_checkpoint, load_weights, mismatch, read_weights
from ssl_wb.runs.device import named_device
from ssl_wb.runs.folder import RunFolder

__all__ = ["build_pretext", "encoder_parts", "load_encoder", "open_run", "run_weights"]

#: Kinds of plugins that a frozen encoder is made of.
ENCODER_KINDS: tuple[Kind, ...] = ("front-end", "backbone")
#: What to do about a run folder with a damaged file.
DAMAGED = "the file is damaged: restore it from a copy of the run"


def load_encoder(
    path: str | Path,
    *,
    checkpoint: str = "last",
    untrained: bool = False,
    embedding: str = "published",
    device: str | torch.device = "cpu",
) -> FrozenEncoder:
    """Load a frozen encoder: of a run (the student, as M2D and MATPAC use it), of a folder, or of a checkpoint.

    Only the encoder's front end and backbone have to be installed. Where an objective of the run has classes, the
    encoder's ``assign`` loads the whole pretext model at its first call.

    Args:
        path: a run folder; an encoder folder, which ``ssl-wb import`` or ``ssl-wb export`` wrote; a published
            checkpoint, which is imported in memory; or either of the two on the hub, as ``hf://OWNER/NAME[@REVISION]``.
        checkpoint: of a run: ``last``, ``best``, or the name of one, as ``step-00001800``.
        untrained: use the weights that the run started from, or random ones for an imported encoder, for comparison.
        embedding: what the embedding of a clip is: ``published``, as the authors' own code hands it to a probe,
            ``folded``, ``frames``, ``clip-token`` or ``pooled``; see :class:`FrozenEncoder`.
        device: where it computes.

    Raises:
        RunFolderError: this is no run folder, it has no such checkpoint, or a file of it is damaged.
        UsageError: there is no such device or kind of embedding, or no such place on the hub.
        DataError: a checkpoint cannot be read, or a tensor of it does not fit.
    """
    device = named_device(device)
    parts = _other_parts(path)
    if parts is not None:
        if untrained:
            parts = replace(parts, weights=None)
        return parts.build(str(path), embedding).to(device)
    folder, loaded, front_end = open_run(path, only=ENCODER_KINDS)
    with torch.random.fork_rng(devices=[]):  # building draws weights by the recipe's seed; keep the caller's state
        backbone = build_backbone(loaded)
    file = None if untrained else _checkpoint(folder, checkpoint)
    if file is not None:
        _load_fitting(backbone, _backbone_weights(file), file)
    elif folder.initial.is_file():  # the run started from another encoder
        _load_fitting(backbone, read_weights(folder.initial), folder.initial)
    classes = any(has_classes(objective.plugin) for objective in loaded.objectives)
    pretext = _assigner(folder, file, device) if classes else None
    frames = crop_frames(loaded, backbone.patch[1])
    read = loaded.recipe.encoder
    options: dict[str, Any] = {"embedding": embedding, "published": read.embedding, "fine_tuned": read.fine_tuned}
    arguments = (front_end, backbone, frames, pretext)
    captions = loaded.recipe.data.captions
    if captions is not None and any(issubclass(one.plugin, SharedSpace) for one in loaded.objectives):
        space = _caption_space(folder, captions, file, device)
        return CaptionedEncoder(*arguments, space=space, **options).to(device)
    return FrozenEncoder(*arguments, **options).to(device)


def _caption_space(
    folder: RunFolder, section: CaptionsSection, checkpoint: Path | None, device: str | torch.device
) -> Callable[[], CaptionSpace]:
    """Return a function that loads what the run learnt about captions at its first call; untrained when None."""

    @cache
    def load() -> CaptionSpace:
        weights = None if checkpoint is None else load_weights(checkpoint)
        whole = load_recipe(folder.resolved)  # every plugin of the run is needed here
        return CaptionSpace(build_pretext(folder, whole, weights).to(device), section)

    return load


def _other_parts(path: str | Path) -> EncoderParts | None:
    """Return the parts of an encoder that is no run: of the hub, an encoder folder or a checkpoint; None for a run."""
    if is_hub(path):
        found, _ = fetch(str(path))
        return read_folder(found) if is_encoder_folder(found) else import_checkpoint(path).parts
    place = Path(path)
    if RunFolder(place).is_run():
        return None
    if is_encoder_folder(place):
        return read_folder(place)
    if place.is_file() or (place.is_dir() and has_weights(place)):
        return import_checkpoint(place).parts
    return None


def encoder_parts(path: str | Path, *, checkpoint: str = "last") -> EncoderParts:
    """Return an encoder in plain values and tensors, from which it can be built without a run.

    Args:
        path: as for :func:`load_encoder`.
        checkpoint: of a run: ``last``, ``best``, or the name of one.

    Raises:
        RunFolderError: this is no run folder, it has no such checkpoint, or a file of it is damaged.
    """
    if (parts := _other_parts(path)) is not None:
        return parts
    folder, loaded, front_end = open_run(path, only=ENCODER_KINDS)
    file = _checkpoint(folder, checkpoint)
    with torch.random.fork_rng(devices=[]):
        patch = build_backbone(loaded).patch[1]
    frames = crop_frames(loaded, patch)
    statistics = {"mean": float(front_end.mean), "std": float(front_end.std)}
    about = {
        "system": "ssl-wb",
        "title": loaded.recipe.title,
        "source": {"place": Path(path).absolute().name, "file": file.name, "revision": None, "sha256": None},
        "seed": loaded.recipe.seed,
        "notes": [],
    }
    return EncoderParts(
        front_end={"name": loaded.front_end.name, **loaded.front_end.written_options, **statistics},
        backbone={"name": loaded.backbone.name, **loaded.backbone.written_options},
        frames=crop_frames(loaded),
        reading=ClipReading(frames),
        published=loaded.recipe.encoder.embedding,
        fine_tuned=loaded.recipe.encoder.fine_tuned,
        weights=_backbone_weights(file),
        about=about,
    )


def _backbone_weights(checkpoint: Path) -> dict[str, Tensor]:
    """Return the student's tensors of a checkpoint, by name in the backbone."""
    prefix = "backbone."
    weights = load_weights(checkpoint).items()
    return {key.removeprefix(prefix): value for key, value in weights if key.startswith(prefix)}


def _assigner(folder: RunFolder, checkpoint: Path | None, device: str | torch.device) -> Callable[[], Assign]:
    """Return a function that loads the run's objectives at its first call: a checkpoint's, or untrained when None."""

    @cache
    def load() -> Assign:
        weights = None if checkpoint is None else load_weights(checkpoint)
        whole = load_recipe(folder.resolved)  # every plugin of the run is needed here
        return Assigner(build_pretext(folder, whole, weights)).to(device)

    return load


def build_pretext(folder: RunFolder | None, loaded: LoadedRecipe, weights: dict[str, Tensor] | None) -> PretextModel:
    """Build a whole pretext model and load weights into it.

    Args:
        folder: of the run that the weights are from; None without weights.
        loaded: the recipe.
        weights: of every part; None keeps the initial ones, which follow from the recipe's seed.

    Raises:
        RunFolderError: the weights do not fit the recipe's model.
    """
    with torch.random.fork_rng(devices=[]):  # see load_encoder
        model = build_model(loaded, total_steps=1)  # only schedules depend on the number of steps
    if weights is not None:
        _load_fitting(model, weights, folder.path if folder else loaded.path)
    return model


def _load_fitting(module: nn.Module, weights: dict[str, Tensor], where: Path) -> None:
    """Load weights that fit a module.

    Raises:
        RunFolderError: they do not fit.
    """
    if fault := mismatch(module, weights):
        raise RunFolderError(
            f"{where}: the weights do not fit the recipe's model ({fault})",
            hint="recipe.resolved.toml was changed, or another version of a plugin is installed: see environment.json",
        )
    module.load_state_dict(weights)


def open_run(path: str | Path, only: Collection[Kind] | None = None) -> tuple[RunFolder, LoadedRecipe, FrontEnd]:
    """Return a run's folder, its resolved recipe, and its front end with the statistics of the training data.

    Args:
        path: the run folder.
        only: kinds of plugins that are needed, the front end among them; all unless given.

    Raises:
        RunFolderError: this is no run folder, the run never started, or its statistics are damaged.
    """
    folder = RunFolder(Path(path))
    folder.require_run()
    loaded = load_recipe(folder.resolved, only=only)
    try:
        statistics = json.loads(folder.statistics.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise RunFolderError(
            f"{folder.statistics}: cannot be read ({error})", hint="the run never started training"
        ) from error
    except (OSError, ValueError) as error:  # no JSON, or no UTF-8
        raise RunFolderError(f"{folder.statistics}: cannot be read ({error})", hint=DAMAGED) from error
    numbers: list[Any] = [statistics.get(key) for key in ("mean", "std")] if isinstance(statistics, dict) else []
    if not numbers or not all(type(one) in (int, float) and math.isfinite(one) for one in numbers) or numbers[1] <= 0:
        raise RunFolderError(
            f"{folder.statistics}: expected the numbers 'mean' and 'std' above 0, found {json.dumps(statistics)[:80]}",
            hint=DAMAGED,
        )
    return folder, loaded, loaded.front_end.build(*numbers)


def run_weights(folder: RunFolder, checkpoint: str) -> dict[str, Tensor]:
    """Return all tensors of the pretext model at a checkpoint: ``last``, ``best`` or the name of one.

    Raises:
        RunFolderError: there is no checkpoint yet, or none of that name.
    """
    return load_weights(_checkpoint(folder, checkpoint))


def _checkpoint(folder: RunFolder, which: str) -> Path:
    """Return the folder of the checkpoint that a pointer (``last``, ``best``) or its own name (``step-...``) names."""
    steps = sorted(path.name for path in folder.checkpoints.glob("step-*") if path.is_dir())
    if which in steps:
        return folder.checkpoints / which
    pointers = [name for name in ("last", "best") if (folder.checkpoints / name).is_file()]
    if which in pointers and (found := find_checkpoint(folder.checkpoints, which)) is not None:
        return found
    if not steps:
        raise RunFolderError(f"{folder.path}: no checkpoint yet", hint="let the run reach its first checkpoint")
    names = [*pointers, *steps]
    if which == "last":
        raise RunFolderError(
            f"{folder.checkpoints / which} is missing, which names the last checkpoint",
            hint=f"name a checkpoint: --checkpoint {steps[-1]}; there are {', '.join(names)}",
        )
    raise RunFolderError(
        f"{folder.path}: no checkpoint {which!r}{did_you_mean(which, names)}", hint=f"there are {', '.join(names)}"
    )
