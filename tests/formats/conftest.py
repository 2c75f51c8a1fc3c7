"""Exported folders, each made once."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from imported import only
from ssl_wb.workflows.export import export_encoder

RUN = Path(__file__).parents[1] / "fixtures" / "run-0.1"


@pytest.fixture(scope="session")
def exported(tmp_path_factory):
    """Return a function that exports the run of 0.1 to a format, once."""
    made: dict[str, Path] = {}

    def make(target: str) -> Path:
        if target not in made:
            made[target] = tmp_path_factory.mktemp("exported") / target
            export_encoder(RUN, made[target], target=target)
        return made[target]

    return make


@pytest.fixture(scope="session")
def clips():
    """Two clips of unlike length, float32 ``[2, S]`` at 16 kHz, and their lengths."""
    waveform = 0.1 * torch.randn(2, 40_000, generator=torch.Generator().manual_seed(0))
    lengths = torch.tensor([40_000, 9_000])
    waveform[1, 9_000:] = 0.0
    return waveform, lengths


@pytest.fixture(scope="session")
def dasheng() -> Path:
    """A checkpoint in Dasheng's layout."""
    return only("inference_dasheng.pt")[0]
