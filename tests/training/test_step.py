"""What one training step makes of numbers that are no longer finite."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from ssl_wb.errors import DivergedError
from ssl_wb.training.step import TrainingStep


def test_a_decomposition_that_fails_is_a_divergence(monkeypatch):
    def failing(inputs):
        raise torch.linalg.LinAlgError("the input matrix contained non-finite values")

    step = TrainingStep(failing, SimpleNamespace(mixed_precision="no"), None, 4)
    monkeypatch.setattr(step, "inputs", lambda batch, **settings: None)
    with pytest.raises(DivergedError, match="step 8: numbers of the model are no longer finite") as caught:
        step(None, step=7)
    assert "optimizer.lr" in caught.value.hint
