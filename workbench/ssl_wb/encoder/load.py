"""Loading frozen encoders, and whole pretext models, from run folders."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import cache
from pathlib import Path

import torch
from torch import Tensor

from ssl_wb.encoder.assignments import Assigner, has_classes
from ssl_wb.encoder.encoder import Assign, FrozenEncoder
from ssl_wb.errors import RunFolderError
from ssl_wb.plugin.front_end import FrontEnd
from ssl_wb.pretext.build import build_backbone, build_model
from ssl_wb.pretext.crop import crop_frames
from ssl_wb.pretext.model import PretextModel
from ssl_wb.recipe.load import LoadedRecipe, load_recipe
from ssl_wb.runs.checkpoint import find_checkpoint, load_weights
from ssl_wb.runs.folder import RunFolder

__all__ = ["build_pretext", "load_encoder", "open_run", "run_weights"]


def load_encoder(
    path: str | Path, *, checkpoint: str = "last", untrained: bool = False, device: str | torch.device = "cpu"
) -> FrozenEncoder:
    """Load the frozen encoder of a run: the student, as M2D and MATPAC use it.

    Where an objective of the run has classes, the encoder's ``assign`` loads the whole pretext model at its first call.

    Args:
        path: a run folder.
        checkpoint: ``last`` or ``best``.
        untrained: use the weights that the run started from, for comparison.
        device: where it computes.

    Raises:
        RunFolderError: this is no run folder, or it has no checkpoint yet.
    """
    folder, loaded, front_end = open_run(path)
    with torch.random.fork_rng(devices=[]):  # building draws weights by the recipe's seed; keep the caller's state
        backbone = build_backbone(loaded)
    file = None if untrained else _checkpoint(folder, checkpoint)
    if file is not None:
        prefix = "backbone."
        weights = load_weights(file).items()
        backbone.load_state_dict({key.removeprefix(prefix): value for key, value in weights if key.startswith(prefix)})
    classes = any(has_classes(objective.plugin) for objective in loaded.objectives)
    pretext = _assigner(folder, loaded, file, device) if classes else None
    return FrozenEncoder(front_end, backbone, crop_frames(loaded, backbone.patch[1]), pretext).to(device)


def _assigner(
    folder: RunFolder, loaded: LoadedRecipe, checkpoint: Path | None, device: str | torch.device
) -> Callable[[], Assign]:
    """Return a function that loads the run's objectives at its first call: a checkpoint's, or untrained when None."""

    @cache
    def load() -> Assign:
        weights = None if checkpoint is None else load_weights(checkpoint)
        return Assigner(build_pretext(folder, loaded, weights)).to(device)

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
        try:
            model.load_state_dict(weights)
        except RuntimeError as error:
            raise RunFolderError(
                f"{folder.path if folder else loaded.path}: the weights do not fit the recipe's model ({error})",
                hint="the run folder was changed",
            ) from error
    return model


def open_run(path: str | Path) -> tuple[RunFolder, LoadedRecipe, FrontEnd]:
    """Return a run's folder, its resolved recipe, and its front end with the statistics of the training data.

    Raises:
        RunFolderError: this is no run folder, or the run never started.
    """
    folder = RunFolder(Path(path))
    folder.require_run()
    loaded = load_recipe(folder.resolved)
    try:
        statistics = json.loads(folder.statistics.read_text(encoding="utf-8"))
    except (OSError, json.JSONDecodeError) as error:
        raise RunFolderError(
            f"{folder.statistics}: cannot be read ({error})", hint="the run never started training"
        ) from error
    return folder, loaded, loaded.front_end.build(statistics["mean"], statistics["std"])


def run_weights(folder: RunFolder, checkpoint: str) -> dict[str, Tensor]:
    """Return all tensors of the pretext model at a checkpoint, ``last`` or ``best``.

    Raises:
        RunFolderError: there is no checkpoint yet.
    """
    return load_weights(_checkpoint(folder, checkpoint))


def _checkpoint(folder: RunFolder, which: str) -> Path:
    found = find_checkpoint(folder.checkpoints, which)
    if found is None:
        raise RunFolderError(f"{folder.path}: no checkpoint yet", hint="let the run reach its first checkpoint")
    return found
