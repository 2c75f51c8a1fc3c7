"""Checkpoints in safetensors: written under another name, flushed, renamed, then named by a pointer file."""

from __future__ import annotations

import json
import logging
import secrets
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from ssl_wb.errors import RunFolderError, WorkbenchError, machine_fault
from ssl_wb.files import write_atomically, written_aside
from ssl_wb.runs.checksums import find_damage, write_checksums
from ssl_wb.runs.sharding import shard_as, whole

__all__ = [
    "DamagedCheckpointError",
    "check_content",
    "find_checkpoint",
    "load_checkpoint",
    "load_newest",
    "load_weights",
    "mismatch",
    "read_state",
    "save_checkpoint",
]

log = logging.getLogger("ssl_wb")

MODEL, OPTIMIZER, STATE = "model.safetensors", "optimizer.safetensors", "state.json"
#: Bytes that a checkpoint takes besides its tensors, at most.
BESIDES = 1 << 20


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

    Raises:
        WorkbenchError: there is not enough space, or it cannot be written; the checkpoints of before stay as they are.
    """
    final = folder / f"step-{state['step']:08d}"
    weights = {key: whole(value.detach()).cpu().contiguous() for key, value in model.state_dict().items()}
    moments = _optimizer_tensors(optimizer)
    if not write:
        return final
    for left in folder.glob(".step-*.part"):  # by a run that was killed while it wrote
        shutil.rmtree(left, ignore_errors=True)
    _check_space(folder, final, sum(value.nbytes for part in (weights, moments) for value in part.values()) + BESIDES)
    with _told(folder, final), written_aside(final) as aside:
        aside.mkdir()
        save_file(weights, aside / MODEL)
        save_file(moments, aside / OPTIMIZER)
        (aside / STATE).write_text(json.dumps(state), encoding="utf-8")
        write_checksums(aside)
        if final.exists():  # damaged, or written by a run that was killed before `last` named it
            final.rename(folder / f".{final.name}.{secrets.token_hex(4)}.part")
    with _told(folder, final):
        if best:  # before `last`: a run killed in between resumes from the older `last` and writes `best` again
            write_atomically(folder / "best", final.name + "\n")
        write_atomically(folder / "last", final.name + "\n")
    _prune(folder, keep, final)
    return final


def _check_space(folder: Path, final: Path, needed: int) -> None:
    """Refuse to begin a checkpoint that the disk cannot hold.

    Raises:
        WorkbenchError: it says how much is missing.
    """
    folder.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise WorkbenchError(
            f"{final}: not enough space for the checkpoint: it takes {_megabytes(needed)}, "
            f"{_megabytes(free)} are free, {_megabytes(needed - free)} are missing",
            hint=_go_on(folder),
        )


def _megabytes(size: int) -> str:
    return f"{size / 1e6:,.1f} MB"


def _go_on(folder: Path) -> str:
    """Say what to do after a checkpoint could not be written."""
    kept = next(iter(reversed(_steps(folder))), None)
    sound = "there was no checkpoint yet" if kept is None else f"the last checkpoint, {kept.name}, is as it was"
    return f"Free space, then run the command again with --resume; {sound}."


@contextmanager
def _told(folder: Path, final: Path) -> Iterator[None]:
    """Turn a failed write into one message.

    Raises:
        WorkbenchError: the write failed.
    """
    try:
        yield
    except (OSError, SafetensorError) as error:
        fault = machine_fault(error)
        why = fault.message if fault is not None else " ".join(str(error).split())
        raise WorkbenchError(f"{final}: the checkpoint could not be written: {why}", hint=_go_on(folder)) from error


def _prune(folder: Path, keep: int, newest: Path) -> None:
    """Remove all but the ``keep`` checkpoints up to ``newest`` and the best one.

    Later ones are of steps that are trained anew since the run went back to an older checkpoint, and would else take
    the places of those that are to be kept.
    """
    pointer = folder / "best"
    best = pointer.read_text(encoding="utf-8").strip() if pointer.is_file() else ""
    steps = _steps(folder)
    later = [path for path in steps if path.name > newest.name]
    for path in [*steps[: len(steps) - len(later)][:-keep], *later]:
        if path.name != best:
            shutil.rmtree(path)
    for left in folder.glob(".step-*.part"):
        shutil.rmtree(left, ignore_errors=True)


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


class DamagedCheckpointError(RunFolderError):
    """A file of a checkpoint is missing or cannot be read."""


def _damaged(path: Path, error: Exception | str) -> DamagedCheckpointError:
    others = [one.name for one in _steps(path.parents[1]) if one != path.parent]
    also = f"; other checkpoints of the run, for --checkpoint: {', '.join(others[-3:])}" if others else ""
    what = error if isinstance(error, str) else f"cannot be read ({' '.join(str(error).split())[:200]})"
    return DamagedCheckpointError(f"{path}: {what}", hint=f"the file is damaged{also}")


def _steps(folder: Path) -> list[Path]:
    """Return the checkpoints of a folder, oldest first."""
    return sorted(path for path in folder.glob("step-*") if path.is_dir())


def read_weights(path: Path) -> dict[str, Tensor]:
    try:
        return load_file(path)
    except (OSError, SafetensorError) as error:
        raise _damaged(path, error) from error


def load_weights(checkpoint: Path) -> dict[str, Tensor]:
    """Return the model's tensors by name.

    Raises:
        DamagedCheckpointError: the file is missing, cannot be read, or has another size than was written.
    """
    if damage := find_damage(checkpoint, content=False, files=[MODEL]):
        raise _damaged(*damage)
    return read_weights(checkpoint / MODEL)


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


def check_content(checkpoint: Path) -> None:
    """Compare size and content of all files with what was written.

    Raises:
        DamagedCheckpointError: a file is missing or is not what was written.
    """
    if damage := find_damage(checkpoint, content=True):
        raise _damaged(*damage)


def read_state(checkpoint: Path) -> dict[str, Any]:
    """Return the plain values of a checkpoint.

    Raises:
        DamagedCheckpointError: they are missing or cannot be read.
    """
    try:
        state: dict[str, Any] = json.loads((checkpoint / STATE).read_text(encoding="utf-8"))
        state["step"]
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise _damaged(checkpoint / STATE, error) from error
    return state


def load_checkpoint(checkpoint: Path, *, model: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    """Load weights and optimiser in place and return the plain values saved with them.

    Raises:
        DamagedCheckpointError: a file is missing, cannot be read, or is not what was written; nothing was loaded.
        RunFolderError: the weights do not fit the model.
    """
    check_content(checkpoint)
    weights, moments, state = load_weights(checkpoint), read_weights(checkpoint / OPTIMIZER), read_state(checkpoint)
    try:
        own = model.state_dict()
        model.load_state_dict({key: shard_as(value, own.get(key, value)) for key, value in weights.items()})
    except RuntimeError as error:
        raise RunFolderError(
            f"{checkpoint}: the weights do not fit the recipe's model ({error})",
            hint="resume with the run's own recipe",
        ) from error
    _restore_optimizer(optimizer, moments)
    return state


def load_newest(
    folder: Path,
    *,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    accept: Callable[[dict[str, Any]], bool] = lambda state: True,
) -> dict[str, Any] | None:
    """Load the last checkpoint, or the newest sound one where that is damaged, with a warning.

    Args:
        folder: the run's checkpoints.
        model: weights are loaded in place.
        optimizer: likewise.
        accept: whether a checkpoint's plain values are those of one that is looked for.

    Returns:
        As :func:`load_checkpoint`; None where there is no checkpoint yet, or none that is accepted.

    Raises:
        RunFolderError: none is sound, or the weights do not fit the model.
    """
    first: RunFolderError | None = None
    try:
        last = find_checkpoint(folder)
        if last is None:
            return None
    except RunFolderError as error:  # the folder that it names is gone
        first, last = error, None
    older = [path for path in reversed(_steps(folder)) if last is None or path.name < last.name]
    for checkpoint in [*([last] if last else []), *older]:
        try:
            state = load_checkpoint(checkpoint, model=model, optimizer=optimizer)
        except DamagedCheckpointError as error:
            first = first or error
            continue
        if not accept(state):
            continue
        if first is not None:
            log.warning("%s; going on from %s, the newest checkpoint that is sound", first, checkpoint.name)
        return state
    if first is None:
        return None
    raise RunFolderError(
        f"{first.message}; no other checkpoint is sound",
        hint="restore one from a copy of the run, or begin anew with --overwrite",
    )
