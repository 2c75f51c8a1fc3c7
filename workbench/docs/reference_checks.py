"""The page of the checks of plugins, from the kit."""

from __future__ import annotations

from reference_keys import escape

from ssl_wb.plugin.kinds import KINDS
from ssl_wb.testing import Check, checks_of, heading_of

__all__ = ["plugin_checks"]

INTRODUCTION = """# Checks of plugins

`ssl_wb.testing` holds a plugin to the contract of its kind. [Write a plugin](plugins.md#test-it) shows how to use it.
The checks run in the order of this page, and the first one that fails raises `ContractError`, with the name of the
check. `skip=["NAME"]` leaves one out: a plugin may depart from the contract where its docstring says why.

## Checks of every plugin
"""


def plugin_checks(note: str) -> str:
    """Return the page.

    Args:
        note: says that the page is generated.
    """
    first, *_ = KINDS
    shared = [check for check in checks_of(first) if all(check in checks_of(kind) for kind in KINDS)]
    parts = [f"{note}\n{INTRODUCTION}", _table(shared)]
    for kind in KINDS:
        parts += [f"## {heading_of(kind)}\n", _table([check for check in checks_of(kind) if check not in shared])]
    return "\n".join(parts)


def _table(checks: list[Check]) -> str:
    rows = [f"| `{check.name}` | {escape(check.contract.replace('``', '`'))} |" for check in checks]
    return "\n".join(["| check | the contract |", "| --- | --- |", *rows, ""])
