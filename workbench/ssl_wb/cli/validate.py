"""``ssl-wb validate``."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from ssl_wb.recipe.load import LoadedRecipe

__all__ = ["validate"]


def validate(
    recipe: Annotated[str, typer.Argument(help="Recipe file, or the name of a shipped recipe.")],
    settings: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Change a value. Repeatable.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Check a recipe: keys, plugins, shapes, data; print what it amounts to."""
    from ssl_wb.recipe.load import load_recipe

    loaded = load_recipe(recipe, settings or ())
    facts = _facts(loaded)
    if as_json:
        typer.echo(json.dumps(facts, indent=2))
        return
    width = max(len(name) for name in facts)
    for name, value in facts.items():
        typer.echo(f"{name:<{width}}  {value}")


def _facts(loaded: LoadedRecipe) -> dict[str, Any]:
    """Return what the recipe amounts to, in lines for a person (and for JSON)."""
    import torch

    from ssl_wb.layers.attention import attention_name
    from ssl_wb.pretext.plan import make_plan
    from ssl_wb.train.precision import mixed_precision

    plan = make_plan(loaded)
    train = loaded.recipe.train
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    precision = mixed_precision(train.precision, device)
    clips = train.batch_size // train.accumulate
    total = sum(plan.parameters.values())
    parts = ", ".join(f"{name} {count / 1e6:.2f}" for name, count in plan.parameters.items())
    tokens = "; ".join(f"{v} visible + {m} masked" for v, m in zip(plan.visible, plan.masked, strict=True))
    facts = {
        "recipe": f"{loaded.recipe.title or loaded.path.stem} ({loaded.path})",
        "masker": loaded.masker.name,
        "backbone": loaded.backbone.name,
        "objectives": ", ".join(f"{each.weight:g} {each.name}" for each in loaded.objectives),
        "parameters": f"{total / 1e6:.2f} M trained ({parts}); {plan.teacher_parameters / 1e6:.2f} M in EMA copies",
        "tokens per clip": f"{plan.grid[0]} x {plan.grid[1]} patches: {tokens}",
        "operations": f"{plan.gflop_per_clip:.2f} GFLOP per clip, forward and backward",
        "memory": f"about {plan.memory_bytes(clips, half=precision != 'no') / 2**30:.1f} GiB for {clips} clips on one "
        f"process in {'fp32' if precision == 'no' else precision} (estimate)",
        "attention": f"{attention_name(device)} on {device.type}",
    }
    return facts | _data_facts(loaded)


def _data_facts(loaded: LoadedRecipe) -> dict[str, str]:
    """Check that the data exists and count it."""
    from pathlib import Path

    from ssl_wb.data.clips import load_clips
    from ssl_wb.evaluate.tasks import load_task
    from ssl_wb.recipe.schema import SYNTHETIC
    from ssl_wb.train.schedule import total_steps

    data, train = loaded.recipe.data, loaded.recipe.train
    facts: dict[str, str] = {}
    if data.train is None:
        facts["data"] = "not chosen yet: --set data.train=FOLDER or MANIFEST"
        count = None
    elif data.train == SYNTHETIC:
        count = data.scenes.clips
        facts["data"] = f"{count} synthetic scenes of {data.scenes.seconds:g} s"
    else:
        count = len(load_clips(data.train))
        facts["data"] = f"{count} clips in {data.train}"
    if count is not None:
        steps = total_steps(train, count)
        passes = steps * train.batch_size / count
        facts["length"] = f"{steps} steps of {train.batch_size} clips, {passes:.1f} passes over the data"
    for chosen in loaded.evaluators:
        if chosen.task != SYNTHETIC:
            task = load_task(Path(chosen.task))
            facts[f"task {task.name}"] = (
                f"{len(task.clips)} clips, {len(task.classes)} classes, {len(task.splits)} split(s)"
            )
    return facts
