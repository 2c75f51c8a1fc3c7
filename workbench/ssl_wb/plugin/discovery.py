"""Plugins from entry points: each module is imported alone, each hook called alone, each class checked alone.

A broken plugin therefore affects nothing else: it becomes a :class:`PluginRecord` with a status and an error.
"""

from __future__ import annotations

import ast
import contextlib
import importlib.metadata
import importlib.util
import inspect
import re
import sys
import traceback
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from importlib.metadata import EntryPoint
from pathlib import Path
from types import ModuleType
from typing import Literal

import pluggy

from ssl_wb.errors import PluginError, did_you_mean
from ssl_wb.plugin.base import API_VERSION, Kind, Plugin
from ssl_wb.plugin.class_checks import FaultError, checked_class
from ssl_wb.plugin.kinds import KINDS, KindSpec

__all__ = ["BLOCK_VARIABLE", "Discovery", "PluginRecord", "Status", "canonical", "discover"]

BLOCK_VARIABLE = "SSL_WB_BLOCK_PLUGINS"
#: The hook that returns paths of recipes; each kind's hook in the table of kinds returns classes.
RECIPE_HOOK = "ssl_wb_recipes"

Status = Literal["active", "broken", "blocked", "incompatible"]


@dataclass(frozen=True)
class PluginRecord:
    """What is known of one plugin, working or not.

    Attributes:
        kind: None where the plugin failed before it could say.
        name: name in recipes; the entry point's name where the plugin failed before it could say.
        distribution: installed package that brings it.
        version: that package's version.
        status: ``active``, or why it cannot be used.
        summary: first paragraph of its docstring.
        error: what is wrong, in one line; empty for active plugins.
        entry_point: name of the entry point in group ``ssl_wb``.
        module: module the entry point names.
        plugin: the class of an active plugin.
    """

    kind: Kind | None
    name: str
    distribution: str
    version: str
    status: Status
    summary: str = ""
    error: str = ""
    entry_point: str = ""
    module: str = ""
    plugin: type[Plugin] | None = None

    @property
    def qualified(self) -> str:
        """``distribution/name``, which selects this plugin whatever others are called."""
        return f"{self.distribution}/{self.name}"

    @property
    def provider(self) -> str:
        """The entry point and its package, as ``'masker-x' (some-package 1.0)``."""
        return f"{self.entry_point!r} ({self.distribution} {self.version})".replace(" )", ")")

    @property
    def aliases(self) -> tuple[str, str, str]:
        """Names by which a user may block it; they are compared by :func:`canonical`."""
        return self.entry_point, self.distribution, f"{self.distribution}/{self.entry_point}"


@dataclass
class Discovery:
    """What was found: plugins of every status, and (distribution, path) of recipes."""

    records: list[PluginRecord] = field(default_factory=list)
    recipes: list[tuple[str, Path]] = field(default_factory=list)


class _TooNewError(Exception):
    """A plugin written for a later contract than this one."""


def _unread(entry_point: EntryPoint) -> PluginRecord:
    """Return what is known of a plugin before it is imported."""
    dist = entry_point.dist
    return PluginRecord(
        kind=None,
        name=entry_point.name,
        distribution=(dist.name if dist else None) or "unknown",
        version=(dist.version if dist else None) or "",
        status="active",
        entry_point=entry_point.name,
        module=entry_point.value,
    )


def canonical(name: str) -> str:
    """Return a name as package tools compare it: lower case, ``-`` for any run of ``-``, ``_`` and ``.``."""
    return re.sub(r"[-_.]+", "-", name.strip()).lower()


def discover(entry_points: Iterable[EntryPoint], *, blocked: Iterable[str] = (), strict: bool = False) -> Discovery:
    """Load plugins and record each one, working or not.

    Args:
        entry_points: those of group ``ssl_wb``; each value names a module.
        blocked: names of entry points or distributions that are not even imported.
        strict: raise at the first plugin that is broken or incompatible.

    Raises:
        PluginError: in strict mode, with the plugin's own exception as its cause.
    """
    blocked_names = {canonical(name) for name in blocked}
    sources = [(_unread(entry_point), entry_point) for entry_point in entry_points]
    reader = _Reader(strict=strict)
    for source, entry_point in sorted(sources, key=lambda pair: (pair[0].distribution, pair[0].entry_point)):
        if blocked_names.intersection(map(canonical, source.aliases)):
            reader.found.records.append(replace(source, status="blocked", error=f"blocked by {BLOCK_VARIABLE}"))
            continue
        # stdout is the command line's data; a plugin that prints must not spoil it.
        with contextlib.redirect_stdout(sys.stderr):
            reader.read(source, entry_point)
    return reader.found


