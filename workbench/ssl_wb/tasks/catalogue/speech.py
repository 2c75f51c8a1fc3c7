"""Speech: Speech Commands (words), VoxCeleb1 (speakers), VoxForge (languages), CREMA-D (emotions)."""

from __future__ import annotations

import re
from pathlib import Path

from ssl_wb.errors import DataError
from ssl_wb.tasks.catalogue.description import Row, TaskDescription
from ssl_wb.tasks.catalogue.files import base_of, first_present, in_line, part_of_group, read_lines, walk_audio

__all__ = ["TASKS"]


def _speech_commands(root: Path) -> list[Row]:
    """Every word's folder; what neither list names trains. The folder of noise (``_background_noise_``) is left out."""
    base = base_of(root, "testing_list.txt")
    parts = dict.fromkeys(read_lines(base / "validation_list.txt"), "val")
    parts |= dict.fromkeys(read_lines(base / "testing_list.txt"), "test")
    names = set(parts)
    for folder in base.iterdir():
        if folder.is_dir() and not folder.name.startswith(("_", ".")):
            names |= {f"{folder.name}/{path.name}" for path in folder.glob("*.wav")}
    return [Row(base / name, (name.partition("/")[0],), parts.get(name, "train")) for name in sorted(names)]


def _voxceleb1(root: Path) -> list[Row]:
    """Utterances of ``iden_split.txt``: ``1 id10001/VIDEO/00001.wav``, 1 train, 2 val, 3 test."""
    base = base_of(root, "iden_split.txt")
    homes = [
        folder
        for name in ("wav", "dev/wav", "test/wav", "vox1_dev_wav/wav", "vox1_test_wav/wav")
        if (folder := base / name).is_dir()
    ]
    rows = []
    for number, line in enumerate(read_lines(base / "iden_split.txt"), 1):
        place = f"{base / 'iden_split.txt'}: line {number}"
        code, _, name = line.partition(" ")
        part = {"1": "train", "2": "val", "3": "test"}[in_line(place, code, ("1", "2", "3"))]
        speaker, slash, _ = name.strip().partition("/")
        if not slash:
            raise DataError(f"{place}: {name!r} is not SPEAKER/VIDEO/UTTERANCE.wav")
        candidates = [folder / name.strip() for folder in (*homes, base)]
        rows.append(Row(first_present(candidates), (speaker,), part))
    return rows


#: A submission's folder: ``SPEAKER-20080611-abc``.
_SUBMISSION = re.compile(r"(?P<speaker>.+)-\d{8}-\w+")


def _voxforge(root: Path) -> list[Row]:
    """Submissions unpacked below a folder for each language; a speaker's clips all land in one part."""
    rows = []
    for path in walk_audio(root):
        words = path.relative_to(root).parts
        if len(words) < 4 or words[-2] not in ("wav", "flac"):
            continue
        language, submission = words[0], words[-3]
        match = _SUBMISSION.fullmatch(submission)
        # Everybody without a name is called anonymous: each of their submissions counts as a speaker.
        known = match and not match["speaker"].lower().startswith("anonymous")
        speaker = match["speaker"] if match and known else submission
        rows.append(Row(path, (language,), part_of_group(f"{language}/{speaker}")))
    return rows


#: Emotions as file names abbreviate them.
_EMOTIONS = {"ANG": "anger", "DIS": "disgust", "FEA": "fear", "HAP": "happy", "NEU": "neutral", "SAD": "sad"}


def _crema_d(root: Path) -> list[Row]:
    """Clips ``ACTOR_SENTENCE_EMOTION_LEVEL.wav``; an actor's clips all land in one of five folds."""
    base = base_of(root, "AudioWAV")
    rows = []
    for path in sorted((base / "AudioWAV").glob("*.wav")):
        words = path.stem.split("_")
        if len(words) != 4 or not words[0].isdecimal() or words[2] not in _EMOTIONS:
            raise DataError(f"{path}: is not named ACTOR_SENTENCE_EMOTION_LEVEL.wav, as in 1001_DFA_ANG_XX.wav")
        rows.append(Row(path, (_EMOTIONS[words[2]],), fold=str(int(words[0]) % 5 + 1)))
    return rows


