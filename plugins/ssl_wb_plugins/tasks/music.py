"""Music: GTZAN, NSynth, Surge, OpenMIC, MagnaTagATune, MTG-Jamendo."""

from __future__ import annotations

import re
from collections import defaultdict
from pathlib import Path
from typing import ClassVar

from ssl_wb.api import (
    DataError,
    Task,
    TaskRow,
    dataset_folder,
    first_existing,
    hookimpl,
    part_of_group,
    read_json,
    read_lines,
    read_table,
    walk_audio,
)

_GTZAN_LISTS = "https://github.com/coreyker/dnn-mgr/tree/master/gtzan"


class Gtzan(Task):
    """GTZAN: 930 tracks of ten genres of music, without the repeated and mislabelled ones of the full thousand."""

    name = "gtzan"
    reference = "Tzanetakis, Cook, TSAP 2002; split of Kereliuk, Sturm, Larsen, IEEE TMM 2015"
    title = "GTZAN: musical genre, fault-filtered"
    domain = "music"
    metric = "accuracy"
    classes = 10
    clip_seconds = 30.0
    division = "train, val, test; fault-filtered lists"
    homepage = _GTZAN_LISTS
    licence = "none stated"
    layout = (
        "genres_original/GENRE/*.wav (or genres/GENRE/*.au)",
        "train_filtered.txt, valid_filtered.txt, test_filtered.txt",
    )
    known = {"clips": 930, "train": 443, "val": 197, "test": 290}
    notes = (
        f"the lists (Kereliuk, Sturm, Larsen 2015) are not part of GTZAN: {_GTZAN_LISTS}",
        "jazz.00054.wav of the usual copy cannot be decoded; take it out of the manifest, or use the .au files",
    )

    def rows(self, root: Path) -> list[TaskRow]:
        """List the tracks of the fault-filtered lists, whose lines read ``blues/blues.00029.wav``."""
        lists = {"train": "train_filtered.txt", "val": "valid_filtered.txt", "test": "test_filtered.txt"}
        absent = [name for name in lists.values() if not (root / name).is_file()]
        if absent:
            raise DataError(
                f"{root}: no {', '.join(absent)}",
                hint=f"The fault-filtered split is not part of GTZAN: put its three lists there, from {_GTZAN_LISTS}",
            )
        names = ("genres_original", "genres", "Data/genres_original")
        folders = [*(folder for name in names if (folder := root / name).is_dir()), root]
        rows = []
        for part, name in lists.items():
            for line in read_lines(root / name):
                # The original archive holds .au files, the usual copy .wav; the lists say .wav.
                tracks = [Path(line), Path(line).with_suffix(".au")]
                found = first_existing([folder / track for folder in folders for track in tracks])
                rows.append(TaskRow(found, (line.partition("/")[0],), part))
        return rows


class NsynthFamily(Task):
    """NSynth: 305,979 notes of instruments of eleven families; no instrument of train is in val or test."""

    name = "nsynth-family"
    reference = "Engel et al., Neural Audio Synthesis of Musical Notes with WaveNet Autoencoders, ICML 2017"
    title = "NSynth: instrument family of a note"
    domain = "music"
    metric = "accuracy"
    classes: ClassVar[int | None] = 11
    clip_seconds = 4.0
    division = "train, val, test; official"
    homepage = "https://magenta.tensorflow.org/datasets/nsynth"
    licence = "CC BY 4.0"
    layout = tuple(f"nsynth-{part}/examples.json and audio/*.wav" for part in ("train", "valid", "test"))
    known = {"clips": 305979, "train": 289205, "val": 12678, "test": 4096}
    notes = ("no instrument of train is in val or test; one family, synth_lead, is in train only",)
    #: Entry of a note in ``examples.json`` that is its label.
    entry = "instrument_family_str"

    def rows(self, root: Path) -> list[TaskRow]:
        """List the notes of the three ``examples.json``."""
        base = dataset_folder(root, "nsynth-test/examples.json")
        rows = []
        for part, folder in (("train", "nsynth-train"), ("val", "nsynth-valid"), ("test", "nsynth-test")):
            path = base / folder / "examples.json"
            for note, entries in read_json(path).items():
                if not isinstance(entries, dict) or self.entry not in entries:
                    raise DataError(f"{path}: {note}: no {self.entry!r}")
                rows.append(TaskRow(base / folder / "audio" / f"{note}.wav", (str(entries[self.entry]),), part))
        return rows


class NsynthPitch(NsynthFamily):
    """NSynth: 305,979 notes of instruments, labelled with their MIDI pitch."""

    name = "nsynth-pitch"
    title = "NSynth: MIDI pitch of a note"
    classes = None
    notes = ("the label is the MIDI number, so that the same manifest serves classification and regression",)
    entry = "pitch"


