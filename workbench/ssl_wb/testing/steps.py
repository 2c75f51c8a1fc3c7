"""Training steps as objectives get them, small."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, get_args

import torch
from torch import Tensor

from ssl_wb.plugin.masker import Grid, Mask
from ssl_wb.plugin.objective import ModelShapes, Need, StepState, View

__all__ = ["ROWS", "SHAPES", "rows_of", "step_state"]

#: Sizes of the model that objectives are built into.
SHAPES = ModelShapes(
    latent_dim=32, feature_dim=16, patch_pixels=64, grid=Grid(4, 8), views=2, total_steps=1000, caption_dim=24
)
#: Clips of a batch, visible patches of a view, blocks of the teacher.
ROWS, VISIBLE, BLOCKS = 4, 12, 12


def step_state(
    shapes: ModelShapes,
    needs: Collection[Need] = get_args(Need),
    *,
    sound: str = "noise",
    rows: int = ROWS,
    seed: int = 0,
    step: int = 3,
    measure: bool = False,
    device: torch.device | str = "cpu",
) -> StepState:
    """Return a training step as objectives get it: student's tensors with gradient, the teacher's without.

    Args:
        shapes: sizes of the model.
        needs: what the state holds besides latents and patches; everything unless given.
        sound: ``noise``; ``silence``, of which all patches and latents are alike; or ``zero``, all of them 0.
        rows: clips.
        seed: of the values.
        step: optimiser steps done.
        measure: health figures are wanted.
        device: where the tensors are.
    """
    grid, dim = shapes.grid, shapes.latent_dim
    masked = grid.cells - VISIBLE
    generator = torch.Generator().manual_seed(seed)

    def values(*size: int, student: bool = False) -> Tensor:
        if torch.device(device).type != "cpu":
            return torch.zeros(*size, device=device, requires_grad=student)
        made = torch.randn(*size, generator=generator)
        if sound != "noise":
            made = made[:1, :1].expand(size).clone() if sound == "silence" else torch.zeros(size)
        return made.requires_grad_(student)

    def view() -> View:
        order = torch.arange(grid.cells, device=device).expand(rows, -1)  # [B, N]
        if torch.device(device).type == "cpu":
            order = torch.rand(rows, grid.cells, generator=generator).argsort(dim=1)
        mask = Mask(order[:, :VISIBLE].sort(dim=1).values, order[:, VISIBLE:].sort(dim=1).values)
        made = View(mask, values(rows, VISIBLE, dim, student=True), values(rows, grid.cells, shapes.patch_pixels))
        if "pooled" in needs:
            made.pooled = values(rows, dim, student=True)
        if "features" in needs:
            made.features = values(rows, masked, shapes.feature_dim, student=True)
        if "target" in needs:
            made.target = values(rows, masked, dim)
        if "prediction" in needs:
            made.prediction = values(rows, masked, dim, student=True)
        seen = masked if shapes.teacher_sees == "masked" else grid.cells
        # "branches", the need's name of version 0.1, came with the layers.
        if not {"layers", "branches"}.isdisjoint(needs):
            made.layers = tuple(values(rows, seen, dim) for _ in range(BLOCKS))
        if not {"mlp_outputs", "branches"}.isdisjoint(needs):
            made.mlp_outputs = tuple(values(rows, seen, dim) for _ in range(BLOCKS))
        return made

    state = StepState(grid, tuple(view() for _ in range(shapes.views)), step, shapes.total_steps, measure)
    if "captions" in needs:
        state.captions = values(rows, shapes.caption_dim)
    return state


def rows_of(state: StepState, rows: Tensor) -> StepState:
    """Return the step of some clips, by their indices ``[b]``."""

    def taken(part: Any) -> Any:
        if isinstance(part, tuple):
            return tuple(taken(one) for one in part)
        return None if part is None else part[rows]

    views = []
    for view in state.views:
        made = View(Mask(taken(view.mask.visible), taken(view.mask.masked)), taken(view.latents), taken(view.patches))
        for name in ("pooled", "features", "target", "prediction", "layers", "mlp_outputs"):
            setattr(made, name, taken(getattr(view, name)))
        views.append(made)
    return StepState(state.grid, tuple(views), state.step, state.total_steps, state.measure, taken(state.captions))
