"""How the checks of a plugin run: each by its name, in order; the first that fails raises a ContractError."""

from __future__ import annotations

import inspect
import random
import traceback
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Generic, TypeVar

import numpy as np
import torch

from ssl_wb.errors import UsageError, did_you_mean
from ssl_wb.plugin.base import Kind, Plugin
from ssl_wb.plugin.contract_checks import ContractError, described_plugin
from ssl_wb.recipe.plugin_selection import PluginSelection

__all__ = ["Check", "Checks", "Subject", "heading_of"]

#: Page of the documentation that lists the checks.
PAGE = "Checks of plugins"

P = TypeVar("P", bound=Plugin)
S = TypeVar("S", bound="Subject[Any]")


def heading_of(kind: Kind) -> str:
    """Return the heading of the page "Checks of plugins" that lists the checks of a kind."""
    return f"Checks of {'an' if kind[0] in 'aeiou' else 'a'} {kind}"


@dataclass(frozen=True)
class Subject(Generic[P]):
    """A plugin under test.

    Attributes:
        plugin: the class.
        changes: options that differ from their defaults.
    """

    plugin: type[P]
    changes: Mapping[str, Any] = field(default_factory=dict)

    @cached_property
    def options(self) -> Any:
        """The options, validated; made at first use, so that the checks of the class come first."""
        return self.plugin.Options(**self.changes)

    def build(self, *arguments: Any) -> P:
        """Make the plugin of its options and what the contract of its kind adds, always with the same seed."""
        torch.manual_seed(0)
        return PluginSelection(self.plugin.kind, self.plugin.name, self.plugin, self.options, None).build(*arguments)


@dataclass(frozen=True)
class Check(Generic[S]):
    """One check.

    Attributes:
        name: as in messages and in ``skip``.
        contract: what it holds a plugin to.
        run: raises where the plugin fails.
    """

    name: str
    contract: str
    run: Callable[[S], None]


class Checks(Generic[S]):
    """The checks of one kind of plugin, in the order in which they run: later ones rely on earlier ones.

    Args:
        kind: kind of plugin.
        common: checks that all kinds share.
    """

    def __init__(self, kind: Kind, common: Collection[Check[Any]] = ()) -> None:
        self.kind = kind
        self.all: list[Check[Any]] = list(common)

    def __call__(self, function: Callable[[S], None]) -> Callable[[S], None]:
        """Add a function as a check: its name with hyphens, its docstring as the contract."""
        contract = " ".join((inspect.getdoc(function) or "").split())
        self.all.append(Check(function.__name__.replace("_", "-"), contract, function))
        return function

    def run(self, subject: S, skip: Collection[str] = ()) -> None:
        """Run the checks.

        Args:
            subject: the plugin.
            skip: names of checks to leave out, for a plugin that departs from the contract with reason.

        Raises:
            ContractError: the first check that fails.
            UsageError: ``skip`` names no check.
        """
        names = [check.name for check in self.all]
        for name in skip:
            if name not in names:
                hint = f"checks of this kind: {', '.join(names)}"
                raise UsageError(f"no check is called {name!r}{did_you_mean(name, names)}", hint=hint)
        for check in self.all:
            if check.name not in skip:
                self._run_one(check, subject)

    def _run_one(self, check: Check[Any], subject: S) -> None:
        place = (PAGE, heading_of(self.kind))
        try:
            with _global_randomness_kept():
                check.run(subject)
        except ContractError as error:
            raise ContractError(error.plugin, error.contract, error.seen, place, check=check.name) from error
        except Exception as error:  # whatever a plugin raises
            text = " ".join(str(error).split())[:300] or "no message"
            raise ContractError(
                described_plugin(subject.plugin),
                f"pass without an error: {check.contract}",
                f"{type(error).__name__}: {text}{_place(error, subject.plugin)}",
                place,
                check=check.name,
            ) from error


@contextmanager
def _global_randomness_kept() -> Iterator[None]:
    """Put the global generators back as they were."""
    python, array = random.getstate(), np.random.get_state()
    with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
        torch.manual_seed(0)
        try:
            yield
        finally:
            random.setstate(python)
            np.random.set_state(array)


def _place(error: Exception, plugin: type[Plugin]) -> str:
    """Return file and line of the plugin's own code that an error passed through last; nothing where it did not."""
    try:
        file = inspect.getsourcefile(plugin)
    except TypeError:  # typed at a prompt
        return ""
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == file]
    return f" at {Path(file or '').name}:{lines[-1]}" if lines else ""
