"""Finding and reading checkpoint files: tensors, stored settings and names, as one :class:`Checkpoint`."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from torch import Tensor

from ssl_wb.encoder.importing.unpickle import load_pickled
from ssl_wb.errors import DataError, UsageError
from ssl_wb.plugin.importer import Checkpoint

__all__ = ["file_digest", "find_weights", "has_weights", "read_checkpoint", "without_prefix"]

#: Endings of files with weights, in the order in which a folder is searched.
ENDINGS = (".safetensors", ".pt", ".pth", ".bin", ".ckpt")
#: Keys of a training file whose value may be the state dict, in the order in which they are tried.
STATE_KEYS = ("model", "state_dict", "model_state_dict")
#: What wrappers put into names, anywhere: ``torch.compile``, FSDP, activation checkpointing.
INSERTED = re.compile(r"(^|\.)(?:_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module)\.")
#: Folders above a file whose names are kept.
LABELS = 2


def find_weights(place: Path) -> Path:
    """Return the file with the weights: the path itself, or the one in a folder.

    Raises:
        UsageError: there is no such path, no file with weights in it, or several.
    """
    if place.is_file():
        return place
    if not place.is_dir():
        raise UsageError(f"{place}: no such file or folder", hint="name a checkpoint, or a folder with one")
    for ending in ENDINGS:
        found = sorted(one for one in place.glob(f"*{ending}") if one.is_file())
        if len(found) == 1:
            return found[0]
        if found:
            raise UsageError(
                f"{place}: {len(found)} files end in {ending}", hint=f"name one: {', '.join(map(str, found[:4]))}"
            )
    raise UsageError(
        f"{place}: no file with weights in it", hint=f"their names end in {', '.join(ENDINGS)}; name the file itself"
    )


def has_weights(folder: Path) -> bool:
    """Whether a folder holds a file whose ending is that of weights."""
    return any(one.suffix in ENDINGS for one in folder.iterdir() if one.is_file())


def read_checkpoint(place: Path) -> tuple[Checkpoint, Path]:
    """Read a checkpoint, without running any code of it.

    Args:
        place: a file, or a folder with one.

    Returns:
        The checkpoint and its file.

    Raises:
        UsageError: there is no such file.
        DataError: it cannot be read, would run code, or holds no tensors.
    """
    path = find_weights(place)
    content: Any = _safetensors(path) if path.suffix == ".safetensors" else load_pickled(path)
    if not isinstance(content, Mapping):
        raise DataError(
            f"{path}: holds a {type(content).__name__}, not a state dict",
            hint="save the model's state_dict() with torch.save or safetensors",
        )
    state, settings = _divide(content)
    settings |= _config_beside(path)
    named = {str(name): value for name, value in state.items() if isinstance(value, Tensor)}
    if not named:
        raise DataError(f"{path}: holds no tensors", hint=f"its keys are: {', '.join(map(str, content))[:200]}")
    tensors = {INSERTED.sub(r"\1", name): value for name, value in named.items()}
    original = dict(zip(tensors, named, strict=False)) if len(tensors) == len(named) else {}
    if not original:
        raise DataError(f"{path}: names differ only in what wrappers insert", hint="the file holds two copies")
    labels = (path.stem, *(parent.name for parent in path.absolute().parents[:LABELS]))
    return Checkpoint(tensors, settings, labels, str(path), original), path


def _safetensors(path: Path) -> dict[str, Tensor]:
    """Read a safetensors file."""
    try:
        with safe_open(path, framework="pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - it is no dictionary
    except (OSError, SafetensorError, ValueError) as error:
        raise DataError(
            f"{path}: cannot be read as safetensors ({error})",
            hint="the file is incomplete or damaged: download it again",
        ) from error


def _divide(content: Mapping[str, Any]) -> tuple[Mapping[str, Any], dict[str, Any]]:
    """Divide a file's content into the state dict and the rest.

    fairseq keeps the average of the weights in a dictionary inside the state dict, as ``_ema``; its tensors get names
    below that, so that they are accounted for too.
    """
    for key in STATE_KEYS:
        state = content.get(key)
        if isinstance(state, Mapping) and any(isinstance(value, Tensor) for value in state.values()):
            rest = {str(name): value for name, value in content.items() if name != key}
            flat: dict[str, Any] = {}
            for name, value in state.items():
                nested = isinstance(value, Mapping)
                flat |= {f"{name}.{inner}": one for inner, one in value.items()} if nested else {str(name): value}
            return flat, rest
    return content, {str(name): value for name, value in content.items() if not isinstance(value, Tensor)}


def _config_beside(path: Path) -> dict[str, Any]:
    """Return the content of the ``config.json`` beside a file as the setting ``config``; nothing without one."""
    file = path.with_name("config.json")
    if not file.is_file():
        return {}
    try:
        config = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"{file}: cannot be read as JSON ({error})", hint="restore it, or move it away") from error
    return {"config": config} if isinstance(config, dict) else {}


def without_prefix(checkpoint: Checkpoint, prefix: str) -> Checkpoint | None:
    """Return a checkpoint with a prefix removed from the names that have it; None where none has, or names collide."""
    renamed = {name: name.removeprefix(prefix) for name in checkpoint.tensors}
    if len(set(renamed.values())) < len(renamed) or all(old == new for old, new in renamed.items()):
        return None
    return Checkpoint(
        {renamed[name]: value for name, value in checkpoint.tensors.items()},
        checkpoint.settings,
        checkpoint.labels,
        checkpoint.where,
        {renamed[name]: checkpoint.original.get(name, name) for name in checkpoint.tensors},
    )


def file_digest(path: Path) -> str:
    """Return the SHA-256 of a file, 64 hex digits."""
    digest = hashlib.sha256()
    for block in _blocks(path):
        digest.update(block)
    return digest.hexdigest()


def _blocks(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while block := file.read(2**20):
            yield block
