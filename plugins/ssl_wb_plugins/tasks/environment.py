"""Environmental sounds: ESC-50, ESC-10, UrbanSound8K, FSD50K, EnvSDD."""

from __future__ import annotations

import re
from pathlib import Path

from ssl_wb.api import DataError, Task, TaskRow, check_cell, dataset_folder, first_existing, hookimpl, read_table


class Esc50(Task):
    """ESC-50: 2,000 clips of 50 classes of environmental sounds, in five official folds."""

    name = "esc50"
    reference = "Piczak, ESC: Dataset for Environmental Sound Classification, ACM MM 2015"
    title = "ESC-50: environmental sounds"
    domain = "environment"
    metric = "accuracy"
    classes = 50
    clip_seconds = 5.0
    division = "5 folds, official"
    folds = True
    homepage = "https://github.com/karolpiczak/ESC-50"
    licence = "CC BY-NC 3.0"
    layout = ("meta/esc50.csv", "audio/*.wav")
    known = {"clips": 2000, **{f"fold {fold}": 400 for fold in range(1, 6)}}

    @classmethod
    def recording_of(cls, name: str) -> str | None:
        """Return the Freesound clip: a name is FOLD-FREESOUND-TAKE-TARGET, as in 1-100032-A-0.wav."""
        found = re.match(r"\d-(\d+)-[A-Z]\b", name)
        return found[1] if found else None

    def rows(self, root: Path) -> list[TaskRow]:
        """List the clips of ``meta/esc50.csv``."""
        base = dataset_folder(root, "meta/esc50.csv")
        return [
            TaskRow(base / "audio" / row["filename"], (row["category"],), fold=row["fold"])
            for _, row in read_table(base / "meta/esc50.csv", ["filename", "fold", "category"])
        ]


class Esc10(Esc50):
    """ESC-10: the 400 clips of ESC-50 that are of ten easily told classes, in the same five folds."""

    name = "esc10"
    title = "ESC-10: the ten-class part of ESC-50"
    classes = 10
    licence = "CC BY 3.0"
    known = {"clips": 400, **{f"fold {fold}": 80 for fold in range(1, 6)}}

    def rows(self, root: Path) -> list[TaskRow]:
        """List the clips of ``meta/esc50.csv`` that the column ``esc10`` marks."""
        table = dataset_folder(root, "meta/esc50.csv") / "meta/esc50.csv"
        marked = [
            check_cell(place, row["esc10"].capitalize(), ("True", "False")) == "True"
            for place, row in read_table(table, ["esc10"])
        ]
        return [row for row, keep in zip(super().rows(root), marked, strict=True) if keep]


class UrbanSound8k(Task):
    """UrbanSound8K: 8,732 clips of ten classes of urban sounds, in ten official folds."""

    name = "urbansound8k"
    reference = "Salamon et al., A Dataset and Taxonomy for Urban Sound Research, ACM MM 2014"
    title = "UrbanSound8K: urban sounds"
    domain = "environment"
    metric = "accuracy"
    classes = 10
    clip_seconds = 4.0
    division = "10 folds, official"
    folds = True
    homepage = "https://urbansounddataset.weebly.com/urbansound8k.html"
    licence = "CC BY-NC 3.0"
    layout = ("metadata/UrbanSound8K.csv", "audio/fold1..fold10/*.wav")
    _fold_sizes = (873, 888, 925, 990, 936, 823, 838, 806, 816, 837)
    known = {"clips": 8732, **{f"fold {fold}": count for fold, count in enumerate(_fold_sizes, start=1)}}

    @classmethod
    def recording_of(cls, name: str) -> str | None:
        """Return the Freesound recording: a name is FREESOUND-CLASS-OCCURRENCE-SLICE, as in 100032-3-0-0.wav."""
        found = re.match(r"(\d+)-\d+-\d+-\d+\b", name)
        return found[1] if found else None

    def rows(self, root: Path) -> list[TaskRow]:
        """List the clips of ``metadata/UrbanSound8K.csv``; each fold has a folder."""
        base = dataset_folder(root, "metadata/UrbanSound8K.csv")
        return [
            TaskRow(base / "audio" / f"fold{row['fold']}" / row["slice_file_name"], (row["class"],), fold=row["fold"])
            for _, row in read_table(base / "metadata/UrbanSound8K.csv", ["slice_file_name", "fold", "class"])
        ]


