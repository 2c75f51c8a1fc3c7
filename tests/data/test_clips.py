from __future__ import annotations

import os
import time

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ssl_wb.audio.clip import Clip
from ssl_wb.data.clips import load_clips
from ssl_wb.errors import DataError, ExitCode


def manifest(folder, text, name="m.csv"):
    folder.mkdir(exist_ok=True)
    path = folder / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def refused(source):
    with pytest.raises(DataError) as caught:
        load_clips(source)
    assert str(source) in caught.value.message
    assert caught.value.exit_code == ExitCode.USAGE
    return caught.value


# ------------------------------------------------------------------------------------------------ folders


def test_a_folder_is_read_recursively_and_sorted(tmp_path, write_clip):
    for name in ("b.wav", "a/z.flac", "a/B.WAV", ".hidden/x.wav", "a/.hidden.wav"):
        write_clip(tmp_path / name)
    (tmp_path / "notes.txt").write_text("no audio")
    clips = load_clips(tmp_path)
    assert [clip.path.relative_to(tmp_path).as_posix() for clip in clips] == ["a/B.WAV", "a/z.flac", "b.wav"]
    assert [clip.id for clip in clips] == [0, 1, 2]
    assert len(clips) == 3
    assert clips[1] == Clip(tmp_path / "a/z.flac", id=1)


def test_digest_of_a_folder_follows_names_sizes_and_times(make_folder, write_clip):
    folder = make_folder(100, 200)
    digests = [load_clips(folder).digest]
    assert digests == [load_clips(str(folder)).digest]
    write_clip(folder / "000.wav", 101)
    digests.append(load_clips(folder).digest)
    os.utime(folder / "001.wav", (1, 1))
    digests.append(load_clips(folder).digest)
    (folder / "001.wav").rename(folder / "002.wav")
    digests.append(load_clips(folder).digest)
    assert len(set(digests)) == 4


def test_a_dangling_link_is_left_out(make_folder):
    folder = make_folder(100)
    (folder / "x.wav").symlink_to(folder / "nowhere.wav")
    assert len(load_clips(folder)) == 1


def test_a_folder_without_audio_says_what_it_has(tmp_path):
    (tmp_path / "a.docx").touch()
    (tmp_path / "b.wma").touch()
    error = refused(tmp_path)
    assert ".docx, .wma" in error.message
    assert ".flac" in error.hint


def test_an_empty_folder_says_so(tmp_path):
    assert "empty" in refused(tmp_path).message


def test_an_absent_source_says_so(tmp_path):
    assert "no such folder or file" in refused(tmp_path / "nowhere").message


def test_one_audio_file_is_a_set_of_one(tmp_path, write_clip):
    clips = load_clips(write_clip(tmp_path / "a.wav", 8000))
    assert [clip.path for clip in clips] == [tmp_path / "a.wav"]
    assert clips.seconds() == 1.0
    os.utime(tmp_path / "a.wav", (1, 1))
    assert load_clips(tmp_path / "a.wav").digest != clips.digest


def test_another_kind_of_file_says_so(tmp_path):
    (tmp_path / "a.docx").write_bytes(b"PK\x03\x04")
    assert "neither audio nor a manifest CSV" in refused(tmp_path / "a.docx").message


# ---------------------------------------------------------------------------------------------- manifests


def test_a_manifest_with_every_column(make_folder):
    folder = make_folder(100, 100)
    path = manifest(
        folder,
        "\ufeffPath, label ,split,fold,start,duration,licence\r\n"
        "000.wav,dog; barking;dog,train,1,0.5,1.25,CC0\r\n"
        '"001.wav",,,,,,\r\n'
        ",,,,,,\r\n",
    )
    clips = load_clips(path)
    assert clips[0] == Clip(folder / "000.wav", 0.5, 1.25, ("dog", "barking"), "train", "1", 0)
    assert clips[1] == Clip(folder / "001.wav", 0.0, None, (), None, None, 1)
    assert len(clips) == 2
    assert clips.source == path


def test_paths_are_relative_to_the_manifest_or_absolute(tmp_path, make_folder, monkeypatch):
    folder = make_folder(100)
    path = manifest(tmp_path / "lists", f"path\n../clips/000.wav\n{folder / '000.wav'}\n")
    monkeypatch.chdir("/")
    assert [clip.path.resolve() for clip in load_clips(path)] == [folder / "000.wav"] * 2


