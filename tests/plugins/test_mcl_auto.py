"""A population of hypotheses: it grows and shrinks by its rule, and trains as one of fixed size does."""

from __future__ import annotations

import pytest
import torch
from pydantic import ValidationError
from torch.nn import functional as F
from torch.testing import assert_close

from ssl_wb.api import Grid, Mask, ModelShapes, StepState, View
from ssl_wb_plugins.objectives.hypotheses import FEWEST
from ssl_wb_plugins.objectives.mcl import Mcl, MclOptions

DIM, FEATURES, PATCHES, TOTAL = 8, 4, 32, 300


def build(seed: int = 0, **options) -> Mcl:
    torch.manual_seed(seed)
    return Mcl(MclOptions(**options), ModelShapes(DIM, FEATURES, 4, Grid(1, 64), 1, TOTAL))


def population(seed: int = 0, **options) -> Mcl:
    return build(seed, hypotheses="auto", **{"capacity": 8, "start": 3, **options})


def state(features: torch.Tensor, target: torch.Tensor, step: int = 0, measure: bool = False) -> StepState:
    """A step of one view: features ``[B, Nm, Dd]``, target ``[B, Nm, D]``."""
    indices = torch.zeros(features.shape[:2], dtype=torch.int64)
    view = View(mask=Mask(indices, indices), latents=features, patches=features, features=features, target=target)
    return StepState(grid=Grid(1, 64), views=(view,), step=step, total_steps=TOTAL, measure=measure)


def noise(seed: int, *shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def review(objective: Mcl, shares: list[float]) -> None:
    """Hold a review at which the active hypotheses have had these shares of the wins all along."""
    own = objective.population
    every = {"total_steps": 100, "step": 5 + 2}  # review_from 0.05, review_every 0.02
    own.shares[own.active] = torch.tensor(shares)
    own.wins.add(own.shares.clone())
    objective.after_step(**every)


def train(objective: Mcl, target_seed: int, steps: range = range(TOTAL)) -> float:
    """Predict, from one and the same input, three targets near each other and one far off; return the last loss."""
    axes = torch.eye(DIM)
    clusters = F.normalize(
        torch.stack([axes[0] + axes[1] / 2, axes[0] + axes[2] / 2, axes[0] + axes[3] / 2, -axes[0]]), dim=-1
    )
    likely = torch.tensor([0.28, 0.28, 0.28, 0.16])
    optimizer = torch.optim.AdamW(objective.parameters(), lr=1e-2)
    for step in steps:
        generator = torch.Generator().manual_seed(target_seed * TOTAL + step)
        drawn = torch.multinomial(likely, 4 * PATCHES, replacement=True, generator=generator)
        target = clusters[drawn].view(4, PATCHES, DIM)
        output = objective(state(torch.ones(4, PATCHES, FEATURES), target, step))
        optimizer.zero_grad()
        output.loss.backward()
        optimizer.step()
        objective.after_step(step + 1, TOTAL)
    return output.loss.item()


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_two_hypotheses_for_four_answers_become_more_and_come_closer(seed):
    few = train(build(seed, hypotheses=2), seed)
    objective = population(seed, start=2)
    loss = train(objective, seed)
    assert 3 <= int(objective.population.active.sum()) <= 8
    assert loss < 0.5 * few
    history = objective.population.figures()
    assert history["active"] == 2 + history["grown"] - history["retired"]


def test_the_busiest_is_doubled_and_its_share_is_halved():
    objective = population()
    before = objective.heads.weight.detach().clone().view(8, DIM, FEATURES)
    review(objective, [0.2, 0.6, 0.2])
    own = objective.population
    assert own.active.tolist() == [True] * 4 + [False] * 4
    assert_close(own.shares, torch.tensor([0.2, 0.3, 0.2, 0.3, 0, 0, 0, 0]))
    after = objective.heads.weight.detach().view(8, DIM, FEATURES)
    keep = [0, 1, 2, 4, 5, 6, 7]
    assert torch.equal(after[keep], before[keep])
    distance = (after[3] - before[1]).norm() / before[1].norm()
    assert 0.005 < distance < 0.05
    assert (own.figures()["grown"], own.figures()["retired"]) == (1, 0)


def test_a_busy_one_that_is_not_busy_enough_stays_alone():
    objective = population()
    review(objective, [0.26, 0.48, 0.26])  # 1.44 times the even share
    assert objective.population.active.sum() == 3


def test_the_weakest_is_retired_before_any_is_doubled():
    objective = population()
    review(objective, [0.9, 0.07, 0.03])
    own = objective.population
    assert own.active.tolist() == [True, True] + [False] * 6
    assert_close(own.shares[:2], torch.tensor([0.9, 0.07]) / 0.97)
    assert (own.figures()["grown"], own.figures()["retired"]) == (0, 1)


def test_never_fewer_than_two_nor_more_than_the_capacity():
    objective = population(start=FEWEST, capacity=FEWEST)
    review(objective, [1.0, 0.0])
    assert objective.population.active.tolist() == [True, True]


def test_reviews_are_held_between_review_from_and_settled_only():
    held = []
    for step in range(1, 101):
        objective = population(review_from=0.2, review_every=10, settled=0.6)
        own = objective.population
        own.shares[:3] = torch.tensor([0.9, 0.1, 0.0])
        own.wins.add(own.shares.clone())
        objective.after_step(step, 100)
        if own.active.sum() != 3:
            held.append(step)
    assert held == [30, 40, 50, 60]


@pytest.mark.parametrize("step", [0, TOTAL - 1])  # weights by temperature, then the closest alone
def test_idle_heads_get_no_gradient_and_do_not_count(step):
    objective = population()
    features, target = noise(1, 4, PATCHES, FEATURES), noise(2, 4, PATCHES, DIM)
    with torch.no_grad():  # idle heads that would win every patch, and one that is all zeros
        objective.heads.weight[3 * DIM :] = 0.0
        objective.heads.bias[3 * DIM :] = 0.0
        objective.heads.bias[4 * DIM : 5 * DIM] = target[0, 0] * 100
    output = objective(state(features, target[:1, :1].expand_as(target), step, measure=True))
    (output.loss + output.prediction[0].square().mean()).backward()
    gradient = objective.heads.weight.grad.view(8, DIM, FEATURES)
    assert torch.isfinite(gradient).all()
    assert not gradient[3:].any()
    assert not objective.heads.bias.grad[3 * DIM :].any()
    assert gradient[:3].any()
    assert sorted(name for name in output.metrics if name.startswith("won_by_")) == ["won_by_0", "won_by_1", "won_by_2"]
    assert output.metrics["active"] == 3
    objective.after_step(step + 1, TOTAL)
    assert not objective.population.shares[3:].any()
    assert_close(objective.population.shares.sum(), torch.tensor(1.0))


def test_three_active_of_eight_compute_what_a_fixed_three_do():
    auto, fixed = population(), build(hypotheses=3)
    with torch.no_grad():
        fixed.heads.weight.copy_(auto.heads.weight[: 3 * DIM])
        fixed.heads.bias.copy_(auto.heads.bias[: 3 * DIM])
    for step in (0, 100, TOTAL - 1):
        given = state(noise(1, 4, PATCHES, FEATURES), noise(2, 4, PATCHES, DIM), step, measure=True)
        one, other = auto(given), fixed(given)
        assert_close(one.loss, other.loss)
        assert_close(one.prediction[0], other.prediction[0])
        for name, value in other.metrics.items():
            assert_close(torch.as_tensor(one.metrics[name]), torch.as_tensor(value), msg=name)
        assert_close(auto.uncertainty(given.views[0]), fixed.uncertainty(given.views[0]))


def test_dominance_is_relative_to_the_size_of_the_population():
    (rule,) = [rule for rule in population().health_rules() if rule.metric in ("dominance", "largest_share")]
    assert rule.metric == "dominance"
    objective = population(start=2)
    with torch.no_grad():
        objective.heads.weight.zero_()
        objective.heads.bias[:DIM] = torch.eye(DIM)[0]
        objective.heads.bias[DIM : 2 * DIM] = torch.eye(DIM)[1]
    features = torch.ones(1, 4, FEATURES)
    for rows, expected in (([0, 0, 1, 1], 0.0), ([0, 0, 0, 1], 0.5), ([0, 0, 0, 0], 1.0)):
        metrics = objective(state(features, torch.eye(DIM)[rows][None], measure=True)).metrics
        assert metrics["dominance"] == pytest.approx(expected)


def test_a_run_repeats_itself_and_continues_from_its_state_as_if_it_had_not_stopped():
    torch.manual_seed(7)
    whole = population(start=2)
    train_plainly(whole, range(120))
    torch.manual_seed(99)  # nothing is drawn from the global generator
    again = population(start=2)
    train_plainly(again, range(60))
    resumed = population(seed=5, start=2)
    resumed.load_state_dict({name: value.clone() for name, value in again.state_dict().items()})
    train_plainly(resumed, range(60, 120))
    assert int(whole.population.grown) > 0
    for name, value in whole.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[name]), name


