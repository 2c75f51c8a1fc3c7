"""Music: GTZAN, NSynth, Surge, OpenMIC, MagnaTagATune; MTG-Jamendo is in ``jamendo``."""

from __future__ import annotations

import json
import re
from collections import defaultdict
from functools import partial
from pathlib import Path
from typing import Any

from ssl_wb.errors import DataError
from ssl_wb.tasks.catalogue.description import Row, TaskDescription
from ssl_wb.tasks.catalogue.files import (
    base_of,
    first_present,
    part_of_group,
    read_lines,
    read_table,
    walk_audio,
)
from ssl_wb.tasks.catalogue.jamendo import TASKS as JAMENDO

__all__ = ["TASKS"]

_GTZAN_LISTS = "https://github.com/coreyker/dnn-mgr/tree/master/gtzan"


def _gtzan(root: Path) -> list[Row]:
    """Tracks of the fault-filtered lists, whose lines read ``blues/blues.00029.wav``."""
    lists = {"train": "train_filtered.txt", "val": "valid_filtered.txt", "test": "test_filtered.txt"}
    absent = [name for name in lists.values() if not (root / name).is_file()]
    if absent:
        raise DataError(
            f"{root}: no {', '.join(absent)}",
            hint=f"The fault-filtered split is not part of GTZAN: put its three lists there, from {_GTZAN_LISTS}",
        )
    homes = [
        folder for name in ("genres_original", "genres", "Data/genres_original") if (folder := root / name).is_dir()
    ]
    rows = []
    for part, name in lists.items():
        for line in read_lines(root / name):
            # The original archive holds .au files, the usual copy .wav; the lists say .wav.
            tracks = [Path(line), Path(line).with_suffix(".au")]
            found = first_present([home / track for home in (*homes, root) for track in tracks])
            rows.append(Row(found, (line.partition("/")[0],), part))
    return rows


def _nsynth(root: Path, key: str) -> list[Row]:
    """Notes of the three ``examples.json``, labelled with one of their entries."""
    base = base_of(root, "nsynth-test/examples.json")
    rows = []
    for part, folder in (("train", "nsynth-train"), ("val", "nsynth-valid"), ("test", "nsynth-test")):
        path = base / folder / "examples.json"
        for note, entries in _json(path).items():
            if not isinstance(entries, dict) or key not in entries:
                raise DataError(f"{path}: {note}: no {key!r}")
            rows.append(Row(base / folder / "audio" / f"{note}.wav", (str(entries[key]),), part))
    return rows


