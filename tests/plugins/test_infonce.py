"""Contrast of clips: against the published code's figures and a plain loop; what it refuses and how it ails."""

from __future__ import annotations

import math
from types import SimpleNamespace

import pytest
import torch
from torch.nn import functional as F
from torch.testing import assert_close

from ssl_wb.api import Grid, Mask, ModelShapes, StepState, View
from ssl_wb.errors import RecipeError
from ssl_wb.plugin.objective import ObjectiveSection
from ssl_wb.pretext.build import _build_objectives
from ssl_wb.recipe.plugin_selection import PluginSelection
from ssl_wb_plugins.objectives.infonce import InfoNce, InfoNceOptions, ntxent, positive_similarity, uniformity

TOLERANCE = {"rtol": 1e-4, "atol": 1e-5}


def shapes(dim: int = 16, views: int = 2) -> ModelShapes:
    return ModelShapes(dim, 8, 256, Grid(1, 4), views, 100)


def state(*pooled: torch.Tensor, measure: bool = True) -> StepState:
    """A step of which only the clip embeddings exist."""
    clips, dim = pooled[0].shape
    rows = torch.zeros(clips, 2, dtype=torch.int64)
    views = tuple(
        View(Mask(rows, rows), torch.zeros(clips, 2, dim), torch.zeros(clips, 4, 256), pooled=each) for each in pooled
    )
    return StepState(Grid(1, 4), views, 0, 100, measure)


def plain_loss(views: list[torch.Tensor], temperature: float) -> torch.Tensor:
    """One anchor and one positive at a time."""
    losses = []
    directions = [F.normalize(view, dim=1) for view in views]
    for i, anchors in enumerate(directions):
        for n, anchor in enumerate(anchors):
            strangers = [z for view in directions for k, z in enumerate(view) if k != n]
            negatives = sum(torch.exp(anchor @ z / temperature) for z in strangers)
            for j, others in enumerate(directions):
                if i != j:
                    positive = torch.exp(anchor @ others[n] / temperature)
                    losses.append(-torch.log(positive / (positive + negatives)))
    return torch.stack(losses).mean()


