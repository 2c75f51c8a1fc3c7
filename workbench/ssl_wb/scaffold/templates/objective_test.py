"""Tests of the objective."""

from __future__ import annotations

from ssl_wb.api import StepState
from ssl_wb.scaffold.templates.objective import NewPlugin, NewPluginOptions
from ssl_wb.testing import SHAPES, check_objective

# Fixtures such as wb_step, a training step.
pytest_plugins = ["ssl_wb.testing.fixtures"]


def test_it_keeps_the_contract() -> None:
    """Loss, gradients, precision, state, devices: everything that the workbench asks of an objective."""
    check_objective(NewPlugin)


def test_the_loss_of_a_perfect_prediction_is_0(wb_step: StepState) -> None:
    """Nothing is left to learn; replace this by what your idea promises."""
    objective = NewPlugin(NewPluginOptions(), SHAPES)
    for view in wb_step.views:
        view.target = objective.head(view.features).detach()
    assert float(objective(wb_step).loss.detach()) == 0.0
