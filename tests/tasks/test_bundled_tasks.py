"""Bundled tasks: what their descriptions say, and manifests from miniature downloads in the original layout."""

from __future__ import annotations

import csv
from collections import Counter

import pytest
from task_trees import CLIP, TREES, put, text

from ssl_wb.data.clips import load_clips
from ssl_wb.errors import DataError, UsageError
from ssl_wb.plugin.task_files import part_of_group
from ssl_wb.tasks.installed import find_task, installed_tasks
from ssl_wb.tasks.make import make_manifest, manifest_columns
from ssl_wb.tasks.task import load_task

BUNDLED = installed_tasks()


@pytest.fixture
def root(tmp_path):
    (tmp_path / "download").mkdir()
    return tmp_path / "download"


def described(name, **known):
    """A task with the counts of a miniature in place of the published ones."""
    task = find_task(name)
    task.known = known
    return task


def test_every_task_of_the_issue_is_there_and_has_a_miniature():
    assert set(BUNDLED) == set(TREES)


@pytest.mark.parametrize("name", BUNDLED)
def test_known_counts_add_up(name):
    known = BUNDLED[name].known
    parts = [count for part, count in known.items() if part != "clips"]
    if "clips" in known and parts:
        assert sum(parts) == known["clips"]


@pytest.mark.parametrize(
    ("name", "seconds"),
    [
        *(("urbansound8k", 4.0), ("esc50", 5.0), ("fsd50k", 7.6358), ("gtzan", 30.0), ("nsynth-family", 4.0)),
        *(("crema-d", 2.5), ("speech-commands-v2", 1.0), ("surge", 4.0), ("voxceleb1", 8.2), ("voxforge", 5.8)),
        *(("audioset20k", 10.0), ("audioset2m", 10.0)),
    ],
)
def test_clip_lengths_are_those_of_evar(name, seconds):
    assert BUNDLED[name].clip_seconds == seconds


@pytest.mark.parametrize("name", TREES)
def test_a_miniature_download_gives_its_manifest(name, root, tmp_path):
    expected = TREES[name](root)
    out = tmp_path / "lists" / "task.csv"
    made = make_manifest(described(name), root, out)
    with out.open(newline="") as file:
        rows = list(csv.DictReader(file))
    column = "fold" if BUNDLED[name].folds else "split"
    assert list(rows[0]) == list(manifest_columns(BUNDLED[name]))
    assert [(row["path"], row["label"], row[column]) for row in rows] == [
        (f"../download/{path}", labels, part) for path, labels, part in expected
    ]
    assert made.clips == len(expected)
    assert made.missing == 0
    clips = load_clips(out)  # what the workbench reads of it
    assert [";".join(clip.labels) for clip in clips] == [labels for _, labels, _ in expected]
    assert all(clip.path.read_bytes() == CLIP for clip in clips)


@pytest.mark.parametrize(
    ("name", "multi_label", "sizes"),
    [("fsd50k", True, [1, 1, 1]), ("nsynth-family", False, [2, 1, 1]), ("gtzan", False, [2, 1, 1])],
)
def test_a_manifest_is_a_task(name, multi_label, sizes, root, tmp_path):
    TREES[name](root)
    make_manifest(described(name), root, tmp_path / "task.csv")
    task = load_task(tmp_path / "task.csv")
    (split,) = task.splits
    assert task.multi_label is multi_label
    assert [len(part) for part in (split.train, split.validation, split.test)] == sizes


def test_a_made_manifest_is_reported_in_its_own_metric_wherever_it_lies(root, tmp_path):
    TREES["envsdd"](root)
    out = tmp_path / "anything.csv"
    make_manifest(described("envsdd"), root, out)
    # Equal error rate, though accuracy is what such labels are reported in otherwise.
    assert load_task(out).measure.name == "EER"
    assert load_task(out, metric="accuracy").measure.name == "accuracy"


def test_stretches_of_long_tracks(root, tmp_path):
    TREES["mtg-jamendo-top50"](root)
    make_manifest(described("mtg-jamendo-top50"), root, tmp_path / "task.csv")
    found = [(clip.start, clip.duration) for clip in load_clips(tmp_path / "task.csv")]
    assert found == [(126.2, 30.0), (0.0, 20.0), (15.0, 30.0)]