_COMMANDS_LAYOUT = ("validation_list.txt", "testing_list.txt", "WORD/*.wav")
_COMMANDS_NOTES = (
    "all words are classes of their own (not the 12-class variant), as EVAR and AudioMosaic have it",
    "the folder _background_noise_ is left out",
)

TASKS = (
    TaskDescription(
        name="speech-commands-v1",
        title="Speech Commands v1: spoken words",
        domain="speech",
        metric="accuracy",
        multi_label=False,
        classes=30,
        clip_seconds=1.0,
        division="train, val, test; official",
        homepage="http://download.tensorflow.org/data/speech_commands_v0.01.tar.gz",
        licence="CC BY 4.0",
        layout=_COMMANDS_LAYOUT,
        rows=_speech_commands,
        # Training clips are what the lists leave over, and are counted differently by different sources.
        known={"val": 6798, "test": 6835},
        notes=(*_COMMANDS_NOTES, "about 64,700 clips in all"),
    ),
    TaskDescription(
        name="speech-commands-v2",
        title="Speech Commands v2: spoken words",
        domain="speech",
        metric="accuracy",
        multi_label=False,
        classes=35,
        clip_seconds=1.0,
        division="train, val, test; official",
        homepage="http://download.tensorflow.org/data/speech_commands_v0.02.tar.gz",
        licence="CC BY 4.0",
        layout=_COMMANDS_LAYOUT,
        rows=_speech_commands,
        known={"clips": 105829, "train": 84843, "val": 9981, "test": 11005},
        notes=_COMMANDS_NOTES,
    ),
    TaskDescription(
        name="voxceleb1",
        title="VoxCeleb1: speaker identification",
        domain="speech",
        metric="accuracy",
        multi_label=False,
        classes=1251,
        clip_seconds=8.2,
        division="train, val, test; official",
        homepage="https://www.robots.ox.ac.uk/~vgg/data/voxceleb/vox1.html",
        licence="see the homepage; the audio belongs to the owners of the videos",
        layout=("iden_split.txt", "wav/SPEAKER/VIDEO/*.wav (or dev/wav and test/wav)"),
        rows=_voxceleb1,
        known={"clips": 153516, "train": 138361, "val": 6904, "test": 8251},
        notes=("the identification split, in which every speaker is in every part; not the verification trials",),
    ),
    TaskDescription(
        name="voxforge",
        title="VoxForge: spoken language",
        domain="speech",
        metric="accuracy",
        multi_label=False,
        classes=6,
        clip_seconds=5.8,
        division="train, val, test by speaker; ours",
        homepage="http://www.voxforge.org/home/downloads",
        licence="GPL",
        layout=("LANGUAGE/SPEAKER-DATE-CODE/wav/*.wav (or flac/), for de, en, es, fr, it, ru",),
        rows=_voxforge,
        notes=(
            "there is no official split: each speaker goes to train (8 of 10), val or test by a digest of its name, so "
            "that no speaker is in two parts; numbers are not those of EVAR's own list",
            "archives come one by one for each submission and language; put each language in a folder of its name",
            "a submission by 'anonymous' counts as a speaker of its own",
        ),
    ),
    TaskDescription(
        name="crema-d",
        title="CREMA-D: emotion of acted speech",
        domain="speech",
        metric="accuracy",
        multi_label=False,
        classes=6,
        clip_seconds=2.5,
        division="5 folds by actor; ours",
        folds=True,
        homepage="https://github.com/CheyneyComputerScience/CREMA-D",
        licence="ODbL 1.0",
        layout=("AudioWAV/*.wav",),
        rows=_crema_d,
        known={"clips": 7442},
        notes=(
            "there is no official split: an actor's number modulo 5 gives the fold, so that no actor is trained and "
            "tested on; numbers are not those of EVAR's own list",
            "the label is the emotion that was to be acted, in the file's name, not what listeners heard",
            "the repository keeps audio in git LFS: without it the files are pointers, which count as missing",
            "validation clips are drawn from the training folds without regard to actors",
        ),
    ),
)
