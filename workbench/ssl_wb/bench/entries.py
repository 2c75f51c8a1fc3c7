"""What is measured side by side: a recipe and others like it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, get_args

import torch

from ssl_wb.bench.timed_trainer import Entry
from ssl_wb.errors import UsageError
from ssl_wb.plugin.registry import load_registry
from ssl_wb.recipe import overrides as masker_argument
from ssl_wb.recipe.load import LoadedRecipe, load_recipe
from ssl_wb.recipe.overrides import MaskerArgument
from ssl_wb.runs.device import mixed_precision
from ssl_wb.training.memory import free_bytes

__all__ = [
    "SCALES",
    "Scale",
    "check_memory",
    "load_entries",
    "masker_entries",
    "parse_maskers",
    "recipe_entry",
    "scale_entries",
]

Scale = Literal["batch", "seconds", "size"]
#: What can grow, and the unit of the axis it is drawn on.
SCALES: dict[Scale, str] = {"batch": "clips per step", "seconds": "seconds per clip", "size": "GFLOP per clip"}
_FACTORS = (1, 2, 4, 8)
_SIZES = ("tiny", "small", "base")
_GIBIBYTE = 2**30
#: Share of the free memory that is used: needs are estimates, and other programs may need some.
_USED = 0.9


def _with_batch(overrides: Sequence[str], batch: int | None) -> list[str]:
    return [*overrides, *([] if batch is None else [f"train.batch_size={batch}", "train.accumulate=1"])]


def recipe_entry(recipe: str | Path, overrides: Sequence[str] = (), batch: int | None = None) -> Entry:
    """Load a recipe to be measured.

    Args:
        recipe: a file, or the name of a shipped one.
        overrides: ``key.path=value``, applied in order.
        batch: clips per optimiser step, in one micro-batch; the recipe's own unless given.
    """
    loaded = _load(recipe, _with_batch(overrides, batch))
    return Entry(loaded.path.stem, loaded)


def _load(recipe: str | Path, overrides: Sequence[str]) -> LoadedRecipe:
    """Load a recipe whose step is known.

    Raises:
        UsageError: its number of passes is left to be found before training, and would differ between recipes.
    """
    loaded = load_recipe(recipe, overrides)
    key = loaded.recipe.train.searched
    if key is not None:
        raise UsageError(f"train.{key} = 'auto' is found before training", hint=f"--set train.{key}=NUMBER")
    return loaded


def parse_maskers(text: str) -> list[MaskerArgument]:
    """Read ``--maskers``; ``random``, with which the others are compared, comes first and is added where missing.

    Raises:
        UsageError: an option without a masker, or an empty name.
    """
    try:
        found = masker_argument.parse_maskers(text)
    except ValueError as error:
        raise UsageError(f"--maskers {text}: {error}", hint="NAME or NAME:KEY=VALUE,..., separated by commas") from None
    random = MaskerArgument("random", "random")
    return [random, *(one for one in found if one != random)]


def masker_entries(
    recipe: str | Path, overrides: Sequence[str], batch: int | None, choices: Sequence[MaskerArgument]
) -> list[Entry]:
    """Load a recipe once for each masker; those that have options ``ratio`` and ``views`` get the recipe's.

    Raises:
        PluginError: there is no such masker.
        RecipeError: an option does not fit.
    """
    base = _load(recipe, _with_batch(overrides, batch))
    views = base.masker.plugin(base.masker.options).views
    kept = {"ratio": getattr(base.masker.options, "ratio", None), "views": views}
    entries = []
    for choice in choices:
        fields = load_registry().get("masker", choice.name).Options.model_fields
        settings = [f"masker.{key}={value}" for key, value in kept.items() if key in fields and value is not None]
        settings = [f"masker.name='{choice.name}'", *settings, *(f"masker.{setting}" for setting in choice.settings)]
        entries.append(Entry(choice.text, load_recipe(recipe, [*base.overrides, *settings])))
    return entries


def scale_entries(recipe: str | Path, overrides: Sequence[str], batch: int | None, scale: Scale) -> list[Entry]:
    """Load a recipe in growing versions: batch or clip length times 1, 2, 4, 8, or backbone tiny, small, base.

    Raises:
        UsageError: the backbone has no such sizes.
    """
    given = _with_batch(overrides, batch)
    base = _load(recipe, given)
    if scale == "size":
        return [replace(one, size=one.plan.gflop_per_clip) for one in _sized(base)]
    entries = []
    for factor in _FACTORS:
        if scale == "batch":
            size: float = base.recipe.train.batch_size * factor
            setting, name = f"train.batch_size={size}", f"{size} clips"
        else:
            size = base.recipe.data.clip_seconds * factor
            setting, name = f"data.clip_seconds={size:.6g}", f"{size:g} s"
        entries.append(Entry(name, load_recipe(recipe, [*given, setting]), float(size)))
    return entries


def _sized(loaded: LoadedRecipe) -> list[Entry]:
    """Return the recipe with each size of backbone, without the options that a size determines."""
    chosen = loaded.backbone
    fields = chosen.plugin.Options.model_fields
    known = get_args(fields["size"].annotation) if "size" in fields else ()
    if not set(_SIZES) <= set(known):
        raise UsageError(f"--scale size: backbone {chosen.name!r} has no sizes {', '.join(_SIZES)}")
    entries = []
    for size in _SIZES:
        values: dict[str, Any] = chosen.options.model_dump()
        # Options that are None by default are those that the size determines: width, blocks, heads.
        values = {key: value for key, value in values.items() if fields[key].default is not None}
        options = chosen.plugin.Options.model_validate({**values, "size": size})
        entries.append(Entry(size, loaded.with_plugin("backbone", replace(chosen, options=options))))
    return entries


def check_memory(entries: Sequence[Entry], device: torch.device, steps: int = 1) -> None:
    """Refuse entries that do not fit into memory together.

    Args:
        entries: what is measured side by side.
        device: where.
        steps: steps of the largest whose activations there has to be room for.

    Raises:
        UsageError: it does not.
    """
    free = free_bytes(device)
    usable = _USED * (free or 0)
    state = sum(entry.plan.state_bytes for entry in entries)
    largest, activations = max(
        ((entry, _activation_bytes(entry, device)) for entry in entries), key=lambda pair: pair[1]
    )
    activations *= steps
    if free is None or state + activations <= usable:
        return
    clips = int((usable - state) / activations * largest.micro_batch)
    needed = f"about {(state + activations) / _GIBIBYTE:.1f} GiB are needed and {free / _GIBIBYTE:.1f} are free"
    hint = f"--batch {clips} would fit" if clips > 0 else "the weights alone do not fit: take a smaller backbone"
    if largest.size is not None and clips > 0:
        hint = "start from a smaller --batch, or shorter clips: --set data.clip_seconds=SECONDS"
    raise UsageError(f"{largest.name}: {largest.micro_batch} clips at once do not fit: {needed}", hint=hint)


def _activation_bytes(entry: Entry, device: torch.device) -> int:
    """Estimate the memory of one forward pass' activations."""
    half = mixed_precision(entry.loaded.recipe.train.precision, device) != "no"
    return entry.plan.memory_bytes(entry.micro_batch, half=half) - entry.plan.state_bytes


def load_entries(
    recipe: str | Path,
    overrides: Sequence[str] = (),
    batch: int | None = None,
    *,
    against: str | Path | None = None,
    against_overrides: Sequence[str] = (),
    maskers: str | None = None,
    scale: Scale | None = None,
) -> list[Entry]:
    """Load what is to be measured: a recipe alone, beside another one, with several maskers, or in growing versions.

    Args:
        recipe: a file, or the name of a shipped one.
        overrides: ``key.path=value``, applied in order.
        batch: clips per optimiser step, in one micro-batch; the recipe's own unless given.
        against: another recipe.
        against_overrides: applied to it after ``overrides``.
        maskers: their names and options, as :func:`parse_maskers` reads them.
        scale: what grows.
    """
    if maskers is not None:
        return masker_entries(recipe, overrides, batch, parse_maskers(maskers))
    if scale is not None:
        return scale_entries(recipe, overrides, batch, scale)
    entries = [recipe_entry(recipe, overrides, batch)]
    if against is not None:
        entries.append(recipe_entry(against, [*overrides, *against_overrides], batch))
    return entries
