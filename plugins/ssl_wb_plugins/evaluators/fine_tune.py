"""Fine-tuning: a copy of the encoder is trained with a head on the task."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Annotated, Any, ClassVar, Literal, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ssl_wb.api import (
    DataError,
    EncoderWithHead,
    Evaluator,
    Field,
    Level,
    PluginOptions,
    ProbedSplit,
    ProbeTask,
    Rates,
    Result,
    Split,
    Targets,
    TaskSpectrograms,
    TrainableEncoder,
    batches_per_epoch,
    build_optimiser,
    hookimpl,
    mixup,
    mixup_draw,
    model_validator,
    probe_splits,
    published_pool,
    random_resized_crop,
    require_labels,
    require_parts,
    roll_in_time,
    sorted_values,
    spec_augment,
    warmup_cosine,
)

#: Weight of a label that n training clips have: 1000 / (n + 0.01) (EVAR, AudioMosaic).
LABEL_WEIGHT, LABEL_OFFSET = 1000.0, 0.01
#: Options of each optimiser: SGD's momentum (EVAR), and torch's own betas, slower than those of pre-training.
OPTIMISER_OPTIONS: dict[str, dict[str, Any]] = {"adamw": {"betas": [0.9, 0.999]}, "sgd": {"momentum": 0.9}}


class FineTuneOptions(PluginOptions):
    """Options of fine-tuning; published settings are in the docstring of :class:`FineTune`."""

    lr: Rates = Field(1e-3, description="Peak learning rate; of several, the validation part chooses.")
    optimizer: Literal["adamw", "sgd"] = Field("adamw", description="AdamW, or SGD with momentum 0.9.")
    layer_decay: float = Field(0.75, gt=0.0, le=1.0, description="Learning rate of a layer over that of the next one.")
    weight_decay: float = Field(0.01, ge=0.0, description="Decay of matrices.")
    epochs: int = Field(30, ge=1, description="Passes over the training clips.")
    warmup: float = Field(
        0.1, ge=0.0, lt=1.0, description="Fraction of the steps in which the learning rate rises from 0."
    )
    min_lr: float = Field(1e-7, ge=0.0, description="Learning rate at the end of the cosine.")
    batch_size: int = Field(32, ge=2, description="Clips per step.")
    freq_mask: int = Field(15, ge=0, description="SpecAugment: widest band of mels masked.")
    time_mask: int = Field(48, ge=0, description="SpecAugment: most consecutive frames masked.")
    mixup: float = Field(0.3, ge=0.0, description="Mixup of clips and labels: a of Beta(a, a); 0 for none.")
    mixup_share: float = Field(1.0, ge=0.0, le=1.0, description="Share of the clips that are mixed.")
    mixup_on: Literal["spectrogram", "waveform"] = Field(
        "spectrogram", description="What is mixed; waveforms are read and mixed anew in every epoch."
    )
    roll: bool = Field(False, description="Shift each clip in time by a random number of frames, in a circle.")
    resized_crop: bool = Field(False, description="Random resized crop of the spectrogram, after SpecAugment.")
    patchout: float = Field(
        0.0,
        ge=0.0,
        lt=1.0,
        description="Fraction of patches left out in training: structured, or columns with pool = 'rows'.",
    )
    patch_drop: list[Annotated[float, Field(ge=0.0, lt=1.0)]] = Field(
        default_factory=lambda: [0.0, 0.0],
        min_length=2,
        max_length=2,
        description="Shares of columns and of rows of patches left out in training (AudioMosaic 0.2, 0.2); not with "
        "patchout or pool = 'rows'.",
    )
    drop_path: float | None = Field(
        None,
        ge=0.0,
        lt=1.0,
        description="Stochastic depth in training: rate of the last block (AudioMosaic and EAT 0.1); the one of "
        "pre-training without a number.",
    )
    pool: Literal["published", "rows", "mean", "clip-token", "pooled"] = Field(
        "published",
        description="Mean over time with rows of patches concatenated; one mean over patches; the class token; the "
        "backbone's own pooling; or what the recipe's encoder.fine_tuned names.",
    )
    head: Literal["batch", "layer", "none"] = Field(
        "batch", description="Norm before the linear layer: BatchNorm without affine (EVAR), LayerNorm, or none."
    )
    head_std: float = Field(0.01, gt=0.0, description="Standard deviation of the linear layer's first weights.")
    freeze_embedding: bool = Field(
        False, description="Leave patch embedding, positions and class token as they are (M2D on ESC-50)."
    )
    balanced: bool = Field(
        False,
        description="Draw clips with rare labels more often, for long-tailed sets: without replacement where "
        "epoch_clips is smaller than the training part, else with replacement.",
    )
    epoch_clips: int | None = Field(
        None, ge=1, description="Clips drawn per epoch, at most all of them; all of them without a number."
    )
    keep: Literal["auto", "best", "last"] = Field(
        "auto",
        description="Epoch kept: the one of the best validation score, or the last; then validation clips that the "
        "workbench held out train too. auto is the last if it held them out, else the best.",
    )
    max_seconds: float = Field(
        10.0, gt=0.0, description="Longer clips are cut: at a random place to train, else to their start."
    )
    memory: float = Field(4.0, ge=0.0, description="Spectrograms kept in memory, in GiB; others are computed again.")
    precision: Literal["fp32", "bf16"] = Field(
        "fp32", description="bf16 is faster on machines with bf16 matrix products."
    )
    resamples: int = Field(1000, ge=100, description="Bootstrap resamples of the interval; a fifth for mAP.")

    @model_validator(mode="after")
    def _one_way_to_leave_out(self) -> FineTuneOptions:
        if max(self.patch_drop) > 0 and self.patchout > 0:
            raise ValueError("patch_drop does not go with patchout")
        return self


@dataclass
class _Fit:
    """A trained model after so many epochs, with its validation score (higher is better) and loss."""

    model: EncoderWithHead
    score: float = float("-inf")
    loss: float = float("inf")
    epoch: int = 0


@dataclass(frozen=True)
class _Job:
    """What all trainings on one split share: the encoder, its spectrograms, and the clips that train and validate."""

    task: ProbeTask
    encoder: TrainableEncoder
    spectrograms: TaskSpectrograms
    train: NDArray[np.int64]
    validation: NDArray[np.int64]

    @cached_property
    def targets(self) -> Targets:
        return Targets(self.task, self.train)


class FineTune(Evaluator):
    """Trains a copy of the encoder with a head, once per seed and split; test clips are read once, at the end.

    As EVAR and AudioMosaic fine-tune: a norm and Linear on pooled latents; AdamW or SGD with a cosine schedule,
    warm-up and layer-wise learning rates; SpecAugment, mixup and, as options, random resized crops and structured
    patchout. Published settings: AudioMosaic on AudioSet 20K ``lr = 1.25e-4, layer_decay = 0.65,
    epochs = 60, batch_size = 64, freq_mask = 48, time_mask = 192, drop_path = 0.1, mixup = 10, mixup_share = 0.8,
    mixup_on = "waveform", roll = true, patch_drop = [0.2, 0.2], pool = "pooled", head = "none", head_std = 2.5e-5``
    (its pooling ends with the head's LayerNorm; its learning rate warms up for 4 of 60 epochs); EAT ``pool =
    "clip-token", head = "layer", layer_decay = 0.75, patchout = 0.2, mixup_share = 0.8, freq_mask = 25,
    time_mask = 200, drop_path = 0.1``; M2D on VoxCeleb1
    ``lr = 5e-4, layer_decay = 1, weight_decay = 1e-4, epochs = 50, batch_size = 64, freq_mask = 30, time_mask = 48,
    mixup = 0``; M2D on ESC-50 ``optimizer = "sgd", lr = 0.01, layer_decay = 1, weight_decay = 0, epochs = 200,
    warmup = 0.025, batch_size = 128, mixup = 0, resized_crop = true, patchout = 0.5, pool = "mean",
    freeze_embedding = true``. EVAR's loss is a mean over classes too, so its SGD learning rates are divided by the
    number of classes here (0.5 / 50). M2D's LARS (AudioSet 2M) is not offered.

    ``balanced`` weighs clips as EVAR and AudioMosaic do, who draw 200000 of AudioSet's 2 million clips per epoch
    without replacement; set ``epoch_clips`` for that. A draw of all clips without replacement would balance nothing, so
    it is with replacement.

    Validation chooses the epoch; published code takes the best one on the test set. Defaults are for hundreds of clips.
    """

    name = "fine-tune"
    reference = "EVAR (arXiv 2210.14648) and M2D (arXiv 2404.06095), fine-tuning; AudioMosaic"
    level: ClassVar[Level] = "audio"
    Options = FineTuneOptions
    options: FineTuneOptions

    def __call__(self, task: ProbeTask, seeds: Sequence[int]) -> Result:
        """Fine-tune ``task.encoder`` on the clips that ``task.read`` gives."""
        needed = ("front_end", "backbone", "chunk_columns")
        if task.read is None or not all(hasattr(task.encoder, name) for name in needed):
            raise DataError(
                f"task {task.name!r}: this encoder cannot be fine-tuned, it offers embeddings only",
                hint="Fine-tune the encoder of a run; use linear or mlp for others.",
            )
        if self.options.balanced:
            require_labels(task, ("single", "several"), "balanced needs classes", "Leave out balanced.")
        encoder = cast(TrainableEncoder, task.encoder)
        spectrograms = TaskSpectrograms(task, encoder, self.options.max_seconds, self.options.memory)

        def probe(split: Split) -> ProbedSplit:
            return self._probe(_Job(task, encoder, spectrograms, split.train, split.validation), split, seeds)

        return probe_splits(self, task, seeds, probe, frames=spectrograms.frames)

    def _probe(self, job: _Job, split: Split, seeds: Sequence[int]) -> ProbedSplit:
        """Train a model per seed on one split and score its test clips; the first seed chooses the learning rate."""
        options = self.options
        require_parts(job.task, split, training=2)
        last = options.keep == "last" or (options.keep == "auto" and split.held_out)
        # Held-out validation clips train too where the last epoch is kept: validation then has no epoch to choose.
        refit = last and split.held_out
        rates = sorted_values(options.lr)
        rate, searched = rates[0], None
        if len(rates) > 1 or not refit:
            fits = [self._fit(job, one, seeds[0], last) for one in rates]
            best = max(range(len(fits)), key=lambda number: (fits[number].score, -fits[number].loss))
            rate, searched = rates[best], fits[best]
        if refit:
            rows = np.concatenate([split.train, split.validation])
            job = replace(job, train=rows, validation=split.validation[:0])
            fits = [self._fit(job, rate, seed, True) for seed in seeds]
        else:
            assert searched is not None
            fits = [searched, *(self._fit(job, rate, seed, last) for seed in seeds[1:])]
        scores = np.stack([job.targets.scores(self._logits(one.model, job, split.test)) for one in fits])
        if not np.isfinite(scores).all():
            raise DataError(f"task {job.task.name!r}, {split.name}: fine-tuning diverged", hint="Give it a smaller lr.")
        chosen = {
            "lr": rate,
            "epochs": [one.epoch for one in fits],
            "validation": None if searched is None else searched.score,
            "refit": refit,
        }
        return ProbedSplit(scores, chosen)

    def _fit(self, job: _Job, rate: float, seed: int, last: bool) -> _Fit:
        """Train one model; everything random follows from the seed."""
        options = self.options
        device = next(job.encoder.backbone.parameters()).device
        with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []), torch.enable_grad():
            torch.manual_seed(int(seed))
            model = self._model(job).to(device)
            if options.drop_path is not None:
                model.backbone.trunk.set_drop_path(options.drop_path)
            groups = model.groups(
                rate, options.weight_decay, options.layer_decay, freeze_embedding=options.freeze_embedding
            )
            optimiser = build_optimiser(options.optimizer, groups, lr=rate, **OPTIMISER_OPTIONS[options.optimizer])
            peaks = [group["lr"] for group in optimiser.param_groups]  # layer by layer
            targets = job.targets.of(job.task.labels[job.train])  # [n, C]
            batches = batches_per_epoch(min(options.epoch_clips or len(targets), len(targets)), options.batch_size)
            steps, step = options.epochs * batches, 0
            warmup = round(steps * options.warmup)
            best = _Fit(model, epoch=options.epochs)
            for epoch in range(1, options.epochs + 1):
                model.train()
                for rows in torch.tensor_split(self._order(targets), batches):
                    factor = warmup_cosine(step, steps, warmup, peak=1.0, last=options.min_lr / rate)
                    step += 1
                    for group, peak in zip(optimiser.param_groups, peaks, strict=True):
                        group["lr"] = peak * factor
                    batch, columns, truth = self._mixed(job, job.train[rows.numpy()], targets[rows])
                    batch, columns, truth = batch.to(device), columns.to(device), truth.to(device)
                    loss = self._loss(model, batch, columns, truth, job.targets)
                    optimiser.zero_grad()
                    loss.backward()
                    optimiser.step()
                if not len(job.validation) or (last and epoch < options.epochs):
                    continue
                labels = job.task.labels[job.validation]
                logits = self._logits(model, job, job.validation)
                score, validation_loss = job.targets.validate(logits, job.targets.of(labels), labels)
                if (score, -validation_loss) > (best.score, -best.loss):
                    # The last epoch's model does not change any more; others need a copy.
                    best = _Fit(model if last else copy.deepcopy(model), score, validation_loss, epoch)
            return best

    def _order(self, targets: Tensor) -> Tensor:
        """Draw the clips of an epoch, int64 ``[count]`` in random order, of targets ``[n, C]``."""
        count = min(self.options.epoch_clips or len(targets), len(targets))
        if not self.options.balanced:
            return torch.randperm(len(targets))[:count]
        weights = LABEL_WEIGHT / (targets.double().sum(dim=0) + LABEL_OFFSET)  # [C]
        each = (targets.double() @ weights).clamp(min=1e-9)  # [n]
        # All clips without replacement would be every clip once, whatever the weights.
        drawn = torch.multinomial(each, count, replacement=count == len(targets))
        return drawn[torch.randperm(count)]  # without replacement, the heaviest come first

    def _model(self, job: _Job) -> EncoderWithHead:
        options = self.options
        pool = published_pool(job.encoder) if options.pool == "published" else options.pool
        try:
            return EncoderWithHead(
                *(job.encoder, job.targets.outputs, pool, options.patchout),
                norm=options.head,
                head_std=options.head_std,
                patch_drop=options.patch_drop,
            )
        except ValueError as error:
            raise DataError(f"fine-tune: {error}", hint="Set fine-tune.pool = 'mean' or 'rows'.") from error

    def _mixed(self, job: _Job, clips: NDArray[np.int64], truth: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Read ``clips [B]`` of targets ``truth [B, C]`` and mix them: ``[B, F, T]``, columns ``[B]``, ``[B, C]``."""
        options = self.options
        if options.mixup_on == "spectrogram" or options.mixup == 0:
            return mixup(*job.spectrograms.batch(clips, random=True), truth, options.mixup, options.mixup_share)
        other, weight = mixup_draw(len(clips), options.mixup, options.mixup_share)  # [B], [B]
        mixed = job.spectrograms.mixed(clips, clips[other.numpy()], weight.numpy())
        return *mixed, torch.lerp(truth[other], truth, weight[:, None].to(truth))

    def _loss(self, model: EncoderWithHead, batch: Tensor, columns: Tensor, truth: Tensor, targets: Targets) -> Tensor:
        """Augment a mixed batch ``[B, F, T]`` with targets ``truth [B, C]`` and return its loss."""
        options, widths = self.options, columns * model.backbone.patch[1]
        if options.roll:
            batch = roll_in_time(batch, widths)
        batch = spec_augment(batch, options.freq_mask, options.time_mask)
        if options.resized_crop:
            batch = random_resized_crop(batch, widths)
        with self._autocast(batch):
            logits = model(batch, columns)
        return targets.loss(logits.float(), truth)

    def _autocast(self, batch: Tensor) -> Any:
        if self.options.precision == "fp32":
            return nullcontext()
        return torch.autocast(batch.device.type, torch.bfloat16)

    @torch.no_grad()
    def _logits(self, model: EncoderWithHead, job: _Job, clips: NDArray[np.int64]) -> Tensor:
        """Return logits ``[n, C]`` of clips, without augmentation."""
        model.eval()
        device = model.linear.weight.device
        parts = []
        for first in range(0, len(clips), self.options.batch_size):
            batch, columns = job.spectrograms.batch(clips[first : first + self.options.batch_size], random=False)
            with self._autocast(batch.to(device)):
                parts.append(model(batch.to(device), columns.to(device)).float().cpu())
        return torch.cat(parts)


@hookimpl
def ssl_wb_evaluators() -> list[type[Evaluator]]:
    """Register fine-tuning."""
    return [FineTune]
