"""The pretext model: what is built, and what maskers that look at latents may not break."""

from __future__ import annotations

import pytest
import torch
from torch.testing import assert_close

from ssl_wb.api import Grid, ModelShapes
from ssl_wb.plugin.masker import Mask, Masker
from ssl_wb.pretext.inputs import StepInputs
from ssl_wb.pretext.model import PretextModel, WeightedObjective
from ssl_wb.pretext.predictor import Predictor
from ssl_wb.pretext.teacher import teacher_decay
from ssl_wb.recipe.schema import PredictorSection, TeacherSection
from ssl_wb_plugins.backbones.vit import Vit, VitOptions
from ssl_wb_plugins.maskers.random import RandomMasker, RandomOptions
from ssl_wb_plugins.objectives.malap import Malap, MalapOptions
from ssl_wb_plugins.objectives.reconstruction import Reconstruction, ReconstructionOptions

SHAPES = ModelShapes(16, 8, 256, Grid(2, 4), 1, 100)


class ByLength(Masker):
    """Masks the patches whose latents are longest."""

    name = "by-length"
    needs_latents = True

    def __call__(self, request):
        assert request.latents is not None
        return (Mask.from_scores(request.latents().norm(dim=2), 3),)


def build(objective, masker=None, **teacher) -> PretextModel:
    torch.manual_seed(0)
    backbone = Vit(VitOptions(dim=16, depth=2, heads=2), 32)
    return PretextModel(
        backbone=backbone,
        masker=masker or RandomMasker(RandomOptions()),
        predictor=Predictor(PredictorSection(dim=8, depth=1, heads=2), 16, 1),
        teacher=TeacherSection(**teacher),
        objectives=[WeightedObjective("loss", 1.0, objective)],
        shapes=SHAPES,
        seed=0,
    )


def test_a_teacher_is_built_only_when_somebody_needs_a_target():
    assert build(Reconstruction(ReconstructionOptions(), SHAPES)).teacher is None
    assert build(Malap(MalapOptions(), SHAPES)).teacher is not None


def test_the_teacher_starts_as_a_copy_or_with_weights_of_its_own_and_follows_the_student():
    copied = build(Malap(MalapOptions(), SHAPES))
    assert_close(copied.teacher.blocks[0].mlp.fc1.weight, copied.backbone.trunk.blocks[0].mlp.fc1.weight)
    own = build(Malap(MalapOptions(), SHAPES), init="independent", decay=[0.5, 0.5])
    student = own.backbone.trunk.blocks[0].mlp.fc1.weight
    before = (own.teacher.blocks[0].mlp.fc1.weight - student).norm()
    assert before > 0.1
    own.after_step(1)
    assert_close((own.teacher.blocks[0].mlp.fc1.weight - student).norm(), before / 2)
    assert not any(parameter.requires_grad for parameter in own.teacher.parameters())


def test_a_masker_that_looks_at_latents_leaves_the_student_its_gradients_under_autocast():
    model = build(Malap(MalapOptions(), SHAPES), ByLength(ByLength.Options()))
    with torch.autocast("cpu", torch.bfloat16):
        loss = model(StepInputs(torch.randn(2, 32, 64), step=0)).loss
    loss.backward()
    for name, parameter in model.backbone.named_parameters():
        assert parameter.grad is not None, name


@pytest.mark.parametrize("rows", [[slice(0, 4)], [slice(0, 2), slice(2, 4)]])
def test_masks_follow_the_step_and_not_the_split_of_the_batch(rows):
    model = build(Malap(MalapOptions(), SHAPES))
    spectrogram = torch.randn(4, 32, 64)

    def drawn(part: slice, step: int) -> torch.Tensor:
        inputs = StepInputs(spectrogram[part], step=step, first_row=part.start, global_rows=4)
        return model._draw_masks(model._versions(inputs.spectrogram), inputs)[0].visible

    whole = drawn(slice(0, 4), 5)
    assert torch.equal(whole, torch.cat([drawn(part, 5) for part in rows]))
    assert not torch.equal(whole, drawn(slice(0, 4), 6))
    assert torch.isfinite(model(StepInputs(spectrogram, step=5)).loss)


def test_the_decay_reaches_its_end_with_the_last_update_or_after_it():
    """M2D divides its ramp by the steps less one."""
    decays = {
        end: [teacher_decay(TeacherSection(decay=[0.5, 0.9], decay_end=end), step, 5) for step in range(5)]
        for end in ("last", "after")
    }
    assert decays["last"] == pytest.approx([0.5, 0.6, 0.7, 0.8, 0.9])
    assert decays["after"] == pytest.approx([0.5, 0.58, 0.66, 0.74, 0.82])
