"""For each check of the kit one plugin that breaks just that: a working one of the scaffold with one change."""

from __future__ import annotations

import random
from dataclasses import replace

import numpy as np
import torch
from torch import nn

from ssl_wb.api import (
    Checkpoint,
    ClipSet,
    DataError,
    Field,
    HealthRule,
    Mask,
    ObjectiveOutput,
    PluginOptions,
    visible_count,
)
from ssl_wb.scaffold.templates import (
    augmentation,
    backbone,
    evaluator,
    front_end,
    importer,
    masker,
    objective,
    optimiser,
    schedule,
    source,
    task,
)

#: (kind, check): the plugin, and what its check function takes besides.
BROKEN: dict[tuple[str, str], tuple[type, dict]] = {}
Masker, Objective, Backbone = masker.NewPlugin, objective.NewPlugin, backbone.NewPlugin
Evaluator, FrontEnd, Augmentation = evaluator.NewPlugin, front_end.NewPlugin, augmentation.NewPlugin
Optimiser, Schedule = optimiser.NewPlugin, schedule.NewPlugin
Task, Source, Importer = task.NewPlugin, source.NewPlugin, importer.NewPlugin


def breaks(kind, check, **given):
    """Note that a plugin breaks a check."""

    def noted(plugin):
        plugin.__doc__ = plugin.__doc__ or "Broken."
        BROKEN[kind, check] = plugin, given
        return plugin

    return noted


# Every kind


@breaks("masker", "plugin-class")
class BadName(Masker):
    name = "No Kebab"


@breaks("masker", "options-documented")
class Undescribed(Masker):
    class Options(PluginOptions):
        ratio: float = Field(0.7, gt=0.0, lt=1.0)


@breaks("masker", "options-bounded")
class Unbounded(Masker):
    class Options(masker.NewPluginOptions):
        weights: list[float] = Field([1.0], description="Weights.")


@breaks("masker", "options-strict")
class Lenient(Masker):
    class Options(masker.NewPluginOptions):
        model_config = {"extra": "ignore"}


@breaks("masker", "options-saved")
class WithInternals(Masker):
    class Options(masker.NewPluginOptions):
        names: frozenset[str] | None = Field(frozenset("a"), description="Names.", exclude=True)

        def __eq__(self, other):
            return self.names is other.names


# Maskers


@breaks("masker", "masks")
class Unsorted(Masker):
    def __call__(self, request):
        (mask,) = super().__call__(request)
        return (Mask(mask.visible.flip(1), mask.masked),)


@breaks("masker", "global-randomness")
class NumpyRandom(Masker):
    def __call__(self, request):
        np.random.rand()
        return super().__call__(request)


@breaks("masker", "exact-count")
class OneTooMany(Masker):
    def __call__(self, request):
        cells = request.grid.cells
        return (Mask.from_scores(request.uniform(cells), visible_count(cells, self.options.ratio) + 1),)


@breaks("masker", "repeatable")
class Remembers(Masker):
    calls = 0

    def __call__(self, request):
        self.calls += 1
        for _ in range(self.calls):
            request.uniform(1)
        return super().__call__(request)


@breaks("masker", "batch-split")
class OfItsOwnRows(Masker):
    def __call__(self, request):
        return super().__call__(replace(request, first_row=0, global_rows=len(request.patches)))


@breaks("masker", "importance")
class WrongImportance(Masker):
    def importance(self, request):
        return request.patches


@breaks("masker", "autocast")
class HalfPrecision(Masker):
    def __call__(self, request):
        (mask,) = super().__call__(request)
        product = torch.eye(2) @ torch.eye(2)
        return (Mask(mask.visible.to(torch.int64 if product.dtype == torch.float32 else torch.int32), mask.masked),)


@breaks("masker", "device")
class OnTheHost(Masker):
    def __call__(self, request):
        (mask,) = super().__call__(request)
        return (Mask(mask.visible, torch.zeros(mask.masked.shape, dtype=torch.int64)),) if cuda(request) else (mask,)


def cuda(request):
    return request.patches.device.type == "cuda"


# Objectives


@breaks("objective", "needs")
class Undeclared(Objective):
    needs = frozenset({"features"})


