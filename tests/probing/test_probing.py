"""An evaluator of anyone's own, written against the API alone, with the shared head, training loop and result."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from probe_tasks import blobs, several
from ssl_wb.api import (
    DataError,
    Evaluator,
    Head,
    HeadOptions,
    LinearHead,
    ProbeTask,
    Rates,
    Split,
    Targets,
    batches_per_epoch,
    pad_batches,
    probe_splits,
    require_labels,
    require_parts,
    settings_grid,
    train_heads,
)


class CosineOptions(HeadOptions):
    lr: Rates = [1e-2, 1e-1]


class CosineHead(Head):
    """Scaled cosine similarity to one learned direction per class."""

    def __init__(self, width, outputs):
        super().__init__()
        self.directions = nn.Parameter(torch.randn(outputs, width))

    def forward(self, inputs):
        return 10 * nn.functional.normalize(inputs, dim=1) @ nn.functional.normalize(self.directions, dim=1).T


class CosineProbe(Evaluator):
    """Probes by cosine similarity."""

    name = "cosine"
    Options = CosineOptions

    def __call__(self, task, seeds):
        require_labels(task, ("single",), "cosine needs one class per clip", "Use linear.")

        def probe(split):
            grid = settings_grid(lr=self.options.lr)
            return train_heads(task, split, seeds, grid, lambda _, shape, n: CosineHead(shape[0], n), self.options)

        return probe_splits(self, task, seeds, probe, note="mine")


def test_an_evaluator_of_ones_own_has_choice_refit_and_interval():
    result = CosineProbe(CosineOptions(epochs=20))(blobs(spread=0.5, held_out=True), (0, 1))
    assert result.mean > 0.95
    assert result.interval[0] <= result.mean <= result.interval[1]
    chosen = result.settings["chosen"]["split 0"]
    assert chosen["lr"] in (1e-2, 1e-1)
    assert chosen["refit"] is True
    assert result.settings["note"] == "mine"
    assert result.settings["seeds"] == [0, 1]
    with pytest.raises(DataError, match=r"cosine needs one class per clip, and its labels are several labels per clip"):
        CosineProbe(CosineOptions())(several(), (0,))


def test_a_subclass_of_the_linear_head_trains_as_itself():
    """Only a plain linear head is trained as a stack of weights, which would skip another forward."""

    class Halved(LinearHead):
        def forward(self, inputs):
            return super().forward(inputs) / 2

    task, options = blobs(), HeadOptions(epochs=2, refit="never")
    (split,) = task.splits
    trained = train_heads(task, split, (0,), [{"lr": 1e-2}], lambda _, shape, n: Halved(shape[0], n), options)
    assert isinstance(trained.heads[0], Halved)
    inputs = trained.inputs[:]
    np.testing.assert_allclose(trained.scores[0], trained.heads[0].linear(inputs).detach().numpy() / 2, rtol=1e-5)


def test_the_grid_is_every_combination_smaller_values_first():
    assert settings_grid(depth=2, lr=[1e-2, 1e-3, 1e-2]) == [{"depth": 2, "lr": 1e-3}, {"depth": 2, "lr": 1e-2}]


@pytest.mark.parametrize(("clips", "size", "batches"), [(10, 4, 3), (5, 4, 2), (3, 2, 1), (1, 4, 1), (8, 4, 2)])
def test_no_batch_holds_one_clip(clips, size, batches):
    assert batches_per_epoch(clips, size) == batches
    assert clips == 1 or min(len(part) for part in np.array_split(np.arange(clips), batches)) > 1


def test_batches_are_padded_at_the_end():
    batches = list(pad_batches((torch.ones(n) for n in (3, 1, 2)), size=2))
    assert [lengths.tolist() for _, lengths in batches] == [[3, 1], [2]]
    assert batches[0][0].tolist() == [[1, 1, 1], [1, 0, 0]]


def test_an_empty_part_is_named():
    rows = np.arange(3)
    task = ProbeTask(
        name="few", embeddings=np.zeros((3, 1)), labels=rows, classes="abc", splits=[Split("s", rows, rows[:0], rows)]
    )
    with pytest.raises(DataError, match="few', s: the validation part is empty"):
        require_parts(task, task.splits[0])


@pytest.mark.parametrize("kind", ["single", "several", "number"])
def test_the_gradient_of_every_loss_is_predictions_less_targets(kind):
    """What the linear stack writes out instead of calling autograd."""
    task = {"single": blobs(), "several": several()}.get(kind)
    if task is None:
        task = ProbeTask(name="n", embeddings=np.zeros((9, 1)), labels=np.arange(9.0), classes=["n"], splits=[])
    rows = np.arange(9)
    targets = Targets(task, rows)
    logits = torch.randn(9, targets.outputs, requires_grad=True)
    truth = targets.of(task.labels[rows])
    targets.loss(logits, truth).backward()
    torch.testing.assert_close(logits.grad, (targets.predictions(logits) - truth).detach() / 9)
