"""A resumed run trains on the clips that it began with."""

from __future__ import annotations

import json
import logging
import os
import shutil

import numpy as np
import pytest
import soundfile

from ssl_wb.data.clips import load_clips
from ssl_wb.data.identity import check_identity, describe_identity
from ssl_wb.errors import RunFolderError


@pytest.fixture
def audio(make_folder, tmp_path):
    """A folder of clips, and the record of its identity."""
    folder = make_folder(1000, 1000, 1000, name="audio")
    record = tmp_path / "data.json"
    record.write_text(json.dumps(describe_identity(load_clips(folder))))
    return folder, record


def test_the_same_files_are_the_same(audio, caplog):
    folder, record = audio
    check_identity(load_clips(folder), record)
    assert not caplog.records


@pytest.mark.parametrize("kind", ["folder", "manifest"])
def test_a_replaced_file_is_refused(audio, tmp_path, kind):
    folder, record = audio
    place = folder
    if kind == "manifest":
        place = tmp_path / "m.csv"
        place.write_text("path\n" + "".join(f"audio/{path.name}\n" for path in sorted(folder.iterdir())))
        record.write_text(json.dumps(describe_identity(load_clips(place))))
    soundfile.write(folder / "001.wav", np.zeros(1000, np.int16), 8000, subtype="PCM_16")
    os.utime(folder / "001.wav", (1.0, 1.0))
    with pytest.raises(RunFolderError, match="its files have another content"):
        check_identity(load_clips(place), record)


def test_a_renamed_file_is_refused(audio):
    folder, record = audio
    (folder / "000.wav").rename(folder / "999.wav")
    with pytest.raises(RunFolderError, match="its files have other names"):
        check_identity(load_clips(folder), record)


def test_a_copy_with_other_times_is_the_same(audio, tmp_path, caplog):
    folder, record = audio
    shutil.copytree(folder, tmp_path / "copy", copy_function=shutil.copyfile)
    for path in (tmp_path / "copy").iterdir():
        os.utime(path, (1.0, 1.0))
    with caplog.at_level(logging.WARNING, "ssl_wb"):
        check_identity(load_clips(tmp_path / "copy"), record)
    assert "content of 3 files are as they were" in caplog.text


def test_a_run_of_an_older_version_has_no_record(audio, tmp_path):
    check_identity(load_clips(audio[0]), tmp_path / "absent.json")
