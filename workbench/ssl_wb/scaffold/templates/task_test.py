"""Tests of the task."""

from __future__ import annotations

from pathlib import Path

import pytest

from ssl_wb.api import DataError
from ssl_wb.scaffold.templates.task import NewPlugin
from ssl_wb.testing import check_task


def test_it_keeps_the_contract(tmp_path: Path) -> None:
    """Description, rows, folds: everything that the workbench asks of a task."""
    (tmp_path / "labels.csv").write_text("file,label,fold\na.wav,low,1\nb.wav,high,2\n", encoding="utf-8")
    check_task(NewPlugin, root=tmp_path)


def test_rows_of_a_download(tmp_path: Path) -> None:
    """Each line of the table is a clip."""
    (tmp_path / "labels.csv").write_text("file,label,fold\na.wav,low,1\nb.wav,high,2\n", encoding="utf-8")
    rows = NewPlugin().rows(tmp_path)
    assert [(row.path.name, row.labels, row.fold) for row in rows] == [
        ("a.wav", ("low",), "1"),
        ("b.wav", ("high",), "2"),
    ]


def test_an_unknown_label_is_refused(tmp_path: Path) -> None:
    """The message names the place."""
    (tmp_path / "labels.csv").write_text("file,label,fold\na.wav,middle,1\n", encoding="utf-8")
    with pytest.raises(DataError, match="middle"):
        NewPlugin().rows(tmp_path)


def test_a_missing_table_is_refused(tmp_path: Path) -> None:
    """A folder that is another data set is no task."""
    with pytest.raises(DataError, match=r"labels\.csv"):
        NewPlugin().rows(tmp_path)