class _Reader:
    """Reads plugins one after the other into a :class:`Discovery`."""

    def __init__(self, *, strict: bool) -> None:
        self.strict = strict
        self.found = Discovery()

    def read(self, source: PluginRecord, entry_point: EntryPoint) -> None:
        """Import one plugin and take what its hooks offer."""
        try:
            module = _import(entry_point)
            manager = _manager_of(module)
        except (Exception, SystemExit) as failure:
            self._fail(source, failure)
            return
        for spec in KINDS.values():
            for offer in self._call(manager, spec.hook, source, spec.kind):
                self._take(offer, spec, source)
        for offer in self._call(manager, RECIPE_HOOK, source, None):
            try:
                self.found.recipes.append((source.distribution, _checked_recipe(offer)))
            except (Exception, SystemExit) as failure:
                self._fail(source, failure)

    def _call(self, manager: pluggy.PluginManager, hook: str, source: PluginRecord, kind: Kind | None) -> list[object]:
        """Call a plugin's implementation of ``hook``, if it has one."""
        for implementation in getattr(manager.hook, hook).get_hookimpls():
            try:
                offers = implementation.function()
                if isinstance(offers, str | type) or not isinstance(offers, Iterable):
                    wanted = "classes" if kind else "paths"
                    raise FaultError(f"{hook} returned {offers!r}, not a list of {wanted}")
                return list(offers)
            except (Exception, SystemExit) as failure:
                self._fail(source, failure, kind=kind)
        return []

    def _take(self, offer: object, spec: KindSpec, source: PluginRecord) -> None:
        """Record one class that a hook returned."""
        kind = spec.kind
        name = getattr(offer, "name", None)
        shown = name if isinstance(name, str) and name else getattr(offer, "__name__", "")
        try:
            plugin = checked_class(offer, spec)
            for other in self.found.records:
                if (other.kind, other.name, other.distribution) == (kind, plugin.name, source.distribution):
                    raise FaultError(f"{source.distribution} offers {kind} {plugin.name!r} twice")
        except (Exception, SystemExit) as failure:
            self._fail(source, failure, kind=kind, name=shown)
            return
        summary = " ".join((inspect.getdoc(plugin) or "").split("\n\n")[0].split())
        self.found.records.append(replace(source, kind=kind, name=plugin.name, summary=summary, plugin=plugin))

    def _fail(self, source: PluginRecord, failure: BaseException, *, kind: Kind | None = None, name: str = "") -> None:
        """Record what went wrong; raise it in strict mode."""
        status: Status = "incompatible" if isinstance(failure, _TooNewError) else "broken"
        record = replace(source, status=status, kind=kind, name=name or source.name, error=_one_line(failure))
        if self.strict:
            raise PluginError(
                f"plugin {record.provider} is {status}: {record.error}",
                hint="SSL_WB_STRICT_PLUGINS is set; without it the plugin is left out and the rest works",
            ) from failure
        self.found.records.append(record)


def _import(entry_point: EntryPoint) -> ModuleType:
    """Import a plugin's module and check the contract it was written for."""
    try:
        module = entry_point.load()
    except ImportError:
        # A plugin for a later contract may fail on a name that only that one has: then that is the reason.
        _check_version(_written_version(entry_point.module))
        raise
    if not isinstance(module, ModuleType):
        raise FaultError(f"entry point value {entry_point.value!r} names no module; drop the part after ':'")
    _check_version(getattr(module, "API_VERSION", API_VERSION))
    return module


def _written_version(module: str) -> object:
    """Read ``API_VERSION = <number>`` from a module's source, not importing it; ours where there is none."""
    try:
        spec = importlib.util.find_spec(module)
        statements = ast.parse(Path((spec and spec.origin) or "").read_text(encoding="utf-8")).body
    except (ImportError, OSError, SyntaxError, ValueError):
        return API_VERSION
    for statement in statements:
        if isinstance(statement, ast.Assign) and isinstance(statement.value, ast.Constant):
            names = [target.id for target in statement.targets if isinstance(target, ast.Name)]
            if "API_VERSION" in names:
                return statement.value.value
    return API_VERSION


def _check_version(declared: object) -> None:
    if not isinstance(declared, int) or isinstance(declared, bool):
        raise FaultError(f"API_VERSION is {declared!r}; it must be a whole number such as {API_VERSION}")
    if declared > API_VERSION:
        raise _TooNewError(
            f"needs plugin API {declared}, this ssl-wb has {API_VERSION}: upgrade it, or use an older plugin"
        )


@pluggy.HookspecMarker("ssl_wb")
def _hook() -> Iterable[object]:
    """Return classes of one kind, or paths of recipes: the specification of every hook, never called itself."""
    return ()


def _manager_of(module: ModuleType) -> pluggy.PluginManager:
    """Register one plugin with a manager of its own, so that no fault of one can reach another."""
    known = [*(spec.hook for spec in KINDS.values()), RECIPE_HOOK]
    manager = pluggy.PluginManager("ssl_wb")
    manager.add_hookspecs(type("HookSpecs", (), dict.fromkeys(known, _hook)))
    manager.register(module)
    callers = manager.get_hookcallers(module) or []
    try:
        manager.check_pending()
    except pluggy.PluginValidationError as failure:
        wrong = next(caller.name for caller in callers if not caller.has_spec())
        guess = did_you_mean(wrong, known) or f"; hooks: {', '.join(known)}"
        raise FaultError(f"unknown hook {wrong!r}{guess}") from failure
    if not callers:
        raise FaultError("implements no hook; mark a function such as ssl_wb_maskers with @hookimpl from ssl_wb.api")
    return manager


def _checked_recipe(offer: object) -> Path:
    """Return the absolute path of a recipe that a plugin ships."""
    if not isinstance(offer, str | Path):
        raise FaultError(f"ssl_wb_recipes returned {offer!r}, which is not a path")
    path = Path(offer)
    if path.suffix != ".toml" or not path.is_file():
        raise FaultError(f"ssl_wb_recipes returned {path}, which is not a .toml file on disk")
    return path.absolute()


def _one_line(failure: BaseException) -> str:
    """Describe an exception in one line, with file and line where the plugin's own code raised it."""
    text = " ".join(str(failure).split())
    if isinstance(failure, FaultError | _TooNewError | pluggy.PluginValidationError):
        return text
    frames = traceback.extract_tb(failure.__traceback__)
    # Frames of this module and of the import machinery do not help the plugin's author.
    hosts = (__file__, importlib.__file__, importlib.metadata.__file__)
    own = [frame for frame in frames if not frame.filename.startswith("<") and frame.filename not in hosts]
    place = f" ({Path(own[-1].filename).name}:{own[-1].lineno})" if own else ""
    return f"{type(failure).__name__}: {text or 'no message'}{place}"[:400]
