"""Encoders from run folders."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import cache
from pathlib import Path

import torch
from torch import Tensor

from ssl_wb.audio.front_end import FrontEnd
from ssl_wb.encoder.assignments import Assigner, has_classes
from ssl_wb.encoder.encoder import Assign, FrozenEncoder
from ssl_wb.errors import RunFolderError
from ssl_wb.pretext.build import build_backbone, build_model, crop_frames
from ssl_wb.pretext.model import PretextModel
from ssl_wb.recipe.load import LoadedRecipe, load_recipe
from ssl_wb.runs.checkpoint import find_checkpoint, load_weights
from ssl_wb.runs.folder import RunFolder

__all__ = ["build_pretext", "load_encoder", "open_run", "run_weights"]

_PREFIX = "backbone."


def load_encoder(
    path: str | Path, *, checkpoint: str = "last", untrained: bool = False, device: str | torch.device = "cpu"
) -> FrozenEncoder:
    """Load the frozen encoder of a run: the student, as M2D and MATPAC use it.

    Where an objective of the run has classes, the encoder's ``assign`` loads the whole pretext model at its first call.

    Args:
        path: a run folder.
        checkpoint: ``last`` or ``best``.
        untrained: keep the weights the run started from, for comparison.
        device: where it computes.

    Raises:
        RunFolderError: this is no run folder, or it has no checkpoint yet.
    """
    folder, loaded, front_end = open_run(path)
    with torch.random.fork_rng(devices=[]):  # the caller's random numbers are not ours to seed
        backbone = build_backbone(loaded)
    found = None if untrained else _checkpoint(folder, checkpoint)
    if found is not None:
        weights = {
            key.removeprefix(_PREFIX): value for key, value in load_weights(found).items() if key.startswith(_PREFIX)
        }
        backbone.load_state_dict(weights)
    asked = any(has_classes(objective.plugin) for objective in loaded.objectives)
    pretext = _assigner(folder, loaded, found, device) if asked else None
    return FrozenEncoder(front_end, backbone, crop_frames(loaded, backbone.patch[1]), pretext).to(device)


def _assigner(
    folder: RunFolder, loaded: LoadedRecipe, checkpoint: Path | None, device: str | torch.device
) -> Callable[[], Assign]:
    """Return what loads the run's objectives at its first call, from this checkpoint or, when None, untrained."""

    @cache
    def load() -> Assign:
        weights = None if checkpoint is None else load_weights(checkpoint)
        return Assigner(build_pretext(folder, loaded, weights)).to(device)

    return load


def build_pretext(folder: RunFolder, loaded: LoadedRecipe, weights: dict[str, Tensor] | None) -> PretextModel:
    """Build a run's whole pretext model and fill it with weights, or with those it started from when None.

    Raises:
        RunFolderError: the weights are another recipe's.
    """
    with torch.random.fork_rng(devices=[]):  # the caller's random numbers are not ours to seed
        model = build_model(loaded, total_steps=1)  # schedules play no part here
    if weights is not None:
        try:
            model.load_state_dict(weights)
        except RuntimeError as error:
            raise RunFolderError(
                f"{folder.path}: the weights do not fit the recipe's model ({error})", hint="the run folder was changed"
            ) from error
    return model


def open_run(path: str | Path) -> tuple[RunFolder, LoadedRecipe, FrontEnd]:
    """Read what a run was made of: its folder, its resolved recipe, its front end with the data's statistics.

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
    return folder, loaded, FrontEnd(loaded.recipe.front_end, statistics["mean"], statistics["std"])


def run_weights(folder: RunFolder, checkpoint: str) -> dict[str, Tensor]:
    """Return the whole pretext model's tensors at a checkpoint, ``last`` or ``best``.

    Raises:
        RunFolderError: there is none yet.
    """
    return load_weights(_checkpoint(folder, checkpoint))


def _checkpoint(folder: RunFolder, which: str) -> Path:
    found = find_checkpoint(folder.checkpoints, which)
    if found is None:
        raise RunFolderError(f"{folder.path}: no checkpoint yet", hint="let the run reach its first checkpoint")
    return found
