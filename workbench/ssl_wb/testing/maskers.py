"""The checks of a masker."""

from __future__ import annotations

import random
from collections.abc import Collection, Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ssl_wb.plugin.contract_checks import refuse
from ssl_wb.plugin.masker import Grid, Mask, Masker, MaskRequest, visible_count
from ssl_wb.pretext.masks import draw_masks, try_masker
from ssl_wb.testing.checks import Checks, Subject
from ssl_wb.testing.devices import CUDA, cuda_generator, on_cuda
from ssl_wb.testing.options_checks import common_checks

__all__ = ["CHECKS", "check_masker", "mask_request"]

#: Grids of crops that are tried; a masker may refuse some of them with ValueError, not all.
GRIDS = (Grid(5, 13), Grid(8, 20))
#: Clips of a batch, pixels of a patch.
ROWS, PIXELS = 4, 64

CHECKS: Checks[_Masker] = Checks("masker", common_checks())


class _Masker(Subject[Masker]):
    """A masker under test."""

    @cached_property
    def grids(self) -> list[Grid]:
        """The grids that it does not refuse."""
        masker, fitting = self.build(), []
        refusal = ""
        for grid in GRIDS:
            try:
                masker(mask_request(_sounds(grid)["noise"], grid, latents=masker.needs_latents))
                fitting.append(grid)
            except ValueError as error:
                refusal = str(error)
        if not fitting:
            shapes = " and ".join(f"{grid.freq} x {grid.time}" for grid in GRIDS)
            refuse(masker, f"accept a grid of {shapes} patches, or give other options", f"ValueError: {refusal}")
        return fitting


def check_masker(plugin: type[Masker], options: Mapping[str, Any] | None = None, *, skip: Collection[str] = ()) -> None:
    """Hold a masker to its contract.

    Args:
        plugin: the class.
        options: options that differ from their defaults.
        skip: names of checks to leave out.

    Raises:
        ContractError: the first check that fails.
    """
    CHECKS.run(_Masker(plugin, options or {}), skip)


def mask_request(
    patches: Tensor,
    grid: Grid,
    *,
    seed: int = 0,
    progress: float = 0.5,
    first_row: int = 0,
    rows: int | None = None,
    latents: bool = False,
) -> MaskRequest:
    """Return what a masker is asked about some clips of a global batch.

    Args:
        patches: ``[B, N, P]``, all clips of the global batch.
        grid: their grid.
        seed: of the step's randomness.
        progress: share of training done.
        first_row: first clip that this process has.
        rows: clips that it has; all of them unless given.
        latents: offer latents; the pixels stand in for them.
    """
    own = patches[first_row : first_row + (len(patches) if rows is None else rows)]
    return MaskRequest(
        patches=own.clone(),
        grid=grid,
        progress=progress,
        generator=torch.Generator().manual_seed(seed),
        first_row=first_row,
        global_rows=len(patches),
        latents=(lambda layer=None: own) if latents else None,
    )


