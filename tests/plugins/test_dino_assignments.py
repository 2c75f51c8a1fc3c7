"""To which prototypes the classification objective assigns patches."""

from __future__ import annotations

import pytest
import torch
from torch.testing import assert_close

from ssl_wb.api import Grid, Mask, ModelShapes, StepState, View
from ssl_wb_plugins.objectives import dino as module
from ssl_wb_plugins.objectives.dino import Dino, DinoOptions
from ssl_wb_plugins.objectives.malap import Malap, MalapOptions

SHAPES = ModelShapes(16, 8, 256, Grid(2, 3), 1, 100)


@pytest.fixture
def dino() -> Dino:
    torch.manual_seed(0)
    objective = Dino(DinoOptions(prototypes=10, hidden=12, bottleneck=6, teacher_temperature=[0.5, 0.05]), SHAPES)
    with torch.no_grad():
        for weight in objective.parameters():
            weight.add_(0.2 * torch.randn_like(weight))  # the teacher's head is no copy of the student's
    return objective


def test_they_are_what_the_loss_compares_with_after_the_warm_up(dino, monkeypatch):
    torch.manual_seed(1)
    dino.center.copy_(0.2 * torch.randn(10))
    target, prediction = torch.randn(3, 4, 16), torch.randn(3, 4, 16)
    seen = []

    def spy(student, probabilities, temperature):
        seen.append(probabilities)
        return student.sum(dim=-1)

    monkeypatch.setattr(module, "cross_entropy", spy)
    mask = Mask(torch.zeros(3, 2, dtype=torch.int64), torch.zeros(3, 4, dtype=torch.int64))
    view = View(mask, torch.zeros(3, 2, 16), torch.zeros(3, 6, 256), target=target, prediction=prediction)
    dino(StepState(Grid(2, 3), (view,), step=100, total_steps=100))
    assert_close(dino.assignments(target), seen[0])


def test_a_prototype_the_centre_is_full_of_is_left(dino):
    latents = torch.randn(2, 5, 16)
    before = dino.assignments(latents)
    assert before.shape == (2, 5, 10)
    assert_close(before.sum(dim=-1), torch.ones(2, 5))
    favourite = int(before.mean(dim=(0, 1)).argmax())
    dino.center[favourite] += 10.0
    assert (dino.assignments(latents)[..., favourite] < 1e-6).all()


def test_other_objectives_have_no_classes():
    assert Malap(MalapOptions(), SHAPES).assignments(torch.zeros(1, 2, 16)) is None
