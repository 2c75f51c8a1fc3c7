"""Labels of a task's clips: one class, several classes or a number each, read from the lines of a manifest."""

from __future__ import annotations

import unicodedata
from collections.abc import Hashable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ssl_wb.audio.clip import Clip, ClipSet
from ssl_wb.errors import DataError
from ssl_wb.scoring.metrics import METRICS
from ssl_wb.tasks.recordings import FileNames, composed

__all__ = ["listed", "read_labels"]

#: Names listed in a message; the rest is only counted.
SHOWN = 5
NUMBERS_HINT = "R2 and MAE want one number per clip in the column 'label'; another metric takes labels as classes."
#: Metrics of numeric labels, in lower case. Only they decide how the column ``label`` is read.
NUMERIC_METRICS = frozenset(metric.name.lower() for metric in METRICS.values() if metric.kinds == ("number",))
#: Metrics of several labels only, in lower case: they ask for clips on several lines to be read as one with all labels.
SEVERAL_METRICS = frozenset(metric.name.lower() for metric in METRICS.values() if metric.kinds == ("several",))


def read_labels(
    clips: ClipSet, metric: str | None, where: str
) -> tuple[ClipSet, NDArray[Any], tuple[str, ...], list[str]]:
    """Read the labels of clips.

    Args:
        clips: with the labels of their lines.
        metric: the metric asked for, which may decide how labels are read.
        where: the manifest, for messages.

    Returns:
        The clips, of which those on several lines may have become one; labels, classes and notes as in
        :class:`ssl_wb.tasks.task.LoadedTask`.

    Raises:
        DataError: labels are missing, of one class only, not as the metric wants them, or different on several lines
            for one clip.
    """
    wanted = (metric or "").strip().lower()
    clips, notes = _composed_labels(clips)
    clips, more = _merged_lines(clips, where, several=wanted in SEVERAL_METRICS, numbers=wanted in NUMERIC_METRICS)
    labels, classes, others = _read(clips.clips, wanted, where)
    return clips, labels, classes, [*notes, *more, *others]


def _composed_labels(clips: ClipSet) -> tuple[ClipSet, list[str]]:
    """Spell each label in Unicode's composed form, and note which classes are told apart by no more than spelling."""
    forms: dict[str, set[str]] = {}
    for label in {label for clip in clips for label in clip.labels}:
        forms.setdefault(composed(label), set()).add(label)
    if any(forms[label] != {label} for label in forms):
        spelt = tuple(
            replace(clip, labels=tuple(dict.fromkeys(composed(label) for label in clip.labels))) for clip in clips
        )
        clips = ClipSet(spelt, clips.source, clips.digest)
    notes = []
    merged = sorted(label for label, spellings in forms.items() if len(spellings) > 1)
    if merged:
        notes.append(f"labels in several Unicode forms are read as one: {listed(merged)}")
    alike: dict[str, list[str]] = {}
    for label in sorted(forms):
        plain = unicodedata.normalize("NFKC", label).casefold()
        # Invisible characters (zero-width spaces, soft hyphens) and kinds of blanks are left out, too.
        plain = " ".join("".join(one for one in plain if unicodedata.category(one) != "Cf").split())
        alike.setdefault(plain, []).append(label)
    if same := [" and ".join(map(ascii, labels)) for labels in alike.values() if len(labels) > 1]:
        notes.append(f"classes that differ only in capitals, blanks or forms of letters: {listed(same)}")
    return clips, notes


