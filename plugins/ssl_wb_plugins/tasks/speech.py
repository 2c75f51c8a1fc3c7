"""Speech: Speech Commands (words), VoxCeleb1 (speakers), VoxForge (languages), CREMA-D (emotions)."""

from __future__ import annotations

import re
from pathlib import Path
from typing import ClassVar

from ssl_wb.api import (
    DataError,
    Task,
    TaskRow,
    check_cell,
    dataset_folder,
    first_existing,
    hookimpl,
    part_of_group,
    read_lines,
    walk_audio,
)


class SpeechCommandsV2(Task):
    """Speech Commands, version 2: 105,829 utterances of 35 words, with the official split."""

    name = "speech-commands-v2"
    reference = "Warden, Speech Commands: A Dataset for Limited-Vocabulary Speech Recognition, arXiv:1804.03209"
    title = "Speech Commands v2: spoken words"
    domain = "speech"
    metric = "accuracy"
    classes = 35
    clip_seconds = 1.0
    division = "train, val, test; official"
    homepage = "http://download.tensorflow.org/data/speech_commands_v0.02.tar.gz"
    licence = "CC BY 4.0"
    layout = ("validation_list.txt", "testing_list.txt", "WORD/*.wav")
    known = {"clips": 105829, "train": 84843, "val": 9981, "test": 11005}
    notes: ClassVar[tuple[str, ...]] = (
        "all words are classes of their own (not the 12-class variant), as EVAR and AudioMosaic have it",
        "the folder _background_noise_ is left out",
    )

    def rows(self, root: Path) -> list[TaskRow]:
        """List every word's folder; files that are in neither list are training clips."""
        base = dataset_folder(root, "testing_list.txt")
        parts = dict.fromkeys(read_lines(base / "validation_list.txt"), "val")
        parts |= dict.fromkeys(read_lines(base / "testing_list.txt"), "test")
        names = set(parts)  # files that are listed but missing have to be counted, too
        for folder in base.iterdir():
            if folder.is_dir() and not folder.name.startswith(("_", ".")):  # _background_noise_
                names |= {f"{folder.name}/{path.name}" for path in folder.glob("*.wav")}
        return [TaskRow(base / name, (name.partition("/")[0],), parts.get(name, "train")) for name in sorted(names)]


class SpeechCommandsV1(SpeechCommandsV2):
    """Speech Commands, version 1: about 64,700 utterances of 30 words, with the official split."""

    name = "speech-commands-v1"
    title = "Speech Commands v1: spoken words"
    classes = 30
    homepage = "http://download.tensorflow.org/data/speech_commands_v0.01.tar.gz"
    # Training clips are those in neither list, and sources disagree on their number.
    known = {"val": 6798, "test": 6835}
    notes = (*SpeechCommandsV2.notes, "about 64,700 clips in all")


class VoxCeleb1(Task):
    """VoxCeleb1: 153,516 utterances of 1,251 speakers, with the official split for identification."""

    name = "voxceleb1"
    reference = "Nagrani et al., VoxCeleb: a large-scale speaker identification dataset, Interspeech 2017"
    title = "VoxCeleb1: speaker identification"
    domain = "speech"
    metric = "accuracy"
    classes = 1251
    clip_seconds = 8.2
    division = "train, val, test; official"
    homepage = "https://www.robots.ox.ac.uk/~vgg/data/voxceleb/vox1.html"
    licence = "see the homepage; the audio belongs to the owners of the videos"
    layout = ("iden_split.txt", "wav/SPEAKER/VIDEO/*.wav (or dev/wav and test/wav)")
    known = {"clips": 153516, "train": 138361, "val": 6904, "test": 8251}
    notes = ("the identification split, in which every speaker is in every part; not the verification trials",)

    def rows(self, root: Path) -> list[TaskRow]:
        """List the utterances of ``iden_split.txt``, whose lines read ``1 id10001/VIDEO/00001.wav``."""
        base = dataset_folder(root, "iden_split.txt")
        names = ("wav", "dev/wav", "test/wav", "vox1_dev_wav/wav", "vox1_test_wav/wav")
        folders = [*(folder for name in names if (folder := base / name).is_dir()), base]
        rows = []
        for number, line in enumerate(read_lines(base / "iden_split.txt"), 1):
            place = f"{base / 'iden_split.txt'}: line {number}"
            code, _, name = line.partition(" ")
            part = {"1": "train", "2": "val", "3": "test"}[check_cell(place, code, ("1", "2", "3"))]
            speaker, slash, _ = name.strip().partition("/")
            if not slash:
                raise DataError(f"{place}: {name!r} is not SPEAKER/VIDEO/UTTERANCE.wav")
            rows.append(TaskRow(first_existing([folder / name.strip() for folder in folders]), (speaker,), part))
        return rows


