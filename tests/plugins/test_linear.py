"""The linear probe on tasks with known answers, and beside scikit-learn's logistic regression."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from probe_tasks import blobs, several
from pydantic import ValidationError
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import average_precision_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from ssl_wb.evaluate.baselines import baselines
from ssl_wb.evaluate.embeddings import embed_task
from ssl_wb.evaluate.tasks import load_task
from ssl_wb_plugins.evaluators.linear import LinearOptions, LinearProbe


def linear(task, seeds=(0, 1), **options):
    return LinearProbe(LinearOptions(**options))(task, seeds)


def logistic_regression(task):
    """Mean test accuracy over splits; held-out validation clips train too, as the probe's own default."""
    values = []
    for split in task.splits:
        refit = split.held_out
        rows = np.concatenate([split.train, split.validation]) if refit else split.train
        model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
        model.fit(task.embeddings[rows], task.labels[rows])
        values.append(model.score(task.embeddings[split.test], task.labels[split.test]))
    return float(np.mean(values))


def test_separable_embeddings_reach_100_per_cent():
    result = linear(blobs(spread=0.05))
    assert result.mean == 1.0
    assert result.interval == (1.0, 1.0)
    assert result.metric == "accuracy"


def test_shuffled_labels_stay_at_chance_within_the_interval():
    task = blobs(clips=600, dim=8)
    task = replace(task, labels=np.random.default_rng(5).permutation(task.labels))
    low, high = linear(task, epochs=60).interval
    assert low <= 0.25 <= high


def test_a_label_leaked_into_the_test_clips_only_is_not_used():
    task = blobs(clips=400, dim=8, spread=30.0)
    test = task.splits[0].test
    task.embeddings[test, : len(task.classes)] += 100.0 * np.eye(len(task.classes))[task.labels[test]]
    low, high = linear(task, epochs=60, seeds=(0, 1, 2)).interval
    # A probe that could see the test clips would be near 100 %.
    assert high < 0.6
    assert low < 0.4


def test_neither_the_choice_nor_the_weights_depend_on_test_labels():
    task = blobs(spread=3.0, clips=200, held_out=True)
    test = task.splits[0].test
    other = task.labels.copy()
    other[test] = (other[test] + 1) % 4
    one, two = linear(task), linear(replace(task, labels=other))
    assert one.settings["chosen"] == two.settings["chosen"]
    # What is right under one labelling is wrong under the other, in every seed.
    both = one.per_clip[test] + two.per_clip[test]
    assert both.max() <= 1.0
    assert one.mean > 0.3


def test_agrees_with_logistic_regression_on_overlapping_classes():
    task = blobs(clips=1500, dim=40, spread=3.0)
    assert linear(task).mean == pytest.approx(logistic_regression(task), abs=0.02)


def test_multi_label_map_is_scikit_learns_and_far_above_chance():
    task = several(clips=600)
    probe = LinearProbe(LinearOptions(epochs=40))
    result = probe(task, (0, 1))
    split = task.splits[0]
    truth = task.labels[split.test]
    scores, _ = probe._probe(task, split, (0, 1))
    expected = np.mean([average_precision_score(truth, one, average="macro") for one in scores])
    assert result.metric == "mAP"
    assert result.mean == pytest.approx(expected, abs=1e-6)
    assert result.mean > truth.mean() + 0.25


def test_seeds_repeat_exactly_and_differ_from_each_other():
    task = blobs(spread=3.0, clips=600)
    one, two = linear(task, seeds=(0, 1, 2), epochs=5), linear(task, seeds=(0, 1, 2), epochs=5)
    assert one.per_seed == two.per_seed
    np.testing.assert_array_equal(one.per_clip, two.per_clip)
    assert len(set(one.per_seed)) > 1
    assert linear(task, seeds=(0,), epochs=5).per_seed == one.per_seed[:1]


def test_a_seed_is_the_same_whatever_is_trained_beside_it():
    """Grid points and seeds share matrix products, not numbers."""
    task = blobs(spread=3.0)
    together = linear(task, seeds=(0, 7), lr=1e-3, weight_decay=1e-3, epochs=20)
    alone = linear(task, seeds=(7,), lr=1e-3, weight_decay=1e-3, epochs=20)
    assert together.per_seed[1] == pytest.approx(alone.per_seed[0])


