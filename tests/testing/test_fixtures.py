"""The fixtures serve the tests of a project that enables them, as the page says."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from ssl_wb.api import ProbeTask
from ssl_wb.testing import fixtures

pytest_plugins = ["ssl_wb.testing.fixtures"]
PAGE = Path(__file__).parents[2] / "workbench" / "docs" / "plugins.md"


def test_waveforms(wb_waveforms, wb_encoder):
    waveforms, lengths = wb_waveforms
    clips = wb_encoder.embed_clip(waveforms, lengths)
    assert clips.shape == (4, wb_encoder.dim)
    assert clips.isfinite().all()


def test_a_mask_request(wb_mask_request):
    assert wb_mask_request.patches.shape == (4, wb_mask_request.grid.cells, 64)
    assert wb_mask_request.latents().shape[:2] == (4, 160)


def test_a_step(wb_step):
    view = wb_step.views[0]
    for part in (view.pooled, view.features, view.target, view.prediction, wb_step.captions):
        assert part.isfinite().all()
    assert len(view.layers) == len(view.mlp_outputs) == 12


@pytest.mark.parametrize("level", ["clip", "layers", "frames", "audio"])
@pytest.mark.parametrize("labels", ["single", "several", "number"])
def test_tasks(wb_task, level, labels):
    task = wb_task(level, labels, folds=2)
    assert isinstance(task, ProbeTask)
    assert (task.multi_label, task.regression) == (labels == "several", labels == "number")
    assert len(task.embeddings) == len(task.labels) == 60
    for split in task.splits:
        rows = np.concatenate([split.train, split.validation, split.test])
        assert sorted(rows) == list(range(60))
    assert (task.read is not None) == (level == "audio")


def test_the_page_names_them():
    page = PAGE.read_text(encoding="utf-8")
    assert 'pytest_plugins = ["ssl_wb.testing.fixtures"]' in page
    assert set(re.findall(r"`(wb_\w+)", page)) == set(fixtures.__all__)
