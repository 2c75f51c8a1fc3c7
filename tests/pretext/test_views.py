"""Several views of a clip: joined passes, own versions, one teacher pass, several objectives, noise in the layers."""

from __future__ import annotations

import pytest
import torch
from torch.testing import assert_close

from ssl_wb.api import Grid, ModelShapes
from ssl_wb.layers.patches import patchify
from ssl_wb.layers.transformer import Attention
from ssl_wb.plugin.masker import Mask, Masker
from ssl_wb.pretext.inputs import StepInputs
from ssl_wb.pretext.model import PretextModel, WeightedObjective
from ssl_wb.pretext.predictor import ConvPredictor, Predictor
from ssl_wb.recipe.schema import PredictorSection, TeacherSection
from ssl_wb_plugins.backbones.vit import Vit, VitOptions
from ssl_wb_plugins.maskers.ibm import IbmMasker, IbmOptions
from ssl_wb_plugins.maskers.random import RandomMasker, RandomOptions
from ssl_wb_plugins.maskers.time_frequency import TimeFrequencyMasker, TimeFrequencyOptions
from ssl_wb_plugins.objectives.eat import Eat, EatOptions
from ssl_wb_plugins.objectives.infonce import InfoNce, InfoNceOptions
from ssl_wb_plugins.objectives.malap import Malap, MalapOptions

GRID = Grid(2, 5)


def shapes(views: int, sees: str = "masked") -> ModelShapes:
    return ModelShapes(16, 8, 256, GRID, views, 100, teacher_sees=sees)


def build(masker: Masker, *objectives, vit: dict | None = None, conv: bool = False, **teacher) -> PretextModel:
    torch.manual_seed(0)
    kind = ConvPredictor if conv else Predictor
    backbone = Vit(VitOptions(dim=16, depth=3, heads=2, **(vit or {})), 32, 80)
    return PretextModel(
        backbone=backbone,
        masker=masker,
        predictor=kind(PredictorSection(dim=8, depth=1, heads=2), 16, backbone.prefix_tokens),
        teacher=TeacherSection(**teacher),
        objectives=[WeightedObjective(type(each).name, 1.0, each) for each in objectives],
        shapes=shapes(masker.views),
        seed=0,
    )


def spectrogram(rows: int = 4) -> torch.Tensor:
    return torch.randn(rows, 32, 80, generator=torch.Generator().manual_seed(1))


def test_views_of_equal_counts_share_a_pass_and_are_what_they_are_alone():
    model = build(RandomMasker(RandomOptions(ratio=0.5, views=3)), Malap(MalapOptions(), shapes(3)))
    calls = []
    model.backbone.trunk.register_forward_pre_hook(lambda module, args: calls.append(args[0].shape[0]))
    versions = model._versions(spectrogram())
    masks = model.masker(_request(model, versions[0]))
    together = model._encode_views(versions, masks)
    assert calls == [12]
    for mask, view in zip(masks, together, strict=True):
        (alone,) = model._encode_views(versions, (mask,))
        for part in ("latents", "features", "target"):
            assert_close(getattr(view, part), getattr(alone, part), rtol=1e-4, atol=1e-5)


def _request(model, version):
    from ssl_wb.api import MaskRequest

    return MaskRequest(version.patches, version.grid, 0.5, torch.Generator().manual_seed(0))


def test_contrast_and_latent_prediction_on_the_same_two_views():
    two = shapes(2)
    masker = TimeFrequencyMasker(TimeFrequencyOptions())
    model = build(masker, InfoNce(InfoNceOptions(hidden=8, out=4), two), Malap(MalapOptions(), two))
    output = model(StepInputs(spectrogram(), step=1, measure=True))
    assert_close(output.loss.detach(), output.metrics["infonce.loss"] + output.metrics["malap.loss"])
    output.loss.backward()
    missing = [name for name, weight in model.named_parameters() if weight.requires_grad and weight.grad is None]
    assert missing == []
    only = build(masker, InfoNce(InfoNceOptions(hidden=8, out=4), two))
    assert only.teacher is None


def test_each_view_hears_its_own_reading():
    model = build(RandomMasker(RandomOptions(ratio=0.5, views=2)), Malap(MalapOptions(), shapes(2)))
    both = torch.stack([spectrogram(), spectrogram().flip(0)], dim=1)  # [B, V, F, T]
    versions = model._versions(both)
    views = model._encode_views(versions, model._draw_masks(versions, at(3)))
    assert torch.equal(views[0].patches, patchify(both[:, 0], (16, 16)))
    assert torch.equal(views[1].patches, patchify(both[:, 1], (16, 16)))
    shared = model._draw_masks(model._versions(spectrogram()), at(3))
    for view, mask in zip(views, shared, strict=True):  # random masks do not look at what is heard
        assert torch.equal(view.mask.visible, mask.visible)
    assert torch.isfinite(model(StepInputs(both, step=3)).loss)


