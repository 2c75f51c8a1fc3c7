"""The training clips of a recipe as random crops."""

from __future__ import annotations

from ssl_wb.audio.clip import ClipSet
from ssl_wb.data.augmenter import Augmenter
from ssl_wb.data.captions import CaptionTable
from ssl_wb.data.dataset import CropDataset
from ssl_wb.pretext.crop import crop_shape
from ssl_wb.pretext.model import PretextModel
from ssl_wb.recipe.load import LoadedRecipe

__all__ = ["build_crops"]


def build_crops(loaded: LoadedRecipe, clips: ClipSet, model: PretextModel, augmenter: Augmenter | None) -> CropDataset:
    """Build the dataset that a recipe trains on.

    Args:
        loaded: the recipe.
        clips: where crops come from.
        model: the recipe's, whose patches make the length of a crop and whose masker says how many views it has.
        augmenter: the recipe's augmentations, which give each view a version of its own; None where it has none.

    Raises:
        DataError: clips without captions that the recipe wants.
    """
    recipe = loaded.recipe
    return CropDataset(
        clips,
        loaded.front_end.options.sample_rate,
        crop_shape(loaded, model.backbone).samples,
        recipe.seed,
        recipe.data.short,
        augment=augmenter,
        views=model.masker.views if augmenter else 1,
        captions=CaptionTable.build(clips, recipe.data.captions) if recipe.data.captions is not None else None,
    )