def test_digest_of_a_manifest_is_of_its_content(make_folder):
    folder = make_folder(100, 100)
    one = load_clips(manifest(folder, "path\n000.wav\n"))
    assert load_clips(manifest(folder, "path\n000.wav\n", "other.csv")).digest == one.digest
    assert load_clips(manifest(folder, "path\n001.wav\n")).digest != one.digest


def test_seconds_count_stretches_and_leave_unreadable_files_out(make_folder):
    folder = make_folder(8000, 16000, 8000)
    (folder / "002.wav").write_text("broken")
    path = manifest(folder, "path,start,duration\n000.wav,0.25,\n001.wav,0.5,0.5\n001.wav,1.5,9\n002.wav,,\n")
    assert load_clips(path).seconds() == pytest.approx(0.75 + 0.5 + 0.5)


def test_all_mistakes_are_told_at_once_with_their_lines(make_folder):
    path = manifest(
        make_folder(100),
        "path,start,duration\n"
        "000.wav,,\n"
        "nowhere.wav,,\n"
        "000.wav,soon,\n"
        "000.wav,-1,\n"
        "000.wav,,0\n"
        "000.wav,,inf\n"
        ",1,2\n"
        "one, two.wav,0,1\n",
    )
    error = refused(path)
    assert error.message.splitlines() == [
        f"{path}: 7 mistakes",
        "  - line 3: no such file: 'nowhere.wav'",
        "  - line 4: start 'soon' is not a number of seconds",
        "  - line 5: start -1 is negative",
        "  - line 6: duration 0 is not above 0",
        "  - line 7: duration 'inf' is not a finite number of seconds",
        "  - line 8: no path",
        "  - line 9: more cells than the header has columns; put double quotes around a path, label or "
        "caption with a comma",
    ]
    assert "path" in error.hint


def test_only_ten_mistakes_are_shown(make_folder):
    error = refused(manifest(make_folder(100), "path\n" + "".join(f"gone{index}.wav\n" for index in range(35))))
    assert "35 mistakes" in error.message
    assert error.message.count("no such file") == 10
    assert error.message.endswith("and 25 more")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("", "the manifest is empty"),
        ("path,label\n", "names no clips"),
        ("path,label\n,\n\n", "names no clips"),
        ("file,label\na.wav,dog\n", "no column 'path' among 'file', 'label'"),
        ("path,path\na.wav,b.wav\n", "'path' appears twice"),
        (b"path\n\xff\xfe.wav\n", "not UTF-8 text (byte 5)"),
        (b"RIFF\x00\x00binary", "no column 'path'"),
        ("path\nfolder\n", "no such file: 'folder'"),
        ('path\n"' + "x" * 200_000 + '"\n', "cannot be read as CSV"),
        ("path\na\x00b.wav\n", "line 2"),
    ],
)
def test_manifests_that_are_none(tmp_path, content, said):
    (tmp_path / "folder").mkdir()
    assert said in refused(manifest(tmp_path, content)).message


@given(content=st.one_of(st.text(max_size=200), st.binary(max_size=200)), header=st.sampled_from(["", "path,start\n"]))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=150, deadline=None)
def test_strange_content_never_ends_in_a_traceback(tmp_path, content, header):
    text = content.encode("utf-8", "surrogatepass") if isinstance(content, str) else content
    path = manifest(tmp_path, header.encode() + text)
    try:
        clips = load_clips(path)
    except DataError as error:
        said = error.message
    else:
        said = str(path) if clips.clips and all(clip.path.is_file() for clip in clips) else "clips that are none"
    assert said.startswith(str(path))


def test_a_long_manifest_is_read_fast(make_folder):
    folder = make_folder(100)
    path = manifest(folder, "path,label\n" + "000.wav,dog\n" * 100_000)
    began = time.perf_counter()
    assert len(load_clips(path)) == 100_000
    assert time.perf_counter() - began < 10


@pytest.mark.parametrize(("column", "meant"), [("offset", "start"), ("end", "duration"), ("Labels", "label")])
def test_a_column_of_other_tools_is_told(make_folder, caplog, column, meant):
    folder = make_folder(1000)
    (folder / "m.csv").write_text(f"path,{column}\n000.wav,0.01\n")
    with caplog.at_level("WARNING", "ssl_wb"):
        load_clips(folder / "m.csv")
    assert f"column {column.lower()!r} is not read; did you mean {meant!r}?" in caplog.text
