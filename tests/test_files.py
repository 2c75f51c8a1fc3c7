"""Files that are there whole or not at all."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from ssl_wb.files import cache_files, cache_folder, may_write, write_atomically, written_aside


def test_a_file_appears_when_it_is_complete(tmp_path):
    path = tmp_path / "new" / "a.txt"
    with written_aside(path) as aside:
        aside.write_text("half")
        assert not path.exists()
        aside.write_text("whole")
    assert path.read_text() == "whole"
    assert [one.name for one in path.parent.iterdir()] == ["a.txt"]


@pytest.mark.parametrize("kind", ["file", "folder", "nothing"])
def test_what_fails_leaves_the_old_content_and_nothing_else(tmp_path, kind):
    def fail():
        with written_aside(tmp_path / "a") as aside:
            if kind == "file":
                aside.write_text("new")
            elif kind == "folder":
                aside.mkdir()
                (aside / "part").write_text("new")
            raise KeyboardInterrupt

    (tmp_path / "a").write_text("old")
    with pytest.raises(KeyboardInterrupt):
        fail()
    assert (tmp_path / "a").read_text() == "old"
    assert [one.name for one in tmp_path.iterdir()] == ["a"]


def test_a_folder_appears_when_it_is_complete(tmp_path):
    with written_aside(tmp_path / "set") as aside:
        (aside / "below").mkdir(parents=True)
        (aside / "below" / "part").write_text("whole")
    assert (tmp_path / "set" / "below" / "part").read_text() == "whole"
    assert [one.name for one in tmp_path.iterdir()] == ["set"]


def test_writers_at_once_do_not_mix(tmp_path):
    path = tmp_path / "a.txt"
    contents = [str(number) * 50_000 for number in range(8)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda content: write_atomically(path, content, sync=False), contents * 4))
    assert path.read_text() in contents
    assert [one.name for one in tmp_path.iterdir()] == ["a.txt"]


def test_text_is_utf_8_with_the_line_ends_it_has(tmp_path):
    write_atomically(tmp_path / "a.txt", "é\r\n\n")
    assert (tmp_path / "a.txt").read_bytes() == b"\xc3\xa9\r\n\n"


def test_a_folder_marked_read_only_is_not_written_even_by_root(tmp_path):
    assert may_write(tmp_path / "new")
    tmp_path.chmod(0o555)
    try:
        assert not may_write(tmp_path)
    finally:
        tmp_path.chmod(0o755)


def test_the_cache_folder_follows_the_environment(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder() == tmp_path / "ssl-wb"
    cached, beside = cache_files(tmp_path / "m.csv", "statistics", "json")
    assert beside == tmp_path / "m.csv.statistics.json"
    assert cached.parent == tmp_path / "ssl-wb"


def test_without_a_home_folder_nothing_is_kept(tmp_path, monkeypatch):
    monkeypatch.setattr("platformdirs.user_cache_path", lambda *_, **__: type(tmp_path)("~/.cache/ssl-wb"))
    assert cache_folder() is None
    assert cache_files(tmp_path, "statistics", "json") == (None, tmp_path / ".ssl-wb-statistics.json")
