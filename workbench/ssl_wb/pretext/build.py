"""A pretext model from a loaded recipe."""

from __future__ import annotations

import torch

from ssl_wb.errors import RecipeError
from ssl_wb.plugin.backbone import Backbone
from ssl_wb.plugin.objective import ModelShapes
from ssl_wb.pretext.crop import crop_frames
from ssl_wb.pretext.model import PretextModel, WeightedObjective, current_needs
from ssl_wb.pretext.predictor import build_predictor
from ssl_wb.pretext.teacher import TEACHER_NEEDS
from ssl_wb.recipe.load import LoadedRecipe

__all__ = ["build_backbone", "build_model"]


def build_backbone(loaded: LoadedRecipe) -> Backbone:
    """Build the recipe's backbone with the weights its seed gives.

    The seed is set here and the backbone is built before anything else draws from it, so that the untrained encoder of
    a run can be rebuilt at any time.

    Raises:
        RecipeError: the options do not fit the front end.
    """
    torch.manual_seed(loaded.recipe.seed)
    try:
        backbone = loaded.backbone.build(loaded.front_end.options.n_mels, crop_frames(loaded))
    except ValueError as error:
        raise RecipeError([f"backbone: {error}"], where=str(loaded.path)) from error
    assert isinstance(backbone, Backbone)
    return backbone


def _build_objectives(loaded: LoadedRecipe, shapes: ModelShapes) -> list[WeightedObjective]:
    """Build the recipe's objectives, each with a unique label.

    Raises:
        RecipeError: one does not fit the model.
    """
    objectives: list[WeightedObjective] = []
    for chosen in loaded.objectives:
        name = chosen.plugin.name
        same = sum(each.label.split("-no")[0] == name for each in objectives)
        label = f"{name}-no{same + 1}" if same else name
        try:
            module = chosen.build(shapes)
        except ValueError as error:
            raise RecipeError([f"objective {label!r}: {error}"], where=str(loaded.path)) from error
        objectives.append(WeightedObjective(label, chosen.settings.weight, module))
    return objectives


def build_model(loaded: LoadedRecipe, total_steps: int) -> PretextModel:
    """Build student, predictor, teacher and objectives of a recipe.

    Args:
        loaded: the recipe with its plugins.
        total_steps: optimiser steps of the run, for the objectives' schedules.

    Raises:
        RecipeError: sizes that do not fit each other.
    """
    backbone = build_backbone(loaded)
    try:
        masker = loaded.masker.build()
    except ValueError as error:
        raise RecipeError([f"masker {loaded.masker.name!r}: {error}"], where=str(loaded.path)) from error
    section, captions = loaded.recipe.predictor, loaded.recipe.data.captions
    shapes = ModelShapes(
        latent_dim=backbone.dim,
        feature_dim=section.dim,
        patch_pixels=backbone.patch[0] * backbone.patch[1],
        grid=backbone.grid_of(crop_frames(loaded, backbone.patch[1])),
        views=masker.views,
        total_steps=total_steps,
        teacher_sees=loaded.recipe.teacher.sees,
        caption_dim=captions.dim if captions is not None else ModelShapes.caption_dim,
    )
    objectives = _build_objectives(loaded, shapes)
    needs = current_needs(objectives)
    if masker.needs_latents and masker.latents_from == "teacher" and TEACHER_NEEDS.isdisjoint(needs):
        raise RecipeError(
            [f"masker {loaded.masker.name!r} reads the teacher's latents, and no objective here has a teacher built"],
            where=str(loaded.path),
            hint="let it read the student's: masker.latents = 'student'",
        )
    return PretextModel(
        backbone=backbone,
        masker=masker,
        predictor=build_predictor(section, backbone.dim, backbone.prefix_tokens) if "features" in needs else None,
        teacher=loaded.recipe.teacher,
        objectives=objectives,
        shapes=shapes,
        seed=loaded.recipe.seed,
    )
