"""What evaluators return is checked every time, and a score that is none is never shown as one."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from ssl_wb.api import Evaluator, PluginOptions, ProbedSplit, Result, SplitScores, probe_splits
from ssl_wb.errors import PluginError
from ssl_wb.evaluation.compare import average, averaged
from ssl_wb.evaluation.runner import probe
from ssl_wb.plugin.registry import load_registry
from ssl_wb.plugin.result_checks import check_result, unfit_reason
from ssl_wb.plugin.result_checks import probe as probe_checked
from ssl_wb.report.tables import lay_out
from ssl_wb.tasks.task import load_task
from ssl_wb.testing import tiny_task
from task_fakes import Spectrum, labelled, write_manifest

GOOD = Result("tiny", "bare", "accuracy", 0.5, (0.4, 0.6), {"fold 1": 0.5}, [0.5])


class Bare(Evaluator):
    """Returns what it is told to."""

    name = "bare"
    reason = None

    class Options(PluginOptions):
        """Options."""

        resamples: int = 100

    def __init__(self, result=GOOD):
        super().__init__(self.Options())
        self.result = result

    def fits(self, task):
        return self.reason

    def __call__(self, task, seeds):
        return self.result


class Diverged(Bare):
    """Its heads gave NaN for some clips."""

    name = "diverged"

    def __call__(self, task, seeds):
        def probed(split):
            scores = np.zeros((len(seeds), len(split.test), len(task.classes)))
            scores[0, :3] = np.nan
            return ProbedSplit(scores, {})

        return probe_splits(self, task, seeds, probed)


WRONG = [
    (None, "return a Result; seen: NoneType"),
    ({"metric": ""}, "name its metric"),
    ({"mean": np.float32(0.5)}, "plain numbers as figures; seen: mean is float32"),
    ({"mean": "0.5"}, "plain numbers as figures; seen: mean is str"),
    ({"mean": float("inf")}, "finite figures; seen: mean is inf"),
    ({"per_seed": [float("-inf")]}, "finite figures; seen: per_seed[0] is -inf"),
    ({"interval": (0.6, 0.4)}, "an interval from low to high; seen: 0.6 to 0.4"),
    ({"interval": 0.4}, "an interval of two numbers"),
    ({"per_fold": [0.5]}, "per_fold and table as figures by name"),
    ({"table": {"F1": None}}, "table['F1'] is NoneType"),
    ({"settings": {"width": np.int64(3)}}, "plain values, which JSON has, as settings"),
    ({"detail": {"values": np.zeros(3)}}, "plain values, which JSON has, as detail"),
    ({"notes": "one sentence"}, "a tuple of sentences as notes"),
    ({"per_clip": np.zeros(3, dtype=np.float32)}, "per_clip [clips] = [60]; seen: [3]"),
]


@pytest.mark.parametrize(("changes", "text"), WRONG)
def test_a_wrong_result_is_refused(changes, text):
    result = changes if changes is None else replace(GOOD, **changes)
    with pytest.raises(PluginError, match="evaluator 'bare'") as caught:
        probe_checked(Bare(result), tiny_task(), [0])
    assert text in caught.value.message


def test_scores_of_other_clips_are_refused():
    task = tiny_task()
    for shape in ((1, 3, 3), (30, 3)):
        with pytest.raises(PluginError, match="with 30 test clips; seen"):
            check_result(Bare(), task, replace(GOOD, scores=(SplitScores(task.splits[0], np.zeros(shape)),)))


def test_predictions_that_are_not_finite_have_no_score():
    """An argmax of NaN is the first class: the score would look like chance."""
    task = tiny_task()
    assert Diverged()(task, [0, 1]).mean > 0.2
    result = probe_checked(Diverged(), task, [0, 1])
    assert np.isnan([result.mean, *result.interval, *result.per_seed]).all()
    assert result.notes[-1] == "diverged has no score: 3 of 60 predictions are not finite numbers"
    assert not result.table
    assert not result.scores


def test_a_nan_names_its_evaluator():
    result = probe_checked(Bare(replace(GOOD, mean=float("nan"))), tiny_task(), [0])
    assert result.notes == ("bare has no score: accuracy is NaN",)


@pytest.mark.parametrize("answer", ["", " ", False, 3])
def test_a_reason_is_a_sentence(answer):
    evaluator = Bare()
    evaluator.reason = answer
    with pytest.raises(PluginError, match="None or a reason from fits"):
        unfit_reason(evaluator, tiny_task())


@pytest.mark.parametrize(
    ("name", "labels", "reason"),
    [
        ("clusters", "several", "clusters are compared with one class per clip, and its labels are several labels"),
        ("retrieval", "number", "retrieval needs classes, and its labels are numbers"),
        ("linear", "number", None),
    ],
)
def test_bundled_reasons(name, labels, reason):
    plugin = load_registry().get("evaluator", name)
    found = unfit_reason(plugin(plugin.Options()), tiny_task("clip", labels))
    assert (found is None) if reason is None else found.startswith(reason)


def test_an_empty_part_is_told_beforehand():
    plugin = load_registry().get("evaluator", "linear")
    task = tiny_task()
    split = replace(task.splits[0], validation=task.splits[0].validation[:0])
    assert (
        unfit_reason(plugin(plugin.Options()), replace(task, splits=[split])) == "fold 1: the validation part is empty"
    )


@pytest.fixture
def task(tmp_path):
    return load_task(write_manifest(tmp_path, labelled(60, classes="abc", fold=lambda n: str(n // 3 % 3))))


class Never(Bare):
    """Fits no task."""

    name = "never"
    level = "audio"
    reason = "it needs stereo"

    def __call__(self, task, seeds):
        raise AssertionError("it was asked all the same")


def test_a_cell_is_empty_with_its_reason_and_the_table_stands(task):
    knn = load_registry().get("evaluator", "knn")
    failures = []
    evaluators = [("never", Never()), ("knn", knn(knn.Options(resamples=100)))]
    rows = probe({"one": Spectrum()}, [task], evaluators, [0], failed=lambda *what: failures.append(what))
    assert not failures
    by_name = {row.evaluator: row for row in rows}
    # An encoder of embeddings only has no row of level audio at all.
    assert list(by_name) == ["knn"]
    Never.level = "clip"
    try:
        rows = probe({"one": Spectrum()}, [task], evaluators, [0], failed=lambda *what: failures.append(what))
    finally:
        Never.level = "audio"
    assert [row.evaluator for row in rows] == ["never", "knn"]
    layout = lay_out(rows)
    line = layout.rows[0]
    assert line[1] == ""
    assert line[2].startswith("100.0")
    assert layout.rows[-1][1] == ""  # no chance beside a score that there is not
    assert f"{task.name}: no score of never: it needs stereo" in layout.notes
    value = json.loads(json.dumps(rows[0].as_json()))
    assert (value["mean"], value["chance"], value["per_seed"]) == (None, None, [])


def test_a_wrong_result_costs_its_own_row_only(task):
    failures = []
    broken = Bare(replace(GOOD, mean=float("inf")))
    knn = load_registry().get("evaluator", "knn")
    evaluators = [("broken", broken), ("knn", knn(knn.Options(resamples=100)))]
    rows = probe({"one": Spectrum()}, [task], evaluators, [0], failed=lambda what, error: failures.append(error))
    assert [row.evaluator for row in rows] == ["knn"]
    assert isinstance(failures[0], PluginError)


def test_averages_leave_out_a_task_without_scores(task):
    other, third = replace(task, name="other"), replace(task, name="third")
    knn = load_registry().get("evaluator", "knn")
    rows = probe({"one": Spectrum()}, [task, other, third], [("knn", knn(knn.Options(resamples=100)))], [0])
    rows[0] = replace(rows[0], result=replace(rows[0].result, mean=float("nan")))
    assert averaged(rows, "knn") == ["other", "third"]
    assert average(rows, "one", "knn") == pytest.approx(1.0)