def test_loss_accuracy_and_gradient_of_the_published_code(reference):
    losses = reference("losses")
    a, b = (losses[f"ntxent_view_{name}"].clone().requires_grad_() for name in "ab")
    loss, accuracy = ntxent([a, b], float(losses["ntxent_temperature"]))
    loss.backward()
    assert_close(loss, losses["ntxent_loss"], **TOLERANCE)
    assert_close(accuracy, losses["ntxent_accuracy"], **TOLERANCE)
    assert_close(a.grad, losses["ntxent_grad_a"], rtol=1e-4, atol=1e-7)
    assert_close(b.grad, losses["ntxent_grad_b"], rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("count", [2, 3])
def test_a_plain_loop_over_anchors_and_positives(count):
    torch.manual_seed(0)
    views = [torch.randn(5, 6) for _ in range(count)]
    assert_close(ntxent(views, 0.3)[0], plain_loss(views, 0.3))


def test_views_clips_and_lengths_may_change_places():
    torch.manual_seed(1)
    a, b = torch.randn(7, 6), torch.randn(7, 6)
    order = torch.randperm(7)
    loss, accuracy = ntxent([a, b], 0.2)
    assert 0 < accuracy < 1
    for same in ([b, a], [a[order], b[order]], [3 * a, b * torch.rand(7, 1)]):
        assert_close(ntxent(same, 0.2), (loss, accuracy))
    assert not torch.isclose(ntxent([a[order], b], 0.2)[0], loss)


def test_embeddings_that_are_all_alike_cost_what_a_guess_does():
    loss, accuracy = ntxent([torch.ones(4, 3), torch.ones(4, 3)], 0.1)
    assert loss == pytest.approx(math.log(2 * 4 - 1))
    assert accuracy == 0


def test_a_clip_without_another_one_teaches_nothing_and_breaks_nothing():
    pooled = torch.randn(2, 1, 16, requires_grad=True)
    output = InfoNce(InfoNceOptions(), shapes())(state(*pooled))
    output.loss.backward()
    assert output.loss == 0
    assert torch.isfinite(pooled.grad).all()
    assert all(math.isfinite(value) for value in output.metrics.values())


def test_half_precision_is_left_before_the_loss():
    torch.manual_seed(2)
    views = [torch.randn(6, 32) for _ in range(2)]
    expected = ntxent(views, 0.05)[0]
    with torch.autocast("cpu", torch.bfloat16):
        assert_close(ntxent(views, 0.05)[0], expected)


def test_the_objective_is_the_loss_of_its_projections():
    torch.manual_seed(3)
    objective = InfoNce(InfoNceOptions(hidden=12, out=6, temperature=0.4), shapes())
    pooled = [torch.randn(8, 16) for _ in range(2)]
    output = objective(state(*pooled))
    first, norm, _, last, last_norm = objective.projector
    hidden = [F.batch_norm(first(each), None, None, norm.weight, norm.bias, True).relu() for each in pooled]
    projections = [F.batch_norm(last(each), None, None, last_norm.weight, None, True) for each in hidden]
    assert_close(output.loss, plain_loss(projections, 0.4))
    assert output.loss.dtype == torch.float32
    assert_close(output.metrics["accuracy_over_chance"], output.metrics["accuracy"] * (2 * 8 - 1))
    alignment = F.normalize(projections[0], dim=1) - F.normalize(projections[1], dim=1)
    assert_close(output.metrics["alignment"], alignment.square().sum(dim=1).mean().detach(), **TOLERANCE)
    assert "uniformity" not in objective(state(*pooled, measure=False)).metrics


def test_the_projector_has_the_published_layout_and_weights():
    objective = InfoNce(InfoNceOptions(), shapes(32))
    sizes = {key: list(value.shape) for key, value in objective.projector.named_parameters()}
    assert sizes == {
        "0.weight": [512, 32], "1.weight": [512], "1.bias": [512],
        "3.weight": [128, 512], "4.weight": [128], "4.bias": [128],
    }  # fmt: skip
    assert [key for key, value in objective.named_parameters() if not value.requires_grad] == ["projector.4.bias"]
    assert float(objective.projector[3].weight.detach().std()) == pytest.approx(0.02, rel=0.05)


def test_every_trained_weight_gets_a_gradient():
    objective = InfoNce(InfoNceOptions(learnable_temperature=True), shapes())
    objective(state(torch.randn(6, 16), torch.randn(6, 16))).loss.backward()
    for name, parameter in objective.named_parameters():
        assert (parameter.grad is not None) == parameter.requires_grad, name
    assert objective.log_temperature.grad != 0


def test_a_learned_temperature_starts_where_it_is_told_and_stays_within_bounds():
    objective = InfoNce(InfoNceOptions(temperature=0.07, learnable_temperature=True), shapes())
    pooled = state(torch.randn(4, 16), torch.randn(4, 16))
    assert float(objective(pooled).metrics["temperature"]) == pytest.approx(0.07)
    for wild, bound in ((-20.0, 0.01), (5.0, 1.0)):
        torch.nn.init.constant_(objective.log_temperature, wild)
        objective.after_step(1, 100)
        assert float(objective(pooled).metrics["temperature"]) == pytest.approx(bound)
    with pytest.raises(ValueError, match=r"must lie in 0\.01 to 1"):
        InfoNceOptions(temperature=2.0, learnable_temperature=True)


def test_one_view_is_refused_as_a_mistake_of_the_recipe():
    section = ObjectiveSection(name="infonce")
    chosen = PluginSelection("objective", "infonce", InfoNce, InfoNceOptions(), section)
    loaded = SimpleNamespace(objectives=[chosen], path="tiny.toml")
    with pytest.raises(RecipeError, match=r"objective 'infonce': .* masker gives one; choose one that gives two"):
        _build_objectives(loaded, shapes(views=1))
    assert _build_objectives(loaded, shapes(views=2))[0].label == "infonce"


def test_figures_tell_collapse_from_health():
    torch.manual_seed(4)
    objective = InfoNce(InfoNceOptions(), shapes())
    clips = torch.randn(32, 16)
    well = objective(state(clips, clips + 0.05 * torch.randn(32, 16))).metrics
    same = torch.randn(1, 16) + 1e-3 * torch.randn(2, 32, 16)
    collapsed = objective(state(*same)).metrics
    rules = {rule.metric: rule for rule in objective.health_rules()}
    assert well["embedding_std"] > rules["embedding_std"].below > collapsed["embedding_std"]
    # Of 64 anchors with 63 candidates one is right by chance; the mean of twenty draws is near it.
    guesses = [objective(state(*(torch.randn(1, 16) + 1e-3 * torch.randn(2, 32, 16)))).metrics for _ in range(20)]
    chance = sum(float(each["accuracy_over_chance"]) for each in guesses) / 20
    assert chance < rules["accuracy_over_chance"].below < well["accuracy_over_chance"]
    assert well["accuracy"] > 0.9
    assert well["positive_similarity"] > 0.9 > collapsed["positive_similarity"]


def test_similarity_and_uniformity():
    torch.manual_seed(5)
    a, b, c = (torch.randn(6, 4) for _ in range(3))
    pairs = [F.cosine_similarity(x, y).mean() for x, y in ((a, b), (a, c), (b, c))]
    assert_close(positive_similarity([a, b, c]), torch.stack(pairs).mean())
    assert uniformity(torch.ones(5, 3)) == pytest.approx(0.0, abs=1e-6)
    # Two opposite rows lie 2 apart: log exp(-2 * 4).
    assert uniformity(torch.tensor([[2.0, 0.0], [-1.0, 0.0]])) == pytest.approx(-8.0)
