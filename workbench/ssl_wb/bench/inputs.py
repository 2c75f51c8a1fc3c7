"""The data of measured steps: noise, or the recipe's own clips."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass

from ssl_wb.data.augmenter import Augmenter
from ssl_wb.data.clips import find_source, load_clips
from ssl_wb.data.loader import Batch, batches, check_batch, resolve_workers
from ssl_wb.layers.processes import process_place
from ssl_wb.plugin.front_end import FrontEnd
from ssl_wb.pretext.model import PretextModel
from ssl_wb.recipe.load import LoadedRecipe
from ssl_wb.training.crops import build_crops
from ssl_wb.training.dry_run import noise_batches

__all__ = ["NOISE", "Inputs", "build_inputs"]

#: Source in reports where no clips are read.
NOISE = "noise"
#: Steps for which the order of real clips is computed; more than are ever measured.
_ENOUGH = 1_000_000


@dataclass(frozen=True)
class Inputs:
    """An endless stream of batches.

    Attributes:
        source: ``noise``, or the clips' folder or manifest.
        batches: micro-batches, in the order of training.
        front_end: the recipe's, normalising by the recipe's statistics or those of the first micro-batch.
    """

    source: str
    batches: Iterator[Batch]
    front_end: FrontEnd


def build_inputs(loaded: LoadedRecipe, model: PretextModel, *, real: bool) -> Inputs:
    """Make the batches and the front end of a recipe.

    Args:
        loaded: the recipe.
        model: its model, which says how many views and captions it needs.
        real: read the clips of ``data.train`` as training does; otherwise, and for generated clips, noise.

    Raises:
        UsageError: the batch does not divide into micro-batches.
        DataError: the clips cannot be found.
    """
    _, world = process_place()
    check_batch(loaded.recipe.train.batch_size, world, loaded.recipe.train.passes(world))
    train = loaded.recipe.data.train if real else None
    source = None if train is None or find_source(train).generates else train
    if source is None:
        stream: Iterator[Batch] = itertools.cycle(noise_batches(loaded, model))
    else:
        stream = _clips(loaded, model, source)
    first = next(stream)
    return Inputs(source or NOISE, itertools.chain([first], stream), _front_end(loaded, first))


def _front_end(loaded: LoadedRecipe, batch: Batch) -> FrontEnd:
    """Build the front end; statistics that the recipe does not give are those of one batch, which cost no time."""
    options = loaded.front_end.options
    if options.mean is not None and options.std is not None:
        return loaded.front_end.build(options.mean, options.std)
    values, _ = loaded.front_end.build().log_mel(batch.waveform[:, 0])  # [b, F, T]
    return loaded.front_end.build(float(values.mean()), float(values.std()))


def _clips(loaded: LoadedRecipe, model: PretextModel, source: str) -> Iterator[Batch]:
    """Load the recipe's own clips as training does."""
    recipe = loaded.recipe
    augment = loaded.augmentations
    augmenter = Augmenter(augment, loaded.front_end.options.sample_rate) if augment else None
    dataset = build_crops(loaded, load_clips(source), model, augmenter)
    return batches(
        dataset,
        seed=recipe.seed,
        first_sample=0,
        global_batch=recipe.train.batch_size,
        steps=_ENOUGH,
        accumulate=recipe.train.passes(),
        workers=resolve_workers(recipe.data.workers),
    )
