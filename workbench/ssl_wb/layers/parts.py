"""Named parts of a training step, for torch's profiler."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

import torch
from torch.profiler import record_function

__all__ = ["PARTS", "part", "recorded_parts", "wait_for_device"]

#: Parts of a step, in the order in which tables show them.
PARTS = (
    *("data", "front end", "masking", "student", "teacher", "predictor", "objectives"),
    *("backward", "clipping", "optimiser", "EMA"),
)

#: Devices to wait for at both ends of a part while parts are recorded; None while they are not.
_recorded: tuple[torch.device, ...] | None = None
_NO_RANGE = nullcontext()


def wait_for_device(device: torch.device) -> None:
    """Wait until a GPU has done all its work; the CPU always has."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def part(name: str) -> AbstractContextManager[None]:
    """Return a profiler range called ``name`` inside :func:`recorded_parts`, and elsewhere a context that does nothing.

    ``record_function`` costs tens of microseconds even while no profiler runs. A small model on a fast GPU would feel
    a dozen of them in every step.
    """
    return _NO_RANGE if _recorded is None else _range(name, _recorded)


@contextmanager
def _range(name: str, devices: tuple[torch.device, ...]) -> Iterator[None]:
    for device in devices:
        wait_for_device(device)
    with record_function(name):
        yield
        for device in devices:
            wait_for_device(device)


@contextmanager
def recorded_parts(*devices: torch.device) -> Iterator[None]:
    """Turn :func:`part` into profiler ranges for what runs inside.

    Args:
        devices: wait for these at both ends of each part, so that a part has the time of its own kernels. What would
            have overlapped does not then.
    """
    global _recorded
    before, _recorded = _recorded, devices
    try:
        yield
    finally:
        _recorded = before
