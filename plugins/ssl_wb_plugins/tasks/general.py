"""Sounds of every kind: AudioSet, its balanced part (20K) and all of it (2M)."""

from __future__ import annotations

import csv
import re
from pathlib import Path
from typing import ClassVar

from ssl_wb.api import DataError, Task, TaskRow, dataset_folder, hookimpl, read_lines, read_table, walk_audio

_EVAL, _BALANCED, _UNBALANCED = (f"{name}_segments.csv" for name in ("eval", "balanced_train", "unbalanced_train"))
_AUDIO = "audio files anywhere below: ID.wav, YID.wav, ID_START_END.wav (.flac, .ogg, .mp3 as well)"


class AudioSet20k(Task):
    """AudioSet: ten-second segments of videos with labels of 527 classes; trained on the balanced part."""

    name = "audioset20k"
    reference = "Gemmeke et al., Audio Set: An ontology and human-labeled dataset for audio events, ICASSP 2017"
    title = "AudioSet 20K: sound events, balanced training part"
    domain = "general"
    metric = "mAP"
    multi_label = True
    classes = 527
    clip_seconds = 10.0
    division = "train, test; official"
    homepage = "https://research.google.com/audioset/download.html"
    licence = "annotations CC BY 4.0; the audio belongs to the owners of the videos"
    layout: ClassVar[tuple[str, ...]] = ("class_labels_indices.csv", _BALANCED, _EVAL, _AUDIO)
    known = {"clips": 42531, "train": 22160, "test": 20371}
    notes = (
        "videos vanish from YouTube: a download made today misses far more than a tenth, so report how many clips you "
        "had (--allow-missing writes the manifest)",
        "files hold the 10 s segment, not the whole video",
        "there is no validation part; EVAR and AudioMosaic choose on the evaluation part and report it, the workbench "
        "holds out 10 % of train",
    )
    #: CSV files of training segments.
    train_lists: ClassVar[tuple[str, ...]] = (_BALANCED,)

    def rows(self, root: Path) -> list[TaskRow]:
        """List the segments of the CSV files, each with the file that holds its audio."""
        base = dataset_folder(root, "class_labels_indices.csv")
        classes = read_table(base / "class_labels_indices.csv", ["mid", "display_name"])
        names = {row["mid"]: row["display_name"] for _, row in classes}
        files: dict[str, Path] = {}
        for path in walk_audio(base):
            files.setdefault(path.stem, path)
        rows = []
        for name, part in (*((name, "train") for name in self.train_lists), (_EVAL, "test")):
            for place, segment, labels in _segments(base / name):
                unknown = [label for label in labels if label not in names]
                if unknown:
                    raise DataError(f"{place}: class {unknown[0]!r} is not in class_labels_indices.csv")
                found = next((files[stem] for stem in _stems(*segment) if stem in files), base / f"{segment[0]}.wav")
                rows.append(TaskRow(found, tuple(names[label] for label in labels), part))
        return rows


class AudioSet2m(AudioSet20k):
    """AudioSet: ten-second segments of videos with labels of 527 classes; trained on all two million of them."""

    name = "audioset2m"
    title = "AudioSet 2M: sound events, all training clips"
    layout = ("class_labels_indices.csv", _BALANCED, _UNBALANCED, _EVAL, _AUDIO)
    known = {"clips": 2084320, "train": 2063949, "test": 20371}
    train_lists = (_BALANCED, _UNBALANCED)


def _segments(path: Path) -> list[tuple[str, tuple[str, float, float], list[str]]]:
    """Return the segments of a CSV as ``(place, (id, start, end), class ids)``; DataError if some were lost."""
    lines = read_lines(path)
    segments = []
    for number, line in enumerate(lines, 1):
        if line.startswith("#"):
            continue
        place = f"{path}: line {number}"
        # Not a regular table: a blank follows each comma, and the class ids are one quoted cell.
        cells = next(csv.reader([line], skipinitialspace=True))
        try:
            name, start, end, labels = cells
            segments.append((place, (name, float(start), float(end)), labels.split(",")))
        except ValueError:
            raise DataError(f"{place}: is not an id, start, end and classes") from None
    # The header counts the segments itself: a file cut short is noticed.
    count = re.search(r"num_segs=(\d+)", "\n".join(line for line in lines[:5] if line.startswith("#")))
    if count and int(count[1]) != len(segments):
        raise DataError(f"{path}: {len(segments)} segments, but its header counts {count[1]}; download it again")
    return segments


def _stems(name: str, start: float, end: float) -> list[str]:
    """Return the file names, without ending, that common download tools give a segment."""
    first, last = round(1000 * start), round(1000 * end)
    endings = ["", f"_{first}_{last}", f"_{first}", f"_{start:.3f}_{end:.3f}", f"_{start:.1f}_{end:.1f}"]
    endings += [f"_{start:.0f}_{end:.0f}", f"_{start:.0f}"]
    return [f"{prefix}{name}{ending}" for ending in endings for prefix in ("", "Y")]


@hookimpl
def ssl_wb_tasks() -> list[type[Task]]:
    """Register the tasks of this file."""
    return [AudioSet20k, AudioSet2m]
