"""Waveform augmentations by name: two of our own, and the classes of audiomentations."""

from __future__ import annotations

import importlib
import inspect
import re
import typing
from collections.abc import Callable
from functools import cache
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, create_model

from ssl_wb.errors import did_you_mean
from ssl_wb.plugin.base import PluginOptions
from ssl_wb.recipe.problems import Problem, check_model, key_text
from ssl_wb.recipe.schema import AugmentSection
from ssl_wb.recipe.tree import Tree

__all__ = ["OWN", "GainBetaOptions", "RollOptions", "check_augmentations", "library", "options_model"]

#: Classes that wrap other transforms or functions, which a recipe cannot write down.
_WRAPPERS = frozenset({"Lambda"})


class RollOptions(PluginOptions):
    """Shift the crop circularly by a uniform number of samples."""

    p: float = Field(1.0, description="Probability.")


class GainBetaOptions(PluginOptions):
    """Multiply by ``Beta(a, b) + offset`` (AudioMosaic: 10, 10, 0.5)."""

    p: float = Field(1.0, description="Probability.")
    a: float = Field(10.0, gt=0.0, description="First shape parameter of the beta distribution.")
    b: float = Field(10.0, gt=0.0, description="Second shape parameter of the beta distribution.")
    offset: float = Field(0.5, ge=0.0, description="Added to the draw.")


#: Options of the augmentations that need no library.
OWN: dict[str, type[BaseModel]] = {"roll": RollOptions, "gain-beta": GainBetaOptions}


@cache
def library() -> dict[str, type[Any]] | None:
    """Return audiomentations' waveform transforms by name in kebab-case; None where it is not installed.

    It is imported here and only when a recipe names one of its classes: the import takes seconds.
    """
    try:
        module = importlib.import_module("audiomentations")
        base = importlib.import_module("audiomentations.core.transforms_interface").BaseWaveformTransform
    except ImportError:
        return None
    classes = [one for one in vars(module).values() if inspect.isclass(one) and issubclass(one, base)]
    return {_kebab(one.__name__): one for one in classes if one.__name__ not in _WRAPPERS}


def _kebab(name: str) -> str:
    """Write a class name in kebab-case: AddGaussianSNR is ``add-gaussian-snr``, Mp3Compression ``mp3-compression``."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "-", name).lower()


@cache
def options_model(name: str) -> type[BaseModel] | None:
    """Return the options of an augmentation, ``p`` among them; None for an unknown name.

    Those of a library class are the keyword arguments of its constructor, with their types and defaults.
    """
    if name in OWN:
        return OWN[name]
    transform = (library() or {}).get(name)
    if transform is None:
        return None
    hints = typing.get_type_hints(transform.__init__)
    fields: dict[str, Any] = {}
    for key, parameter in list(inspect.signature(transform.__init__).parameters.items())[1:]:
        annotation = _annotation(hints.get(key), parameter.default)
        if parameter.kind is not parameter.VAR_KEYWORD and annotation is not None:
            fields[key] = (annotation, ... if parameter.default is parameter.empty else parameter.default)
    config = ConfigDict(extra="forbid", frozen=True, arbitrary_types_allowed=True, protected_namespaces=())
    return create_model(f"{transform.__name__}Options", __config__=config, **fields)


def _annotation(hint: Any, default: Any) -> Any:
    """Return the type of an option; None for functions, which no recipe can hold."""
    if hint is None:  # not annotated: the default tells
        return Any if default in (None, inspect.Parameter.empty) else type(default)
    if _origin(hint) is Callable or any(_origin(part) is Callable for part in typing.get_args(hint)):
        return None
    return hint | None if default is None else hint


def _origin(hint: Any) -> Any:
    return typing.get_origin(hint) or hint


def check_augmentations(tree: Tree, problems: list[Problem]) -> list[AugmentSection]:
    """Check names and options of ``data.augment``.

    Where audiomentations is not installed its classes pass unchecked, because a run's encoder can be used without it;
    who wants to train is told when the augmentations are built.

    Args:
        tree: the recipe.
        problems: takes what is wrong.

    Returns:
        The entries with every option written out; those with mistakes are left out.
    """
    written = tree.value(("data", "augment"))
    full: list[AugmentSection] = []
    for index, entry in enumerate(written if isinstance(written, list) else []):
        name = entry.get("name") if isinstance(entry, dict) else None
        if not isinstance(name, str):
            continue  # the check of the recipe's own keys says so
        at = ("data", "augment", index)
        model = options_model(name)
        if model is None:
            if library() is not None:
                where = (*at, "name")
                problems.append(Problem(tree.origin(where), where, _unknown(name), "value", key_text(where, tree)))
            else:
                full.append(AugmentSection.model_construct(**entry))
            continue
        values = {key: value for key, value in entry.items() if key not in ("name", "p")}
        options = check_model(model, values, at, tree, also=["name"], owner=f"augmentation {name!r}")
        if isinstance(options, list):
            problems.extend(options)
            continue
        given = {"p": entry["p"]} if "p" in entry else {}
        dumped = options.model_dump(mode="json", exclude_none=True)
        full.append(AugmentSection.model_construct(**{"name": name, **dumped, **given}))
    return full


def _unknown(name: str) -> str:
    """Say that no augmentation has this name, and which was probably meant."""
    guess = did_you_mean(name, [*OWN, *(library() or ())])
    return f"no augmentation is called {name!r}{guess} ({', '.join(OWN)}, or a class of audiomentations in kebab-case)"