class VoxForge(Task):
    """VoxForge: read speech in six languages, split by speaker."""

    name = "voxforge"
    title = "VoxForge: spoken language"
    domain = "speech"
    metric = "accuracy"
    classes = 6
    clip_seconds = 5.8
    division = "train, val, test by speaker; ours"
    homepage = "http://www.voxforge.org/home/downloads"
    licence = "GPL"
    layout = ("LANGUAGE/SPEAKER-DATE-CODE/wav/*.wav (or flac/), for de, en, es, fr, it, ru",)
    notes = (
        "there is no official split: each speaker goes to train (8 of 10), val or test by a digest of its name, so "
        "that no speaker is in two parts; numbers are not those of EVAR's own list",
        "archives come one by one for each submission and language; put each language in a folder of its name",
        "a submission by 'anonymous' counts as a speaker of its own",
    )

    def rows(self, root: Path) -> list[TaskRow]:
        """List the unpacked submissions below a folder for each language."""
        rows = []
        for path in walk_audio(root):
            words = path.relative_to(root).parts
            if len(words) < 4 or words[-2] not in ("wav", "flac"):
                continue
            language, submission = words[0], words[-3]
            match = re.fullmatch(r"(?P<speaker>.+)-\d{8}-\w+", submission)  # SPEAKER-20080611-abc
            # Everybody without a name is called anonymous: each of their submissions counts as a speaker.
            named = match and not match["speaker"].lower().startswith("anonymous")
            speaker = match["speaker"] if match and named else submission
            rows.append(TaskRow(path, (language,), part_of_group(f"{language}/{speaker}")))
        return rows


class CremaD(Task):
    """CREMA-D: 7,442 sentences that 91 actors spoke with one of six emotions."""

    name = "crema-d"
    reference = "Cao et al., CREMA-D: Crowd-Sourced Emotional Multimodal Actors Dataset, IEEE TAC 2014"
    title = "CREMA-D: emotion of acted speech"
    domain = "speech"
    metric = "accuracy"
    classes = 6
    clip_seconds = 2.5
    division = "5 folds by actor; ours"
    folds = True
    homepage = "https://github.com/CheyneyComputerScience/CREMA-D"
    licence = "ODbL 1.0"
    layout = ("AudioWAV/*.wav",)
    known = {"clips": 7442}
    notes = (
        "there is no official split: an actor's number modulo 5 gives the fold, so that no actor is trained and "
        "tested on; numbers are not those of EVAR's own list",
        "the label is the emotion that was to be acted, in the file's name, not what listeners heard",
        "the repository keeps audio in git LFS: without it the files are pointers, which count as missing",
        "validation clips are drawn from the training folds without regard to actors",
    )
    #: Emotions by their abbreviation in file names.
    emotions = {"ANG": "anger", "DIS": "disgust", "FEA": "fear", "HAP": "happy", "NEU": "neutral", "SAD": "sad"}

    def rows(self, root: Path) -> list[TaskRow]:
        """List the clips, whose names read ``ACTOR_SENTENCE_EMOTION_LEVEL.wav``."""
        base = dataset_folder(root, "AudioWAV")
        rows = []
        for path in sorted((base / "AudioWAV").glob("*.wav")):
            words = path.stem.split("_")
            if len(words) != 4 or not words[0].isdecimal() or words[2] not in self.emotions:
                raise DataError(f"{path}: is not named ACTOR_SENTENCE_EMOTION_LEVEL.wav, as in 1001_DFA_ANG_XX.wav")
            rows.append(TaskRow(path, (self.emotions[words[2]],), fold=str(int(words[0]) % 5 + 1)))
        return rows


@hookimpl
def ssl_wb_tasks() -> list[type[Task]]:
    """Register the tasks of this file."""
    return [SpeechCommandsV1, SpeechCommandsV2, VoxCeleb1, VoxForge, CremaD]