class Fsd50k(Task):
    """FSD50K: 51,197 clips of Freesound with labels of 200 classes of the AudioSet ontology."""

    name = "fsd50k"
    reference = "Fonseca et al., FSD50K: An Open Dataset of Human-Labeled Sound Events, TASLP 2022"
    title = "FSD50K: sound events"
    domain = "environment"
    metric = "mAP"
    multi_label = True
    classes = 200
    clip_seconds = 7.6358
    division = "train, val, test; official"
    homepage = "https://zenodo.org/records/4060432"
    licence = "CC BY 4.0 as a collection; each clip has its own Creative Commons licence"
    layout = ("FSD50K.ground_truth/dev.csv and eval.csv", "FSD50K.dev_audio/*.wav", "FSD50K.eval_audio/*.wav")
    known = {"clips": 51197, "train": 36796, "val": 4170, "test": 10231}
    notes = ("the test part is the set's own evaluation part",)

    def rows(self, root: Path) -> list[TaskRow]:
        """List the development clips (train and val), then the evaluation clips (test)."""
        base = dataset_folder(root, "FSD50K.ground_truth/dev.csv")
        rows = []
        for folder, columns in (("dev", ["fname", "labels", "split"]), ("eval", ["fname", "labels"])):
            for place, row in read_table(base / f"FSD50K.ground_truth/{folder}.csv", columns):
                path = base / f"FSD50K.{folder}_audio" / f"{row['fname']}.wav"
                part = check_cell(place, row["split"], ("train", "val")) if folder == "dev" else "test"
                rows.append(TaskRow(path, tuple(row["labels"].split(",")), part))
        return rows


class EnvSdd(Task):
    """EnvSDD: environmental sounds that are either real or generated (deepfakes)."""

    name = "envsdd"
    reference = "Yin et al., EnvSDD: Benchmarking Environmental Sound Deepfake Detection, Interspeech 2025"
    title = "EnvSDD: real or generated environmental sound"
    domain = "environment"
    metric = "EER"
    classes = 2
    clip_seconds = 4.0
    division = "train, val, test; official"
    homepage = "https://github.com/apple-yinhan/EnvSDD"
    licence = "see the Zenodo records 15220951 (development) and 15241138 (test)"
    layout = (
        "metadata/dev_track1.csv and test_metadata.csv or test_track1.csv (from the GitHub repository)",
        "development/real_audio/SOURCE/*.wav",
        "development/fake_audio/TTA|ATA/GENERATOR/SOURCE/*.wav",
        "test/*.wav (or test_track1/)",
    )
    notes = (
        "labels are real and fake; about one clip in five of the development part is real",
        "layout and column positions follow the authors' scripts, not a description; the test audio is expected "
        "flat in test/, with the clip's name in column 1 and its kind (real, or how it was made) in column 4 of "
        "the list: check both against your download",
        "AudioMosaic reports ATA and TTA, and four test conditions, apart; this is one test part for all",
        "4 s is what the authors' baselines cut to (64,600 samples at 16 kHz)",
    )
    #: Generators of the development part: each made a fake of every real clip (text or audio to audio).
    generators = ("TTA/audiogen", "TTA/audioldm1", "TTA/audioldm2", "ATA/audioldm1")

    def rows(self, root: Path) -> list[TaskRow]:
        """List each real development clip with its fakes, then the test clips of the first list that exists."""
        base = dataset_folder(root, "metadata/dev_track1.csv")
        real, fake = base / "development/real_audio", base / "development/fake_audio"
        rows = []
        # Columns go by position: the header's names are not documented, and the authors' code reads positions too.
        for place, cells in _cells_of(base / "metadata/dev_track1.csv", 3):
            clip = Path(cells[1], cells[0])
            part = {"train": "train", "validation": "val"}[check_cell(place, cells[-1], ("train", "validation"))]
            rows.append(TaskRow(real / clip, ("real",), part))
            rows += [TaskRow(fake / generator / clip, ("fake",), part) for generator in self.generators]
        lists = [f"metadata/{name}.csv" for name in ("test_metadata", "test_track1")]
        found = first_existing([base / name for name in lists])
        if not found.is_file():
            raise DataError(f"{base}: no {' or '.join(lists)}, so there is no test part")
        for _, cells in _cells_of(found, 4):
            path = first_existing([base / folder / cells[0] for folder in ("test", "test_track1")])
            rows.append(TaskRow(path, ("real" if cells[3] == "real" else "fake",), "test"))
        return rows


def _cells_of(path: Path, least: int) -> list[tuple[str, list[str]]]:
    """Return the cells of every line by position, with the place for messages."""
    table = [(place, list(row.values())) for place, row in read_table(path, [])]
    for place, cells in table:
        # csv.DictReader puts None for cells that are missing, and a list for those beyond the header.
        if len(cells) < least or None in cells[:least] or not isinstance(cells[-1], str):
            raise DataError(f"{place}: fewer than {least} cells, or more than the header has columns")
    return table


@hookimpl
def ssl_wb_tasks() -> list[type[Task]]:
    """Register the tasks of this file."""
    return [Esc50, Esc10, UrbanSound8k, Fsd50k, EnvSdd]