class Surge(Task):
    """Pitch Audio Dataset: sounds of presets of the Surge synthesizer at 88 pitches, split by preset."""

    name = "surge"
    reference = "Turian et al., One Billion Audio Sounds from GPU-enabled Modular Synthesis, DAFx 2021"
    title = "Pitch Audio Dataset (Surge synthesizer): MIDI pitch"
    domain = "music"
    metric = "accuracy"
    classes = 88
    clip_seconds = 4.0
    division = "train, val, test by preset; ours"
    homepage = "https://zenodo.org/records/4677097"
    licence = "see the Zenodo record"
    layout = ("audio files anywhere below, with the MIDI pitch in the name",)
    notes = (
        "names of the files in the archive could not be checked: a pitch is read from the number after 'midi', "
        "'note' or 'pitch', or from a name that is a number; anything else is refused, not guessed",
        "there is no official split: each preset (folder and name without the pitch) goes to train (8 of 10), val "
        "or test by a digest of its name; numbers are not those of EVAR's own list",
    )

    def rows(self, root: Path) -> list[TaskRow]:
        """List all sounds; the pitch is in the name, and the rest of the path is the preset."""
        rows, unread = [], []
        for path in walk_audio(root):
            match = re.search(r"(?:midi|note|pitch)[^0-9]{0,3}(\d{1,3})(?!\d)|^(\d{1,3})$", path.stem, re.IGNORECASE)
            pitch = int(match[1] or match[2]) if match else -1
            if match is None or not 21 <= pitch <= 108:  # the keys of a piano
                unread.append(path.relative_to(root).as_posix())
                continue
            start, end = match.span(1) if match[1] else match.span(2)
            preset = path.parent.relative_to(root) / (path.stem[:start] + path.stem[end:])
            rows.append(TaskRow(path, (str(pitch),), part_of_group(preset.as_posix())))
        if unread:
            raise DataError(
                f"{root}: no MIDI pitch of 21 to 108 in {len(unread)} file names, as in {', '.join(unread[:3])}",
                hint="A pitch is the number after 'midi', 'note' or 'pitch', or the whole name. Otherwise write the "
                "manifest yourself: path, label (the pitch) and split.",
            )
        return rows


class OpenMic(Task):
    """OpenMIC-2018: 20,000 ten-second clips of music, labelled with the instruments heard, of twenty."""

    name = "openmic"
    reference = "Humphrey et al., OpenMIC-2018: An Open Dataset for Multiple Instrument Recognition, ISMIR 2018"
    title = "OpenMIC-2018: instruments heard"
    domain = "music"
    metric = "mAP"
    multi_label = True
    classes = 20
    clip_seconds = 10.0
    division = "train, test; official"
    homepage = "https://zenodo.org/records/1432913"
    licence = "CC BY 4.0"
    layout = (
        "openmic-2018-aggregated-labels.csv",
        "partitions/split01_train.csv and split01_test.csv",
        "audio/000/*.ogg",
    )
    known = {"clips": 20000, "train": 14915, "test": 5085}
    notes = (
        "instruments of relevance 0.5 and above are labels; an instrument that nobody was asked about counts as "
        "absent, while published numbers leave such pairs out: compare encoders here, not with those numbers",
        "10 s is the length of the clips, not one of a published protocol",
    )

    def rows(self, root: Path) -> list[TaskRow]:
        """List the clips of both partitions, with the instruments of relevance 0.5 and above."""
        base = dataset_folder(root, "openmic-2018-aggregated-labels.csv")
        table = base / "openmic-2018-aggregated-labels.csv"
        labels: dict[str, list[str]] = defaultdict(list)
        for place, row in read_table(table, ["sample_key", "instrument", "relevance"]):
            try:
                relevance = float(row["relevance"])
            except ValueError:
                raise DataError(f"{place}: relevance {row['relevance']!r} is not a number") from None
            if relevance >= 0.5:
                labels[row["sample_key"]].append(row["instrument"])
        return [
            TaskRow(base / "audio" / key[:3] / f"{key}.ogg", tuple(labels[key]), part)
            for part in ("train", "test")
            for key in read_lines(base / f"partitions/split01_{part}.csv")
            if key != "sample_key"  # some copies have a header
        ]


class MagnaTagATune(Task):
    """MagnaTagATune: 25,863 clips of music with the fifty most frequent tags that players of a game gave them."""

    name = "magnatagatune"
    reference = "Law et al., Evaluation of algorithms using games: the case of music tagging, ISMIR 2009"
    title = "MagnaTagATune: the 50 most frequent tags"
    domain = "music"
    metric = "mAP"
    multi_label = True
    classes = 50
    clip_seconds = 29.0
    division = "train, val, test by folder (0-b, c, d-f)"
    homepage = "https://mirg.city.ac.uk/codeapps/the-magnatagatune-dataset"
    licence = "see the homepage"
    layout = ("annotations_final.csv", "0..9, a..f/*.mp3, here or in mp3/")
    known = {"clips": 25863}
    notes = (
        "three files of the archive are empty and are left out",
        "clips with none of the 50 tags are kept, as negatives; some papers drop them",
        "synonymous tags are not merged; tags are counted over all parts",
        "29 s is the length of the clips, not one of a published protocol",
    )

    def rows(self, root: Path) -> list[TaskRow]:
        """List the clips with those of their tags that are among the fifty most frequent."""
        base = dataset_folder(root, "annotations_final.csv")
        table = list(read_table(base / "annotations_final.csv", ["clip_id", "mp3_path"], delimiter="\t"))
        tags = [name for name in (table[0][1] if table else {}) if name not in ("clip_id", "mp3_path")]
        counts = {tag: sum(row[tag] == "1" for _, row in table) for tag in tags}
        top = sorted(tags, key=lambda tag: (-counts[tag], tag))[:50]
        # The archive of audio comes in pieces that unpack to 0..9 and a..f, beside the annotations or in a folder.
        home = next((base / name for name in ("mp3", "audio") if (base / name).is_dir()), base)
        rows = []
        for place, row in table:
            folder = row["mp3_path"].partition("/")[0]
            if len(folder) != 1 or folder not in "0123456789abcdef":
                raise DataError(f"{place}: {row['mp3_path']!r} is not in one of the folders 0 to 9 and a to f")
            part = "train" if folder < "c" else "val" if folder == "c" else "test"
            rows.append(TaskRow(home / row["mp3_path"], tuple(tag for tag in top if row[tag] == "1"), part))
        return rows


