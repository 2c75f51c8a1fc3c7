"""Contrast with captions: against a plain reference; the scale's bounds; captions that are the same."""

from __future__ import annotations

import math

import pytest
import torch
from torch.nn import functional as F
from torch.testing import assert_close

from ssl_wb.api import Grid, Mask, ModelShapes, StepState, View
from ssl_wb_plugins.objectives.clap import Clap, ClapOptions, contrast


def build(dim: int = 12, captions: int = 12, **options) -> Clap:
    torch.manual_seed(0)
    return Clap(ClapOptions(**options), ModelShapes(dim, 8, 256, Grid(1, 4), 1, 100, caption_dim=captions))


def state(captions: torch.Tensor, *latents: torch.Tensor) -> StepState:
    """A step of which only latents and captions exist."""
    rows = torch.zeros(len(captions), 3, dtype=torch.int64)
    views = tuple(View(Mask(rows, rows), each, torch.zeros(len(captions), 4, 256)) for each in latents)
    return StepState(Grid(1, 4), views, 0, 100, True, captions)


def plain_loss(objective: Clap, captions: torch.Tensor, latents: torch.Tensor) -> torch.Tensor:
    """CLIP's loss, both directions over one matrix."""
    first, _, last = objective.audio_projector
    audio = F.normalize(last(first(latents.mean(1)).relu()), dim=1)
    text = F.normalize(objective.text_projector(captions), dim=1)
    logits = audio @ text.T / 0.07
    own = torch.arange(len(captions))
    return (F.cross_entropy(logits, own) + F.cross_entropy(logits.T, own)) / 2


@pytest.mark.parametrize("width", [12, 20])
def test_a_plain_reference_with_captions_of_any_width(width):
    objective = build(captions=width)
    captions, latents = torch.randn(6, width), torch.randn(6, 3, 12)
    output = objective(state(captions, latents))
    assert_close(output.loss, plain_loss(objective, captions, latents))
    assert output.loss.dtype == torch.float32
    output.loss.backward()
    assert all(parameter.grad is not None for parameter in objective.parameters())
    assert isinstance(objective.text_projector, torch.nn.Identity) == (width == 12)


def test_the_loss_of_several_views_is_their_mean():
    objective = build()
    captions, latents = torch.randn(5, 12), torch.randn(2, 5, 3, 12)
    apart = [objective(state(captions, view)).loss for view in latents]
    assert not torch.isclose(*apart)
    assert_close(objective(state(captions, *latents)).loss, torch.stack(apart).mean())


def test_accuracies_of_the_two_directions():
    eye = torch.eye(3)
    # The first text is nearest to every audio: one of three captions is found, all clips are.
    audio = F.normalize(eye + torch.tensor([2.0, 0.0, 0.0]), dim=1)
    assert contrast(audio, eye, 10.0, eye)[1] == pytest.approx(1 / 3)
    assert contrast(eye, audio, 10.0, eye)[1] == 1
    objective = build(dim=3, captions=3)
    with torch.no_grad():
        for layer in (objective.audio_projector[0], objective.audio_projector[2]):
            layer.weight.copy_(eye)
    metrics = objective(state(eye, audio[:, None])).metrics
    assert metrics["audio_to_text_accuracy"] == pytest.approx(1 / 3)
    assert metrics["text_to_audio_accuracy"] == 1


def test_the_scale_starts_at_one_over_007_and_stays_within_1_and_100():
    objective = build()
    step = state(torch.randn(4, 12), torch.randn(4, 3, 12))
    assert float(objective(step).metrics["scale"]) == pytest.approx(1 / 0.07)
    for wild, bound in ((-1.0, 1.0), (9.0, 100.0)):
        torch.nn.init.constant_(objective.log_scale, wild)
        objective.after_step(1, 100)
        assert float(objective(step).metrics["scale"]) == pytest.approx(bound, rel=1e-5)


def found_among_strangers(logits: torch.Tensor, same: torch.Tensor) -> torch.Tensor:
    """Mean over anchors and their positives, each among the negatives only."""
    rows = []
    for row, positive in zip(logits, same, strict=True):
        strangers = row[~positive]
        rows.append(torch.stack([-torch.cat([p[None], strangers]).log_softmax(0)[0] for p in row[positive]]).mean())
    return torch.stack(rows).mean()


def test_a_caption_that_comes_twice_is_a_negative_or_a_second_positive():
    captions, latents = torch.randn(4, 12), torch.randn(4, 3, 12)
    captions[3] = captions[1]
    step = state(captions, latents)
    published, spread = build(), build(duplicates="positives")
    assert_close(published._targets(captions), torch.eye(4))
    same = torch.eye(4, dtype=torch.bool)
    same[1, 3] = same[3, 1] = True
    assert_close(spread._targets(captions), same / same.sum(1, keepdim=True))
    assert_close(published(step).loss, plain_loss(published, captions, latents))
    audio = F.normalize(spread.audio_projector(latents.mean(1)), dim=1)
    logits = audio @ F.normalize(captions, dim=1).T / 0.07
    assert_close(spread(step).loss, (found_among_strangers(logits, same) + found_among_strangers(logits.T, same)) / 2)
    assert not torch.isclose(spread(step).loss, published(step).loss)


def test_without_duplicates_both_ways_are_the_same():
    step = state(torch.randn(4, 12), torch.randn(4, 3, 12))
    assert_close(build(duplicates="positives")(step).loss, build()(step).loss)


def test_equal_captions_of_all_clips_are_all_found_when_positives_and_teach_nothing():
    objective = build(duplicates="positives")
    output = objective(state(torch.ones(5, 12), torch.randn(5, 3, 12)))
    assert output.metrics["audio_to_text_accuracy"] == output.metrics["text_to_audio_accuracy"] == 1
    output.loss.backward()
    assert output.loss == 0
    assert all((parameter.grad == 0).all() for parameter in objective.parameters())


def test_clips_that_are_all_alike_show_in_the_health_figure():
    objective = build()
    (rule,) = objective.health_rules()
    captions = torch.randn(8, 12)
    well = objective(state(captions, torch.randn(8, 3, 12)))
    ill = objective(state(captions, torch.randn(1, 3, 12).expand(8, -1, -1)))
    assert well.metrics[rule.metric] > rule.below > ill.metrics[rule.metric]
    # One of the two directions is then a guess.
    assert ill.loss.item() > math.log(8) / 2