def test_the_folder_an_archive_unpacks_to_is_found(root, tmp_path):
    TREES["esc50"](root / "ESC-50-master")
    assert make_manifest(described("esc50"), root, tmp_path / "task.csv").clips == 4
    TREES["esc50"](root / "copy")
    with pytest.raises(DataError, match=r"several folders hold meta/esc50\.csv: ESC-50-master, copy"):
        make_manifest(described("esc50"), root, tmp_path / "other.csv")


def test_more_than_a_tenth_missing_is_refused(root, tmp_path):
    TREES["esc50"](root)
    (root / "audio/2-118072-A-0.wav").unlink()
    (root / "audio/2-70367-A-1.wav").write_bytes(b"")
    out = tmp_path / "task.csv"
    with pytest.raises(DataError) as caught:
        make_manifest(described("esc50", clips=4), root, out)
    assert "2 of 4 clips are missing (50.0 %)" in caught.value.message
    assert "audio/2-118072-A-0.wav, audio/2-70367-A-1.wav" in caught.value.message
    assert "--allow-missing" in caught.value.hint
    assert list(tmp_path.iterdir()) == [root]
    made = make_manifest(described("esc50", clips=4), root, out, allow_missing=True)
    assert (made.clips, made.missing, made.counts) == (2, 2, {"fold 1": 2})


def test_a_tenth_missing_is_only_told(root, tmp_path):
    for number in range(20):
        put(root, f"AudioWAV/{1001 + number}_DFA_ANG_XX.wav")
    (root / "AudioWAV/1020_DFA_ANG_XX.wav").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\n")
    made = make_manifest(described("crema-d", clips=20), root, tmp_path / "task.csv")
    assert (made.clips, made.missing) == (19, 1)
    assert "1020_DFA_ANG_XX.wav" in made.remarks[0]
    assert "classes: 1 found, 6 published" in made.remarks


def test_clips_that_no_list_names_count_by_the_published_total(root, tmp_path):
    TREES["speech-commands-v2"](root)
    with pytest.raises(DataError) as caught:
        make_manifest(BUNDLED["speech-commands-v2"], root, tmp_path / "task.csv")
    assert "105,825 of 105,829 clips are missing" in caught.value.message
    assert "train: 2 listed, 84,843 published" in caught.value.message


def test_nothing_present_is_refused_always(root, tmp_path):
    TREES["urbansound8k"](root)
    for path in root.glob("audio/*/*.wav"):
        path.unlink()
    with pytest.raises(DataError, match=r"2 of 2 clips are missing"):
        make_manifest(described("urbansound8k"), root, tmp_path / "task.csv", allow_missing=True)


@pytest.mark.parametrize("name", TREES)
def test_an_empty_folder_is_told_what_is_expected(name, root, tmp_path):
    with pytest.raises(DataError) as caught:
        make_manifest(BUNDLED[name], root, tmp_path / "task.csv", allow_missing=True)
    assert str(root) in caught.value.message
    assert BUNDLED[name].homepage in caught.value.hint


def test_a_root_that_is_absent(tmp_path):
    with pytest.raises(DataError, match="no such folder"):
        make_manifest(BUNDLED["esc50"], tmp_path / "absent", tmp_path / "task.csv")


