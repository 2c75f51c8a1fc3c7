"""The package's own tests, as its author wrote them for version 0.1."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from ssl_wb_api1_evaluators import ClassMeans, FrameMeans
from ssl_wb_api1_masker import Novelty, NoveltyOptions
from ssl_wb_api1_objectives import Codes, CodesOptions, Ladder, LadderOptions

from ssl_wb.api import DataError, Grid, Mask, MaskRequest, ModelShapes, ProbeTask, Split, StepState, View


def task_of(embeddings: np.ndarray, frames: np.ndarray | None = None) -> ProbeTask:
    split = Split("fold", np.arange(0, 12), np.arange(12, 16), np.arange(16, 20), True)
    labels = np.arange(20) % 2
    return ProbeTask("clicks", embeddings, labels, ("low", "high"), (split,), ("made up",), None, frames, None, None)


def test_class_means():
    embeddings = np.random.default_rng(0).normal(size=(20, 3)).astype(np.float32) + 8 * (np.arange(20) % 2)[:, None]
    result = ClassMeans(ClassMeans.Options())(task_of(embeddings.astype(np.float32)), [0, 1])
    assert (result.mean, result.std, result.metric) == (1.0, 0.0, "accuracy")
    assert result.as_json()["detail"] == {"validation": {"fold": 1.0}, "level": "clip"}
    with pytest.raises(DataError, match="one class per clip"):
        ClassMeans(ClassMeans.Options())(
            ProbeTask("several", embeddings, np.ones((20, 2), np.float32), ("a", "b"), ()), [0]
        )


def test_frame_means():
    embeddings = np.zeros((20, 4, 2), np.float32)
    embeddings[1::2, :2] = 1.0
    result = FrameMeans(FrameMeans.Options(resamples=20))(task_of(embeddings, np.full(20, 2)), [0])
    assert result.mean == 1.0
    assert result.notes == ("made up", "2 classes")
    assert result.detail == {"frames": 40}
    assert FrameMeans.level == "tokens"


def view(grid: Grid) -> View:
    generator = torch.Generator().manual_seed(0)

    def draw(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator)

    mask = Mask(torch.arange(4).expand(2, -1), torch.arange(4, grid.cells).expand(2, -1))
    masked = grid.cells - 4
    return View(
        mask,
        draw(2, 4, 8),
        draw(2, grid.cells, 6),
        pooled=draw(2, 8),
        features=draw(2, masked, 8),
        target=draw(2, masked, 8),
        layers=(draw(2, masked, 8), draw(2, masked, 8)),
        branches=(draw(2, masked, 8), draw(2, masked, 8)),
        finish=lambda latents: 2 * latents,
    )


def test_objectives():
    grid = Grid(freq=2, time=5)
    shapes = ModelShapes(8, 8, 6, grid, views=1, total_steps=10)
    ladder = Ladder(LadderOptions(), shapes)
    codes = Codes(CodesOptions(codes=4), shapes)
    state = StepState(grid, (view(grid),), 3, 10, measure=True)
    output = ladder(state)
    assert output.prediction is not None
    state.views[0].prediction = output.prediction[0]
    (output.loss + codes(state).loss).backward()
    codes.after_step(4, 10)
    assert codes.centre.abs().sum() > 0
    assert ladder.head.weight.grad is not None
    assert output.metrics["progress"] == 0.3
    changed = dataclasses.replace(view(grid), finish=lambda latents: latents.flip(-1))
    changed.branches = changed.branches[:1]
    assert len(changed.branches) == 1
    assert torch.equal(changed.finish(torch.arange(3.0)), torch.tensor([2.0, 1.0, 0.0]))


def test_masker():
    masker = Novelty(NoveltyOptions(ratio=0.5, hint=0.0, views=2))
    latents = torch.randn(3, 12, 4, generator=torch.Generator().manual_seed(1))
    request = MaskRequest(
        torch.zeros(3, 12, 5), Grid(3, 4), 0.5, torch.Generator().manual_seed(0), latents=lambda layer=None: latents
    )
    masks = masker(request)
    assert [tuple(mask.visible.shape) for mask in masks] == [(3, 6), (3, 6)]
    # The first column is never chosen without hints.
    assert not (masks[0].masked % 4 == 0).any()
