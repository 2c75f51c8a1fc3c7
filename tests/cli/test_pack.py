"""`ssl-wb pack`: what it writes, what it leaves out, and that it writes all or nothing."""

from __future__ import annotations

import io

import datasets
import numpy as np
import pytest
import soundfile

from ssl_wb.audio.decode import read
from ssl_wb.cli.main import run
from ssl_wb.data import pack
from ssl_wb.data.clips import load_clips
from ssl_wb.errors import ExitCode, UsageError

RATE = 16000


@pytest.fixture
def folder(tmp_path):
    """Four clips of 16-bit noise up to full scale: mono, stereo, at another rate, mp3."""
    random = np.random.default_rng(0)
    folder = tmp_path / "clips"
    folder.mkdir()
    samples = random.integers(-32768, 32768, (RATE, 2)).astype(np.int16)
    samples[:2] = [[-32768, 32767], [32767, -32768]]
    soundfile.write(folder / "a.wav", samples[:, 0], RATE, subtype="PCM_16")
    soundfile.write(folder / "b.flac", samples, RATE, subtype="PCM_16")
    soundfile.write(folder / "c.wav", samples[:9000, 1], 22050, subtype="PCM_16")
    soundfile.write(folder / "d.mp3", 0.1 * np.sin(np.arange(RATE) / 9), RATE)
    return folder


def waves(source, rate=RATE):
    return [read(clip.path, rate, start=clip.start, duration=clip.duration) for clip in load_clips(source)]


def nothing_left(tmp_path):
    """Neither the data set nor what it was written into."""
    return not [path.name for path in tmp_path.iterdir() if "out" in path.name]


def test_sixteen_bits_are_kept_bit_for_bit(folder, tmp_path, capsys):
    assert run(["pack", str(folder), str(tmp_path / "out")]) == ExitCode.DONE
    assert "4 of 4 clips" in capsys.readouterr().err
    before, after = waves(folder, RATE), waves(tmp_path / "out", RATE)
    assert np.array_equal(before[0], after[0])
    assert np.array_equal(before[2], after[2])  # resampled when read, as the file is
    for one, other in zip(before, after, strict=True):  # the mean of two channels, and mp3, have more than 16 bits
        assert len(one) == len(other)
        assert np.abs(one - other).max() <= 1.01 / 65536
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        *("data-00000-of-00001.arrow", "dataset_info.json", "state.json"),
    ]


@pytest.mark.parametrize("encoding", ["flac", "wav"])
def test_resampled_as_training_would(folder, tmp_path, encoding):
    out = tmp_path / "out"
    assert run(["pack", str(folder), str(out), "--sample-rate", "8000", "--format", encoding]) == ExitCode.DONE
    for one, other in zip(waves(folder, 8000), waves(out, 8000), strict=True):
        assert np.abs(np.clip(one, -1, 32767 / 32768) - other).max() <= 1.01 / 65536
    for row in datasets.load_from_disk(str(out)):
        content = soundfile.info(io.BytesIO(row["audio"]["bytes"]))
        assert (content.samplerate, content.channels, content.format.lower()) == (8000, 1, encoding)
        assert row["audio"]["path"].endswith(f".{encoding}")


def test_a_manifest_keeps_its_columns_and_its_stretches(folder, tmp_path):
    manifest = folder / "m.csv"
    manifest.write_text(
        "path,start,duration,label,split,fold,caption,caption_embedding\n"
        "a.wav,0.25,0.5,dog;bark,train,1,A dog|It barks,e.npy\n"
        "a.wav,,,cat,test,2,A cat,\n"
        "c.wav,,,,,,,\n"
    )
    np.save(folder / "e.npy", np.zeros(4, np.float32))
    assert run(["pack", str(manifest), str(tmp_path / "out")]) == ExitCode.DONE
    before, after = load_clips(manifest), load_clips(tmp_path / "out")
    for one, other in zip(before, after, strict=True):
        assert (one.labels, one.split, one.fold, one.captions) == (
            other.labels,
            other.split,
            other.fold,
            other.captions,
        )
        assert one.caption_embedding == other.caption_embedding
    for one, other in zip(waves(manifest), waves(tmp_path / "out"), strict=True):
        assert np.array_equal(one, other)
    assert len(waves(tmp_path / "out")[0]) == RATE // 2


def test_several_files_and_batches_are_one_set(folder, tmp_path, monkeypatch):
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    pack.pack_clips(load_clips(folder), whole, threads=3)
    monkeypatch.setattr(pack, "BATCH_BYTES", 1)
    monkeypatch.setattr(pack, "SHARD_BYTES", 40_000)
    pack.pack_clips(load_clips(folder), parts)
    assert len(list(parts.glob("data-0000?-of-0000?.arrow"))) > 1
    for one, other in zip(waves(whole), waves(parts), strict=True):
        assert np.array_equal(one, other)
    again = tmp_path / "again"
    pack.pack_clips(load_clips(parts), again)  # a data set is a source, too
    assert [clip.path.file for clip in load_clips(again)] == ["a.flac", "b.flac", "c.flac", "d.flac"]
    for one, other in zip(waves(parts), waves(again), strict=True):
        assert np.array_equal(one, other)


