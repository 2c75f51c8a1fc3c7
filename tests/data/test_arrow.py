"""Saved data sets as sources of clips: the same crops as from files, mapped and not copied."""

from __future__ import annotations

import io
import json
import logging
import os
import pickle
import shutil
import subprocess
import sys
import tracemalloc

import datasets
import numpy as np
import pytest
import soundfile

from ssl_wb.audio.decode import info, read, read_samples
from ssl_wb.data.captions import check_captions
from ssl_wb.data.clips import load_clips
from ssl_wb.data.dataset import CropDataset
from ssl_wb.data.loader import batches
from ssl_wb.data.pack import pack_clips
from ssl_wb.errors import AudioError, DataError, ExitCode
from ssl_wb.evaluation.embedding_cache import clips_digest
from ssl_wb.recipe.schema import CaptionsSection
from ssl_wb.tasks.task import load_task
from ssl_wb_plugins.sources.arrow import ArrowRow

RATE = 16000
LENGTHS = (16000, 40000, 9000, 16000, 16001, 400)


def encoded(wave, kind="FLAC", rate=RATE):
    buffer = io.BytesIO()
    soundfile.write(buffer, wave, rate, format=kind)
    return buffer.getvalue()


def noise(seed, samples, channels=1):
    return np.random.default_rng(seed).uniform(-1, 1, (samples, channels)).squeeze()


def save(folder, audio, feature=None, **columns):
    """Save a data set as its users do: structs, cast to Audio unless ``feature`` is False."""
    data = datasets.Dataset.from_dict({"audio": audio, **columns})
    if feature is None:
        data = data.cast_column("audio", datasets.Audio(decode=False))
    data.save_to_disk(str(folder))
    return folder


def row(content, path=None):
    return {"bytes": content, "path": path}


def refused(source):
    with pytest.raises(DataError) as caught:
        load_clips(source)
    assert str(source) in caught.value.message
    assert caught.value.exit_code == ExitCode.USAGE
    return caught.value


@pytest.fixture(scope="module")
def both(tmp_path_factory):
    """A folder of FLAC files, stereo ones among them, and the data set with their bytes."""
    root = tmp_path_factory.mktemp("both")
    (root / "files").mkdir()
    rows = []
    for index, samples in enumerate(LENGTHS):
        content = encoded(noise(index, samples, channels=1 + index % 2))
        (root / "files" / f"{index}.flac").write_bytes(content)
        rows.append(row(content, f"{index}.flac"))
    return root / "files", save(root / "set", rows)


# ----------------------------------------------------------------------------------------- the same crops


