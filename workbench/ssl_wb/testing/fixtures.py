"""Fixtures for the tests of plugins; ``pytest_plugins = ["ssl_wb.testing.fixtures"]`` in conftest.py enables them."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from ssl_wb.encoder.encoder import FrozenEncoder
from ssl_wb.plugin.evaluator import ProbeTask
from ssl_wb.plugin.masker import Grid, MaskRequest
from ssl_wb.plugin.objective import StepState
from ssl_wb.testing.maskers import mask_request
from ssl_wb.testing.probe_tasks import tiny_encoder, tiny_task
from ssl_wb.testing.steps import SHAPES, step_state

__all__ = ["wb_encoder", "wb_mask_request", "wb_step", "wb_task", "wb_waveforms"]


@pytest.fixture
def wb_waveforms() -> tuple[Tensor, Tensor]:
    """Four clips at 16 kHz, float32 ``[4, 16000]``, and the samples of each that are audio, int64 ``[4]``."""
    waveforms = 0.1 * torch.randn(4, 16000, generator=torch.Generator().manual_seed(0))
    return waveforms, torch.tensor([16000, 16000, 12000, 8000])


@pytest.fixture
def wb_mask_request() -> MaskRequest:
    """What a masker is asked about four clips of noise on a grid of 8 x 20 patches."""
    patches = torch.randn(4, 160, 64, generator=torch.Generator().manual_seed(0))  # [B, N, P]
    return mask_request(patches, Grid(8, 20), latents=True)


@pytest.fixture
def wb_step() -> StepState:
    """A training step of four clips with everything that an objective may need; sizes ``ssl_wb.testing.SHAPES``."""
    return step_state(SHAPES)


@pytest.fixture
def wb_encoder() -> FrozenEncoder:
    """A frozen encoder with random weights, of 16 kHz audio."""
    return tiny_encoder()


@pytest.fixture
def wb_task() -> Callable[..., ProbeTask]:
    """Function that makes a task of 60 clips: ``wb_task(level="clip", labels="single", folds=1)``."""
    return tiny_task
