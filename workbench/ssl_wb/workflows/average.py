"""Average the weights of several runs, or of the last checkpoints of one, into an encoder folder."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ssl_wb.encoder.folder import EncoderParts
from ssl_wb.encoder.load import encoder_parts
from ssl_wb.errors import UsageError
from ssl_wb.recipe.differences import differences
from ssl_wb.runs.folder import RunFolder
from ssl_wb.workflows.encoder_folders import check_out, write_with_card, written_folder

__all__ = ["average_encoders"]


def average_encoders(
    sources: Sequence[str | Path],
    out: Path,
    *,
    last: int | None = None,
    checkpoint: str = "last",
    licence: str | None = None,
    overwrite: bool = False,
) -> EncoderParts:
    """Average the weights of encoders of one architecture: a model soup.

    It helps where the parts lie in one valley: checkpoints of one run, or runs that started from equal weights.
    Encoders that started from different weights average to noise; a probe of the average beside its parts tells.

    Args:
        sources: run folders or encoder folders; one run with ``last``.
        out: folder to write.
        last: average this many of the newest checkpoints of a run.
        checkpoint: of runs, without ``last``: ``last``, ``best`` or ``step-NUMBER``.
        licence: of the weights, for the model card.
        overwrite: replace an encoder folder.

    Returns:
        The average, as it was written.

    Raises:
        UsageError: there are fewer than two parts, they differ in front end, backbone or reading, or ``out`` is taken.
        RunFolderError: one is no run, or has no such checkpoint.
    """
    check_out(out, overwrite)
    named = _parts(sources, last, checkpoint)
    (first_name, first), *others = named.items()
    for name, one in others:
        if difference := _difference(first, one):
            raise UsageError(
                f"{name} cannot be averaged with {first_name}: {difference}",
                hint="average checkpoints of one run, or runs that differ in seed, data or length only",
            )
    weights = {key: _mean([(one.weights or {})[key] for one in named.values()]) for key in first.weights or {}}
    names = ", ".join(Path(name).name for name in named)
    note = f"The mean of the weights of {len(named)} encoders: {names}. Probe it beside its parts."
    about = {
        **first.about,
        "title": f"average of {len(named)}",
        "source": {"place": names, "file": "", "revision": None, "sha256": None},
        "notes": [*first.about.get("notes", []), note],
    }
    parts = replace(first, weights=weights, front_end=_mean_statistics(list(named.values())), about=about)
    encoder = parts.build(str(out))
    with written_folder(out) as folder:
        write_with_card(folder, parts, encoder, f"Average of {len(named)} encoders", licence)
    return parts


def _parts(sources: Sequence[str | Path], last: int | None, checkpoint: str) -> dict[str, EncoderParts]:
    """Return the encoders by name.

    Raises:
        UsageError: there are fewer than two, or ``last`` is given with several runs.
    """
    if last is not None:
        if len(sources) != 1:
            raise UsageError(f"--last {last} with {len(sources)} runs", hint="name one run, or leave --last out")
        folder = RunFolder(Path(sources[0]))
        folder.require_run()
        steps = sorted(path.name for path in folder.checkpoints.glob("step-*") if path.is_dir())
        if last < 2 or len(steps) < last:
            raise UsageError(
                f"--last {last}: {folder.path} has {len(steps)} checkpoint{'' if len(steps) == 1 else 's'}",
                hint="at least 2; train.keep_checkpoints says how many a run keeps",
            )
        return {name: encoder_parts(folder.path, checkpoint=name) for name in steps[-last:]}
    if len(sources) < 2:
        raise UsageError("one encoder has no average", hint="name two or more, or a run with --last K")
    found = {str(source): encoder_parts(source, checkpoint=checkpoint) for source in sources}
    if len(found) < len(sources):
        raise UsageError("an encoder is named twice", hint="name each once")
    return found


def _mean(tensors: Sequence[Tensor]) -> Tensor:
    """Return the mean of tensors of one shape, summed in float64; of whole numbers the first, which counts."""
    first = tensors[0]
    if not first.is_floating_point():
        return first
    return torch.stack([one.double() for one in tensors]).mean(dim=0).to(first.dtype)


def _difference(first: EncoderParts, other: EncoderParts) -> str:
    """Say in what two encoders differ that makes an average meaningless; nothing where they fit."""
    changed = differences(_settings(first), _settings(other))
    if changed:
        return "{} is {} and {}".format(changed[0].key, *changed[0].texts())
    if first.reading != other.reading:
        return "they cut clips differently"
    mine, theirs = first.weights or {}, other.weights or {}
    shapes = [key for key in mine.keys() | theirs.keys() if key not in mine or key not in theirs]
    shapes += [key for key in mine.keys() & theirs.keys() if mine[key].shape != theirs[key].shape]
    return f"tensor {min(shapes)} is not in both, or of another shape" if shapes else ""


def _settings(parts: EncoderParts) -> dict[str, Any]:
    """Return the options of front end and backbone without the statistics of the data, which are averaged."""
    front = {key: value for key, value in parts.front_end.items() if key not in ("mean", "std")}
    return {"front_end": front, "backbone": parts.backbone}


def _mean_statistics(parts: Sequence[EncoderParts]) -> dict[str, Any]:
    """Return the front end with the mean of the statistics."""
    front = dict(parts[0].front_end)
    for key in ("mean", "std"):
        values = [float(value) for one in parts if isinstance(value := one.front_end.get(key), (int, float))]
        if len(values) == len(parts):
            front[key] = sum(values) / len(values)
    return front
