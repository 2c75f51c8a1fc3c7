"""Randomness inside the layers in a training step, independent of how the batch is split."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

__all__ = ["drop_path_scales", "normal_noise", "seeded", "step_noise"]


def seeded(device: torch.device, *numbers: int) -> torch.Generator:
    """Return a generator whose numbers are unrelated to those of any other ``numbers``.

    They are hashed: sums of them would meet (step + clip), and so would sums with large strides, because the CPU's
    generator reads only the lowest 32 bits of its seed.

    Args:
        device: where it draws.
        numbers: what the randomness depends on, such as seed, step and clip; 0 or above.
    """
    seed = np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0]
    return torch.Generator(device).manual_seed(int(seed >> np.uint64(1)))


@dataclass
class _StepNoise:
    """The generator of the step, and which clips of the global batch this process has."""

    generator: torch.Generator
    first_row: int
    global_rows: int
    rows: int
    normal_draws: int = field(default=0, init=False)

    def uniform(self, count: int, rows: int) -> Tensor:
        """Draw float32 ``[count, rows]`` in [0, 1); ``rows`` is a multiple of the process' clips (several views)."""
        views = rows // self.rows
        everyone = torch.rand(count, views, self.global_rows, generator=self.generator, device=self.generator.device)
        return everyone[:, :, self.first_row : self.first_row + self.rows].reshape(count, rows)

    def normal(self, rows: int, *shape: int) -> Tensor:
        """Draw float32 ``[rows, *shape]``, standard normal; ``rows`` as in :meth:`uniform`.

        Each clip has a generator of its own, whose seed depends on the step, on the draw and on the clip's place in the
        global batch: numbers for the clips of other processes, gigabytes in EAT's case, are not drawn.
        """
        device = self.generator.device
        step, views = self.generator.initial_seed(), rows // self.rows
        clips = [
            torch.randn(views, *shape, generator=seeded(device, step, self.normal_draws, clip), device=device)
            for clip in range(self.first_row, self.first_row + self.rows)
        ]
        self.normal_draws += 1
        return torch.stack(clips, dim=1).flatten(0, 1)


#: The noise of the running step; a stack, so that leaving an inner context restores the outer one.
_active: list[_StepNoise] = []


@contextmanager
def step_noise(generator: torch.Generator, *, first_row: int, global_rows: int, rows: int) -> Iterator[None]:
    """Let layers draw noise inside; outside of it they compute without.

    Whatever trains a backbone runs it inside: pre-training and fine-tuning do. Frozen encoders run outside.

    Numbers are drawn for the global batch and each process keeps its rows, as masks are.

    Args:
        generator: seeded from (seed, step).
        first_row: this batch's first clip within the global batch.
        global_rows: clips in the global batch.
        rows: clips of this batch.
    """
    _active.append(_StepNoise(generator, first_row, global_rows, rows))
    try:
        yield
    finally:
        _active.pop()


@functools.lru_cache(maxsize=64)
def _keep(rates: tuple[float, ...], device: torch.device) -> Tensor:
    """Return float32 ``[branches, 1]``, 1 - rate; cached, because the host waits for each copy to a GPU."""
    return 1.0 - torch.tensor(rates, device=device)[:, None]


def drop_path_scales(rates: list[float], rows: int, device: torch.device) -> Tensor | None:
    """Draw the factors of residual branches under stochastic depth (Huang et al. 2016, arXiv 1603.09382).

    Args:
        rates: probability of dropping each branch.
        rows: clips (times views) in the batch.
        device: where the factors are wanted.

    Returns:
        float32 ``[branches, rows, 1, 1]``: 0 where dropped, 1 / (1 - rate) where kept. None outside a training step, or
        when no rate is above 0.
    """
    if not _active or not any(rates):
        return None
    keep = _keep(tuple(rates), device)  # [branches, 1]
    kept = _active[-1].uniform(len(rates), rows).to(device) < keep  # [branches, rows]
    # Divided by the probability of being kept, so that the expected value of a branch does not change.
    return (kept / keep)[:, :, None, None]


def normal_noise(rows: int, *shape: int, device: torch.device) -> Tensor:
    """Return float32 ``[rows, *shape]``, standard normal inside :func:`step_noise` and zero outside of it."""
    if not _active or device.type == "meta":
        return torch.zeros(rows, *shape, device=device)
    return _active[-1].normal(rows, *shape).to(device)
