"""Downloads of the bundled tasks in miniature, in their original layout, and the manifests they should give.

A manifest's expectation is a list of (path, labels, part or fold); trees hold files that must not appear, too.
"""

from __future__ import annotations

import io
import json
import wave
from collections.abc import Callable
from pathlib import Path

from ssl_wb.plugin.task_files import part_of_group

Expected = list[tuple[str, str, str]]


def _clip() -> bytes:
    content = io.BytesIO()
    with wave.open(content, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(8000)
        file.writeframes(bytes(1600))
    return content.getvalue()


CLIP = _clip()


def put(root: Path, *names: str) -> None:
    """Write clips; what their names end in is no matter, nobody decodes them."""
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(CLIP)


def text(root: Path, name: str, *lines: str) -> None:
    (root / name).parent.mkdir(parents=True, exist_ok=True)
    (root / name).write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


def _esc(root: Path) -> None:
    text(
        root,
        "meta/esc50.csv",
        "filename,fold,target,category,esc10,src_file,take",
        "1-100032-A-0.wav,1,0,dog,True,100032,A",
        "1-100038-A-14.wav,1,14,chirping_birds,False,100038,A",
        "2-118072-A-0.wav,2,0,dog,True,118072,A",
        "2-70367-A-1.wav,2,1,rooster,True,70367,A",
    )
    put(root, *(f"audio/{name}" for name in ("1-100032-A-0.wav", "1-100038-A-14.wav", "2-118072-A-0.wav")))
    put(root, "audio/2-70367-A-1.wav", "audio/9-unlisted-A-1.wav")


def esc50(root: Path) -> Expected:
    _esc(root)
    return [
        ("audio/1-100032-A-0.wav", "dog", "1"),
        ("audio/1-100038-A-14.wav", "chirping_birds", "1"),
        ("audio/2-118072-A-0.wav", "dog", "2"),
        ("audio/2-70367-A-1.wav", "rooster", "2"),
    ]


def esc10(root: Path) -> Expected:
    return [row for row in esc50(root) if row[1] != "chirping_birds"]


def urbansound8k(root: Path) -> Expected:
    text(
        root,
        "metadata/UrbanSound8K.csv",
        "slice_file_name,fsID,start,end,salience,fold,classID,class",
        "100032-3-0-0.wav,100032,0.0,0.317551,1,5,3,dog_bark",
        "100263-2-0-117.wav,100263,58.5,62.5,1,10,2,children_playing",
    )
    put(root, "audio/fold5/100032-3-0-0.wav", "audio/fold10/100263-2-0-117.wav", "audio/fold1/unlisted.wav")
    return [
        ("audio/fold5/100032-3-0-0.wav", "dog_bark", "5"),
        ("audio/fold10/100263-2-0-117.wav", "children_playing", "10"),
    ]


def fsd50k(root: Path) -> Expected:
    truth = "FSD50K.ground_truth"
    text(
        root,
        f"{truth}/dev.csv",
        "fname,labels,mids,split",
        '64760,"Electric_guitar,Guitar,Music","/m/02sgy,/m/0342h,/m/04rlf",train',
        "16399,Music,/m/04rlf,val",
    )
    text(root, f"{truth}/eval.csv", "fname,labels,mids", '37199,"Guitar,Music","/m/0342h,/m/04rlf"')
    put(root, "FSD50K.dev_audio/64760.wav", "FSD50K.dev_audio/16399.wav", "FSD50K.eval_audio/37199.wav")
    return [
        ("FSD50K.dev_audio/64760.wav", "Electric_guitar;Guitar;Music", "train"),
        ("FSD50K.dev_audio/16399.wav", "Music", "val"),
        ("FSD50K.eval_audio/37199.wav", "Guitar;Music", "test"),
    ]


def envsdd(root: Path) -> Expected:
    text(
        root,
        "metadata/dev_track1.csv",
        "name,dataset,caption,usage",
        'a.wav,UrbanSound8K,"A dog, barking",train',
        "b.wav,Clotho,Rain,validation",
    )
    text(
        root,
        "metadata/test_track1.csv",
        "name,source,dataset,type,generator",
        "t1.wav,x.wav,Clotho,real,real",
        "t2.wav,x.wav,Clotho,tta,tangoflux",
    )
    put(root, "test/t1.wav", "test/t2.wav")
    expected = []
    for name, source, part in (("a.wav", "UrbanSound8K", "train"), ("b.wav", "Clotho", "val")):
        expected.append((f"development/real_audio/{source}/{name}", "real", part))
        for fake in ("TTA/audiogen", "TTA/audioldm1", "TTA/audioldm2", "ATA/audioldm1"):
            expected.append((f"development/fake_audio/{fake}/{source}/{name}", "fake", part))
    put(root, *(row[0] for row in expected))
    return [*expected, ("test/t1.wav", "real", "test"), ("test/t2.wav", "fake", "test")]


def speech_commands(root: Path) -> Expected:
    text(root, "validation_list.txt", "bed/0c40e715_nohash_0.wav")
    text(root, "testing_list.txt", "cat/0f250098_nohash_0.wav")
    put(root, "bed/00176480_nohash_0.wav", "bed/0c40e715_nohash_0.wav", "cat/0f250098_nohash_0.wav")
    put(root, "cat/00176480_nohash_0.wav", "_background_noise_/running_tap.wav")
    return [
        ("bed/00176480_nohash_0.wav", "bed", "train"),
        ("bed/0c40e715_nohash_0.wav", "bed", "val"),
        ("cat/00176480_nohash_0.wav", "cat", "train"),
        ("cat/0f250098_nohash_0.wav", "cat", "test"),
    ]


def voxceleb1(root: Path) -> Expected:
    names = ("id10003/na8-QEFmj44/00003.wav", "id10003/tCq2LcKO6xY/00002.wav", "id10270/5r0dWxy17C8/00001.wav")
    text(root, "iden_split.txt", *(f"{code} {name}" for code, name in zip("123", names, strict=True)))
    put(root, f"dev/wav/{names[0]}", f"dev/wav/{names[1]}", f"test/wav/{names[2]}")
    return [
        (f"dev/wav/{names[0]}", "id10003", "train"),
        (f"dev/wav/{names[1]}", "id10003", "val"),
        (f"test/wav/{names[2]}", "id10270", "test"),
    ]


def voxforge(root: Path) -> Expected:
    submissions = {
        "de/guenter-20120101-abc": "de/guenter",
        "de/guenter-20130202-def": "de/guenter",
        "en/anonymous-20080425-aaa": "en/anonymous-20080425-aaa",
        "en/anonymous-20080425-bbb": "en/anonymous-20080425-bbb",
    }
    expected = []
    for folder, speaker in submissions.items():
        put(root, f"{folder}/wav/a0001.wav")
        text(root, f"{folder}/etc/PROMPTS", "a0001 SOME WORDS")
        expected.append((f"{folder}/wav/a0001.wav", folder[:2], part_of_group(speaker)))
    put(root, "de/stray.wav")
    return expected


def crema_d(root: Path) -> Expected:
    put(root, "AudioWAV/1001_DFA_ANG_XX.wav", "AudioWAV/1001_IEO_HAP_HI.wav", "AudioWAV/1090_TAI_SAD_XX.wav")
    return [
        ("AudioWAV/1001_DFA_ANG_XX.wav", "anger", "2"),
        ("AudioWAV/1001_IEO_HAP_HI.wav", "happy", "2"),
        ("AudioWAV/1090_TAI_SAD_XX.wav", "sad", "1"),
    ]


def gtzan(root: Path) -> Expected:
    text(root, "train_filtered.txt", "blues/blues.00029.wav", "jazz/jazz.00000.wav")
    text(root, "valid_filtered.txt", "blues/blues.00000.wav")
    text(root, "test_filtered.txt", "jazz/jazz.00012.wav")
    put(root, *(f"genres_original/blues/blues.{track}.wav" for track in ("00029", "00000", "00001")))
    put(root, "genres_original/jazz/jazz.00000.wav", "genres_original/jazz/jazz.00012.au")
    return [
        ("genres_original/blues/blues.00029.wav", "blues", "train"),
        ("genres_original/jazz/jazz.00000.wav", "jazz", "train"),
        ("genres_original/blues/blues.00000.wav", "blues", "val"),
        ("genres_original/jazz/jazz.00012.au", "jazz", "test"),
    ]


def _nsynth(root: Path) -> list[tuple[str, str, int, str]]:
    notes = [
        ("nsynth-train", "bass_synthetic_033-022-050", "bass", 22, "train"),
        ("nsynth-train", "guitar_acoustic_010-066-100", "guitar", 66, "train"),
        ("nsynth-valid", "bass_electronic_018-066-075", "bass", 66, "val"),
        ("nsynth-test", "guitar_acoustic_021-022-127", "guitar", 22, "test"),
    ]
    for folder in {note[0] for note in notes}:
        entries = {
            note: {"note": 1, "pitch": pitch, "instrument_family_str": family, "instrument_family": 0}
            for home, note, family, pitch, _ in notes
            if home == folder
        }
        text(root, f"{folder}/examples.json", json.dumps(entries))
        put(root, *(f"{folder}/audio/{note}.wav" for note in entries))
    return [(f"{home}/audio/{note}.wav", family, pitch, part) for home, note, family, pitch, part in notes]


def nsynth_family(root: Path) -> Expected:
    return [(path, family, part) for path, family, _, part in _nsynth(root)]


def nsynth_pitch(root: Path) -> Expected:
    return [(path, str(pitch), part) for path, _, pitch, part in _nsynth(root)]


def surge(root: Path) -> Expected:
    put(root, "Bass 1/midi-021.ogg", "Bass 1/midi-108.ogg", "Lead/64.wav")
    return [
        ("Bass 1/midi-021.ogg", "21", part_of_group("Bass 1/midi-")),
        ("Bass 1/midi-108.ogg", "108", part_of_group("Bass 1/midi-")),
        ("Lead/64.wav", "64", part_of_group("Lead")),
    ]


def openmic(root: Path) -> Expected:
    text(
        root,
        "openmic-2018-aggregated-labels.csv",
        "sample_key,instrument,relevance,num_responses",
        "000046_3840,clarinet,0.17105,3",
        "000046_3840,flute,0.50000,3",
        "000135_483840,voice,1.00000,3",
        "000135_483840,drums,0.91,3",
    )
    text(root, "partitions/split01_train.csv", "000046_3840")
    text(root, "partitions/split01_test.csv", "000135_483840")
    put(root, "audio/000/000046_3840.ogg", "audio/000/000135_483840.ogg")
    return [
        ("audio/000/000046_3840.ogg", "flute", "train"),
        ("audio/000/000135_483840.ogg", "voice;drums", "test"),
    ]


def magnatagatune(root: Path) -> Expected:
    # 52 tags, of which "rare" (one clip) and "never" are not among the fifty most frequent.
    tags = ["rare", "never", *(f"tag {number:02d}" for number in range(50))]
    clips = [("b", "101"), ("c", "001"), ("d", "001"), ("f", "000")]
    lines = ["\t".join(f'"{cell}"' for cell in ("clip_id", *tags, "mp3_path"))]
    for number, (folder, flags) in enumerate(clips):
        cells = (str(number), flags[0], flags[1], *(flags[2] * 50), f"{folder}/track-{number}-0-29.mp3")
        lines.append("\t".join(f'"{cell}"' for cell in cells))
        put(root, f"{folder}/track-{number}-0-29.mp3")
    text(root, "annotations_final.csv", *lines)
    top = ";".join(tags[2:])
    return [
        ("b/track-0-0-29.mp3", top, "train"),
        ("c/track-1-0-29.mp3", top, "val"),
        ("d/track-2-0-29.mp3", top, "test"),
        ("f/track-3-0-29.mp3", "", "test"),
    ]


def mtg_jamendo(root: Path, tags: str) -> Expected:
    header = "TRACK_ID\tARTIST_ID\tALBUM_ID\tPATH\tDURATION\tTAGS"
    for name, row in {
        "train": "track_0000241\tartist_000005\talbum_000032\t41/241.mp3\t282.4\tgenre---rock\tmood/theme---film",
        "validation": "track_0000214\tartist_000014\talbum_000031\t14/214.mp3\t20.0\tgenre---rock",
        "test": "track_0003112\tartist_000028\talbum_000077\t12/3112.mp3\t60.0\tmood/theme---film",
    }.items():
        text(root, f"data/splits/split-0/autotagging_{tags}-{name}.tsv", header, row)
    put(root, "audio/41/241.mp3", "audio/14/214.low.mp3", "12/3112.mp3")
    return [
        ("audio/41/241.mp3", "genre---rock;mood/theme---film", "train"),
        ("audio/14/214.low.mp3", "genre---rock", "val"),
        ("12/3112.mp3", "mood/theme---film", "test"),
    ]


def _segments(root: Path, name: str, *rows: str) -> None:
    head = f"# num_ytids={len(rows)}, num_segs={len(rows)}, num_unique_labels=527, num_positive_labels=9"
    text(root, name, "# Segments csv created Sun Mar  5 10:54:31 2017", head, "# YTID, start_seconds, ...", *rows)


def audioset20k(root: Path) -> Expected:
    text(
        root,
        "class_labels_indices.csv",
        "index,mid,display_name",
        "0,/m/09x0r,Speech",
        '1,/m/05zppz,"Male speech, man speaking"',
        "2,/m/04rlf,Music",
    )
    _segments(
        root,
        "balanced_train_segments.csv",
        '--4gqARaEJE, 0.000, 10.000, "/m/09x0r,/m/05zppz"',
        '-0DLPzsiXXE, 30.000, 40.000, "/m/04rlf"',
    )
    _segments(
        root, "eval_segments.csv", '--4gqARaEJE_, 1.500, 11.500, "/m/04rlf"', 'abcdefghijk, 0.0, 10.0, "/m/09x0r"'
    )
    put(root, "balanced/--4gqARaEJE.flac", "balanced/Y-0DLPzsiXXE.wav", "eval/--4gqARaEJE__1500_11500.wav")
    put(root, "eval/Yabcdefghijk_0.000_10.000.wav")
    return [
        ("balanced/--4gqARaEJE.flac", "Speech;Male speech, man speaking", "train"),
        ("balanced/Y-0DLPzsiXXE.wav", "Music", "train"),
        ("eval/--4gqARaEJE__1500_11500.wav", "Music", "test"),
        ("eval/Yabcdefghijk_0.000_10.000.wav", "Speech", "test"),
    ]


def audioset2m(root: Path) -> Expected:
    rows = audioset20k(root)
    _segments(root, "unbalanced_train_segments.csv", '---1_cCGK4M, 0.000, 10.000, "/m/09x0r"')
    put(root, "unbalanced/---1_cCGK4M_0_10.ogg")
    return [*rows[:2], ("unbalanced/---1_cCGK4M_0_10.ogg", "Speech", "train"), *rows[2:]]


TREES: dict[str, Callable[[Path], Expected]] = {
    "esc50": esc50,
    "esc10": esc10,
    "urbansound8k": urbansound8k,
    "fsd50k": fsd50k,
    "envsdd": envsdd,
    "speech-commands-v1": speech_commands,
    "speech-commands-v2": speech_commands,
    "voxceleb1": voxceleb1,
    "voxforge": voxforge,
    "crema-d": crema_d,
    "gtzan": gtzan,
    "nsynth-family": nsynth_family,
    "nsynth-pitch": nsynth_pitch,
    "surge": surge,
    "openmic": openmic,
    "magnatagatune": magnatagatune,
    "mtg-jamendo-top50": lambda root: mtg_jamendo(root, "top50tags"),
    "mtg-jamendo-genre": lambda root: mtg_jamendo(root, "genre"),
    "mtg-jamendo-instrument": lambda root: mtg_jamendo(root, "instrument"),
    "mtg-jamendo-moodtheme": lambda root: mtg_jamendo(root, "moodtheme"),
    "audioset20k": audioset20k,
    "audioset2m": audioset2m,
}
