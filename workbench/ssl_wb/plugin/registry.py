"""The installed plugins: select one by name, list them, report the ones that do not work."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from importlib import metadata
from importlib.metadata import EntryPoint
from pathlib import Path

from ssl_wb.errors import PluginError, WorkbenchError, did_you_mean
from ssl_wb.plugin.base import Kind, Plugin
from ssl_wb.plugin.discovery import BLOCK_VARIABLE, PluginRecord, Status, canonical, discover
from ssl_wb.plugin.kinds import KINDS

__all__ = ["ENTRY_POINT_GROUP", "PluginRecord", "Registry", "Status", "load_registry", "loaded_registry", "remedy"]

ENTRY_POINT_GROUP = "ssl_wb"
STRICT_VARIABLE = "SSL_WB_STRICT_PLUGINS"

#: How a message says that a plugin of some status might have helped.
_FAILURES: dict[Status, str] = {
    "broken": "failed to load",
    "incompatible": "is incompatible",
    "blocked": "is blocked",
}

_log = logging.getLogger("ssl_wb")


class Registry:
    """Plugins of every status, and the recipes that plugins ship.

    Attributes:
        records: one per plugin, in the order of kinds, then by name; those of unknown kind last.
    """

    def __init__(self, records: Iterable[PluginRecord], recipes: Iterable[tuple[str, Path]] = ()) -> None:
        order: list[Kind | None] = [*KINDS, None]
        self.records: tuple[PluginRecord, ...] = tuple(
            sorted(records, key=lambda record: (order.index(record.kind), record.name, record.distribution))
        )
        self._recipes = sorted(recipes)

    def get(self, kind: Kind, name: str) -> type[Plugin]:
        """Return the class of a plugin.

        Args:
            kind: one of :data:`ssl_wb.plugin.kinds.KINDS`.
            name: its name, or ``distribution/name``, which is needed where two offer one name.

        Raises:
            PluginError: no such plugin, two of that name, or one that is broken, blocked or incompatible.
        """
        plugin = self.record(kind, name).plugin
        assert plugin is not None  # an active record always has its class
        if plugin.is_library:
            raise PluginError(
                f"{kind} {name!r} stands for a library; name one of its plugins",
                hint=f"some of them: {', '.join(sorted(plugin.library_names())[:5]) or 'none, it is not installed'}",
            )
        return plugin

    def record(self, kind: Kind, name: str) -> PluginRecord:
        """Return the record of a plugin that can be used; arguments and errors as of :meth:`get`."""
        found = [record for record in self._active(kind) if _answers_to(record, name)]
        found = found or [record for record in self.libraries(kind) if _answers_to(record, name)]
        found = found or self._from_libraries(kind, name)
        if len(found) == 1:
            return found[0]
        if found:
            providers = " and ".join(record.provider for record in found)
            choices = " or ".join(repr(record.qualified) for record in found)
            raise PluginError(
                f"{kind} {name!r} is offered by {providers}; write {choices}",
                hint=f"or leave one out by {BLOCK_VARIABLE}=<name>",
            )
        raise self._absent(kind, name)

    def names(self, kind: Kind) -> list[str]:
        """Return names that :meth:`get` accepts, sorted: bare, or qualified where two share a name."""
        active = self._active(kind)
        bare = [record.name for record in active]
        return sorted(record.name if bare.count(record.name) == 1 else record.qualified for record in active)

    def classes(self, kind: Kind) -> list[type[Plugin]]:
        """Return the classes of :meth:`names`, in their order."""
        return [self.get(kind, name) for name in self.names(kind)]

    def recipes(self) -> list[tuple[str, Path]]:
        """Return (distribution, path) of every recipe that a plugin ships."""
        return list(self._recipes)

    def _active(self, kind: Kind) -> list[PluginRecord]:
        """Return the records of plugins that can be selected by name."""
        return [record for record in self._usable(kind) if record.plugin is not None and not record.plugin.is_library]

    def libraries(self, kind: Kind) -> list[PluginRecord]:
        """Return the records of classes that stand for whole libraries of plugins."""
        return [record for record in self._usable(kind) if record.plugin is not None and record.plugin.is_library]

    def _usable(self, kind: Kind) -> list[PluginRecord]:
        return [record for record in self.records if record.kind == kind and record.status == "active"]

    def _from_libraries(self, kind: Kind, name: str) -> list[PluginRecord]:
        """Return what classes that stand for whole libraries have under a bare name, each as a record of its own."""
        named = [
            (record, record.plugin.library_plugin(name)) for record in self.libraries(kind) if record.plugin is not None
        ]
        return [replace(record, name=name, plugin=plugin) for record, plugin in named if plugin is not None]

    def _absent(self, kind: Kind, name: str) -> PluginError:
        """Return the error for a name that selects nothing: what is wrong, the nearest names, plugins that failed."""
        inactive = [one for one in self.records if one.status != "active" and one.kind in (kind, None)]
        for record in inactive:
            if _answers_to(record, name):
                why = f"plugin {record.provider} is {record.status}: {record.error}"
                return PluginError(f"{kind} {name!r} cannot be used, {why}", hint=remedy(record))
        active = self._active(kind)
        if not active:
            message = f"no {kind} is called {name!r}: none is installed"
            hint = "in a checkout of ssl-wb, run `pip install -e .`; `ssl-wb doctor` says what is wrong"
        else:
            near = [record.qualified for record in active] if "/" in name else self.names(kind)
            libraries = self.libraries(kind)
            inside = [one for record in libraries if record.plugin is not None for one in record.plugin.library_names()]
            message = f"no {kind} is called {name!r}{did_you_mean(name, [*near, *inside])}"
            known = [*self.names(kind), *(f"those of {record.name}" for record in libraries)]
            message += f"{'' if message.endswith('?') else ';'} {kind}s: {', '.join(known)}"
            hint = f"`ssl-wb list-plugins --kind {kind}` says what each does"
        others = [record.kind for record in self.records if record.status == "active" and record.name == name]
        if others:
            other = str(others[0])
            message += f"; {name!r} is {'an' if other[0] in 'aeiou' else 'a'} {other}"
        for status, failed in _FAILURES.items():
            suspects = ", ".join(dict.fromkeys(one.provider for one in inactive if one.status == status))
            if suspects:
                message += f"; plugin {suspects} {failed} and may provide it"
        return PluginError(message, hint=hint)


def _answers_to(record: PluginRecord, name: str) -> bool:
    """Whether ``name``, bare or qualified, means ``record``."""
    distribution, slash, bare = name.rpartition("/")
    return bare == record.name and (not slash or canonical(distribution) == canonical(record.distribution))


def remedy(record: PluginRecord) -> str:
    """Say what a user can do about a plugin that is broken, incompatible or blocked."""
    if record.status == "blocked":
        return f"take its name out of {BLOCK_VARIABLE}"
    block = f"block it with {BLOCK_VARIABLE}={record.entry_point}"
    if canonical(record.distribution) == "ssl-wb":
        return f"reinstall ssl-wb (`pip install -e .` in a checkout), or {block}"
    return f"{block}, or remove it with `pip uninstall {record.distribution}`"


def _warn(records: Sequence[PluginRecord], blocked: Sequence[str]) -> None:
    """Log one line for each plugin that is left out, and for each blocked name that matches no plugin."""
    for record in records:
        if record.status in ("broken", "incompatible"):
            what = f"{record.kind} {record.name!r} of plugin" if record.kind else "plugin"
            _log.warning(
                "%s %s is %s and left out: %s; %s",
                *(what, record.provider, record.status, record.error, remedy(record)),
            )
    known = {alias for record in records for alias in record.aliases}
    matched = {canonical(alias) for one in records if one.status == "blocked" for alias in one.aliases}
    for name in blocked:
        if canonical(name) not in matched:
            guess = did_you_mean(name, known)
            _log.warning("%s names %r, which is no plugin here%s", BLOCK_VARIABLE, name, guess)


_cached: Registry | None = None


def load_registry(
    entry_points: Iterable[EntryPoint] | None = None,
    *,
    refresh: bool = False,
    environment: Mapping[str, str] = os.environ,
) -> Registry:
    """Return the installed plugins, loaded once per process.

    Every plugin that is left out is reported by one warning on the logger ``ssl_wb``.

    Args:
        entry_points: load these instead of the installed ones; the result is not cached.
        refresh: read the entry points again, for plugins installed since.
        environment: holds ``SSL_WB_BLOCK_PLUGINS`` (entry points or distributions, comma-separated) and
            ``SSL_WB_STRICT_PLUGINS`` (1: a broken plugin is an error).

    Raises:
        PluginError: strict mode, and a plugin is broken or incompatible.
        WorkbenchError: torch itself cannot be imported.
    """
    global _cached
    if entry_points is None and _cached is not None and not refresh:
        return _cached
    _require_torch()
    blocked = [name.strip() for name in environment.get(BLOCK_VARIABLE, "").split(",") if name.strip()]
    strict = environment.get(STRICT_VARIABLE, "") not in ("", "0")
    offered = metadata.entry_points(group=ENTRY_POINT_GROUP) if entry_points is None else entry_points
    found = discover(offered, blocked=blocked, strict=strict)
    _warn(found.records, blocked)
    registry = Registry(found.records, found.recipes)
    if entry_points is None:
        _cached = registry
    return registry


def loaded_registry() -> Registry | None:
    """Return the installed plugins if they were loaded already, for error messages."""
    return _cached


def _require_torch() -> None:
    """Import torch through the contracts, so that its failure is reported once and not for each plugin."""
    try:
        _ = [spec.base for spec in KINDS.values()]
    except (ImportError, OSError, RuntimeError) as failure:
        raise WorkbenchError(
            f"torch cannot be imported: {type(failure).__name__}: {failure}",
            hint="`ssl-wb doctor` says what is installed and what to do",
        ) from failure
