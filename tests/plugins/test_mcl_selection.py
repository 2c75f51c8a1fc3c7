"""Which hypotheses of multiple choice learning learn, and options that make no sense."""

from __future__ import annotations

import pytest
import torch
from pydantic import ValidationError

from ssl_wb.api import Grid, ModelShapes
from ssl_wb_plugins.objectives.dino import DinoOptions
from ssl_wb_plugins.objectives.mcl import Mcl, MclOptions

DISTANCES = torch.tensor([[[0.3, 0.1, 0.9]]])  # [B, Nm, r]


def weights(selection: str) -> torch.Tensor:
    objective = Mcl(MclOptions(hypotheses=3, selection=selection), ModelShapes(8, 8, 256, Grid(1, 4), 1, 100))
    return objective._weights(DISTANCES, objective.temperature_at(0, 100))


def test_the_first_step_of_each_selection():
    torch.testing.assert_close(weights("annealed"), (-DISTANCES / 0.1).softmax(dim=-1))
    torch.testing.assert_close(weights("greedy"), torch.tensor([[[0.0, 1.0, 0.0]]]))
    torch.testing.assert_close(weights("mean"), torch.full((1, 1, 3), 1 / 3))


@pytest.mark.parametrize(
    ("options", "values"),
    [
        (MclOptions, {"temperature": 1e-5}),
        (MclOptions, {"temperature_decay": 1.1}),
        (MclOptions, {"temperature_decay": 0.0}),
        (DinoOptions, {"teacher_temperature": [0.0, 0.07]}),
        (DinoOptions, {"teacher_temperature": [0.04, -0.1]}),
        (DinoOptions, {"head_decay": [0.998, 1.1]}),
    ],
)
def test_nonsense_is_refused(options, values):
    with pytest.raises(ValidationError):
        options(**values)
