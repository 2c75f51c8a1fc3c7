"""The order of task domains in tables."""

from __future__ import annotations

from collections.abc import Iterable

__all__ = ["in_order"]

#: The bundled tasks' domains, in the order of DWM's Table I (arXiv 2603.23810), AudioSet (general) after them.
ORDER = ("environment", "speech", "music", "general")


def in_order(domains: Iterable[str | None]) -> list[str]:
    """Return the domains, each once and without None: those of bundled tasks first, then others as they come."""
    named = dict.fromkeys(domain for domain in domains if domain is not None)
    return [*(domain for domain in ORDER if domain in named), *(domain for domain in named if domain not in ORDER)]