@pytest.mark.parametrize(
    ("name", "file", "content", "message"),
    [
        ("esc50", "meta/esc50.csv", "filename,category\n", "line 1: no column 'fold'"),
        ("esc50", "meta/esc50.csv", "filename,fold,category\na.wav,1\n", "line 2: fewer cells than columns"),
        ("fsd50k", "FSD50K.ground_truth/dev.csv", "fname,labels,split\n1,Music,dev\n", "line 2: 'dev' is none of"),
        ("voxceleb1", "iden_split.txt", "4 id10001/x/1.wav\n", "line 1: '4' is none of 1, 2, 3"),
        ("voxceleb1", "iden_split.txt", "1\n", "line 1: '' is not SPEAKER/VIDEO/UTTERANCE.wav"),
        ("nsynth-pitch", "nsynth-test/examples.json", "{", "cannot be read as JSON"),
        ("nsynth-pitch", "nsynth-test/examples.json", '{"a": {}}', "a: no 'pitch'"),
        ("openmic", "openmic-2018-aggregated-labels.csv", "sample_key,instrument,relevance\na,b,c\n", "'c' is not a"),
        ("magnatagatune", "annotations_final.csv", "clip_id\tguitar\tmp3_path\n1\t1\tz/a.mp3\n", "'z/a.mp3' is not in"),
        ("mtg-jamendo-genre", "data/splits/split-0/autotagging_genre-test.tsv", "TRACK_ID\nt\n", "line 2: is not"),
        ("audioset20k", "eval_segments.csv", "# num_ytids=9, num_segs=9\n", "0 segments, but its header counts 9"),
        ("audioset20k", "eval_segments.csv", 'a, 0, 10, "/m/0"\n', "class '/m/0' is not in"),
        ("envsdd", "metadata/dev_track1.csv", "name,dataset,usage\na.wav,x,dev\n", "'dev' is none of"),
        ("crema-d", "AudioWAV/what.wav", "x", "is not named ACTOR_SENTENCE_EMOTION_LEVEL.wav"),
        ("surge", "presets/loud-7.wav", "x", "no MIDI pitch of 21 to 108 in 1 file names, as in presets/loud-7.wav"),
    ],
)
def test_metadata_with_mistakes(name, file, content, message, root, tmp_path):
    TREES[name](root)
    text(root, file, content.removesuffix("\n"))
    with pytest.raises(DataError) as caught:
        make_manifest(described(name), root, tmp_path / "task.csv")
    assert message in caught.value.message
    assert file in caught.value.message
    assert caught.value.hint


def test_metadata_that_is_no_text(root, tmp_path):
    TREES["esc50"](root)
    (root / "meta/esc50.csv").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(DataError, match="cannot be read as text"):
        make_manifest(described("esc50"), root, tmp_path / "task.csv")


def test_gtzan_without_the_filtered_lists_says_where_they_are(root, tmp_path):
    TREES["gtzan"](root)
    (root / "valid_filtered.txt").unlink()
    with pytest.raises(DataError) as caught:
        make_manifest(described("gtzan"), root, tmp_path / "task.csv")
    assert "no valid_filtered.txt" in caught.value.message
    assert "coreyker/dnn-mgr" in caught.value.hint


def test_envsdd_without_a_test_list(root, tmp_path):
    TREES["envsdd"](root)
    (root / "metadata/test_track1.csv").unlink()
    with pytest.raises(DataError, match="no test part"):
        make_manifest(described("envsdd"), root, tmp_path / "task.csv")


def test_an_output_that_is_there_is_kept(root, tmp_path):
    TREES["esc50"](root)
    out = tmp_path / "task.csv"
    out.write_text("precious")
    with pytest.raises(UsageError, match="is already there"):
        make_manifest(described("esc50"), root, out)
    assert out.read_text() == "precious"
    make_manifest(described("esc50"), root, out, overwrite=True)
    assert out.read_text().startswith("path,label,fold,domain,metric\n")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["download", "task.csv"]


@pytest.mark.parametrize("name", ["task.txt", "download/file/task.csv"])
def test_an_output_that_cannot_be(name, root, tmp_path):
    TREES["esc50"](root)
    (root / "file").write_text("in the way")
    with pytest.raises(UsageError):
        make_manifest(described("esc50"), root, tmp_path / name)


def test_groups_divide_about_eight_to_one_to_one():
    parts = Counter(part_of_group(f"speaker {number}") for number in range(5000))
    assert abs(parts["train"] - 4000) < 120
    assert abs(parts["val"] - 500) < 90
    assert abs(parts["test"] - 500) < 90
    # First 16 digits of `sha256sum`, modulo 10, give 8, 0 and 5: a manifest made years ago stays comparable.
    assert [part_of_group(name) for name in ("de/guenter", "it/anna", "fr/jean")] == ["val", "train", "train"]


@pytest.mark.parametrize(("wrong", "right"), [("esc-50", "esc50"), ("gtsan", "gtzan"), ("speech-commands-v3", None)])
def test_an_unknown_task(wrong, right):
    with pytest.raises(UsageError) as caught:
        find_task(wrong)
    assert "did you mean" in caught.value.message
    if right:
        assert f"did you mean {right!r}?" in caught.value.message
