"""The checks of an augmentation."""

from __future__ import annotations

import random
from collections.abc import Collection, Iterator, Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ssl_wb.plugin.augmentation import Augmentation
from ssl_wb.plugin.contract_checks import refuse
from ssl_wb.testing.checks import Checks, Subject
from ssl_wb.testing.options_checks import common_checks

__all__ = ["CHECKS", "check_augmentation"]

#: Samples per second of the crops.
RATE = 16000

CHECKS: Checks[_Augmentation] = Checks("augmentation", common_checks())


class _Augmentation(Subject[Augmentation]):
    """An augmentation under test."""


def check_augmentation(
    plugin: type[Augmentation], options: Mapping[str, Any] | None = None, *, skip: Collection[str] = ()
) -> None:
    """Hold an augmentation to its contract.

    Args:
        plugin: the class.
        options: options that differ from their defaults.
        skip: names of checks to leave out.

    Raises:
        ContractError: the first check that fails.
    """
    CHECKS.run(_Augmentation(plugin, options or {}), skip)


def _seed(seed: int) -> None:
    random.seed(seed)
    np.random.seed(seed)


def _crops() -> Iterator[tuple[str, NDArray[np.float32]]]:
    """Yield (what it is, float32 ``[L]``) pairs."""
    noise = np.random.default_rng(0).normal(scale=0.1, size=RATE).astype(np.float32)
    yield "noise", noise
    yield "silence", np.zeros_like(noise)
    yield "a crop of 50 ms", noise[: RATE // 20].copy()


@CHECKS
def waveform(subject: _Augmentation) -> None:
    """It returns finite float32 [L] for noise, silence and short crops, and does not change its input in place."""
    augmentation = subject.build(RATE)
    for name, crop in _crops():
        for seed in range(4):
            before = crop.copy()
            _seed(seed)
            made = augmentation(crop)
            if not isinstance(made, np.ndarray) or made.dtype != np.float32 or made.ndim != 1:
                seen = f"{made.dtype} {list(made.shape)}" if isinstance(made, np.ndarray) else type(made).__name__
                refuse(augmentation, "return float32 [L]", f"{seen} for {name}")
            if not np.isfinite(made).all():
                refuse(augmentation, "return finite samples", f"others for {name}")
            if not np.array_equal(before, crop):
                refuse(augmentation, "leave its input as it is, and change a copy", f"{name} is changed in place")


@CHECKS
def repeatable(subject: _Augmentation) -> None:
    """The global generators of ``random`` and ``numpy.random`` decide: equal seeds give equal waveforms, from the same
    object or a new one, and torch's generator is left alone.
    """
    augmentation = subject.build(RATE)
    for name, crop in _crops():
        for seed in range(3):
            found: list[NDArray[np.float32]] = []
            for one in (augmentation, augmentation, subject.build(RATE)):
                torch.manual_seed(len(found))
                state = torch.random.get_rng_state()
                _seed(seed)
                found.append(one(crop))
                if not torch.equal(state, torch.random.get_rng_state()):
                    refuse(augmentation, "draw from random and numpy.random only", "it draws from torch's generator")
            if not all(np.array_equal(found[0], other) for other in found[1:]):
                contract = "draw from random and numpy.random only, which are seeded for each crop, and keep nothing"
                refuse(augmentation, contract, f"other samples for the same seed: {name}")


@CHECKS
def probability(subject: _Augmentation) -> None:
    """An option ``p`` is its probability: with 0 it returns its input."""
    if "p" not in subject.plugin.Options.model_fields:
        return
    augmentation = _Augmentation(subject.plugin, {**subject.changes, "p": 0.0}).build(RATE)
    for name, crop in _crops():
        for seed in range(4):
            _seed(seed)
            if not np.array_equal(augmentation(crop), crop):
                refuse(augmentation, "return its input where p is 0", f"other samples: {name}")
