"""The losses against what MATPAC's and MATPAC++'s published code computes (tests/reference/losses.npz)."""

from __future__ import annotations

import pytest
import torch
from torch.testing import assert_close

from ssl_wb.api import Grid, ModelShapes, StepState, linear_schedule
from ssl_wb.plugin.masker import Mask
from ssl_wb.plugin.objective import View
from ssl_wb_plugins.objectives.dino import Dino, DinoHead, DinoOptions
from ssl_wb_plugins.objectives.malap import Malap, MalapOptions, latent_distance
from ssl_wb_plugins.objectives.mcl import Mcl, MclOptions

TOLERANCE = {"rtol": 1e-4, "atol": 1e-5}


@pytest.fixture(scope="module")
def losses(reference):
    return reference("losses")


def state(step: int, total: int, **view) -> StepState:
    """A step in which only the given parts of the one view exist."""
    nothing = torch.zeros(3, 7, dtype=torch.int64)
    return StepState(
        grid=Grid(1, 7),
        views=(View(Mask(nothing, nothing), torch.zeros(3, 1, 16), torch.zeros(3, 7, 256), **view),),
        step=step,
        total_steps=total,
        measure=True,
    )


def shapes(dim: int, total: int = 294816, feature_dim: int | None = None) -> ModelShapes:
    return ModelShapes(dim, feature_dim or dim, 256, Grid(1, 7), 1, total)


def identity(linear: torch.nn.Linear) -> None:
    with torch.no_grad():
        linear.weight.copy_(torch.eye(*linear.weight.shape))
        linear.bias.zero_()


def test_malap_per_patch(losses):
    assert_close(latent_distance(losses["prediction"], losses["target"]), losses["malap_loss"], **TOLERANCE)


def test_malap_objective(losses):
    objective = Malap(MalapOptions(), shapes(16))
    identity(objective.head)
    output = objective(state(0, 10, features=losses["prediction"], target=losses["target"]))
    assert_close(output.loss, losses["malap_loss"].mean(), **TOLERANCE)
    assert_close(output.prediction[0], losses["prediction"])


def test_malap_standardised_target_ignores_scale_and_shift_of_a_patch(losses):
    objective = Malap(MalapOptions(target="standardised"), shapes(16))
    identity(objective.head)
    moved = losses["target"] * 3.0 + 5.0
    plain = objective(state(0, 10, features=losses["prediction"], target=losses["target"])).loss
    assert_close(objective(state(0, 10, features=losses["prediction"], target=moved)).loss, plain)
    l2 = Malap(MalapOptions(), shapes(16))
    l2.load_state_dict(objective.state_dict())
    assert abs(l2(state(0, 10, features=losses["prediction"], target=moved)).loss - plain) > 1e-2


def test_mcl_at_every_stage_of_annealing(losses):
    count = losses["hypotheses"].shape[2]
    objective = Mcl(MclOptions(hypotheses=count, temperature_decay=0.99997), shapes(16, feature_dim=count * 16))
    identity(objective.heads)  # the features are the hypotheses themselves
    for row, step in enumerate(losses["mcl_steps"].tolist()):
        hypotheses = losses["hypotheses"].clone().requires_grad_()
        output = objective(state(step, 294816, features=hypotheses.flatten(2), target=losses["target"]))
        assert_close(output.loss, losses["mcl_loss"][row].mean(), **TOLERANCE)
        output.loss.backward()
        assert_close(hypotheses.grad, losses["mcl_grad_of_mean"][row], **TOLERANCE)
        won = losses["hypotheses"].take_along_dim(losses["mcl_winner"][:, :, None, None], dim=2).squeeze(2)
        assert_close(output.prediction[0], won)


def test_mcl_auto_decay_reaches_the_floor_where_the_published_run_does():
    objective = Mcl(MclOptions(), shapes(16))
    published = Mcl(MclOptions(temperature_decay=0.99997), shapes(16))
    for step in (0, 1000, 100_000, 229_000):
        assert objective.temperature_at(step, 294816) == pytest.approx(published.temperature_at(step, 294816), rel=1e-4)
    assert objective.temperature_at(230_500, 294816) == 1e-4
    assert objective.temperature_at(79, 100) == 1e-4


def test_dino_over_four_calls_with_the_released_centre(losses):
    prototypes = losses["dino_student_logits"].shape[-1]
    options = DinoOptions(prototypes=prototypes, hidden=8, bottleneck=8, center="probabilities", teacher_warmup=9827)
    objective = Dino(options, shapes(prototypes))
    objective.student_head = objective.teacher_head = torch.nn.Identity()  # logits are given
    for call in range(4):
        step = int(losses["dino_temperature_steps"][call])
        assert_close(
            objective.temperature_at(step, 294816),
            float(losses["dino_teacher_temperature"][call]),
            **TOLERANCE,
        )
        assert_close(objective.center, losses["dino_center_used"][call], **TOLERANCE)
        output = objective(
            state(
                step,
                294816,
                prediction=losses["dino_student_logits"][call],
                target=losses["dino_teacher_logits"][call],
            )
        )
        assert_close(output.loss, losses["dino_loss"][call].mean(), **TOLERANCE)
        objective.after_step(step + 1, 294816)
    assert_close(objective.center, losses["dino_center_final"], **TOLERANCE)


def test_dino_centre_of_logits_is_the_default_and_differs(losses):
    prototypes = losses["dino_student_logits"].shape[-1]
    objective = Dino(DinoOptions(prototypes=prototypes, hidden=8, bottleneck=8), shapes(prototypes))
    objective.student_head = objective.teacher_head = torch.nn.Identity()
    logits = losses["dino_teacher_logits"][0]
    objective(state(0, 100, prediction=losses["dino_student_logits"][0], target=logits))
    objective.after_step(1, 100)
    assert_close(objective.center, 0.1 * logits.mean(dim=(0, 1)), **TOLERANCE)
    assert (objective.center - losses["dino_center_used"][1]).abs().max() > 1e-3


def test_dino_centre_moves_once_per_step_whatever_the_micro_batches(losses):
    prototypes = losses["dino_student_logits"].shape[-1]
    centres = []
    for parts in ([slice(0, 3)], [slice(0, 1), slice(1, 2), slice(2, 3)]):
        objective = Dino(DinoOptions(prototypes=prototypes, hidden=8, bottleneck=8), shapes(prototypes))
        objective.student_head = objective.teacher_head = torch.nn.Identity()
        for part in parts:
            objective(
                state(
                    0,
                    100,
                    prediction=losses["dino_student_logits"][0][part],
                    target=losses["dino_teacher_logits"][0][part],
                )
            )
        objective.after_step(1, 100)
        centres.append(objective.center)
    assert_close(centres[0], centres[1])


def test_dino_head(losses):
    head = DinoHead(16, DinoOptions(prototypes=20, hidden=24, bottleneck=8))
    prefix = "dino_head."
    head.load_state_dict({k.removeprefix(prefix): v for k, v in losses.items() if k.startswith(prefix)})
    assert_close(head(losses["dino_head_in"]), losses["dino_head_out"], **TOLERANCE)


def test_ema_schedule(losses):
    for step, decay in zip(losses["ema_steps"].tolist(), losses["ema_decay"].tolist(), strict=True):
        assert linear_schedule(0.99995, 0.99999, step, 294816) == pytest.approx(decay, abs=1e-12)
