"""A dry run: one optimiser step on noise, with a model that is thrown away."""

from __future__ import annotations

import torch
from accelerate import Accelerator

from ssl_wb.data.loader import Batch
from ssl_wb.layers.processes import alone, process_place
from ssl_wb.pretext.build import build_model
from ssl_wb.pretext.crop import crop_shape
from ssl_wb.pretext.model import PretextModel
from ssl_wb.recipe.load import LoadedRecipe
from ssl_wb.recipe.schema import TrainSection
from ssl_wb.training.gradient_cache import GradientCache
from ssl_wb.training.kernels import prepare_kernels
from ssl_wb.training.optimizer import build_optimizer
from ssl_wb.training.step import TrainingStep

__all__ = ["dry_run", "noise_batches"]

_TOTAL_STEPS = 1000
#: Passes with losses of their own that a dry run makes: from the second on, all find gradients in memory.
_PASSES = 2


def noise_batches(
    loaded: LoadedRecipe,
    model: PretextModel,
    rows: int | None = None,
    count: int | None = None,
    *,
    pinned: bool = True,
) -> list[Batch]:
    """Return this process' micro-batches of white noise of crop length, with captions of unit length where wanted.

    Args:
        loaded: the recipe.
        model: its model, which says how many views and captions it needs.
        rows: clips of each; those of one pass unless given.
        count: how many; those of one step unless given.
        pinned: in pinned memory, as a data loader's are; torch never returns such memory to the system.
    """
    train, (rank, world) = loaded.recipe.train, process_place()
    count = count or train.passes(world)
    rows = rows or train.batch_size // world // count
    samples = crop_shape(loaded, model.backbone).samples
    views = model.masker.views if loaded.augmentations else 1
    random = torch.Generator().manual_seed(loaded.recipe.seed + rank)
    made = []
    for number in range(count):
        waveform = 0.1 * torch.randn(rows, views, samples, generator=random)  # [b, V, S]
        captions = torch.randn(rows, model.shapes.caption_dim, generator=random)  # [b, C]
        if pinned and torch.cuda.is_available():
            waveform, captions = waveform.pin_memory(), captions.pin_memory()
        made.append(
            Batch(
                waveform,
                torch.full((rows,), samples),
                torch.arange(rows),
                (number * world + rank) * rows,
                torch.nn.functional.normalize(captions, dim=1) if "captions" in model.needs else None,
            )
        )
    return made


def dry_run(loaded: LoadedRecipe, accelerator: Accelerator, train: TrainSection, processes: int) -> None:
    """Do one optimiser step as this process would, without the other processes, and keep nothing of it.

    Losses over the clips of all processes are over this process' own here.

    Args:
        loaded: the recipe.
        accelerator: the run's engine; nothing is prepared by it.
        train: the recipe's section with the number of passes to try.
        processes: those of the run, which share the batch.

    Raises:
        torch.OutOfMemoryError: the device has not enough memory.
    """
    device, passes = accelerator.device, train.passes(processes)
    rows = train.batch_size // processes // passes
    cached = train.micro_batch is not None and passes > 1
    with torch.random.fork_rng([device] if device.type == "cuda" else []), alone():
        model = build_model(loaded, _TOTAL_STEPS)
        prepare_kernels(model, train, device, accelerator.mixed_precision)
        model.to(device).train()
        optimizer = build_optimizer(loaded.optimizer, model)
        _fill(optimizer)
        # Gradient caching keeps the outputs of all passes; otherwise two are as good as many.
        batches = noise_batches(loaded, model, rows, passes if cached else min(passes, _PASSES), pinned=False)
        training_step = TrainingStep(model, accelerator, loaded.front_end.build().to(device), rows * passes)
        if cached:
            GradientCache(model, training_step).backward(batches, step=0, measure=True)
        else:
            for batch in batches:
                training_step(batch, step=0, measure=True)
        optimizer.step()
        model.after_step(1)
    if train.compile:
        torch.compiler.reset()  # torch compiles a function for a few shapes only, and tried ones would count


def _fill(optimizer: torch.optim.Optimizer) -> None:
    """Let the optimiser allocate its averages: from the second step on they are in memory during the forward pass."""
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    optimizer.zero_grad()
