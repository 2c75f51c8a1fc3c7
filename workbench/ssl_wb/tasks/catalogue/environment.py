"""Environmental sounds: ESC-50, ESC-10, UrbanSound8K, FSD50K, EnvSDD."""

from __future__ import annotations

from pathlib import Path

from ssl_wb.errors import DataError
from ssl_wb.tasks.catalogue.description import Row, TaskDescription
from ssl_wb.tasks.catalogue.files import base_of, first_present, in_line, read_table

__all__ = ["TASKS"]


def _esc50(root: Path) -> list[Row]:
    base = base_of(root, "meta/esc50.csv")
    return [
        Row(base / "audio" / row["filename"], (row["category"],), fold=row["fold"])
        for _, row in read_table(base / "meta/esc50.csv", ["filename", "fold", "category"])
    ]


def _esc10(root: Path) -> list[Row]:
    base = base_of(root, "meta/esc50.csv")
    return [
        Row(base / "audio" / row["filename"], (row["category"],), fold=row["fold"])
        for place, row in read_table(base / "meta/esc50.csv", ["filename", "fold", "category", "esc10"])
        if in_line(place, row["esc10"].capitalize(), ("True", "False")) == "True"
    ]


def _urbansound8k(root: Path) -> list[Row]:
    base = base_of(root, "metadata/UrbanSound8K.csv")
    return [
        Row(base / "audio" / f"fold{row['fold']}" / row["slice_file_name"], (row["class"],), fold=row["fold"])
        for _, row in read_table(base / "metadata/UrbanSound8K.csv", ["slice_file_name", "fold", "class"])
    ]


def _fsd50k(root: Path) -> list[Row]:
    base = base_of(root, "FSD50K.ground_truth/dev.csv")
    truth = base / "FSD50K.ground_truth"
    rows = [
        Row(
            base / "FSD50K.dev_audio" / f"{row['fname']}.wav",
            tuple(row["labels"].split(",")),
            in_line(place, row["split"], ("train", "val")),
        )
        for place, row in read_table(truth / "dev.csv", ["fname", "labels", "split"])
    ]
    return rows + [
        Row(base / "FSD50K.eval_audio" / f"{row['fname']}.wav", tuple(row["labels"].split(",")), "test")
        for _, row in read_table(truth / "eval.csv", ["fname", "labels"])
    ]


#: Generators whose fakes of every real clip of the development part are released, by kind.
_ENVSDD_FAKES = ("TTA/audiogen", "TTA/audioldm1", "TTA/audioldm2", "ATA/audioldm1")
#: Lists of test clips that the authors have published, the first found being read.
_ENVSDD_TESTS = ("test_metadata", "test_track1")
#: Folders that may hold their audio.
_ENVSDD_HOMES = ("test", "test_track1")


def _envsdd(root: Path) -> list[Row]:
    base = base_of(root, "metadata/dev_track1.csv")
    development = base / "development"
    rows = []
    # Columns go by position: the header's names are not documented, and the authors' code reads positions too.
    for place, cells in _positions(base / "metadata/dev_track1.csv", 3):
        name, source = cells[0], cells[1]
        part = {"train": "train", "validation": "val"}[in_line(place, cells[-1], ("train", "validation"))]
        rows.append(Row(development / "real_audio" / source / name, ("real",), part))
        rows += [Row(development / "fake_audio" / fake / source / name, ("fake",), part) for fake in _ENVSDD_FAKES]
    found = next((name for name in _ENVSDD_TESTS if (base / f"metadata/{name}.csv").is_file()), None)
    if found is None:
        wanted = " or ".join(f"metadata/{name}.csv" for name in _ENVSDD_TESTS)
        raise DataError(f"{base}: no {wanted}, so there is no test part")
    for _, cells in _positions(base / f"metadata/{found}.csv", 4):
        label = "real" if cells[3] == "real" else "fake"
        rows.append(Row(first_present([base / home / cells[0] for home in _ENVSDD_HOMES]), (label,), "test"))
    return rows