def _json(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise DataError(f"{path}: no such file") from None
    except (OSError, ValueError) as failure:
        raise DataError(f"{path}: cannot be read as JSON ({failure})") from None
    if not isinstance(value, dict):
        raise DataError(f"{path}: is not a table of notes")
    return value


#: A pitch in a file's name: marked as such, or all of the name.
_PITCH = re.compile(r"(?:midi|note|pitch)[^0-9]{0,3}(\d{1,3})(?!\d)|^(\d{1,3})$", re.IGNORECASE)


def _surge(root: Path) -> list[Row]:
    """Sounds by the pitch in their names; a preset's sounds all land in one part."""
    rows, unread = [], []
    for path in walk_audio(root):
        match = _PITCH.search(path.stem)
        pitch = int(match[1] or match[2]) if match else -1
        if match is None or not 21 <= pitch <= 108:
            unread.append(path.relative_to(root).as_posix())
            continue
        place = match.span(1) if match[1] else match.span(2)
        preset = path.parent.relative_to(root) / (path.stem[: place[0]] + path.stem[place[1] :])
        rows.append(Row(path, (str(pitch),), part_of_group(preset.as_posix())))
    if unread:
        raise DataError(
            f"{root}: no MIDI pitch of 21 to 108 in {len(unread)} file names, as in {', '.join(unread[:3])}",
            hint="A pitch is the number after 'midi', 'note' or 'pitch', or the whole name. Otherwise write the "
            "manifest yourself: path, label (the pitch) and split.",
        )
    return rows


def _openmic(root: Path) -> list[Row]:
    """Clips of both partitions, with the instruments of relevance 0.5 and above."""
    base = base_of(root, "openmic-2018-aggregated-labels.csv")
    labels: dict[str, list[str]] = defaultdict(list)
    columns = ["sample_key", "instrument", "relevance"]
    for place, row in read_table(base / "openmic-2018-aggregated-labels.csv", columns):
        try:
            relevance = float(row["relevance"])
        except ValueError:
            raise DataError(f"{place}: relevance {row['relevance']!r} is not a number") from None
        if relevance >= 0.5:
            labels[row["sample_key"]].append(row["instrument"])
    return [
        Row(base / "audio" / key[:3] / f"{key}.ogg", tuple(labels[key]), part)
        for part in ("train", "test")
        for key in read_lines(base / f"partitions/split01_{part}.csv")
        if key != "sample_key"
    ]


#: Part of each of MagnaTagATune's sixteen folders of audio.
_MTT_PARTS = {folder: "train" if folder < "c" else "val" if folder == "c" else "test" for folder in "0123456789abcdef"}


def _magnatagatune(root: Path) -> list[Row]:
    """Clips with those of their tags that are among the fifty most frequent."""
    base = base_of(root, "annotations_final.csv")
    table = list(read_table(base / "annotations_final.csv", ["clip_id", "mp3_path"], delimiter="\t"))
    tags = [name for name in (table[0][1] if table else {}) if name not in ("clip_id", "mp3_path")]
    counts = {tag: sum(row[tag] == "1" for _, row in table) for tag in tags}
    top = sorted(tags, key=lambda tag: (-counts[tag], tag))[:50]
    # The archive of audio comes in pieces that unpack to 0..9 and a..f, beside the annotations or in a folder.
    home = next((base / name for name in ("mp3", "audio") if (base / name).is_dir()), base)
    rows = []
    for place, row in table:
        folder = row["mp3_path"].partition("/")[0]
        if folder not in _MTT_PARTS:
            raise DataError(f"{place}: {row['mp3_path']!r} is not in one of the folders 0 to 9 and a to f")
        found = tuple(tag for tag in top if row[tag] == "1")
        rows.append(Row(home / row["mp3_path"], found, _MTT_PARTS[folder]))
    return rows


_NSYNTH_LAYOUT = tuple(f"nsynth-{part}/examples.json and audio/*.wav" for part in ("train", "valid", "test"))
_NSYNTH_KNOWN = {"clips": 305979, "train": 289205, "val": 12678, "test": 4096}
_NSYNTH_HOME = "https://magenta.tensorflow.org/datasets/nsynth"

TASKS = (
    TaskDescription(
        name="gtzan",
        title="GTZAN: musical genre, fault-filtered",
        domain="music",
        metric="accuracy",
        multi_label=False,
        classes=10,
        clip_seconds=30.0,
        division="train, val, test; fault-filtered lists",
        homepage=_GTZAN_LISTS,
        licence="none stated",
        layout=(
            "genres_original/GENRE/*.wav (or genres/GENRE/*.au)",
            "train_filtered.txt, valid_filtered.txt, test_filtered.txt",
        ),
        rows=_gtzan,
        known={"clips": 930, "train": 443, "val": 197, "test": 290},
        notes=(
            f"the lists (Kereliuk, Sturm, Larsen 2015) are not part of GTZAN: {_GTZAN_LISTS}",
            "jazz.00054.wav of the usual copy cannot be decoded; take it out of the manifest, or use the .au files",
        ),
    ),
    TaskDescription(
        name="nsynth-family",
        title="NSynth: instrument family of a note",
        domain="music",
        metric="accuracy",
        multi_label=False,
        classes=11,
        clip_seconds=4.0,
        division="train, val, test; official",
        homepage=_NSYNTH_HOME,
        licence="CC BY 4.0",
        layout=_NSYNTH_LAYOUT,
        rows=partial(_nsynth, key="instrument_family_str"),
        known=_NSYNTH_KNOWN,
        notes=("no instrument of train is in val or test; one family, synth_lead, is in train only",),
    ),
    TaskDescription(
        name="nsynth-pitch",
        title="NSynth: MIDI pitch of a note",
        domain="music",
        metric="accuracy",
        multi_label=False,
        clip_seconds=4.0,
        division="train, val, test; official",
        homepage=_NSYNTH_HOME,
        licence="CC BY 4.0",
        layout=_NSYNTH_LAYOUT,
        rows=partial(_nsynth, key="pitch"),
        known=_NSYNTH_KNOWN,
        notes=("the label is the MIDI number, so that the same manifest serves classification and regression",),
    ),
    TaskDescription(
        name="surge",
        title="Pitch Audio Dataset (Surge synthesizer): MIDI pitch",
        domain="music",
        metric="accuracy",
        multi_label=False,
        classes=88,
        clip_seconds=4.0,
        division="train, val, test by preset; ours",
        homepage="https://zenodo.org/records/4677097",
        licence="see the Zenodo record",
        layout=("audio files anywhere below, with the MIDI pitch in the name",),
        rows=_surge,
        notes=(
            "names of the files in the archive could not be checked: a pitch is read from the number after 'midi', "
            "'note' or 'pitch', or from a name that is a number; anything else is refused, not guessed",
            "there is no official split: each preset (folder and name without the pitch) goes to train (8 of 10), val "
            "or test by a digest of its name; numbers are not those of EVAR's own list",
        ),
    ),
    TaskDescription(
        name="openmic",
        title="OpenMIC-2018: instruments heard",
        domain="music",
        metric="mAP",
        multi_label=True,
        classes=20,
        clip_seconds=10.0,
        division="train, test; official",
        homepage="https://zenodo.org/records/1432913",
        licence="CC BY 4.0",
        layout=(
            "openmic-2018-aggregated-labels.csv",
            "partitions/split01_train.csv and split01_test.csv",
            "audio/000/*.ogg",
        ),
        rows=_openmic,
        known={"clips": 20000, "train": 14915, "test": 5085},
        notes=(
            "instruments of relevance 0.5 and above are labels; an instrument that nobody was asked about counts as "
            "absent, while published numbers leave such pairs out: compare encoders here, not with those numbers",
            "clips are 10 s long; the length is not from METHODS",
        ),
    ),
    TaskDescription(
        name="magnatagatune",
        title="MagnaTagATune: the 50 most frequent tags",
        domain="music",
        metric="mAP",
        multi_label=True,
        classes=50,
        clip_seconds=29.0,
        division="train, val, test by folder (0-b, c, d-f)",
        homepage="https://mirg.city.ac.uk/codeapps/the-magnatagatune-dataset",
        licence="see the homepage",
        layout=("annotations_final.csv", "0..9, a..f/*.mp3, here or in mp3/"),
        rows=_magnatagatune,
        known={"clips": 25863},
        notes=(
            "three files of the archive are empty and are left out",
            "clips with none of the 50 tags are kept, as negatives; some papers drop them",
            "synonymous tags are not merged; tags are counted over all parts",
            "clips are 29 s long; the length is not from METHODS",
        ),
    ),
    *JAMENDO,
)