def test_unreadable_clips_are_left_out_and_told(folder, tmp_path, capsys):
    (folder / "bb.wav").write_bytes(b"broken")
    assert run(["pack", str(folder), str(tmp_path / "out")]) == ExitCode.DONE
    said = capsys.readouterr().err
    assert f"skipped: {folder / 'bb.wav'}: cannot be read as audio" in said
    assert "4 of 5 clips" in said
    assert "1 could not be read" in said
    assert [clip.path.file for clip in load_clips(tmp_path / "out")] == ["a.flac", "b.flac", "c.flac", "d.flac"]


def test_nothing_readable_leaves_nothing(tmp_path, capsys):
    (tmp_path / "clips").mkdir()
    (tmp_path / "clips" / "a.wav").write_bytes(b"broken")
    assert run(["pack", str(tmp_path / "clips"), str(tmp_path / "out")]) == ExitCode.USAGE
    said = capsys.readouterr().err
    assert "none of the 1 clips could be read" in said
    assert "a.wav" in said
    assert nothing_left(tmp_path)


def test_what_goes_beyond_full_scale_is_told(tmp_path, capsys):
    (tmp_path / "clips").mkdir()
    soundfile.write(tmp_path / "clips" / "a.wav", np.array([0.0, 1.5, -1.5, 1.0]), RATE, subtype="FLOAT")
    assert run(["pack", str(tmp_path / "clips"), str(tmp_path / "out")]) == ExitCode.DONE
    assert "1 clips go beyond full scale" in capsys.readouterr().err
    assert (waves(tmp_path / "out")[0] * 32768).tolist() == [0, 32767, -32768, 32767]


def test_an_output_that_is_there_is_refused_and_kept(folder, tmp_path, capsys):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").write_text("keep")
    assert run(["pack", str(folder), str(tmp_path / "out")]) == ExitCode.USAGE
    assert "is already there" in capsys.readouterr().err
    assert (tmp_path / "out" / "mine.txt").read_text() == "keep"
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["mine.txt"]


@pytest.mark.parametrize("failure", [KeyboardInterrupt, OSError(28, "No space left on device"), RuntimeError])
def test_a_broken_run_leaves_nothing(folder, tmp_path, monkeypatch, capsys, failure):
    monkeypatch.setattr(pack, "BATCH_BYTES", 1)
    add = pack._Writer.add
    added = []

    def adding(self, clip, content):
        added.append(clip)
        add(self, clip, content)
        if len(added) == 3:
            raise failure

    monkeypatch.setattr(pack._Writer, "add", adding)
    code = run(["pack", str(folder), str(tmp_path / "out")])
    said = capsys.readouterr().err
    assert len(added) == 3
    assert nothing_left(tmp_path)
    if isinstance(failure, OSError):
        assert code == ExitCode.USAGE
        assert "No space left" in said
    else:
        assert code == (ExitCode.INTERRUPTED if failure is KeyboardInterrupt else ExitCode.UNEXPECTED)


def test_rows_that_got_lost_are_noticed(folder, tmp_path, monkeypatch, capsys):
    flush = pack._Writer._flush

    def losing(self):
        self._rows = self._rows[:-1]
        flush(self)

    monkeypatch.setattr(pack._Writer, "_flush", losing)
    assert run(["pack", str(folder), str(tmp_path / "out")]) == ExitCode.USAGE
    assert "3 rows came out of 4 clips" in capsys.readouterr().err
    assert nothing_left(tmp_path)


@pytest.mark.parametrize(
    "words", [["nowhere", "out"], ["clips", "out", "--sample-rate", "0"], ["clips", "out", "--format", "opus"]]
)
def test_bad_words_are_refused(folder, tmp_path, capsys, words):
    source, out, *more = words
    assert run(["pack", str(tmp_path / source), str(tmp_path / out), *more]) == ExitCode.USAGE
    assert "error: " in capsys.readouterr().err
    assert nothing_left(tmp_path)


def test_an_unknown_encoding_is_refused_by_the_function_too(folder, tmp_path):
    with pytest.raises(UsageError, match="'opus'"):
        pack.pack_clips(load_clips(folder), tmp_path / "out", encoding="opus")


def test_packed_stretches_keep_their_recording_as_a_group(folder, tmp_path):
    manifest = folder / "m.csv"
    manifest.write_text("path,label,start,duration\na.wav,x,0,0.2\na.wav,y,0.5,0.2\n")
    pack.pack_clips(load_clips(manifest), tmp_path / "out")
    assert {clip.group for clip in load_clips(tmp_path / "out")} == {(folder / "a.wav").as_posix()}
