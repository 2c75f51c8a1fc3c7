"""Tests of the importer."""

from __future__ import annotations

import torch

from ssl_wb.api import Checkpoint
from ssl_wb.scaffold.templates.importer import NewPlugin
from ssl_wb.testing import check_importer


def test_it_keeps_the_contract() -> None:
    """What it recognises, and with ``checkpoint=FILE``, a small file of the system, every tensor of it."""
    check_importer(NewPlugin)


def test_only_files_of_the_system_are_recognised() -> None:
    """Files of others are left to their importers. Add a test that reads a small file of the system."""
    tensors = {"patch_embed.proj.weight": torch.zeros(8, 1, 16, 16)}
    assert NewPlugin.recognises(Checkpoint(tensors, {"system": "new-plugin"}))
    assert not NewPlugin.recognises(Checkpoint(tensors))
