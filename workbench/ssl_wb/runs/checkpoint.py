"""Checkpoints in safetensors: written under another name, renamed, then named by a pointer file."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from ssl_wb.errors import RunFolderError
from ssl_wb.files import write_atomically, written_aside
from ssl_wb.runs.sharding import shard_as, whole

__all__ = ["find_checkpoint", "load_checkpoint", "load_weights", "mismatch", "save_checkpoint"]

MODEL, OPTIMIZER, STATE = "model.safetensors", "optimizer.safetensors", "state.json"


def _optimizer_tensors(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """Flatten an optimiser's state to ``parameter number/name -> tensor``."""
    return {
        f"{number}/{name}": whole(value.detach()).clone().contiguous()
        for number, entry in optimizer.state_dict()["state"].items()
        for name, value in entry.items()
    }


def _restore_optimizer(optimizer: torch.optim.Optimizer, tensors: dict[str, Tensor]) -> None:
    """Load flattened tensors, sharded as the parameters are; parameter groups stay the optimiser's own."""
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    state: dict[int, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        number, name = key.split("/", 1)
        state.setdefault(int(number), {})[name] = shard_as(value, parameters[int(number)])
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})


def save_checkpoint(
    folder: Path,
    *,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    state: dict[str, Any],
    best: bool,
    keep: int,
    write: bool = True,
) -> Path:
    """Write ``folder/step-NNNNNNNN`` and move the pointers ``last`` and, when ``best``, ``best``.

    A model that is sharded over processes is gathered first: all of them call this, and one writes.

    Args:
        folder: the run's checkpoints.
        model: unwrapped module.
        optimizer: its optimiser.
        state: plain values, ``step`` among them.
        best: whether this is the best one so far.
        keep: newest checkpoints kept; the best one is kept besides.
        write: whether this process writes; the others only contribute their shards.
    """
    final = folder / f"step-{state['step']:08d}"
    weights = {key: whole(value.detach()).cpu().contiguous() for key, value in model.state_dict().items()}
    moments = _optimizer_tensors(optimizer)
    if not write:
        return final
    for left in folder.glob(".step-*.part"):  # by a run that was killed while it wrote
        shutil.rmtree(left, ignore_errors=True)
    with written_aside(final) as aside:
        aside.mkdir()
        save_file(weights, aside / MODEL)
        save_file(moments, aside / OPTIMIZER)
        (aside / STATE).write_text(json.dumps(state), encoding="utf-8")
        if final.exists():
            shutil.rmtree(final)
    if best:  # before `last`: a run killed in between resumes from the older `last` and writes `best` again
        write_atomically(folder / "best", final.name + "\n")
    write_atomically(folder / "last", final.name + "\n")
    _prune(folder, keep)
    return final


def _prune(folder: Path, keep: int) -> None:
    """Remove all but the newest ``keep`` checkpoints and the best one."""
    pointer = folder / "best"
    best = pointer.read_text(encoding="utf-8").strip() if pointer.is_file() else ""
    steps = sorted(path for path in folder.glob("step-*") if path.is_dir())
    for path in steps[:-keep]:
        if path.name != best:
            shutil.rmtree(path)


def find_checkpoint(folder: Path, which: str = "last") -> Path | None:
    """Return the checkpoint a pointer names (``last`` or ``best``), or None when there is none yet."""
    pointer = folder / which
    if not pointer.is_file():
        return None
    name = pointer.read_text(encoding="utf-8", errors="replace").strip()
    path = folder / name
    if not name.startswith("step-") or not path.is_dir():
        raise RunFolderError(f"{pointer} names {name!r}, which is not there", hint="restore it or start a new run")
    return path


def _read(path: Path) -> dict[str, Tensor]:
    try:
        return load_file(path)
    except (OSError, SafetensorError) as error:
        raise RunFolderError(f"{path}: cannot be read as safetensors ({error})", hint="the file is damaged") from error


def load_weights(checkpoint: Path) -> dict[str, Tensor]:
    """Return the model's tensors by name."""
    return _read(checkpoint / MODEL)


def mismatch(module: nn.Module, weights: Mapping[str, Tensor]) -> str:
    """Say in one line how weights differ from a module's in name and shape; "" where they fit."""
    own = {name: tuple(value.shape) for name, value in module.state_dict().items()}
    found = {name: tuple(value.shape) for name, value in weights.items()}
    shapes = [f"{name} is {found[name]}, not {own[name]}" for name in own if found.get(name, own[name]) != own[name]]
    kinds = {
        "of another shape": shapes,
        "missing": [name for name in own if name not in found],
        "unknown": [name for name in found if name not in own],
    }
    return "; ".join(
        f"{len(names)} {kind}: {', '.join(names[:2])}{', ...' if len(names) > 2 else ''}"
        for kind, names in kinds.items()
        if names
    )


def load_checkpoint(checkpoint: Path, *, model: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    """Load weights and optimiser in place and return the plain values saved with them."""
    try:
        own = model.state_dict()
        weights = load_weights(checkpoint)
        model.load_state_dict({key: shard_as(value, own.get(key, value)) for key, value in weights.items()})
    except RuntimeError as error:
        raise RunFolderError(
            f"{checkpoint}: the weights do not fit the recipe's model ({error})",
            hint="resume with the run's own recipe",
        ) from error
    _restore_optimizer(optimizer, _read(checkpoint / OPTIMIZER))
    state: dict[str, Any] = json.loads((checkpoint / STATE).read_text(encoding="utf-8"))
    return state
