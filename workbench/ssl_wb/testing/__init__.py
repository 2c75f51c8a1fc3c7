"""Hold a plugin to its contract: for the tests of plugins, of the bundled ones and of anyone's.

``check_plugin(MyMasker)`` runs every check of its kind, ``check_masker`` and its like take more arguments. The first
check that fails raises :class:`ContractError`, which says what the contract asks for, what was seen, and where the page
"Checks of plugins" has it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from ssl_wb.errors import UsageError
from ssl_wb.plugin.base import Kind, Plugin
from ssl_wb.plugin.contract_checks import ContractError
from ssl_wb.plugin.kinds import KINDS
from ssl_wb.testing import (
    augmentations,
    backbones,
    evaluators,
    front_ends,
    importers,
    maskers,
    objectives,
    optimisers,
    schedules,
    sources,
    tasks,
)
from ssl_wb.testing.augmentations import check_augmentation
from ssl_wb.testing.backbones import check_backbone
from ssl_wb.testing.checks import Check, Checks, heading_of
from ssl_wb.testing.evaluators import check_evaluator
from ssl_wb.testing.front_ends import check_front_end
from ssl_wb.testing.importers import check_importer
from ssl_wb.testing.maskers import check_masker, mask_request
from ssl_wb.testing.objectives import check_objective
from ssl_wb.testing.optimisers import check_optimiser
from ssl_wb.testing.probe_tasks import tiny_encoder, tiny_task
from ssl_wb.testing.schedules import check_schedule
from ssl_wb.testing.sources import check_source
from ssl_wb.testing.steps import SHAPES, step_state
from ssl_wb.testing.tasks import check_task

__all__ = [
    "SHAPES",
    "Check",
    "ContractError",
    "check_augmentation",
    "check_backbone",
    "check_evaluator",
    "check_front_end",
    "check_importer",
    "check_masker",
    "check_objective",
    "check_optimiser",
    "check_plugin",
    "check_schedule",
    "check_source",
    "check_task",
    "checks_of",
    "heading_of",
    "mask_request",
    "step_state",
    "tiny_encoder",
    "tiny_task",
]

_CHECKS: Mapping[Kind, Checks[Any]] = {
    one.CHECKS.kind: one.CHECKS
    for one in (
        *(maskers, objectives, backbones, evaluators, front_ends),
        *(augmentations, optimisers, schedules, tasks, sources, importers),
    )
}
_CHECK_FUNCTIONS: Mapping[Kind, Callable[..., None]] = {
    "masker": check_masker,
    "objective": check_objective,
    "backbone": check_backbone,
    "evaluator": check_evaluator,
    "front-end": check_front_end,
    "augmentation": check_augmentation,
    "optimiser": check_optimiser,
    "schedule": check_schedule,
    "task": check_task,
    "source": check_source,
    "importer": check_importer,
}


def check_plugin(plugin: type[Plugin], *arguments: Any, **more: Any) -> None:
    """Hold a plugin of any kind to its contract.

    Args:
        plugin: the class.
        *arguments: options that differ from their defaults, for kinds that have options.
        **more: what the function of the kind takes, such as ``skip``.

    Raises:
        ContractError: the first check that fails.
        UsageError: it is no plugin.
    """
    check = _CHECK_FUNCTIONS.get(getattr(plugin, "kind", ""))
    if check is None:
        raise UsageError(
            f"{getattr(plugin, '__name__', plugin)!s} is no plugin: it derives from no contract of ssl_wb.api",
            hint=f"kinds: {', '.join(KINDS)}",
        )
    check(plugin, *arguments, **more)


def checks_of(kind: Kind) -> tuple[Check[Any], ...]:
    """Return the checks of a kind, in the order in which they run."""
    return tuple(_CHECKS[kind].all)
