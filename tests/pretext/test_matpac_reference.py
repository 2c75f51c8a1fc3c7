"""One whole MATPAC++ training step against the published code (tests/reference/tiny_matpac_pretraining*)."""

from __future__ import annotations

import pytest
import torch
from torch.testing import assert_close

from ssl_wb.api import Grid, ModelShapes
from ssl_wb.plugin.masker import Mask
from ssl_wb.pretext.inputs import StepInputs
from ssl_wb.pretext.model import PretextModel, WeightedObjective
from ssl_wb.pretext.predictor import Predictor
from ssl_wb.recipe.schema import PredictorSection, TeacherSection
from ssl_wb_plugins.backbones.vit import Vit, VitOptions
from ssl_wb_plugins.maskers.random import RandomMasker, RandomOptions
from ssl_wb_plugins.objectives.dino import Dino, DinoOptions
from ssl_wb_plugins.objectives.mcl import Mcl, MclOptions

TOTAL = 294816


@pytest.fixture(scope="module")
def io(reference):
    return reference("tiny_matpac_pretraining_io")


@pytest.fixture
def model(reference_weights) -> PretextModel:
    weights = reference_weights("tiny_matpac_pretraining.pt")["model"]
    shapes = ModelShapes(48, 24, 256, Grid(5, 19), 1, TOTAL)
    section = PredictorSection(dim=24, depth=2, heads=4)
    backbone = Vit(VitOptions(dim=48, depth=2, heads=4), 80)
    built = PretextModel(
        backbone=backbone,
        masker=RandomMasker(RandomOptions()),
        predictor=Predictor(section, 48, 1),
        teacher=TeacherSection(),
        objectives=[
            WeightedObjective("mcl", 0.5, Mcl(MclOptions(temperature_decay=0.99997), shapes)),
            WeightedObjective(
                "dino",
                0.5,
                Dino(DinoOptions(prototypes=40, hidden=32, center="probabilities", teacher_warmup=9827), shapes),
            ),
        ],
        shapes=shapes,
        seed=0,
    )
    built.load_state_dict(ours(weights))
    return built


def ours(weights: dict) -> dict[str, torch.Tensor]:
    """Rename the published state to ours; their position tables are ours by construction and are left out."""
    state = {
        "backbone.cls_token": weights["cls_token"],
        "backbone.proj.weight": weights["patch_embed.proj.weight"].flatten(1),
        "backbone.proj.bias": weights["patch_embed.proj.bias"],
        "predictor.mask_token": weights["decoder.mask_token"],
        "objectives.dino.center": weights["cls_head_loss.center"].flatten(),
        "objectives.mcl.heads.weight": torch.cat([weights[f"mcl_heads.mcl_heads.{k}.weight"] for k in range(5)]),
        "objectives.mcl.heads.bias": torch.cat([weights[f"mcl_heads.mcl_heads.{k}.bias"] for k in range(5)]),
    }
    renamed = {
        "student_encoder.": "backbone.trunk.",
        "decoder.decoder_blocks.": "predictor.blocks.",
        "decoder.decoder_embed.": "predictor.embed.",
        "decoder.decoder_norm.": "predictor.norm.",
        "cls_student_head.": "objectives.dino.student_head.",
    }
    for key, value in weights.items():
        for theirs, mine in renamed.items():
            if key.startswith(theirs):
                state[mine + key.removeprefix(theirs)] = value
    state |= {f"teacher.{key}": value for key, value in weights["_ema"].items()}
    state |= {f"objectives.dino.teacher_head.{key}": value for key, value in weights["_cls_head_ema"].items()}
    return state


def masks(io) -> tuple[Mask]:
    visible = int(io["visible_count"])
    order = io["patch_order"]
    return (Mask(order[:, :visible], order[:, visible:]),)


def test_position_tables_are_the_published_ones(model, reference_weights):
    weights = reference_weights("tiny_matpac_pretraining.pt")["model"]
    grid = Grid(5, 19)
    assert_close(model.backbone.positions(grid, torch.device("cpu")), weights["pos_embed"][:, 1:])
    assert_close(model.predictor._positions(grid, torch.device("cpu")), weights["decoder.decoder_pos_embed"][:, 1:])
    assert weights["pos_embed"][:, 0].abs().max() == 0


def test_the_whole_step(model, io):
    step = int(io["step"])
    output = model(StepInputs(io["spectrogram"], step=step, masks=masks(io)))
    assert_close(output.metrics["mcl.loss"], io["loss_prediction"].mean(), rtol=1e-4, atol=1e-5)
    assert_close(output.metrics["dino.loss"], io["loss_classification"].mean(), rtol=1e-4, atol=1e-5)
    assert_close(output.loss.double(), io["loss_total"], rtol=1e-4, atol=1e-5)
    output.loss.backward()
    modules = {
        "cls_token": [model.backbone.cls_token],
        "patch_embed": list(model.backbone.proj.parameters()),
        "student_encoder": list(model.backbone.trunk.parameters()),
        "mcl_heads": list(model.objectives["mcl"].parameters()),
        "decoder": list(model.predictor.parameters()),
        "cls_student_head": list(model.objectives["dino"].student_head.parameters()),
    }
    for name, parameters in modules.items():
        norm = torch.stack([p.grad.double().norm() for p in parameters if p.grad is not None]).norm()
        assert_close(norm, io[f"grad_norm.{name}"], rtol=1e-3, atol=0.0)
    model.objectives["dino"].after_step(step + 1, TOTAL)
    assert_close(model.objectives["dino"].center, io["center_after"], rtol=1e-4, atol=1e-5)


def test_decays_at_the_step(model, io):
    step = int(io["step"])
    assert model.teacher_decay(step) == pytest.approx(float(io["encoder_ema_decay"]), abs=1e-12)
    head = model.objectives["dino"].options.head_decay
    assert head[0] + (head[1] - head[0]) * step / TOTAL == pytest.approx(float(io["head_ema_decay"]), abs=1e-12)


def test_the_teacher_sees_the_masked_patches_only(model, io):
    before = model(StepInputs(io["spectrogram"], step=0, masks=masks(io))).metrics["mcl.loss"]
    (mask,) = masks(io)
    (view,) = model._encode_views([_version(model, io, zero=mask.visible)], (mask,))
    (plain,) = model._encode_views([_version(model, io, zero=None)], (mask,))
    assert_close(view.target, plain.target)
    assert (view.latents - plain.latents).abs().max() > 1e-3
    assert torch.isfinite(before)


def _version(model, io, zero):
    from ssl_wb.layers.patches import patchify
    from ssl_wb.pretext.model import _Version

    patches = patchify(io["spectrogram"], model.backbone.patch)
    if zero is not None:
        patches = patches.scatter(1, zero[:, :, None].expand(-1, -1, patches.shape[2]), 0.0)
    return _Version(model, patches, Grid(5, 19))