def _sounds(grid: Grid) -> dict[str, Tensor]:
    """Return patches ``[B, N, P]`` by what is heard."""
    noise = torch.randn(ROWS, grid.cells, PIXELS, generator=torch.Generator().manual_seed(7))
    half = noise * (torch.arange(grid.cells) % grid.time < grid.time // 2)[None, :, None]
    return {"noise": noise, "silence": torch.zeros_like(noise), "silence after half of the clip": half}


def _requests(
    subject: _Masker, masker: Masker, *, every: bool = False, **changes: Any
) -> Iterator[tuple[str, MaskRequest]]:
    """Yield (what it is, request) pairs: noise and half of it on one grid, or with ``every`` all sounds and grids."""
    for grid in subject.grids if every else subject.grids[-1:]:
        for name, patches in _sounds(grid).items():
            if every or name != "silence":
                words = f"{name} on {grid.freq} x {grid.time} patches"
                yield words, mask_request(patches, grid, latents=masker.needs_latents, **changes)


def _equal(first: Sequence[Mask], second: Sequence[Mask]) -> bool:
    return len(first) == len(second) and all(
        torch.equal(a.visible, b.visible) and torch.equal(a.masked, b.masked)
        for a, b in zip(first, second, strict=True)
    )


@CHECKS
def masks(subject: _Masker) -> None:
    """It returns one Mask per view: int64 on the patches' device, one row per clip, sorted, each patch visible or
    masked once; for silence and noise, on any grid, at any progress. It draws nothing from torch's global generator and
    does not write into the patches.
    """
    masker = subject.build()
    for progress in (0.0, 0.5, 1.0):
        for _, request in _requests(subject, masker, every=True, progress=progress):
            try_masker(masker, request)


@CHECKS
def global_randomness(subject: _Masker) -> None:
    """It leaves the global generators of ``random`` and numpy alone."""
    masker = subject.build()
    _, request = next(_requests(subject, masker))
    before = random.getstate(), np.random.get_state()[1].tolist()  # type: ignore[index]
    draw_masks(masker, [request])
    if before[0] != random.getstate():
        refuse(masker, "draw from request.uniform or request.generator only", "it draws from Python's random")
    if before[1] != np.random.get_state()[1].tolist():  # type: ignore[index]
        refuse(masker, "draw from request.uniform or request.generator only", "it draws from numpy.random")


@CHECKS
def exact_count(subject: _Masker) -> None:
    """An option ``ratio`` is the share of patches masked, exactly: int(N * (1 - ratio)) are visible. Without one, as
    many are visible for any sound.
    """
    masker, options = subject.build(), subject.options
    ratio = getattr(options, "ratio", None)
    seen: dict[Grid, list[int]] = {}
    for words, request in _requests(subject, masker):
        counts = [mask.visible.shape[1] for mask in draw_masks(masker, [request])]
        cells = request.grid.cells
        if isinstance(ratio, float):
            wanted = visible_count(cells, ratio, getattr(options, "count", "exact"))
            if set(counts) != {wanted}:
                refuse(masker, f"leave {wanted} of {cells} patches visible at ratio {ratio}", f"{counts}: {words}")
        elif seen.setdefault(request.grid, counts) != counts:
            other = seen[request.grid]
            refuse(masker, "leave as many patches visible whatever is heard", f"{counts} and {other}: {words}")


@CHECKS
def repeatable(subject: _Masker) -> None:
    """The same request has the same masks, from the same object or a new one: all randomness is the request's."""
    masker = subject.build()
    for words, request in _requests(subject, masker, seed=3):
        first = draw_masks(masker, [request])
        for other in (masker, subject.build()):
            request.generator.manual_seed(3)
            torch.rand(5)  # what torch's global generator holds must not matter
            if not _equal(first, draw_masks(other, [request])):
                refuse(masker, "return the same masks for the same request", f"others the second time: {words}")


@CHECKS
def batch_split(subject: _Masker) -> None:
    """A clip's masks do not depend on how the global batch is divided among processes and micro-batches."""
    masker = subject.build()
    grid = subject.grids[-1]
    patches = _sounds(grid)["silence after half of the clip"]
    whole = draw_masks(masker, [mask_request(patches, grid, latents=masker.needs_latents)])
    for first, rows in ((0, 1), (1, 3)):
        request = mask_request(patches, grid, first_row=first, rows=rows, latents=masker.needs_latents)
        part = draw_masks(masker, [request])
        own = [Mask(one.visible[first : first + rows], one.masked[first : first + rows]) for one in whole]
        if not _equal(part, own):
            contract = "mask a clip alike however the batch is divided (request.uniform does)"
            refuse(masker, contract, f"other masks of clips {first} to {first + rows - 1} alone")


@CHECKS
def importance(subject: _Masker) -> None:
    """``importance`` returns finite weights [B, N], or None."""
    masker = subject.build()
    for words, request in _requests(subject, masker):
        weights = masker.importance(request)
        if weights is None:
            continue
        shape = request.patches.shape[:2]
        if not isinstance(weights, Tensor) or weights.shape != shape or not bool(weights.isfinite().all()):
            seen = f"{list(weights.shape)}" if isinstance(weights, Tensor) else type(weights).__name__
            refuse(masker, f"return finite weights [B, N] = {list(shape)} from importance", f"{seen}: {words}")


@CHECKS
def autocast(subject: _Masker) -> None:
    """It keeps the contract under bf16 autocast, in which training calls it."""
    masker = subject.build()
    for _, request in _requests(subject, masker):
        with torch.autocast("cpu", torch.bfloat16):
            draw_masks(masker, [request])


@CHECKS
def device(subject: _Masker) -> None:
    """It works on a GPU: on the patches' device, drawing from the request's generator (rehearsed without a GPU)."""
    masker, grid = subject.build(), subject.grids[-1]
    with on_cuda():
        patches = torch.zeros(ROWS, grid.cells, PIXELS, device=CUDA)
        request = MaskRequest(
            patches,
            grid,
            0.5,
            cuda_generator(),
            first_row=2,
            global_rows=2 * ROWS,
            latents=(lambda layer=None: patches) if masker.needs_latents else None,
        )
        draw_masks(masker, [request], values=False)
        weights = masker.importance(request)
        if weights is not None and weights.device.type != "cuda":
            refuse(masker, "return importance on the device of the patches", f"{weights.device.type}")
