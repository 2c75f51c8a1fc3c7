"""``ssl-wb validate``."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ssl_wb.cli.arguments import Recipe, Settings
from ssl_wb.cli.output import JsonFlag, echo_json
from ssl_wb.errors import UsageError

if TYPE_CHECKING:
    import torch

    from ssl_wb.recipe.load import LoadedRecipe

__all__ = ["validate"]


def validate(
    recipe: Recipe,
    settings: Settings = None,
    as_json: Annotated[bool, JsonFlag] = False,
) -> None:
    """Check a recipe: keys, plugins, shapes, data; print what it amounts to."""
    from ssl_wb.recipe.load import load_recipe

    facts = _facts(load_recipe(recipe, settings or ()))
    if as_json:
        echo_json(facts)
        return
    lines = _lines(facts)
    width = max(len(name) for name, _ in lines)
    for name, value in lines:
        typer.echo(f"{name:<{width}}  {value}")


def _facts(loaded: LoadedRecipe) -> dict[str, Any]:
    """Return what the recipe amounts to, as plain values."""
    from ssl_wb.runs.device import best_device, mixed_precision
    from ssl_wb.training.schedule import total_steps
    from ssl_wb.workflows.preflight import preflight
    from ssl_wb.workflows.schedule_check import run_length, schedule_warnings

    checked = preflight(loaded)
    captions, plan = checked.captions, checked.plan
    data, train = loaded.recipe.data, loaded.recipe.train
    device = best_device()
    precision = mixed_precision(train.precision, device)
    # A number that is found before training can be as low as one clip at a time.
    micro_batch = 1 if train.searched else train.batch_size // train.passes()
    count = checked.count
    steps = run_length(loaded, count)
    return {
        "title": loaded.recipe.title,
        "recipe": str(loaded.path),
        "masker": loaded.masker.name,
        "backbone": loaded.backbone.name,
        "objectives": {each.name: each.settings.weight for each in loaded.objectives},
        "parameters": plan.parameters,
        "teacher_parameters": plan.teacher_parameters,
        "grid": list(plan.grid),
        "visible": plan.visible,
        "masked": plan.masked,
        "gflop_per_clip": plan.gflop_per_clip,
        "memory_bytes": plan.memory_bytes(
            micro_batch, half=precision != "no", loss_clips=train.batch_size if train.micro_batch else None
        ),
        "micro_batch": "auto" if train.searched else micro_batch,
        "precision": "fp32" if precision == "no" else precision,
        "attention": _attention(loaded, device, precision),
        "device": device.type,
        "data": data.train,
        "clips": count,
        "augment": [entry.name for entry in loaded.augmentations],
        "captions": None if captions is None else {"total": captions.total, "distinct": captions.distinct},
        "batch_size": train.batch_size,
        "steps": None if count is None else total_steps(train, count),
        "tasks": {
            task.name: {"clips": len(task.clips), "classes": len(task.classes), "splits": len(task.splits)}
            for task in checked.tasks
        },
        "warnings": [] if steps is None else schedule_warnings(loaded, steps, has_teacher=plan.has_teacher),
    }


def _attention(loaded: LoadedRecipe, device: torch.device, precision: str) -> str:
    """Return the attention a run here would use; a recipe for another machine is not a mistake."""
    from ssl_wb.layers.attention import attention_name
    from ssl_wb.runs.device import autocast_dtype
    from ssl_wb.training.kernels import attention_choice

    choice = attention_choice(loaded.backbone.options)
    try:
        return attention_name(device, autocast_dtype(precision), choice)
    except UsageError:
        return f"{choice} (cannot serve here)"


def _lines(facts: dict[str, Any]) -> list[tuple[str, str]]:
    """Return the facts as lines of text."""
    parts = ", ".join(f"{name} {count / 1e6:.2f}" for name, count in facts["parameters"].items())
    total = sum(facts["parameters"].values())
    views = Counter(zip(facts["visible"], facts["masked"], strict=True))
    tokens = "; ".join(
        f"{f'{count} x ' if count > 1 else ''}{v} visible + {m} masked" for (v, m), count in views.items()
    )
    memory, clips = facts["memory_bytes"] / 2**20, f"{facts['micro_batch']} clips"
    if facts["micro_batch"] == "auto":
        clips = "one clip at a time, the most that fit to be found before training,"
    lines = [
        ("recipe", f"{facts['title']} ({facts['recipe']})"),
        ("masker", facts["masker"]),
        ("backbone", facts["backbone"]),
        ("objectives", ", ".join(f"{weight:g} {name}" for name, weight in facts["objectives"].items())),
        (
            "parameters",
            f"{total / 1e6:.2f} M trained ({parts}); {facts['teacher_parameters'] / 1e6:.2f} M in EMA copies",
        ),
        ("tokens per clip", f"{facts['grid'][0]} x {facts['grid'][1]} patches: {tokens}"),
        ("operations", f"{facts['gflop_per_clip']:.2f} GFLOP per clip, forward and backward"),
        (
            "memory",
            f"about {f'{memory / 1024:.1f} GiB' if memory >= 1024 else f'{memory:.0f} MiB'} for {clips} "
            f"on one process in {facts['precision']} (estimate)",
        ),
        ("attention", f"{facts['attention']} on {facts['device']}"),
    ]
    if facts["clips"] is None:
        lines.append(("data", "not chosen yet: --set data.train=FOLDER or MANIFEST"))
    else:
        passes = facts["steps"] * facts["batch_size"] / facts["clips"]
        lines.append(("data", f"{facts['clips']} clips, {facts['data']}"))
        lines.append(
            ("length", f"{facts['steps']} steps of {facts['batch_size']} clips, {passes:.1f} passes over the data")
        )
    if facts["captions"]:
        total, distinct = facts["captions"]["total"], facts["captions"]["distinct"]
        lines.append(("captions", f"{total} ({total / facts['clips']:.1f} per clip), {distinct} to embed"))
    if facts["augment"]:
        lines.append(("augmentation", ", ".join(facts["augment"])))
    for name, task in facts["tasks"].items():
        lines.append((f"task {name}", f"{task['clips']} clips, {task['classes']} classes, {task['splits']} split(s)"))
    lines += [("warning", warning) for warning in facts["warnings"]]
    return lines
