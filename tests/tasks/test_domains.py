"""Which group of a table a task belongs to, and where that is written."""

from __future__ import annotations

import csv

import pytest
from task_trees import TREES

from ssl_wb.report.domain_order import in_order
from ssl_wb.tasks.installed import installed_tasks
from ssl_wb.tasks.make import make_manifest
from ssl_wb.tasks.metadata import task_metadata
from ssl_wb.tasks.task import load_task
from task_fakes import labelled, write_manifest

BUNDLED = installed_tasks()


@pytest.mark.parametrize("name", BUNDLED)
def test_a_made_manifest_carries_its_domain_and_metric_whatever_the_file_is_called(name, tmp_path):
    root = tmp_path / "download"
    root.mkdir()
    TREES[name](root)
    out = tmp_path / "anything.csv"
    make_manifest(BUNDLED[name], root, out, allow_missing=True)
    with out.open(newline="") as file:
        told = {(row["domain"], row["metric"]) for row in csv.DictReader(file)}
    assert told == {(BUNDLED[name].domain, BUNDLED[name].metric)}
    assert task_metadata(out).domain == BUNDLED[name].domain
    assert task_metadata(out).metric == BUNDLED[name].metric


def test_a_file_named_as_a_shipped_task_is_known_and_another_is_not(tmp_path):
    manifest = write_manifest(tmp_path, labelled(8))
    assert load_task(manifest).domain is None
    assert load_task(manifest.rename(tmp_path / "voxceleb1.csv")).domain == "speech"


def test_what_is_asked_for_counts_more_than_the_column_and_that_more_than_the_name(tmp_path):
    manifest = write_manifest(tmp_path, labelled(8, Domain=" birds "))
    manifest = manifest.rename(tmp_path / "gtzan.csv")
    assert load_task(manifest).domain == "birds"
    assert load_task(manifest, domain="bats").domain == "bats"
    assert load_task(manifest, domain="").domain is None


def test_a_column_of_several_values_is_somebody_elses(tmp_path):
    manifest = write_manifest(tmp_path, labelled(8, domain=lambda n: ["indoors", "outdoors"][n % 2]))
    assert load_task(manifest).domain is None
    empty = write_manifest(tmp_path / "empty", labelled(8, domain=""))
    assert load_task(empty).domain is None


def test_shipped_domains_come_first_in_their_order():
    assert in_order(["birds", "music", None, "bats", "environment", "music"]) == [
        *("environment", "music", "birds", "bats"),
    ]
    assert in_order([None]) == []
    assert set(in_order(task.domain for task in BUNDLED.values())) == {task.domain for task in BUNDLED.values()}
