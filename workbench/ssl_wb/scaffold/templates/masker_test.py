"""Tests of the masker."""

from __future__ import annotations

import torch

from ssl_wb.api import MaskRequest
from ssl_wb.scaffold.templates.masker import NewPlugin, NewPluginOptions
from ssl_wb.testing import check_masker

# Fixtures such as wb_mask_request, which is what a masker is asked.
pytest_plugins = ["ssl_wb.testing.fixtures"]


def test_it_keeps_the_contract() -> None:
    """Counts, order, randomness, batches, devices: everything that the workbench asks of a masker."""
    check_masker(NewPlugin)


def test_other_seeds_give_other_masks(wb_mask_request: MaskRequest) -> None:
    """It masks at random; replace this by what your idea promises."""
    masker = NewPlugin(NewPluginOptions(ratio=0.7))
    (first,) = masker(wb_mask_request)
    (second,) = masker(wb_mask_request)  # the request's generator goes on
    assert not torch.equal(first.visible, second.visible)