@pytest.mark.parametrize("rate", [RATE, 8000, 22050])
def test_crops_are_those_of_the_same_files(both, rate):
    files, saved = (CropDataset(load_clips(source), rate, rate // 2, seed=5) for source in both)
    assert len(files) == len(saved) == len(LENGTHS)
    for epoch in range(3):
        for index in range(len(LENGTHS)):
            one, other = files[epoch, index], saved[epoch, index]
            assert np.array_equal(one.waveform, other.waveform)
            assert (one.length, one.clip) == (other.length, other.clip)
    assert load_clips(both[0]).seconds() == load_clips(both[1]).seconds() == pytest.approx(sum(LENGTHS) / RATE)


@pytest.mark.parametrize("workers", [0, 2])
def test_batches_are_those_of_the_same_files(both, workers):
    def loaded(source, workers):
        dataset = CropDataset(load_clips(source), RATE, 4000, seed=1)
        return list(batches(dataset, seed=1, first_sample=3, global_batch=4, steps=4, workers=workers))

    for one, other in zip(loaded(both[0], 0), loaded(both[1], workers), strict=True):
        assert one.waveform.equal(other.waveform)
        assert one.clips.equal(other.clips)


@pytest.mark.parametrize(("kind", "exact"), [("FLAC", True), ("WAV", True), ("OGG", False), ("MP3", False)])
def test_all_that_soundfile_decodes(tmp_path, kind, exact):
    wave = 0.1 * np.sin(np.arange(32000) / 20)
    content = encoded(wave, kind)
    (tmp_path / f"a.{kind.lower()}").write_bytes(content)
    (clip,) = load_clips(save(tmp_path / "set", [row(content)]))
    assert info(clip.path) == info(tmp_path / f"a.{kind.lower()}")
    crop = read_samples(clip.path, RATE, 5000, 1000)
    assert np.array_equal(crop, read_samples(tmp_path / f"a.{kind.lower()}", RATE, 5000, 1000))
    assert np.abs(read(clip.path, RATE) - wave).max() < (1e-4 if exact else 0.05)


def test_a_crop_reads_a_part_of_the_bytes_only(tmp_path, monkeypatch):
    """An hour costs no more than a minute: libsndfile seeks in what is mapped."""
    content = encoded(noise(0, 60 * RATE))
    (clip,) = load_clips(save(tmp_path / "set", [row(content)]))
    whole, taken = ArrowRow.open, []

    class Counting(io.RawIOBase):
        def __init__(self, source):
            self.source = source

        def readinto(self, target):
            taken.append(len(target))
            return self.source.readinto(target)

        def seek(self, *where):
            return self.source.seek(*where)

        def tell(self):
            return self.source.tell()

    monkeypatch.setattr(ArrowRow, "open", lambda self: Counting(whole(self)))
    assert len(read_samples(clip.path, RATE, 30 * RATE, RATE)) == RATE
    assert 0 < sum(taken) < len(content) / 4


def test_bytes_are_mapped_and_not_copied(both):
    """Neither Arrow nor Python holds them."""
    import pyarrow

    clips = load_clips(both[1])
    total = sum(clip.path.source.field(clip.path.row, "bytes").as_buffer().size for clip in clips)
    before = pyarrow.total_allocated_bytes()
    tracemalloc.start()
    try:
        readers = [clip.path.open() for clip in clips]
        held = tracemalloc.get_traced_memory()[1] + pyarrow.total_allocated_bytes() - before
    finally:
        tracemalloc.stop()
    assert sum(len(reader.read()) for reader in readers) == total
    assert held < total / 10


def test_pickled_clips_are_their_places(both):
    clips = load_clips(both[1])
    for clip in clips:
        info(clip.path)  # mapped now
    pickled = pickle.dumps(clips)
    assert len(pickled) < 1000 + 200 * len(clips)
    again = pickle.loads(pickled)
    assert again == clips
    for one, other in zip(clips, again, strict=True):
        assert np.array_equal(read(one.path, RATE), read(other.path, RATE))


# ------------------------------------------------------------------------------------------------ columns


def test_columns_mean_what_they_mean_in_a_manifest(tmp_path):
    content = encoded(noise(0, 100))
    columns = {"Label": ["dog; bark;dog", None, "cat"], "split": ["train", "", "test"], "fold": [1, 2, None]}
    columns |= {"caption": ["A dog | a bark", "", "A cat"], "licence": ["CC0"] * 3}
    clips = load_clips(save(tmp_path / "set", [row(content)] * 3, **columns))
    assert [clip.labels for clip in clips] == [("dog", "bark"), (), ("cat",)]
    assert [clip.split for clip in clips] == ["train", None, "test"]
    assert [clip.fold for clip in clips] == ["1", "2", None]
    assert [clip.captions for clip in clips] == [("A dog", "a bark"), (), ("A cat",)]
    assert [clip.id for clip in clips] == [0, 1, 2]
    assert clips.source == tmp_path / "set"


def test_lists_and_class_labels(tmp_path):
    content = encoded(noise(0, 100))
    data = datasets.Dataset.from_dict(
        {
            "sound": [row(content)] * 3,
            "label": [[0, 1], [], [1, 1]],
            "caption": [["a|b"], ["c", "d"], []],
            "split": [0, 1, -1],
        }
    )
    data = data.cast_column("label", datasets.List(datasets.ClassLabel(names=["dog;s", "cat"])))
    data = data.cast_column("split", datasets.ClassLabel(names=["train", "test"]))
    data.save_to_disk(str(tmp_path / "set"))
    clips = load_clips(tmp_path / "set")
    assert [clip.labels for clip in clips] == [("dog;s", "cat"), (), ("cat",)]
    assert [clip.captions for clip in clips] == [("a|b",), ("c", "d"), ()]
    assert [clip.split for clip in clips] == ["train", "test", None]


def test_without_labels_and_as_plain_structs_or_bytes(tmp_path):
    content = encoded(noise(0, 100))
    for name, audio in (("structs", row(content)), ("bytes", content)):
        (clip,) = load_clips(save(tmp_path / name, [audio], feature=False))
        assert (clip.labels, clip.split, clip.captions) == ((), None, ())
        assert len(read(clip.path, RATE)) == 100
    with pytest.raises(DataError, match="no clip has a label"):
        load_task(tmp_path / "structs")
    with pytest.raises(DataError, match="1 of 1 clips have no caption") as caught:
        check_captions(load_clips(tmp_path / "structs"), CaptionsSection(source="caption", encoder="hashing", dim=8))
    assert "row 0" in caught.value.message


def test_a_task_is_read_from_a_data_set(tmp_path):
    audio = [row(encoded(noise(index, 100))) for index in range(8)]
    task = load_task(save(tmp_path / "pets", audio, label=["dog", "cat"] * 4, fold=["1", "1", "2", "2"] * 2))
    assert task.name == "pets"
    assert task.classes == ("cat", "dog")
    assert task.labels.tolist() == [1, 0] * 4
    assert [split.test.tolist() for split in task.splits] == [[0, 1, 4, 5], [2, 3, 6, 7]]


# ------------------------------------------------------------------------------------------------- caches


def test_digests_follow_the_data(tmp_path):
    saved = save(tmp_path / "set", [row(encoded(noise(index, 100))) for index in range(3)])
    first = load_clips(saved)
    (saved / ".ssl-wb-statistics.json").write_text("{}")  # kept there by ourselves
    assert load_clips(saved).digest == first.digest
    assert clips_digest(load_clips(saved)) == clips_digest(first)
    os.utime(next(saved.glob("*.arrow")), (1, 1))
    assert load_clips(saved).digest != first.digest
    assert clips_digest(load_clips(saved)) != clips_digest(first)


def test_rows_have_digests_of_their_own(both):
    """Embeddings of one row are never taken for those of another."""
    clips = load_clips(both[1])
    assert len({clips_digest([clip]) for clip in clips}) == len(clips)


def test_a_set_changed_meanwhile_is_not_read(tmp_path):
    saved = save(tmp_path / "set", [row(encoded(noise(0, 100)))])
    clips = pickle.loads(pickle.dumps(load_clips(saved)))
    os.utime(saved / "state.json", (1, 1))
    with pytest.raises(DataError, match="changed meanwhile"):
        read(clips[0].path, RATE)


# ------------------------------------------------------------------------------------------------- broken


def test_a_broken_row_is_named_and_replaced(both, tmp_path, caplog):
    good = encoded(noise(0, 2000))
    saved = save(tmp_path / "set", [row(good, "a.flac"), row(b"no audio at all", "b.flac"), row(good, "c.flac")])
    dataset = CropDataset(load_clips(saved), RATE, 1000, seed=0)
    with caplog.at_level(logging.WARNING, "ssl_wb"):
        assert dataset[0, 1].clip == 2
        list(batches(dataset, seed=0, first_sample=0, global_batch=3, steps=2))
    assert [record.message.count(f"{saved}: row 1 (b.flac): cannot be read as audio") for record in caplog.records] == [
        1
    ]
    assert [index for index, _ in dataset[0, 1].unreadable] == [1]


@pytest.mark.parametrize(
    ("content", "said"),
    [(None, "row 1 (gone.flac): has no bytes in 'audio'"), (b"", "row 1 (gone.flac): cannot be read as audio")],
)
def test_a_row_without_bytes_is_named(tmp_path, content, said):
    saved = save(tmp_path / "set", [row(encoded(noise(0, 100))), row(content, "gone.flac")], feature=False)
    with pytest.raises(AudioError) as caught:
        read(load_clips(saved)[1].path, RATE)
    assert said in caught.value.message
    assert str(saved) in caught.value.message


def test_many_broken_rows_stop(tmp_path):
    saved = save(tmp_path / "set", [row(b"broken")] * 12)
    dataset = CropDataset(load_clips(saved), RATE, 1000, seed=0)
    with pytest.raises(AudioError, match="12 clips cannot be read"):
        dataset[0, 0]


# ------------------------------------------------------------------------------------------ wrong folders


def test_folders_that_are_none(tmp_path):
    data = datasets.Dataset.from_dict({"text": ["a"], "sound": [0.5]})
    data.save_to_disk(str(tmp_path / "text"))
    assert "no column with audio among 'text' (string), 'sound' (float64)" in refused(tmp_path / "text").message
    datasets.DatasetDict({"train": data, "test": data}).save_to_disk(str(tmp_path / "several"))
    assert "several data sets: train, test" in refused(tmp_path / "several").message
    audio = [row(encoded(noise(0, 100)))]
    datasets.Dataset.from_dict({"a": audio, "b": audio}).save_to_disk(str(tmp_path / "two"))
    assert "several columns could be the audio: 'a', 'b'" in refused(tmp_path / "two").message
    save(tmp_path / "scores", audio, feature=False, label=[{"dog": 1}])
    assert "column 'label' holds" in refused(tmp_path / "scores").message
    data.select([]).save_to_disk(str(tmp_path / "empty"))
    assert "no rows" in refused(tmp_path / "empty").message


def test_folders_that_are_not_whole(both, tmp_path):
    def copied(name):
        return shutil.copytree(both[1], tmp_path / name)

    shard = next(both[1].glob("*.arrow")).name
    (copied("absent") / shard).unlink()
    (copied("cut") / shard).write_bytes((both[1] / shard).read_bytes()[:100])
    (copied("garbage") / "state.json").write_text("{")
    (copied("other") / "state.json").write_text(json.dumps({"unrelated": 1}))
    for name in ("absent", "cut", "garbage", "other"):
        assert "saved data set" in refused(tmp_path / name).message
    (copied("stateless") / "state.json").unlink()
    assert ".arrow" in refused(tmp_path / "stateless").message


def test_without_the_package_the_extra_is_named(both):
    code = (
        "import sys; sys.modules['datasets'] = None\n"
        "from ssl_wb.cli.main import run\n"
        f"sys.exit(run(['pack', {str(both[1])!r}, {str(both[1].parent / 'none')!r}]))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == ExitCode.USAGE
    assert "needs datasets, which is not installed" in done.stderr
    assert "hint: pip install 'ssl-wb[datasets]'" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_packed_set_is_read_by_the_library_itself(both, tmp_path):
    pack_clips(load_clips(both[0]), tmp_path / "set")
    data = datasets.load_from_disk(str(tmp_path / "set"))
    assert data.column_names == ["audio"]
    assert data[2]["audio"]["path"] == "2.flac"
    samples, rate = soundfile.read(io.BytesIO(data[2]["audio"]["bytes"]), dtype="int16")
    expected, _ = soundfile.read(both[0] / "2.flac", dtype="int16")
    assert rate == RATE
    assert np.array_equal(samples, expected)
    assert len(data.shuffle(seed=0).select([1, 2])) == 2
