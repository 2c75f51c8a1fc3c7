"""The linear probe on tasks with known answers, and beside scikit-learn's logistic regression."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import average_precision_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch.nn import functional

from probe_tasks import blobs, several
from ssl_wb.api import DataError, ProbeTask, Split
from ssl_wb.evaluation.baselines import baselines
from ssl_wb.evaluation.embeddings import embed_task
from ssl_wb.probing import training
from ssl_wb.probing.head_ensemble import LinearEnsemble, ModuleEnsemble
from ssl_wb.probing.heads import LinearHead
from ssl_wb.tasks.task import load_task
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
    result = linear(task, epochs=40)
    split = task.splits[0]
    truth = task.labels[split.test]
    expected = [average_precision_score(truth, one, average="macro") for one in result.scores[0].scores]
    assert result.metric == "mAP"
    assert result.per_seed == pytest.approx(expected, abs=1e-6)
    assert result.mean == pytest.approx(np.mean(expected), abs=1e-6)
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


def as_several(task):
    """The same clips with labels that need not exclude each other."""
    labels = np.stack([task.labels % 2 == 0, task.labels > 0], axis=1).astype(np.float32)
    return replace(task, labels=labels, classes=["even", "not 0"])


def as_number(task):
    return replace(task, labels=200.0 + 30.0 * task.embeddings[:, 0].astype(np.float64), classes=["pitch"])


LOSSES = {
    "single": (lambda task: task, lambda logits, labels: functional.cross_entropy(logits, labels)),
    "several": (
        as_several,
        lambda logits, labels: 2 * functional.binary_cross_entropy_with_logits(logits, labels),  # its mean over classes
    ),
    "number": (as_number, lambda logits, labels: 0.5 * functional.mse_loss(logits[:, 0], labels)),
}


@pytest.mark.parametrize("kind", list(LOSSES))
def test_the_step_is_adam_with_l2_on_the_cross_entropy(kind):
    """Every seed is a plain loop of torch.optim.Adam over a Linear, written out here; weights decay, the bias not."""
    change, loss_of = LOSSES[kind]
    task = change(blobs(clips=120, dim=6, spread=2.0))
    rate, decay, epochs, batches = 1e-2, 1e-1, 3, 3
    result = linear(task, (4, 5), lr=rate, weight_decay=decay, epochs=epochs, batch_size=20, refit="never")
    split = task.splits[0]
    scaler = StandardScaler().fit(task.embeddings[split.train].astype(np.float64))
    train, test = (
        torch.from_numpy(scaler.transform(task.embeddings[rows])).float() for rows in (split.train, split.test)
    )
    labels = task.labels[split.train]
    centre, spread = (labels.mean(), labels.std()) if kind == "number" else (0.0, 1.0)
    truth = torch.from_numpy((labels - centre) / spread).float() if kind == "number" else torch.from_numpy(labels)
    for seed, scores in zip((4, 5), result.scores[0].scores, strict=True):
        torch.manual_seed(seed)
        layer = LinearHead(6, scores.shape[1]).linear
        assert layer.bias.abs().max() == 0
        adam = torch.optim.Adam([{"params": [layer.weight], "weight_decay": decay}, {"params": [layer.bias]}], lr=rate)
        for _ in range(epochs):
            for rows in torch.tensor_split(torch.randperm(60), batches):
                adam.zero_grad()
                loss_of(layer(train[rows]), truth[rows]).backward()
                adam.step()
        expected = layer(test).detach().numpy() * spread + centre
        np.testing.assert_allclose(scores, expected, rtol=1e-4, atol=1e-5 * spread)


@pytest.mark.parametrize("kind", [LinearEnsemble, ModuleEnsemble])
def test_heads_side_by_side_are_what_each_is_alone(kind):
    """Grid points, seeds and those that end sooner share products and an optimiser, not numbers."""
    task, options = blobs(clips=120, dim=6, spread=2.0), LinearOptions(batch_size=20)
    data = training._Data(task, task.splits[0].train, True)
    clips = data.clips(task.splits[0].train)
    points = [{"lr": 1e-2, "weight_decay": 1e-1}, {"lr": 1e-3, "weight_decay": 0.0}]
    runs = [training._Run(point, seed, epochs) for point in points for seed, epochs in ((0, 4), (1, 9), (7, 9))]

    def fit(some):
        ensemble = kind if len(some) > 1 else ModuleEnsemble
        return training._fit(lambda settings: LinearHead(6, 4), some, data, clips, None, options, ensemble)

    together, weights = fit(runs), []
    for run, one in zip(runs, together, strict=True):
        (alone,) = fit([run])
        assert one.epoch == alone.epoch == run.epochs
        torch.testing.assert_close(one.head.linear.weight, alone.head.linear.weight, rtol=1e-4, atol=1e-6)
        torch.testing.assert_close(one.head.linear.bias, alone.head.linear.bias, rtol=1e-4, atol=1e-6)
        weights.append(one.head.linear.weight)
    pairs = [(a, b) for a in range(len(runs)) for b in range(a)]
    assert min(float((weights[a] - weights[b]).detach().abs().max()) for a, b in pairs) > 1e-3


def test_patience_is_each_heads_own_beside_others():
    """A head that has stopped is kept as it was at its best epoch, whatever others go on to do."""
    task = blobs(clips=120, dim=6, spread=2.0)
    options = {"epochs": 40, "patience": 2, "refit": "never", "lr": 3e-2, "weight_decay": 0.0}
    together = linear(task, (0, 1, 2, 3), **options)
    epochs = together.settings["chosen"]["split 0"]["epochs"]
    assert len(set(epochs)) > 1
    for seed, (scores, stopped) in enumerate(zip(together.scores[0].scores, epochs, strict=True)):
        alone = linear(task, (seed,), lr=3e-2, weight_decay=0.0, refit="never", epochs=stopped)
        np.testing.assert_allclose(scores, alone.scores[0].scores[0], rtol=1e-3, atol=1e-4)


def test_a_rate_that_diverges_is_not_chosen():
    """What it predicts is NaN, and that is worse than a fit that explains nothing."""
    task = blobs(clips=120, dim=40)
    noise = np.random.default_rng(3).normal(size=120)
    task = replace(task, labels=noise, classes=["noise"])
    chosen = linear(task, lr=[1e-2, 1e30], weight_decay=0.0, epochs=5).settings["chosen"]["split 0"]
    assert chosen["validation"] < 0
    assert chosen["lr"] == 1e-2
    with pytest.raises(DataError, match=r"the head diverged at .*1e\+30"):
        linear(task, lr=1e30, weight_decay=0.0, epochs=5)


def test_equal_numbers_are_no_scale():
    """Their deviation is the rounding of their mean; to divide by it would make other numbers infinite."""
    task = replace(blobs(clips=120), labels=np.where(np.arange(120) < 1, 7.0, 0.1), classes=["level"])
    split = replace(task.splits[0], train=np.arange(1, 60), validation=np.arange(60, 90), test=np.r_[0, 90:120])
    result = linear(replace(task, splits=[split]), lr=1e-3, weight_decay=0.0, epochs=3, refit="never")
    # The layer's first weights are small, and in no unit but the labels' own.
    assert 1e-4 < np.abs(result.scores[0].scores - 0.1).max() < 1.0


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
    # Two points and one test clip: the least that arithmetic of another processor can change.
    clip = 1 / sum(len(split.test) for split in task.splits)
    assert mean == pytest.approx(floor, abs=0.02 + clip)
    assert mean == pytest.approx(logistic_regression(embedded), abs=0.02 + clip)


def test_the_metric_that_is_reported_chooses():
    """Of two decays one answers more clips right, the other more classes: a task of rare classes reports macro F1."""
    random = np.random.default_rng(0)
    labels = np.repeat([0, 1], [360, 40])
    embeddings = (labels[:, None] * 1.2 + random.normal(size=(400, 3))).astype(np.float32)
    order = random.permutation(400)
    split = Split("one", order[:200], order[200:300], order[300:])
    task = ProbeTask("rare", embeddings, labels, ["often", "rarely"], [split])
    values = {}
    for metric in (None, "macro F1", "EER"):
        chosen = linear(replace(task, metric=metric), lr=1e-2, weight_decay=[1e-3, 3e-1], refit="never")
        values[metric] = chosen.settings["chosen"]["one"]["validation"]
    assert values[None] > 0.85  # accuracy
    assert 0.4 < values["macro F1"] < values[None]
    assert -0.5 < values["EER"] < 0  # less is better
