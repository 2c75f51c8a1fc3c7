"""Domains: which tasks stand together in a table, as environmental sounds, speech and music do in papers."""

from __future__ import annotations

from collections.abc import Iterable

__all__ = ["in_order"]

#: The shipped tasks' domains, in the order of their columns (DWM, arXiv 2603.23810, Table I; AudioSet after them).
ORDER = ("environment", "speech", "music", "general")


def in_order(domains: Iterable[str | None]) -> list[str]:
    """Return the domains that are named, each once: the shipped tasks' first, then others as they come."""
    named = dict.fromkeys(domain for domain in domains if domain is not None)
    return [*(domain for domain in ORDER if domain in named), *(domain for domain in named if domain not in ORDER)]
