"""CUDA without a GPU, for the host's own steps: the kit's fake tensors, and generators that the host makes itself."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from unittest import mock

import torch
from torch import nn

from ssl_wb.layers import noise
from ssl_wb.testing import devices
from ssl_wb.testing.devices import CUDA, FakeGenerator

__all__ = ["CUDA", "FakeGenerator", "fake_cuda", "to_cuda"]


@contextmanager
def fake_cuda() -> Iterator[None]:
    """Compute with fake tensors inside; ``device="cuda"`` works there."""
    noise._keep.cache_clear()  # it may hold real constants of other tests
    try:
        with mock.patch.object(torch, "Generator", FakeGenerator), devices.fake_cuda():
            yield
    finally:
        noise._keep.cache_clear()


def to_cuda(module: nn.Module) -> nn.Module:
    """Replace parameters and buffers by fake CUDA ones, as ``.to("cuda")`` would, and nothing else."""
    return devices.to_cuda(module, fake=True)