def _merged_lines(clips: ClipSet, where: str, *, several: bool, numbers: bool) -> tuple[ClipSet, list[str]]:
    """Find clips on several lines; where several labels are asked for, make one clip of the lines of each.

    Raises:
        DataError: lines of one clip have different labels and several are not asked for, or are not of one part.
    """
    files = FileNames()
    lines: dict[Hashable, list[Clip]] = {}
    for clip in clips:
        name = files[clip.path] if isinstance(clip.path, Path) else clip.path.stamp
        lines.setdefault((name, clip.start, clip.duration), []).append(clip)
    repeated = [same for same in lines.values() if len(same) > 1]
    differing = [same for same in repeated if len({frozenset(clip.labels) for clip in same}) > 1]
    if not differing:
        extra = len(clips) - len(lines)
        return clips, [f"{extra} lines repeat a clip of another line"] if extra else []
    if not several:
        shown = [
            f"{same[0].path.name} ({', '.join(';'.join(clip.labels) or 'none' for clip in same)})" for same in differing
        ]
        raise DataError(
            f"{where}: {len(differing)} clips are on several lines with different labels: {listed(shown)}",
            hint=NUMBERS_HINT
            if numbers
            else "Keep one line per clip (several labels separated by ';'), or ask for them as several labels of one "
            "clip with --metric TASK=mAP or a column 'metric'.",
        )
    divided = [same[0].path.name for same in repeated if len({(c.split, c.fold, c.group) for c in same}) > 1]
    if divided:
        raise DataError(
            f"{where}: {len(divided)} clips are on several lines of different split, fold or group: {listed(divided)}",
            hint="Give all lines of a clip the same split, fold and group.",
        )
    merged = [
        replace(same[0], labels=tuple(dict.fromkeys(label for clip in same for label in clip.labels)), id=number)
        for number, same in enumerate(lines.values())
    ]
    note = f"{len(clips)} lines are read as {len(merged)} clips, each with the labels of all its lines"
    return ClipSet(tuple(merged), clips.source, clips.digest), [note]


def _read(clips: Sequence[Clip], wanted: str, where: str) -> tuple[NDArray[Any], tuple[str, ...], list[str]]:
    """Return labels, classes and notes; ``wanted`` is the metric's name in lower case, or empty."""
    bare = [clip for clip in clips if not clip.labels]
    if len(bare) == len(clips):
        raise DataError(
            f"{where}: no clip has a label",
            hint="Give the manifest a column 'label' (several labels separated by ';').",
        )
    multi_label = any(len(clip.labels) > 1 for clip in clips)
    if bare and not multi_label:
        raise DataError(
            f"{where}: {len(bare)} of {len(clips)} clips have no label: {listed([clip.path.name for clip in bare])}",
            hint="Label them or take their lines out of the manifest.",
        )
    notes = [f"{len(bare)} clips without any label count as negative for all"] if bare else []
    if wanted in NUMERIC_METRICS:
        return _numeric_labels(clips, where, multi_label=multi_label), ("value",), notes
    classes = tuple(sorted({label for clip in clips for label in clip.labels}))
    if len(classes) < 2:
        raise DataError(f"{where}: all clips have the label {classes[0]!r}", hint="A task needs at least two classes.")
    return _class_labels(clips, classes, multi_label=multi_label), classes, notes


def _numeric_labels(clips: Sequence[Clip], where: str, *, multi_label: bool) -> NDArray[np.float64]:
    """Read labels as numbers, float64 ``[clips]``."""
    if multi_label:
        raise DataError(f"{where}: a clip has several labels, so they are no numbers to predict", hint=NUMBERS_HINT)
    values, wrong = [], []
    for clip in clips:
        try:
            values.append(float(clip.labels[0]))
        except ValueError:
            values.append(float("nan"))
        if not np.isfinite(values[-1]):
            wrong.append(f"{clip.labels[0]!r} of {clip.path.name}")
    if wrong:
        raise DataError(
            f"{where}: {len(wrong)} of {len(clips)} labels are not numbers: {listed(wrong)}", hint=NUMBERS_HINT
        )
    if len(set(values)) < 2:
        raise DataError(f"{where}: all clips have the label {values[0]:g}", hint=NUMBERS_HINT)
    return np.array(values, dtype=np.float64)


def _class_labels(clips: Sequence[Clip], classes: Sequence[str], *, multi_label: bool) -> NDArray[Any]:
    """Return class indices, int64 ``[clips]``, or 0 and 1, float32 ``[clips, classes]``."""
    number = {name: index for index, name in enumerate(classes)}
    if not multi_label:
        return np.array([number[clip.labels[0]] for clip in clips], dtype=np.int64)
    labels = np.zeros((len(clips), len(classes)), dtype=np.float32)
    for row, clip in enumerate(clips):
        labels[row, [number[label] for label in clip.labels]] = 1.0
    return labels


def listed(names: Sequence[str]) -> str:
    """Join the first names, and count the others."""
    rest = len(names) - SHOWN
    return ", ".join(names[:SHOWN]) + (f" and {rest} more" if rest > 0 else "")