def _positions(path: Path, least: int) -> list[tuple[str, list[str]]]:
    """Cells of every line by position, with the place for messages."""
    table = [(place, list(row.values())) for place, row in read_table(path, [])]
    for place, cells in table:
        if len(cells) < least or None in cells[:least] or not isinstance(cells[-1], str):
            raise DataError(f"{place}: fewer than {least} cells, or more than the header has columns")
    return table


_ESC = "https://github.com/karolpiczak/ESC-50"
_ENVSDD = "https://github.com/apple-yinhan/EnvSDD"

TASKS = (
    TaskDescription(
        name="esc50",
        title="ESC-50: environmental sounds",
        domain="environment",
        metric="accuracy",
        multi_label=False,
        classes=50,
        clip_seconds=5.0,
        division="5 folds, official",
        folds=True,
        homepage=_ESC,
        licence="CC BY-NC 3.0",
        layout=("meta/esc50.csv", "audio/*.wav"),
        rows=_esc50,
        known={"clips": 2000, **{f"fold {fold}": 400 for fold in range(1, 6)}},
    ),
    TaskDescription(
        name="esc10",
        title="ESC-10: the ten-class part of ESC-50",
        domain="environment",
        metric="accuracy",
        multi_label=False,
        classes=10,
        clip_seconds=5.0,
        division="5 folds, official",
        folds=True,
        homepage=_ESC,
        licence="CC BY 3.0",
        layout=("meta/esc50.csv", "audio/*.wav"),
        rows=_esc10,
        known={"clips": 400, **{f"fold {fold}": 80 for fold in range(1, 6)}},
    ),
    TaskDescription(
        name="urbansound8k",
        title="UrbanSound8K: urban sounds",
        domain="environment",
        metric="accuracy",
        multi_label=False,
        classes=10,
        clip_seconds=4.0,
        division="10 folds, official",
        folds=True,
        homepage="https://urbansounddataset.weebly.com/urbansound8k.html",
        licence="CC BY-NC 3.0",
        layout=("metadata/UrbanSound8K.csv", "audio/fold1..fold10/*.wav"),
        rows=_urbansound8k,
        known={
            "clips": 8732,
            **{
                f"fold {fold}": count
                for fold, count in enumerate((873, 888, 925, 990, 936, 823, 838, 806, 816, 837), start=1)
            },
        },
    ),
    TaskDescription(
        name="fsd50k",
        title="FSD50K: sound events",
        domain="environment",
        metric="mAP",
        multi_label=True,
        classes=200,
        clip_seconds=7.6358,
        division="train, val, test; official",
        homepage="https://zenodo.org/records/4060432",
        licence="CC BY 4.0 as a collection; each clip has its own Creative Commons licence",
        layout=(
            "FSD50K.ground_truth/dev.csv and eval.csv",
            "FSD50K.dev_audio/*.wav",
            "FSD50K.eval_audio/*.wav",
        ),
        rows=_fsd50k,
        known={"clips": 51197, "train": 36796, "val": 4170, "test": 10231},
        notes=("the test part is the set's own evaluation part",),
    ),
    TaskDescription(
        name="envsdd",
        title="EnvSDD: real or generated environmental sound",
        domain="environment",
        metric="EER",
        multi_label=False,
        classes=2,
        clip_seconds=4.0,
        division="train, val, test; official",
        homepage=_ENVSDD,
        licence="see the Zenodo records 15220951 (development) and 15241138 (test)",
        layout=(
            "metadata/dev_track1.csv and test_metadata.csv or test_track1.csv (from the GitHub repository)",
            "development/real_audio/SOURCE/*.wav",
            "development/fake_audio/TTA|ATA/GENERATOR/SOURCE/*.wav",
            "test/*.wav (or test_track1/)",
        ),
        rows=_envsdd,
        notes=(
            "labels are real and fake; about one clip in five of the development part is real",
            "layout and column positions follow the authors' scripts, not a description; the test audio is expected "
            "flat in test/, with the clip's name in column 1 and its kind (real, or how it was made) in column 4 of "
            "the list: check both against your download",
            "AudioMosaic reports ATA and TTA, and four test conditions, apart; this is one test part for all",
            "4 s is what the authors' baselines cut to (64,600 samples at 16 kHz)",
        ),
    ),
)