class _Jamendo(Task):
    """MTG-Jamendo: full tracks with tags, of one of four sets; the middle of each track is taken."""

    reference = "Bogdanov et al., The MTG-Jamendo Dataset for Automatic Music Tagging, ICML 2019 workshop"
    domain = "music"
    metric = "mAP"
    multi_label = True
    clip_seconds = 30.0
    division = "train, val, test; official split-0"
    homepage = "https://github.com/MTG/mtg-jamendo-dataset"
    licence = "metadata CC BY-NC-SA 4.0; each track has its own Creative Commons licence"
    layout = (
        "data/splits/split-0/autotagging_*.tsv (the repository)",
        "audio/00..99/*.mp3 (or *.low.mp3), or raw_30s/audio/",
    )
    stretches = True
    notes = (
        "tracks are minutes long: the manifest takes the middle 30 s (columns start and duration), which is a choice "
        "made here",
    )
    #: Set of tags, as file names have it.
    tags: ClassVar[str]

    def rows(self, root: Path) -> list[TaskRow]:
        """List the tracks of split 0, the middle of each."""
        base = dataset_folder(root, "data/splits/split-0")
        names = ("audio", "raw_30s/audio", "raw_30s")
        folders = [*(folder for name in names if (folder := base / name).is_dir()), base]
        rows = []
        for part, name in (("train", "train"), ("val", "validation"), ("test", "test")):
            path = base / f"data/splits/split-0/autotagging_{self.tags}-{name}.tsv"
            # Not a regular table: every tag is a cell of its own, beyond the header's columns.
            for number, line in enumerate(read_lines(path)[1:], 2):
                cells = line.split("\t")  # track, artist, album, path, duration, tags
                try:
                    seconds = float(cells[4])
                except (IndexError, ValueError):
                    raise DataError(
                        f"{path}: line {number}: is not track, artist, album, path, duration and tags"
                    ) from None
                track = Path(cells[3])
                files = [folder / file for folder in folders for file in (track, track.with_suffix(".low.mp3"))]
                # genre---rock and mood/theme---film: the category stays, as a word may be in two of them.
                labels = tuple(tag for tag in cells[5:] if tag)
                start = max(0.0, round((seconds - self.clip_seconds) / 2, 1))
                duration = min(self.clip_seconds, seconds)
                rows.append(TaskRow(first_existing(files), labels, part, start=start, duration=duration))
        return rows


class JamendoTop50(_Jamendo):
    """MTG-Jamendo: 54,380 tracks with the 50 most frequent tags."""

    name = "mtg-jamendo-top50"
    title = "MTG-Jamendo: the 50 most frequent tags"
    classes = 50
    known = {"clips": 54380}
    tags = "top50tags"


class JamendoGenre(_Jamendo):
    """MTG-Jamendo: tracks tagged with 87 genres."""

    name = "mtg-jamendo-genre"
    title = "MTG-Jamendo: 87 genres"
    classes = 87
    tags = "genre"


class JamendoInstrument(_Jamendo):
    """MTG-Jamendo: tracks tagged with 40 instruments."""

    name = "mtg-jamendo-instrument"
    title = "MTG-Jamendo: 40 instruments"
    classes = 40
    tags = "instrument"


class JamendoMoodTheme(_Jamendo):
    """MTG-Jamendo: 17,982 tracks tagged with 56 moods and themes."""

    name = "mtg-jamendo-moodtheme"
    title = "MTG-Jamendo: 56 moods and themes"
    classes = 56
    known = {"clips": 17982, "train": 9949, "val": 3802, "test": 4231}
    tags = "moodtheme"


@hookimpl
def ssl_wb_tasks() -> list[type[Task]]:
    """Register the tasks of this file."""
    jamendo = [JamendoTop50, JamendoGenre, JamendoInstrument, JamendoMoodTheme]
    return [Gtzan, NsynthFamily, NsynthPitch, Surge, OpenMic, MagnaTagATune, *jamendo]