def at(step: int) -> StepInputs:
    return StepInputs(spectrogram(), step=step)


class Loudest(Masker):
    """Masks the loudest patches; its second view is the first."""

    name = "loudest"
    views = 2

    def __call__(self, request):
        mask = Mask.from_scores(request.patches.mean(dim=2), 5)
        return mask, mask


def test_a_masker_that_looks_at_pixels_looks_at_the_view_s_own():
    model = build(Loudest(Loudest.Options()), Malap(MalapOptions(), shapes(2)))
    both = torch.stack([spectrogram(), -spectrogram()], dim=1)
    first, second = model._draw_masks(model._versions(both), at(0))
    assert torch.equal(first.visible, second.masked)


class FromTeacher(RandomMasker):
    """Asks for the teacher's latents and masks at random."""

    needs_latents = True
    latents_from = "teacher"

    def __call__(self, request):
        self.seen = request.latents()
        return super().__call__(request)


@pytest.mark.parametrize(("sees", "passes"), [("all", 1), ("masked", 2)])
def test_a_teacher_that_sees_all_serves_masker_and_targets_in_one_pass(sees, passes):
    masker = FromTeacher(RandomOptions(ratio=0.5, views=3))
    model = build(masker, Malap(MalapOptions(), shapes(3, sees)), sees=sees, init="independent")
    calls = []
    model.teacher.register_forward_pre_hook(lambda module, args: calls.append(args[0].shape))
    output = model(StepInputs(spectrogram(), step=0))
    assert len(calls) == passes
    assert masker.seen.shape == (4, 10, 16)
    output.loss.backward()
    assert model.backbone.proj.weight.grad is not None


def test_target_layers_are_the_mean_of_the_teacher_s_blocks_normed_and_standardised():
    options = MalapOptions(target="layers", layers=[2, 3])
    model = build(RandomMasker(RandomOptions(ratio=0.5)), Malap(options, shapes(1)))
    versions = model._versions(spectrogram())
    masks = model._draw_masks(versions, at(0))
    (view,) = model._encode_views(versions, masks)
    tokens = model.backbone.embed(versions[0].patches, GRID, masks[0].masked)
    blocks = model.teacher.layers(tokens)
    mean = model.teacher.norm((blocks[1] + blocks[2]) / 2)[:, 1:]
    expected = (mean - mean.mean(-1, keepdim=True)) / (mean.var(-1, keepdim=True) + 1e-6).sqrt()
    assert_close(model.objectives["malap"]._target(view), expected.detach())


def test_eat_computes_the_target_of_a_clip_once_and_what_its_formula_says():
    objective = Eat(EatOptions(utterance_weight=0.5), shapes(4, "all"))
    masker = IbmMasker(IbmOptions(ratio=0.6, block=2, views=4))
    model = build(masker, objective, vit={"pool": "class"}, conv=True, sees="all")
    versions = model._versions(spectrogram())
    views = model._encode_views(versions, model._draw_masks(versions, at(0)))
    _, branches = model.teacher.layers_and_mlp_outputs(model.backbone.embed(versions[0].patches, GRID))
    normed = []
    for branch in branches:  # [B, 1 + N, D]
        patches = branch[:, 1:]
        spread = patches.var(dim=1, keepdim=True, unbiased=False)
        normed.append((patches - patches.mean(dim=1, keepdim=True)) / (spread + 1e-5).sqrt())
    mean = sum(normed) / 3
    target = (mean - mean.mean(-1, keepdim=True)) / (mean.var(-1, keepdim=True, unbiased=False) + 1e-5).sqrt()
    losses = []
    for view in views:
        prediction = objective.head(view.features)
        wanted = target.gather(1, view.mask.masked[:, :, None].expand(-1, -1, 16))
        frame = ((prediction - wanted) ** 2).sum(-1).mean() / 4
        losses.append(frame + 0.5 * ((view.pooled - target.mean(1)) ** 2).sum(-1).mean() / 4)
    output = model(StepInputs(spectrogram(), step=0, masks=tuple(view.mask for view in views)))
    assert_close(output.loss, sum(losses) / 4, rtol=1e-4, atol=1e-5)
    with pytest.raises(ValueError, match=r"teacher\.sees"):
        Eat(EatOptions(), shapes(4))


