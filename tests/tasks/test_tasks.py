"""Manifests to tasks: labels, splits, folds, draws, and what is said when they do not work out."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ssl_wb.errors import DataError
from ssl_wb.scoring.metrics import METRICS
from ssl_wb.tasks.splits import draw
from ssl_wb.tasks.task import load_task
from ssl_wb.tasks.validation_subset import validation_subset
from task_fakes import labelled, write_manifest

PARTS = ["train", "train", "train", "val", "test"]


def refusal(manifest) -> DataError:
    with pytest.raises(DataError) as caught:
        load_task(manifest)
    assert str(manifest) in caught.value.message
    assert caught.value.hint
    return caught.value


def rows_of(split):
    return sorted([*split.train, *split.validation, *split.test])


def test_a_fixed_split_is_taken_as_written(tmp_path):
    manifest = write_manifest(tmp_path, labelled(20, split=lambda n: PARTS[n % 5]))
    task = load_task(manifest)
    (split,) = task.splits
    assert task.name == "task"
    assert task.classes == ("a", "b")
    assert task.labels.tolist() == [0, 1] * 10
    assert split.validation.tolist() == [3, 8, 13, 18]
    assert split.test.tolist() == [4, 9, 14, 19]
    assert not split.held_out
    assert task.notes == ()
    assert task.chance == 0.5


@pytest.mark.parametrize("word", ["val", "valid", "Validation", " dev "])
def test_words_for_the_validation_part(tmp_path, word):
    parts = ["train", "train", word, "test"]
    task = load_task(write_manifest(tmp_path, labelled(16, classes="ab", split=lambda n: parts[n // 2 % 4])))
    assert len(task.splits[0].validation) == 4


def test_without_validation_a_tenth_of_train_is_held_out_evenly_and_said_so(tmp_path):
    rows = labelled(100, split=lambda n: "train" if n < 80 else "test")
    (split,) = (task := load_task(write_manifest(tmp_path, rows))).splits
    assert split.held_out
    assert len(split.validation) == 8
    assert sorted(task.labels[split.validation].tolist()) == [0] * 4 + [1] * 4
    assert rows_of(split) == list(range(100))
    assert split.test.tolist() == list(range(80, 100))
    assert task.notes == ("no validation part: 10 % of train held out",)


def test_every_fold_is_tested_once_in_the_order_of_their_numbers(tmp_path):
    task = load_task(write_manifest(tmp_path, labelled(60, fold=lambda n: str([10, 2, 1][n // 2 % 3]))))
    assert [split.name for split in task.splits] == ["fold 1", "fold 2", "fold 10"]
    assert sorted(np.concatenate([split.test for split in task.splits])) == list(range(60))
    for split in task.splits:
        assert split.held_out
        assert rows_of(split) == list(range(60))
        assert len(split.validation) == 4
    assert task.notes == ("no validation part: 10 % of the other folds held out",)


def test_split_wins_over_fold_and_says_so(tmp_path):
    task = load_task(write_manifest(tmp_path, labelled(20, split=lambda n: PARTS[n % 5], fold=lambda n: str(n % 2))))
    assert len(task.splits) == 1
    assert task.notes == ("columns 'split' and 'fold': split is used",)


def test_without_columns_clips_are_drawn_evenly_and_said_so(tmp_path):
    task = load_task(write_manifest(tmp_path, labelled(80)))
    (split,) = task.splits
    assert rows_of(split) == list(range(80))
    assert (len(split.train), len(split.validation), len(split.test)) == (48, 12, 20)
    assert split.held_out  # the manifest names no validation part: these clips may train once they have chosen
    assert np.bincount(task.labels[split.test]).tolist() == [10, 10]
    assert task.notes == ("no split: a stratified draw, 60 % train, 15 % validation, 25 % test",)


def test_what_is_selected_of_a_drawn_task_is_a_third_of_all_but_its_test_clips(tmp_path):
    task = load_task(write_manifest(tmp_path, labelled(80)))
    chosen = validation_subset(task, 2000)
    (split,) = chosen.splits
    assert len(chosen.clips) == 60
    assert len(split.test) == 20
    tested = {task.clips[int(row)].path for row in task.splits[0].test}
    assert not tested & {clip.path for clip in chosen.clips}


def test_the_draw_is_the_same_every_time(tmp_path):
    manifest = write_manifest(tmp_path, labelled(40))
    one, two = load_task(manifest).splits[0], load_task(manifest).splits[0]
    np.testing.assert_array_equal(one.test, two.test)
    np.testing.assert_array_equal(one.validation, two.validation)


def test_several_labels_on_one_line_make_a_multi_label_task(tmp_path):
    labels = ["a;b", "b", "", "a"]
    task = load_task(
        write_manifest(tmp_path, [{"label": labels[n % 4], "split": PARTS[n // 4 % 5]} for n in range(40)])
    )
    assert task.multi_label
    assert task.labels.dtype == np.float32
    assert task.labels[:4].tolist() == [[1, 1], [0, 1], [0, 0], [1, 0]]
    assert task.notes == ("10 clips without any label count as negative for all",)
    assert task.measure.name == "mAP"


def test_chance_is_the_most_frequent_class(tmp_path):
    task = load_task(write_manifest(tmp_path, labelled(40, classes="aaab")))
    assert task.chance == pytest.approx(0.8)  # 8 of 10: three tenths of 30 and of 10, rounded


@given(st.lists(st.integers(0, 4), min_size=6, max_size=200), st.floats(0.05, 0.6), st.integers(0, 9))
@settings(max_examples=100, deadline=None)
def test_a_stratified_draw_takes_its_share_of_every_class(labels, share, seed):
    labels = np.array(labels)
    drawn = draw(labels, share, np.random.default_rng(seed))
    assert drawn.tolist() == sorted(set(drawn.tolist()))
    for label in np.unique(labels):
        count, taken = int((labels == label).sum()), int((labels[drawn] == label).sum())
        assert taken < count or count == 0
        assert abs(taken - share * count) <= 1
        if count >= 2:
            assert taken >= 1


@given(st.integers(0, 50))
@settings(max_examples=30, deadline=None)
def test_a_draw_with_several_labels_has_every_class_on_both_sides(seed):
    random = np.random.default_rng(seed)
    labels = (random.random((60, 4)) < 0.3).astype(np.float32)
    labels[:3, 3] = 1
    drawn = draw(labels, 0.2, random)
    rest = np.delete(labels, drawn, axis=0)
    assert len(drawn) == 12
    assert labels[drawn].any(axis=0).all()
    assert rest.any(axis=0).all()


def test_a_draw_with_several_labels_takes_its_share_of_every_class():
    for seed in range(5):
        labels = (np.random.default_rng(seed).random((200, 8)) < 0.12).astype(np.float32)
        drawn = draw(labels, 0.25, np.random.default_rng(0))
        assert len(drawn) == 50
        # One clip of some 20 more or less; drawn whatever the labels, shares are off by 0.1 to 0.25.
        np.testing.assert_allclose(labels[drawn].sum(axis=0) / labels.sum(axis=0), 0.25, atol=0.04)


def test_a_draw_with_several_rare_labels_has_each_on_both_sides():
    for seed in range(20):
        random = np.random.default_rng(seed)
        labels = (random.random((60, 12)) < 0.25 / np.arange(1, 13)).astype(np.float32)
        drawn = draw(labels, 0.25, np.random.default_rng(0))
        counts, there = labels.sum(axis=0), labels[drawn].sum(axis=0)
        assert (there[counts > 1] > 0).all()
        assert (there < counts)[counts > 0].all()


def test_a_class_of_one_clip_stays_on_the_training_side():
    labels = np.zeros((30, 2), np.float32)
    labels[:, 0] = 1
    labels[7, 1] = 1
    assert 7 not in draw(labels, 0.5, np.random.default_rng(0))


def test_no_labels(tmp_path):
    error = refusal(write_manifest(tmp_path, [{"path": "x.wav"}, {"path": "y.wav"}]))
    assert "no clip has a label" in error.message
    assert "label" in error.hint


def test_a_folder_is_no_task(tmp_path):
    assert "folder has no labels" in refusal(tmp_path).message


def test_lines_without_a_label_are_counted_and_named(tmp_path):
    rows = labelled(20)
    for number in range(7):
        rows[number]["label"] = ""
    error = refusal(write_manifest(tmp_path, rows))
    assert "7 of 20 clips have no label: 000.wav, 001.wav, 002.wav, 003.wav, 004.wav and 2 more" in error.message


def test_one_class_only(tmp_path):
    assert "all clips have the label 'a'" in refusal(write_manifest(tmp_path, labelled(8, classes="a"))).message


def test_a_class_missing_from_train_is_named(tmp_path):
    rows = labelled(20, classes="abc", split=lambda n: "train" if n % 3 < 2 else "test")
    error = refusal(write_manifest(tmp_path, rows))
    assert "1 of 3 classes have no clip to train on: c" in error.message


def test_a_class_of_one_fold_is_named_with_the_fold(tmp_path):
    rows = labelled(24, classes="abc", fold=lambda n: "x" if n % 3 == 2 else "yz"[n % 2])
    assert "no clip to train on when fold x is tested: c" in refusal(write_manifest(tmp_path, rows)).message


def test_an_unknown_part_is_named_with_the_nearest(tmp_path):
    rows = labelled(8, split=lambda n: ["train", "tset"][n % 2])
    error = refusal(write_manifest(tmp_path, rows))
    assert "split 'tset' of 001.wav is not known" in error.message
    assert "'test'" in error.message


@pytest.mark.parametrize("missing", ["train", "test"])
def test_a_part_without_clips(tmp_path, missing):
    rows = labelled(8, split={"train": "test", "test": "train"}[missing])
    assert f"names no {missing} clips" in refusal(write_manifest(tmp_path, rows)).message


@pytest.mark.parametrize("column", ["split", "fold"])
def test_a_column_filled_in_here_and_there(tmp_path, column):
    rows = labelled(8, **{column: "train"})
    rows[3][column] = ""
    rows[5][column] = ""
    error = refusal(write_manifest(tmp_path, rows))
    assert f"column '{column}' is empty for 2 of 8 clips, the first being 003.wav" in error.message


def test_one_fold_only(tmp_path):
    assert "one fold only, '1'" in refusal(write_manifest(tmp_path, labelled(8, fold="1"))).message


def test_too_few_clips_to_draw_from(tmp_path):
    error = refusal(write_manifest(tmp_path, [*labelled(6, classes="a"), {"label": "b", "path": "last.wav"}]))
    assert "the smallest class has 1 clips; a draw into train, validation and test needs 3" in error.message


def test_too_few_clips_to_hold_out(tmp_path):
    rows = labelled(2, split="train") + labelled(2, split="test")
    for number, row in enumerate(rows):
        row["path"] = f"{number}.wav"
    assert "too few to hold some out" in refusal(write_manifest(tmp_path, rows)).message


def test_labels_are_read_as_numbers_for_a_metric_of_numbers(tmp_path):
    rows = [{"label": f"{n % 12 + 0.5}"} for n in range(48)]
    manifest = write_manifest(tmp_path, rows)
    task = load_task(manifest, metric="MAE")
    assert task.labels.dtype == np.float64
    assert task.labels[:3].tolist() == [0.5, 1.5, 2.5]
    assert task.classes == ("value",)
    assert task.measure.name == "MAE"
    # Low and high numbers are on all sides, though no class has a clip for each part.
    for part in (task.splits[0].train, task.splits[0].validation, task.splits[0].test):
        assert task.labels[part].min() < 4
        assert task.labels[part].max() > 8
    assert load_task(manifest, metric="r2").chance == 0.0
    assert task.chance == pytest.approx(3.0, abs=0.6)  # mean distance of 12 equal steps to their middle
    assert load_task(manifest).labels.dtype == np.int64


def test_words_are_no_numbers(tmp_path):
    manifest = write_manifest(tmp_path, [*labelled(6), {"label": "nan"}, {"label": "3"}])
    with pytest.raises(DataError, match=r"7 of 8 labels are not numbers: 'a' of 000\.wav") as caught:
        load_task(manifest, metric="R2")
    assert "R2 and MAE want one number per clip" in caught.value.hint
    with pytest.raises(DataError, match="several labels"):
        load_task(write_manifest(tmp_path / "more", [*labelled(6), {"label": "1;2", "path": "x.wav"}]), metric="R2")


@pytest.mark.parametrize(("metric", "chance"), [("accuracy", 0.5), ("macro AUC", 0.5), ("EER", 0.5), ("d-prime", 0.0)])
def test_chance_is_that_of_the_metric(tmp_path, metric, chance):
    task = load_task(write_manifest(tmp_path, labelled(40)), metric=metric)
    assert task.chance == pytest.approx(chance)


def test_chance_is_the_mean_over_folds_of_their_own_test_clips(tmp_path):
    rows = labelled(60, classes="aaab", fold=lambda n: "1" if n < 40 else "2")
    task = load_task(write_manifest(tmp_path, rows), metric="macro f1")
    parts = [METRICS["macro F1"].chance(task.labels[split.test]) for split in task.splits]
    assert parts[0] != parts[1]
    assert task.chance == pytest.approx(np.mean(parts))


def test_chance_leaves_out_a_fold_where_the_metric_is_undefined(tmp_path):
    labels = ["a", "b", "a;b", ""]
    rows = labelled(60, label=lambda n: "" if n < 20 else labels[n % 4], fold=lambda n: str(n // 20))
    task = load_task(write_manifest(tmp_path, rows))
    chances = [METRICS["mAP"].chance(task.labels[split.test]) for split in task.splits]
    assert np.isnan(chances[0])
    assert task.chance == pytest.approx(np.mean(chances[1:]))


def test_a_manifest_tells_its_metric_by_a_column_or_its_name(tmp_path):
    plain = write_manifest(tmp_path, labelled(20))
    assert load_task(plain).metric is None
    shipped = plain.rename(tmp_path / "envsdd.csv")
    assert load_task(shipped).measure.name == "EER"
    assert load_task(shipped, metric="accuracy").measure.name == "accuracy"
    told = write_manifest(tmp_path / "told", labelled(20, Metric=" macro f1 ")).rename(tmp_path / "told" / "envsdd.csv")
    assert load_task(told).metric == "macro F1"
    several = write_manifest(tmp_path / "several", labelled(20, metric=lambda n: ["EER", "mAP"][n % 2]))
    assert load_task(several).metric is None


def test_a_manifest_may_tell_a_metric_of_numbers(tmp_path):
    manifest = write_manifest(tmp_path, [{"label": f"{n % 12 + 0.5}", "metric": "MAE"} for n in range(48)])
    task = load_task(manifest)
    assert task.labels.dtype == np.float64
    assert task.measure.name == "MAE"
    assert load_task(manifest, metric="accuracy").labels.dtype == np.int64


@pytest.mark.parametrize(
    ("column", "reason"),
    [
        ("mAP", "metric 'mAP' is not for labels of one class per clip"),
        ("metres", "metric 'metres' is not known"),
    ],
)
def test_a_told_metric_that_does_not_fit_is_noted_and_not_used(tmp_path, column, reason):
    task = load_task(write_manifest(tmp_path, labelled(20, split=lambda n: PARTS[n // 2 % 5], metric=column)))
    assert task.measure.name == "accuracy"
    (note,) = task.notes
    assert note.startswith(f"reported is accuracy: {reason}")
