"""A pretext model that starts from another encoder instead of random weights: ``[init]`` of a recipe."""

from __future__ import annotations

import logging
from typing import Any

from torch import Tensor

from ssl_wb.encoder.folder import EncoderParts
from ssl_wb.encoder.load import encoder_parts
from ssl_wb.errors import RecipeError, WorkbenchError
from ssl_wb.plugin.backbone import Backbone
from ssl_wb.pretext.model import PretextModel
from ssl_wb.recipe.load import LoadedRecipe

__all__ = ["initial_encoder", "initial_weights", "start_from"]

log = logging.getLogger("ssl_wb")

#: Options of front ends that may differ: the first two are statistics, which the encoder brings along.
FREE = frozenset({"mean", "std", "pad"})
#: The backbone's table of trained positions, which is cut or resampled for another clip length.
TABLE = "position_table"


def initial_encoder(loaded: LoadedRecipe) -> EncoderParts | None:
    """Return the encoder that a recipe starts from; None where it starts from random weights.

    Raises:
        RecipeError: it cannot be read, or its front end or backbone is another than the recipe's.
    """
    if loaded.recipe.init is None:
        return None
    place = loaded.recipe.init.source
    try:
        parts = encoder_parts(place)
        theirs = parts.build(place).front_end
    except WorkbenchError as error:
        raise RecipeError([f"init.from: {error.message}"], where=str(loaded.path), hint=error.hint) from error
    problems = []
    for kind, ours, name in (
        ("front_end", loaded.front_end.name, parts.front_end["name"]),
        ("backbone", loaded.backbone.name, parts.backbone["name"]),
    ):
        if ours != name:
            problems.append(f"{kind}.name: {ours!r} here, and {name!r} in the encoder that init.from names")
    if not problems:
        problems = _front_end_problems(loaded, theirs)
    if problems:
        raise RecipeError(problems, where=str(loaded.path), hint="take over the sections of the encoder's config.json")
    return parts


def _front_end_problems(loaded: LoadedRecipe, theirs: Any) -> list[str]:
    """Return the options of the front end in which recipe and encoder differ."""
    ours, other = loaded.front_end.options.model_dump(), theirs.options.model_dump()
    problems = [
        f"front_end.{key}: {ours[key]!r} here, and {value!r} in the encoder that init.from names"
        for key, value in other.items()
        if key not in FREE and ours.get(key, value) != value
    ]
    for key in ("mean", "std"):
        value = float(getattr(theirs, key))
        if ours[key] is not None and abs(ours[key] - value) > 1e-3:
            problems.append(f"front_end.{key}: {ours[key]:g} here, and {value:g} in the encoder; leave it out")
    return problems


def initial_weights(parts: EncoderParts, backbone: Backbone, where: str) -> dict[str, Tensor]:
    """Return the weights that a backbone starts from, by name in it.

    Trained positions are cut or resampled to the backbone's grid. What only the backbone's own pooling uses may be
    absent from the encoder and then starts as it was drawn.

    Args:
        parts: the encoder to start from.
        backbone: as the recipe builds it.
        where: the recipe, for messages.

    Raises:
        RecipeError: tensors differ in name or shape; the message names them.
    """
    source = parts.build(where).backbone
    given, own = source.state_dict(), backbone.state_dict()
    if TABLE in given and TABLE in own and given[TABLE].shape != own[TABLE].shape:
        grid = backbone.grid_of(backbone.frames)
        given[TABLE] = source.positions(grid, given[TABLE].device)  # type: ignore[operator]
    pooling = {id(one) for one in backbone.pooling.parameters()} if backbone.pooling is not None else set()
    spared = {name for name, one in backbone.named_parameters() if id(one) in pooling and name not in given}
    problems = [f"backbone: {name} is in the encoder and not in the recipe's backbone" for name in given.keys() - own]
    for name, value in own.items():
        if name in spared:
            given[name] = value
        elif name not in given:
            problems.append(f"backbone: {name} is not in the encoder that init.from names")
        elif given[name].shape != value.shape:
            found, wanted = list(given[name].shape), list(value.shape)
            problems.append(f"backbone: {name} is {found} in the encoder and {wanted} in the recipe's backbone")
    if problems:
        raise RecipeError(sorted(problems), where=where, hint="take over [backbone] from the encoder's config.json")
    return given


def start_from(model: PretextModel, weights: dict[str, Tensor]) -> None:
    """Give student and teacher of a pretext model the weights of an encoder, whatever ``teacher.init`` says."""
    model.backbone.load_state_dict(weights)
    if model.teacher is not None:
        model.teacher.load_state_dict(model.backbone.trunk.state_dict())
    if model.teacher_encoder is not None:
        model.teacher_encoder.load_state_dict(weights)