def test_the_convolutional_predictor_puts_latents_and_answers_where_they_belong():
    predictor = ConvPredictor(PredictorSection(dim=8, depth=1, heads=2), 8, 1)
    torch.nn.init.zeros_(predictor.blocks[0].conv.weight)
    torch.nn.init.constant_(predictor.mask_token, 7.0)
    mask = Mask(torch.tensor([[0, 6, 9]]), torch.tensor([[1, 2, 3, 4, 5, 7, 8]]))
    features = predictor(torch.randn(1, 4, 8), mask, GRID)
    assert_close(features, torch.full((1, 7, 8), 7.0))  # nothing mixes: the mask token comes back
    with torch.no_grad():
        predictor.blocks[0].conv.weight[:, :, 1, 0] = 1.0  # each place hears its left neighbour
    moved = predictor(torch.randn(1, 4, 8), mask, GRID)
    changed = (moved - moved[:, 1:2]).abs().amax(dim=2)[0] > 1e-4  # patch 2: its left neighbour is a mask token
    assert changed.tolist() == [True, False, False, False, False, True, False]  # right of 0 and of 6


def test_drop_path_follows_the_step_and_not_the_split_and_stays_out_of_evaluation():
    model = build(RandomMasker(RandomOptions(ratio=0.5)), Malap(MalapOptions(), shapes(1)), vit={"drop_path": 0.9})
    whole = model(StepInputs(spectrogram(8), step=3, global_rows=8))
    halves = [model(StepInputs(spectrogram(8)[i : i + 4], step=3, first_row=i, global_rows=8)).loss for i in (0, 4)]
    assert_close(whole.loss, sum(halves) / 2, rtol=1e-5, atol=1e-6)
    latents = [model(StepInputs(spectrogram(8), step=step, masks=(_fixed(8),))).loss.detach() for step in (3, 4)]
    assert abs(float(latents[0] - latents[1])) > 1e-4
    assert not model.teacher.training
    model.eval()
    still = [model(StepInputs(spectrogram(8), step=step, masks=(_fixed(8),))).loss for step in (3, 4)]
    assert_close(still[0], still[1])


def _fixed(rows: int) -> Mask:
    order = torch.arange(10).expand(rows, -1)
    return Mask(order[:, :5], order[:, 5:])


def test_a_bias_of_the_keys_changes_nothing():
    torch.manual_seed(0)
    plain, biased = Attention(8, 2, key_bias=False), Attention(8, 2)
    torch.nn.init.normal_(plain.q_bias)
    torch.nn.init.normal_(plain.v_bias)
    with torch.no_grad():
        biased.qkv.weight.copy_(plain.qkv.weight)
        biased.qkv.bias.copy_(torch.cat([plain.q_bias, torch.randn(8), plain.v_bias]))
        biased.proj.load_state_dict(plain.proj.state_dict())
    tokens = torch.randn(2, 5, 8)
    assert_close(plain(tokens), biased(tokens))


def test_trained_positions_are_not_decayed_and_an_unused_norm_is_not_trained():
    from ssl_wb.recipe.plugin_selection import PluginSelection
    from ssl_wb.training.optimizer import build_optimizer
    from ssl_wb_plugins.optimisers.adamw import AdamW

    vit = {"positions": "trainable", "pool_norm": True}
    model = build(RandomMasker(RandomOptions(ratio=0.5)), Malap(MalapOptions(), shapes(1)), vit=vit)
    decayed, free = (
        group["params"]
        for group in build_optimizer(
            PluginSelection("optimiser", "adamw", AdamW, AdamW.Options(), None), model
        ).param_groups
    )
    assert any(weight is model.backbone.position_table for weight in free)
    assert not any(weight is model.backbone.position_table for weight in decayed)
    model(StepInputs(spectrogram(), step=0)).loss.backward()
    assert [name for name, weight in model.named_parameters() if weight.requires_grad and weight.grad is None] == []
    assert not model.backbone.pool_norm.weight.requires_grad


@pytest.mark.parametrize("token", [True, False])
def test_pooling_and_the_class_token(token):
    pools = ["patches", "all", "class"] if token else ["patches", "all"]
    for pool in pools:
        backbone = Vit(VitOptions(dim=16, depth=1, heads=2, class_token=token, pool=pool), 32, 80)
        latents = torch.randn(2, int(token) + 10, 16)
        expected = {"all": latents.mean(1), "class": latents[:, 0], "patches": latents[:, int(token) :].mean(1)}
        assert_close(backbone.pool(latents), expected[pool])
    if not token:
        with pytest.raises(ValueError, match="class_token"):
            VitOptions(pool="class", class_token=False)