@breaks("objective", "output")
class ProvidesNothing(Objective):
    provides = frozenset({"prediction"})


@breaks("objective", "gradients")
class UnusedHead(Objective):
    def __init__(self, options, shapes):
        super().__init__(options, shapes)
        self.unused = nn.Linear(2, 2)


class WithMetric(Objective):
    """Has a metric."""

    def metric(self, output, state):
        return output.loss.detach()

    def forward(self, state):
        output = super().forward(state)
        return ObjectiveOutput(output.loss, {"figure": self.metric(output, state)})


@breaks("objective", "detached")
class Attached(WithMetric):
    def metric(self, output, state):
        return output.loss


@breaks("objective", "finite")
class OfSilence(WithMetric):
    def metric(self, output, state):
        return 1.0 / state.views[0].features.detach().var()


@breaks("objective", "one-clip")
class NeedsTwo(WithMetric):
    def metric(self, output, state):
        first, second = state.views[0].latents.detach()[:2].unbind()
        return (first - second).mean()


@breaks("objective", "autocast")
class HalfLoss(Objective):
    def forward(self, state):
        loss = super().forward(state).loss
        return ObjectiveOutput(loss.to((torch.eye(2) @ torch.eye(2)).dtype))


@breaks("objective", "repeatable")
class Counts(Objective):
    calls = 0

    def forward(self, state):
        self.calls += 1
        return ObjectiveOutput(super().forward(state).loss * self.calls)


@breaks("objective", "clip-order")
class FirstClip(Objective):
    def forward(self, state):
        loss = super().forward(state).loss
        return ObjectiveOutput(loss + state.views[0].latents[0].square().mean())


@breaks("objective", "batch-split")
class SumOverClips(Objective):
    def forward(self, state):
        return ObjectiveOutput(super().forward(state).loss * len(state.views[0].latents))


@breaks("objective", "saved")
class PlainCentre(Objective):
    centre = 0.0

    def forward(self, state):
        return ObjectiveOutput(super().forward(state).loss + self.centre)

    def after_step(self, step, total_steps):
        self.centre += 1.0


@breaks("objective", "health")
class NoSuchMetric(Objective):
    def health_rules(self):
        return (HealthRule("speling", "it collapses", below=1.0),)


@breaks("objective", "patch-figures")
class WrongUncertainty(Objective):
    def uncertainty(self, view):
        return view.features


@breaks("objective", "meta")
class ReadsValues(Objective):
    def __init__(self, options, shapes):
        super().__init__(options, shapes)
        assert float(self.head.weight.sum()) < 1e9


@breaks("objective", "device")
class PlainTensor(Objective):
    def __init__(self, options, shapes):
        super().__init__(options, shapes)
        self.centre = torch.zeros(1)

    def forward(self, state):
        return ObjectiveOutput(super().forward(state).loss + (self.centre + state.views[0].latents.mean()).sum())


# Backbones


@breaks("backbone", "attributes")
class NoPrefix(Backbone):
    def __init__(self, options, n_mels, frames):
        super().__init__(options, n_mels, frames)
        self.prefix_tokens = None


@breaks("backbone", "tokens")
class OneLess(Backbone):
    def embed(self, patches, grid, indices=None):
        return super().embed(patches, grid, indices)[:, 1:]


@breaks("backbone", "indices")
class FirstOnes(Backbone):
    def embed(self, patches, grid, indices=None):
        tokens = super().embed(patches, grid)
        return tokens if indices is None else tokens[:, : indices.shape[1]]


class TrunkOf(Backbone):
    """A backbone with a broken trunk."""

    kind_of_trunk = backbone.NewPluginTrunk

    def __init__(self, options, n_mels, frames):
        super().__init__(options, n_mels, frames)
        self.trunk = self.kind_of_trunk(options)


class TakesAnyDepth(backbone.NewPluginTrunk):
    def layers(self, tokens, depth=None):
        return super().layers(tokens, min(depth, 2) if depth else None)


@breaks("backbone", "layers")
class AnyDepth(TrunkOf):
    kind_of_trunk = TakesAnyDepth


class MixesClips(backbone.NewPluginTrunk):
    def layers(self, tokens, depth=None):
        return super().layers(tokens + tokens.mean(dim=0, keepdim=True), depth)


