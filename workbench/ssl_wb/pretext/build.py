"""A pretext model from a loaded recipe."""

from __future__ import annotations

import torch

from ssl_wb.errors import RecipeError
from ssl_wb.plugin.backbone import Backbone
from ssl_wb.plugin.objective import ModelShapes
from ssl_wb.pretext.model import TEACHER_NEEDS, PretextModel, WeightedObjective
from ssl_wb.pretext.predictor import build_predictor
from ssl_wb.recipe.load import LoadedRecipe

__all__ = ["build_backbone", "build_model", "crop_frames"]


def build_backbone(loaded: LoadedRecipe) -> Backbone:
    """Build the recipe's backbone with the weights its seed gives.

    The seed is set here and the backbone is built first of all, so that the untrained encoder of a run can be had back
    at any time.

    Raises:
        RecipeError: the options do not fit the front end.
    """
    torch.manual_seed(loaded.recipe.seed)
    frames = crop_frames(loaded)
    try:
        backbone = loaded.backbone.plugin(loaded.backbone.options, loaded.recipe.front_end.n_mels, frames)
    except ValueError as error:
        raise RecipeError([f"backbone: {error}"], where=str(loaded.path)) from error
    assert isinstance(backbone, Backbone)
    return backbone


def crop_frames(loaded: LoadedRecipe, patch_width: int = 1) -> int:
    """Frames of a training crop: ``clip_seconds`` over the hop, cut to whole patches of a width.

    Raises:
        RecipeError: a crop is shorter than one patch.
    """
    front_end = loaded.recipe.front_end
    frames = round(loaded.recipe.data.clip_seconds * front_end.sample_rate / front_end.hop)
    whole = frames // patch_width * patch_width
    if whole == 0:
        least = patch_width * front_end.hop / front_end.sample_rate
        raise RecipeError(
            [
                f"data.clip_seconds: {loaded.recipe.data.clip_seconds:g} s give {frames} frames, less than one patch "
                f"of {patch_width} frames; at least {least:g} s are needed"
            ],
            where=str(loaded.path),
        )
    return whole


def _build_objectives(loaded: LoadedRecipe, shapes: ModelShapes) -> list[WeightedObjective]:
    """Build the recipe's objectives, each under a label of its own.

    Raises:
        RecipeError: one does not fit the model.
    """
    objectives: list[WeightedObjective] = []
    for chosen in loaded.objectives:
        name = chosen.plugin.name
        same = sum(each.label.split("-no")[0] == name for each in objectives)
        label = f"{name}-no{same + 1}" if same else name
        try:
            module = chosen.plugin(chosen.options, shapes)
        except ValueError as error:
            raise RecipeError([f"objective {label!r}: {error}"], where=str(loaded.path)) from error
        objectives.append(WeightedObjective(label, chosen.weight, module))
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
    masker = loaded.masker.plugin(loaded.masker.options)
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
    wants_teacher = any(not TEACHER_NEEDS.isdisjoint(each.module.needs) for each in objectives)
    if masker.needs_latents and masker.latents_from == "teacher" and not wants_teacher:
        raise RecipeError(
            [f"masker {loaded.masker.name!r} reads the teacher's latents, and no objective here has a teacher built"],
            where=str(loaded.path),
            hint="let it read the student's: masker.latents = 'student'",
        )
    wants_features = any("features" in each.module.needs for each in objectives)
    return PretextModel(
        backbone=backbone,
        masker=masker,
        predictor=build_predictor(section, backbone.dim, backbone.prefix_tokens) if wants_features else None,
        teacher=loaded.recipe.teacher,
        objectives=objectives,
        shapes=shapes,
        seed=loaded.recipe.seed,
    )