def test_the_step_is_adam_with_l2_on_the_cross_entropy():
    """The batched update equals torch.optim.Adam on autograd's gradient."""
    import torch

    from ssl_wb_plugins.evaluators import linear as module

    task = blobs(clips=60, dim=6)
    options = LinearOptions(batch_size=1000, epochs=3)
    probe = LinearProbe(options)
    scaler = probe._scaler(task, task.splits[0].train)
    part = module._part(task, task.splits[0].train, scaler)
    trainer = module._Trainer(part, [(1e-2, 1e-1), (1e-3, 0.0)], [3], options)
    weights = trainer.tensors[0][0].clone()  # [D, G, C]
    for point, (rate, decay) in enumerate([(1e-2, 1e-1), (1e-3, 0.0)]):
        layer = torch.nn.Linear(6, 4)
        with torch.no_grad():
            layer.weight.copy_(weights[:, point].T)
            layer.bias.zero_()
        groups = [{"params": [layer.weight], "weight_decay": decay}, {"params": [layer.bias]}]
        adam = torch.optim.Adam(groups, lr=rate)
        with torch.enable_grad():
            for _ in range(3):
                adam.zero_grad()
                loss = torch.nn.functional.cross_entropy(layer(part.inputs), part.targets)
                loss.backward()
                adam.step()
        if point == 0:
            for _ in range(3):
                trainer.epoch()
        torch.testing.assert_close(trainer.tensors[0][0, :, point], layer.weight.T, rtol=1e-4, atol=1e-6)
        torch.testing.assert_close(trainer.tensors[1][0, 0, point], layer.bias, rtol=1e-4, atol=1e-6)


def test_validation_clips_train_again_only_where_they_were_held_out():
    assert linear(blobs(held_out=True), epochs=3).settings["chosen"]["split 0"]["refit"] is True
    assert linear(blobs(held_out=False), epochs=3).settings["chosen"]["split 0"]["refit"] is False
    assert linear(blobs(held_out=True), epochs=3, refit="never").settings["chosen"]["split 0"]["refit"] is False
    assert linear(blobs(held_out=False), epochs=3, refit="always").settings["chosen"]["split 0"]["refit"] is True


def test_patience_stops_early_and_evars_own_settings_run():
    task = blobs(spread=3.0)
    chosen = linear(task, lr=3e-5, weight_decay=1e-8, patience=20, refit="never").settings["chosen"]["split 0"]
    assert chosen["lr"] == 3e-5
    eager = linear(task, lr=1e-2, weight_decay=0.0, patience=1, refit="never").settings["chosen"]["split 0"]
    assert max(eager["epochs"]) < 50
    full = linear(task, lr=1e-2, weight_decay=0.0, epochs=30).settings["chosen"]["split 0"]
    assert full["epochs"] == [30, 30]


def test_the_grid_is_chosen_from_by_validation():
    chosen = linear(blobs(spread=1.0), lr=[1e-7, 1e-2], weight_decay=0.0, epochs=20).settings["chosen"]["split 0"]
    assert chosen["lr"] == 1e-2


@pytest.mark.parametrize("options", [{"lr": 0.0}, {"lr": []}, {"refit": "sometimes"}, {"epochs": 0}, {"lrs": 1.0}])
def test_wrong_options_are_refused(options):
    with pytest.raises(ValidationError):
        LinearOptions(**options)


# The floors of the clips' own README: task, baseline, accuracy of logistic regression there.
FLOORS = [
    ("esc10", "log-mel mean+std", 0.805),
    ("esc10", "log-mel 8 segments", 0.688),
    ("arabic-keywords", "log-mel mean+std", 0.538),
    ("arabic-keywords", "log-mel 8 segments", 0.738),
    ("arabic-speakers", "log-mel mean+std", 0.808),
    ("arabic-speakers", "log-mel 8 segments", 0.812),
]


@pytest.mark.real_audio
@pytest.mark.parametrize(("name", "baseline", "floor"), FLOORS)
def test_log_mel_statistics_of_real_clips_reach_the_floors(real_audio, name, baseline, floor):
    task = load_task(real_audio / f"{name}.csv")
    embedded = task.embedded(embed_task(baselines()[baseline], task))
    mean = linear(embedded, seeds=(0, 1, 2)).mean
    assert mean == pytest.approx(floor, abs=0.02)
    # Two points and one test clip: the least that arithmetic of another processor can change.
    clip = 1 / len(task.splits[0].test)
    assert mean == pytest.approx(logistic_regression(embedded), abs=0.02 + clip)