@breaks("backbone", "clips-apart")
class OverClips(TrunkOf):
    kind_of_trunk = MixesClips


@breaks("backbone", "gradients")
class UnusedPart(Backbone):
    def __init__(self, options, n_mels, frames):
        super().__init__(options, n_mels, frames)
        self.unused = nn.Linear(2, 2)


@breaks("backbone", "finite")
class Divides(Backbone):
    def embed(self, patches, grid, indices=None):
        return super().embed(patches / patches.std(dim=2, keepdim=True), grid, indices)


@breaks("backbone", "autocast")
class NoHalf(Backbone):
    def embed(self, patches, grid, indices=None):
        tokens = super().embed(patches, grid, indices)
        half = (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == torch.bfloat16 and patches.device.type == "cpu"
        return tokens / 0.0 if half else tokens


class Draws(backbone.NewPluginTrunk):
    def __init__(self, options):
        super().__init__(options)
        self.scale = random.random()

    def final_norm(self, latents):
        return super().final_norm(latents) * self.scale


@breaks("backbone", "saved")
class NotSaved(TrunkOf):
    kind_of_trunk = Draws


@breaks("backbone", "meta")
class ReadsWeights(Backbone):
    def __init__(self, options, n_mels, frames):
        super().__init__(options, n_mels, frames)
        assert float(self.projection.weight.sum()) < 1e9


@breaks("backbone", "device")
class PlainTable(Backbone):
    def __init__(self, options, n_mels, frames):
        super().__init__(options, n_mels, frames)
        self.offset = torch.zeros(options.dim)

    def embed(self, patches, grid, indices=None):
        return super().embed(patches, grid, indices) + self.offset


# Evaluators


class Changed(Evaluator):
    """Changes the result."""

    def changes(self, task, result):
        return {}

    def __call__(self, task, seeds):
        result = super().__call__(task, seeds)
        return replace(result, **self.changes(task, result))


@breaks("evaluator", "result")
class NumpySettings(Changed):
    def changes(self, task, result):
        return {"settings": {"width": np.int64(3)}}


@breaks("evaluator", "repeatable")
class Random(Changed):
    def changes(self, task, result):
        return {"table": {"luck": float(torch.rand(()))}}


@breaks("evaluator", "test-labels-unseen")
class Peeks(Changed):
    def changes(self, task, result):
        return {"settings": {"best": int(task.labels[task.splits[0].test][0])}}


@breaks("evaluator", "task-unchanged")
class Writes(Evaluator):
    def __call__(self, task, seeds):
        result = super().__call__(task, seeds)
        task.labels[0] = 1
        return result


@breaks("evaluator", "fits")
class Silent(Evaluator):
    def fits(self, task):
        return None

    def __call__(self, task, seeds):
        if task.multi_label:
            raise DataError("one class per clip, please")
        return super().__call__(task, seeds)


# Front ends


@breaks("front-end", "spectrogram")
class OneFrameLess(FrontEnd):
    def spectrum(self, waveform):
        return super().spectrum(waveform)[:, :, 1:]


@breaks("front-end", "normalised")
class NoStatistics(FrontEnd):
    def __init__(self, options, mean=0.0, std=1.0):
        super().__init__(options)


@breaks("front-end", "clips-apart")
class OverTheBatch(FrontEnd):
    def spectrum(self, waveform):
        return super().spectrum(waveform - waveform.mean())


@breaks("front-end", "finite")
class LogOfZero(FrontEnd):
    def spectrum(self, waveform):
        quiet = (waveform == 0).all(dim=1)[:, None, None]
        return (
            super().spectrum(waveform).masked_fill(quiet, -torch.inf)
            if len(waveform) == 3
            else super().spectrum(waveform)
        )


@breaks("front-end", "autocast")
class HalfSpectrum(FrontEnd):
    def forward(self, waveform, lengths=None):
        made, frames = super().forward(waveform, lengths)
        return made.to((torch.ones(2, 2) @ torch.ones(2, 2)).dtype), frames


@breaks("front-end", "saved")
class Trained(FrontEnd):
    def __init__(self, options, mean=0.0, std=1.0):
        super().__init__(options, mean, std)
        self.gain = nn.Parameter(torch.ones(()))


@breaks("front-end", "device")
class WindowStays(FrontEnd):
    def __init__(self, options, mean=0.0, std=1.0):
        super().__init__(options, mean, std)
        window = self.window
        del self.window
        self.window = window


# Augmentations


@breaks("augmentation", "waveform")
class InPlace(Augmentation):
    def __call__(self, samples):
        samples *= 0.5
        return samples


@breaks("augmentation", "repeatable")
class TorchRandom(Augmentation):
    def __call__(self, samples):
        return samples * float(torch.rand(())) if len(samples) else samples


@breaks("augmentation", "probability")
class Always(Augmentation):
    def __call__(self, samples):
        return super().__call__(samples) * np.float32(0.5) + np.float32(0.1)


# Optimisers


@breaks("optimiser", "groups")
class OneGroup(Optimiser):
    def build(self, groups):
        return torch.optim.SGD([weight for group in groups for weight in group["params"]], lr=self.options.lr)


@breaks("optimiser", "learns")
class Ascends(Optimiser):
    def build(self, groups):
        return torch.optim.SGD(groups, lr=self.options.lr, maximize=True)


class OwnRate(torch.optim.SGD):
    @torch.no_grad()
    def step(self, closure=None):
        for group in self.param_groups:
            for weight in group["params"]:
                weight.sub_(0.01 * weight.grad)


@breaks("optimiser", "learning-rate")
class IgnoresRate(Optimiser):
    def build(self, groups):
        return OwnRate(groups, lr=0.01)


class Forgets(torch.optim.SGD):
    count = 0

    def step(self, closure=None):
        self.count += 1
        for group in self.param_groups:
            for weight in group["params"]:
                weight.data.sub_(group["lr"] * weight.grad / self.count)


@breaks("optimiser", "saved")
class NotRestored(Optimiser):
    def build(self, groups):
        return Forgets(groups, lr=0.01)


# Schedules


@breaks("schedule", "shares")
class InRates(Schedule):
    def share(self, progress):
        return 3.0 * super().share(progress)


@breaks("schedule", "peak")
class TooLow(Schedule):
    def share(self, progress):
        return 0.5 * super().share(progress)


@breaks("schedule", "of-progress-alone")
class Steps(Schedule):
    calls = 0

    def share(self, progress):
        self.calls += 1
        return 1.0 / self.calls


# Tasks


@breaks("task", "description")
class NoMetric(Task):
    metric = "acuracy"


@breaks("task", "recordings")
class Numbers(Task):
    @classmethod
    def recording_of(cls, name):
        return 3


@breaks("task", "refused-folder")
class AnyFolder(Task):
    def rows(self, root):
        return ["a row"]


@breaks("task", "rows", root="download")
class NoFold(Task):
    def rows(self, root):
        return [replace(row, fold=None) for row in super().rows(root)]


# Sources


@breaks("source", "places")
class NoScheme(Source):
    scheme = None


@breaks("source", "clips", clips=10)
class NumberedFrom1(Source):
    def read(self, place, *, folder, sample_rate):
        found = super().read(place, folder=folder, sample_rate=sample_rate)
        return ClipSet(tuple(replace(clip, id=clip.id + 1) for clip in found), found.source, found.digest)


@breaks("source", "repeatable", clips=10)
class NewDigest(Source):
    def read(self, place, *, folder, sample_rate):
        return replace(super().read(place, folder=folder, sample_rate=sample_rate), digest=str(random.random()))


# Importers


@breaks("importer", "others")
class Greedy(Importer):
    @classmethod
    def recognises(cls, checkpoint: Checkpoint):
        return True


@breaks("importer", "every-tensor", checkpoint="checkpoint")
class LeavesAll(Importer):
    def read(self, checkpoint, tensors):
        imported = super().read(checkpoint, tensors)
        tensors.leave(".*", "whatever")
        return imported


@breaks("importer", "encoder", checkpoint="checkpoint")
class WrongWeights(Importer):
    def read(self, checkpoint, tensors):
        imported = super().read(checkpoint, tensors)
        return replace(imported, weights=dict(list(imported.weights.items())[1:]))
