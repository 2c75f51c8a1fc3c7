"""The shape of a training crop: frames of its spectrogram and samples of its waveform."""

from __future__ import annotations

from dataclasses import dataclass

from ssl_wb.errors import RecipeError
from ssl_wb.plugin.backbone import Backbone
from ssl_wb.recipe.load import LoadedRecipe

__all__ = ["CropShape", "crop_frames", "crop_shape"]


@dataclass(frozen=True)
class CropShape:
    """Length of a training crop.

    Attributes:
        frames: of its spectrogram, a whole number of patches.
        samples: of its waveform, the fewest that give these frames.
    """

    frames: int
    samples: int


def crop_frames(loaded: LoadedRecipe, patch_width: int = 1) -> int:
    """Return the frames of a training crop: ``data.clip_seconds`` over the hop, rounded down to whole patches.

    Args:
        loaded: the recipe.
        patch_width: frames of a patch; 1 while the backbone, which knows it, is still to be built.

    Raises:
        RecipeError: a crop is shorter than one patch.
    """
    front_end = loaded.front_end.options
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


def crop_shape(loaded: LoadedRecipe, backbone: Backbone) -> CropShape:
    """Return the shape of the crops that a recipe's backbone trains on.

    Raises:
        RecipeError: a crop is shorter than one patch.
    """
    frames = crop_frames(loaded, backbone.patch[1])
    # Lengths do not depend on the statistics that a front end normalises by.
    return CropShape(frames, loaded.front_end.build().samples_of(frames))