def train_plainly(objective: Mcl, steps: range) -> None:
    """Descend without an optimiser's state, towards targets of which one hypothesis takes most."""
    target = F.normalize(torch.eye(DIM)[:1] + 0.1 * noise(3, 4 * PATCHES, DIM), dim=-1).view(4, PATCHES, DIM)
    for step in steps:
        objective.zero_grad()
        objective(state(noise(step, 4, PATCHES, FEATURES) + 3, target, step)).loss.backward()
        with torch.no_grad():
            for parameter in objective.parameters():
                parameter -= 0.1 * parameter.grad
        objective.after_step(step + 1, TOTAL)


def test_wins_are_counted_in_training_over_all_micro_batches():
    parts, whole = population(), population()
    features, target = noise(1, 4, PATCHES, FEATURES), noise(2, 4, PATCHES, DIM)
    whole(state(features, target))
    for half in (slice(0, 2), slice(2, 4)):
        parts(state(features[half], target[half]))
    parts.eval()
    parts(state(features, -target))
    for objective in (parts, whole):
        objective.after_step(1, TOTAL)
    assert_close(parts.population.shares, whole.population.shares)


def test_uncertainty_is_the_mean_distance_of_pairs():
    objective = build(hypotheses=3)
    view = state(noise(1, 2, 5, FEATURES), noise(2, 2, 5, DIM)).views[0]
    found = objective.uncertainty(view)
    directions = F.normalize(objective.heads(view.features).view(2, 5, 3, DIM), dim=-1)
    pairs = [(0, 1), (0, 2), (1, 2)]
    expected = sum(2 - 2 * (directions[:, :, k] * directions[:, :, m]).sum(-1) for k, m in pairs) / 3
    assert_close(found, expected)
    assert found.dtype == torch.float32
    assert not found.requires_grad
    assert not build(hypotheses=1).uncertainty(view).any()


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"hypotheses": "auto", "start": 9, "capacity": 8}, "start 9 is more than capacity 8"),
        ({"hypotheses": "many"}, "auto"),
        ({"hypotheses": 0}, "greater than or equal to 1"),
        ({"capacity": 1}, "greater than or equal to 2"),
    ],
)
def test_options_that_do_not_fit_are_told(options, says):
    with pytest.raises(ValidationError, match=says):
        MclOptions(**options)
