"""AudioSet: the balanced part (20K), and all of it (2M)."""

from __future__ import annotations

import csv
import re
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from ssl_wb.errors import DataError
from ssl_wb.tasks.catalogue.description import Row, TaskDescription
from ssl_wb.tasks.catalogue.files import base_of, read_lines, read_table, walk_audio

__all__ = ["TASKS"]


def _audioset(root: Path, parts: Sequence[tuple[str, str]]) -> list[Row]:
    """List the segments of ``(CSV file, part)``, each with the file that holds its audio."""
    base = base_of(root, "class_labels_indices.csv")
    names = {
        row["mid"]: row["display_name"]
        for _, row in read_table(base / "class_labels_indices.csv", ["mid", "display_name"])
    }
    files: dict[str, Path] = {}
    for path in walk_audio(base):
        files.setdefault(path.stem, path)
    rows = []
    for name, part in parts:
        for place, segment, labels in _segments(base / name):
            unknown = [label for label in labels if label not in names]
            if unknown:
                raise DataError(f"{place}: class {unknown[0]!r} is not in class_labels_indices.csv")
            found = next((files[stem] for stem in _stems(*segment) if stem in files), base / f"{segment[0]}.wav")
            rows.append(Row(found, tuple(names[label] for label in labels), part))
    return rows


def _segments(path: Path) -> list[tuple[str, tuple[str, float, float], list[str]]]:
    """Segments of a CSV as ``(place, (id, start, end), class ids)``; DataError where some were lost."""
    lines = read_lines(path)
    segments = []
    for place, line in ((f"{path}: line {index}", line) for index, line in enumerate(lines, 1) if line[0] != "#"):
        cells = next(csv.reader([line], skipinitialspace=True))
        try:
            name, start, end, labels = cells
            segments.append((place, (name, float(start), float(end)), labels.split(",")))
        except ValueError:
            raise DataError(f"{place}: is not an id, start, end and classes") from None
    # The header counts the segments itself, so that a file cut short is noticed.
    told = re.search(r"num_segs=(\d+)", "\n".join(line for line in lines[:5] if line[0] == "#"))
    if told and int(told[1]) != len(segments):
        raise DataError(f"{path}: {len(segments)} segments, but its header counts {told[1]}; download it again")
    return segments


def _stems(name: str, start: float, end: float) -> list[str]:
    """File names, without ending, that downloaders in use give a segment."""
    first, last = round(1000 * start), round(1000 * end)
    ends = ["", f"_{first}_{last}", f"_{first}", f"_{start:.3f}_{end:.3f}", f"_{start:.1f}_{end:.1f}"]
    ends += [f"_{start:.0f}_{end:.0f}", f"_{start:.0f}"]
    return [f"{prefix}{name}{ending}" for ending in ends for prefix in ("", "Y")]


_EVAL = ("eval_segments.csv", "test")
_BALANCED = ("balanced_train_segments.csv", "train")
_UNBALANCED = ("unbalanced_train_segments.csv", "train")
_FILES = "audio files anywhere below: ID.wav, YID.wav, ID_START_END.wav (.flac, .ogg, .mp3 as well)"
_NOTES = (
    "videos vanish from YouTube: a download made today misses far more than a tenth, so report how many clips you had "
    "(--allow-missing writes the manifest)",
    "files hold the 10 s segment, not the whole video",
    "there is no validation part; EVAR and AudioMosaic choose on the evaluation part and report it, the workbench "
    "holds out 10 % of train",
)


def _task(name: str, title: str, parts: Sequence[tuple[str, str]], known: dict[str, int]) -> TaskDescription:
    return TaskDescription(
        name=name,
        title=title,
        domain="general",
        metric="mAP",
        multi_label=True,
        classes=527,
        clip_seconds=10.0,
        division="train, test; official",
        homepage="https://research.google.com/audioset/download.html",
        licence="annotations CC BY 4.0; the audio belongs to the owners of the videos",
        layout=("class_labels_indices.csv", *(file for file, _ in parts), _FILES),
        rows=partial(_audioset, parts=parts),
        known=known,
        notes=_NOTES,
    )


TASKS = (
    _task(
        "audioset20k",
        "AudioSet 20K: sound events, balanced training part",
        (_BALANCED, _EVAL),
        {"clips": 42531, "train": 22160, "test": 20371},
    ),
    _task(
        "audioset2m",
        "AudioSet 2M: sound events, all training clips",
        (_BALANCED, _UNBALANCED, _EVAL),
        {"clips": 2084320, "train": 2063949, "test": 20371},
    ),
)
