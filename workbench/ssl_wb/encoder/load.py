"""Encoders from run folders."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from torch import Tensor

from ssl_wb.audio.front_end import FrontEnd
from ssl_wb.encoder.encoder import FrozenEncoder
from ssl_wb.errors import RunFolderError
from ssl_wb.pretext.build import build_backbone, crop_frames
from ssl_wb.recipe.load import LoadedRecipe, load_recipe
from ssl_wb.train.checkpoint import find_checkpoint, load_weights
from ssl_wb.train.run_folder import RunFolder

__all__ = ["load_encoder", "open_run", "run_weights"]

_PREFIX = "backbone."


def load_encoder(
    path: str | Path, *, checkpoint: str = "last", untrained: bool = False, device: str | torch.device = "cpu"
) -> FrozenEncoder:
    """Load the frozen encoder of a run: the student, as M2D and MATPAC use it.

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
    if not untrained:
        weights = {
            key.removeprefix(_PREFIX): value
            for key, value in run_weights(folder, checkpoint).items()
            if key.startswith(_PREFIX)
        }
        backbone.load_state_dict(weights)
    return FrozenEncoder(front_end, backbone, crop_frames(loaded, backbone.patch[1])).to(device)


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
    found = find_checkpoint(folder.checkpoints, checkpoint)
    if found is None:
        raise RunFolderError(f"{folder.path}: no checkpoint yet", hint="let the run reach its first checkpoint")
    return load_weights(found)
