"""MTG-Jamendo: tags of full tracks, in four sets of tags."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from ssl_wb.errors import DataError
from ssl_wb.tasks.catalogue.description import Row, TaskDescription
from ssl_wb.tasks.catalogue.files import base_of, first_present, read_lines

__all__ = ["TASKS"]

#: Seconds taken from the middle of a track.
SECONDS = 30.0


def _jamendo(root: Path, tags: str) -> list[Row]:
    """Tracks of split 0, the middle of each."""
    base = base_of(root, "data/splits/split-0")
    homes = [folder for name in ("audio", "raw_30s/audio", "raw_30s") if (folder := base / name).is_dir()]
    rows = []
    for part, name in (("train", "train"), ("val", "validation"), ("test", "test")):
        path = base / f"data/splits/split-0/autotagging_{tags}-{name}.tsv"
        # Not a regular table: every tag is a cell of its own, beyond the header's columns.
        for number, line in enumerate(read_lines(path), 1):
            if number == 1:
                continue
            track, duration, labels = _cells(line, f"{path}: line {number}")
            files = [home / file for home in (*homes, base) for file in (track, track.with_suffix(".low.mp3"))]
            start = max(0.0, round((duration - SECONDS) / 2, 1))
            rows.append(Row(first_present(files), labels, part, start=start, duration=min(SECONDS, duration)))
    return rows


def _cells(line: str, place: str) -> tuple[Path, float, tuple[str, ...]]:
    """Path, seconds and tags of ``TRACK ARTIST ALBUM PATH DURATION TAG...``."""
    cells = line.split("\t")
    try:
        seconds = float(cells[4])
    except (IndexError, ValueError):
        raise DataError(f"{place}: is not track, artist, album, path, duration and tags") from None
    # genre---rock and mood/theme---film: the category is needed, as a word may stand in two of them.
    return Path(cells[3]), seconds, tuple(tag for tag in cells[5:] if tag)


def _task(name: str, tags: str, what: str, classes: int, known: dict[str, int]) -> TaskDescription:
    return TaskDescription(
        name=name,
        title=f"MTG-Jamendo: {what}",
        domain="music",
        metric="mAP",
        multi_label=True,
        classes=classes,
        clip_seconds=SECONDS,
        division="train, val, test; official split-0",
        homepage="https://github.com/MTG/mtg-jamendo-dataset",
        licence="metadata CC BY-NC-SA 4.0; each track has its own Creative Commons licence",
        layout=(
            f"data/splits/split-0/autotagging_{tags}-*.tsv (the repository)",
            "audio/00..99/*.mp3 (or *.low.mp3), or raw_30s/audio/",
        ),
        rows=partial(_jamendo, tags=tags),
        stretches=True,
        known=known,
        notes=(
            "tracks are minutes long: the manifest takes the middle 30 s (columns start and duration), which is a "
            "choice made here",
        ),
    )


TASKS = (
    _task(
        "mtg-jamendo-top50",
        "top50tags",
        "the 50 most frequent tags",
        50,
        {"clips": 54380},
    ),
    _task("mtg-jamendo-genre", "genre", "87 genres", 87, {}),
    _task("mtg-jamendo-instrument", "instrument", "40 instruments", 40, {}),
    _task(
        "mtg-jamendo-moodtheme",
        "moodtheme",
        "56 moods and themes",
        56,
        {"clips": 17982, "train": 9949, "val": 3802, "test": 4231},
    ),
)
