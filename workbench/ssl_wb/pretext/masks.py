"""Asking a masker for the masks of a step, and checking what it returns."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from ssl_wb.plugin.contract_checks import check_masks, refuse
from ssl_wb.plugin.masker import Mask, Masker, MaskRequest

__all__ = ["draw_masks", "try_masker"]


def draw_masks(masker: Masker, requests: Sequence[MaskRequest], *, values: bool = True) -> tuple[Mask, ...]:
    """Ask a masker for one mask per view.

    Args:
        masker: the masker.
        requests: one for all views, or one for each view where each has its own augmentation.
        values: check every index; otherwise sizes, devices and types only, for which no one waits.

    Raises:
        PluginError: the masks break the contract.
    """
    answers = [check_masks(masker, request, masker(request), values=values) for request in requests]
    return answers[0] if len(answers) == 1 else tuple(masks[number] for number, masks in enumerate(answers))


def try_masker(masker: Masker, request: MaskRequest) -> tuple[Mask, ...]:
    """Ask a masker once on the CPU, and check also what it does besides: its randomness and its patches.

    Raises:
        PluginError: the masks, or what else it did, break the contract.
    """
    patches, state = request.patches.clone(), torch.random.get_rng_state()
    masks = draw_masks(masker, [request])
    if not torch.equal(state, torch.random.get_rng_state()):
        refuse(masker, "draw from request.uniform or request.generator only", "it draws from torch's global generator")
    if not torch.equal(patches, request.patches):
        refuse(masker, "leave request.patches as they are", "it writes into them")
    return masks
