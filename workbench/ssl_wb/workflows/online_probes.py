"""Scores the encoder during training: the same clips, decoded once, embedded with the current weights."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from ssl_wb.encoder.encoder import FrozenEncoder
from ssl_wb.errors import WorkbenchError
from ssl_wb.evaluation.embeddings import Decoded, Embedded, decode_task, embed_task, frame_counts
from ssl_wb.evaluation.pooling import parts_of, pools_of, probe_pooled
from ssl_wb.plugin.base import steps_of
from ssl_wb.plugin.evaluator import Evaluator, Level, Result, level_of
from ssl_wb.plugin.front_end import FrontEnd
from ssl_wb.plugin.result_checks import probe as probe_task
from ssl_wb.plugin.result_checks import unfit_reason
from ssl_wb.pretext.build import build_backbone
from ssl_wb.pretext.crop import crop_frames
from ssl_wb.recipe.load import LoadedRecipe
from ssl_wb.runs.folder import RunFolder
from ssl_wb.tasks.task import LoadedTask
from ssl_wb.workflows.preflight import Preflight

__all__ = ["OnlineProbes", "online_probes"]

log = logging.getLogger("ssl_wb")

#: What embeddings are of: a task by its identity, a level, poolings.
_Key = tuple[int, Level, tuple[str, ...]]
#: One repetition: the many points of the curve show its spread.
SEEDS = (0,)


@dataclass(frozen=True)
class _Probe:
    """An evaluator, its task without test clips, the steps between two probes, and how frames are pooled."""

    name: str
    evaluator: Evaluator
    task: LoadedTask
    every: int
    pool: str


class OnlineProbes:
    """The recipe's probes with ``every``.

    Validation clips only, chosen by :func:`selection`: the checkpoint with the best probe has not seen a test clip.

    Args:
        loaded: the recipe.
        probes: what is probed and how often.
        front_end: with the data's statistics.
        device: where the encoder computes.
        steps: optimiser steps of the run.
    """

    def __init__(
        self, loaded: LoadedRecipe, probes: list[_Probe], front_end: FrontEnd, device: torch.device, steps: int
    ) -> None:
        self._loaded, self._probes, self._steps = loaded, probes, steps
        self._front_end, self._device = front_end, device
        self._decoded: dict[int, list[Decoded]] = {}

    @cached_property
    def _encoder(self) -> FrozenEncoder:
        """A frozen encoder of the run's shape; its weights are put in before each probe."""
        backbone = build_backbone(self._loaded)
        frames = crop_frames(self._loaded, backbone.patch[1])
        return FrozenEncoder(self._front_end, backbone, frames).to(self._device)

    def due(self, step: int) -> bool:
        """Whether any probe runs at a step: one at 0, for the untrained encoder, and one at the end, always."""
        return any(self._due(probe, step) for probe in self._probes)

    def _due(self, probe: _Probe, step: int) -> bool:
        return step % probe.every == 0 or step == self._steps

    def __call__(self, weights: Mapping[str, Tensor], step: int) -> tuple[dict[str, float], float | None]:
        """Probe an encoder.

        Args:
            weights: of the backbone, by name.
            step: optimiser steps done.

        A probe that fails has no score, is warned of, and costs nothing else.

        Returns:
            Scores by ``task/evaluator``, in the metric's own units; and the selection score, higher is better: the
            first probe's score, negated where less is better. None where the first probe is not due or failed.
        """
        figures: dict[str, float] = {}
        selection_score = None
        devices = [self._device] if self._device.type == "cuda" else []
        with torch.random.fork_rng(devices=devices):  # training draws the same numbers with and without probes
            self._encoder.backbone.load_state_dict(weights)
            embedded: dict[_Key, Embedded] = {}
            for probe in self._probes:
                if not self._due(probe, step):
                    continue
                try:
                    result = self._run(probe, embedded)
                except Exception as error:  # whatever it is, it must not cost the run
                    text = error.message if isinstance(error, WorkbenchError) else f"{type(error).__name__}: {error}"
                    log.warning("step %d: probe %s on %s failed: %s", step, probe.name, probe.task.name, text)
                    continue
                if math.isnan(result.mean):
                    log.warning("step %d: probe on %s: %s", step, probe.task.name, result.notes[-1])
                figures[f"{probe.task.name}/{probe.name}"] = result.mean
                if probe is self._probes[0] and not math.isnan(result.mean):
                    selection_score = result.mean if result.higher else -result.mean
        return figures, selection_score

    def _run(self, probe: _Probe, embedded: dict[_Key, Embedded]) -> Result:
        """Embed the probe's clips, unless another probe of this step had them ``embedded``, and probe them."""
        task, level = probe.task, level_of(probe.evaluator)
        if id(task) not in self._decoded:
            self._decoded[id(task)] = decode_task(task, self._encoder.sample_rate)
        pools = pools_of(probe.pool, level)
        key = id(task), level, pools
        if key not in embedded:
            embedded[key] = embed_task(self._encoder, task, level=level, pools=pools, decoded=self._decoded[id(task)])
        frames = frame_counts(embedded[key]) if level == "frames" else None
        probed = task.embedded(embedded[key], encoder=self._encoder, frames=frames)
        if pools:
            return probe_pooled(probe.evaluator, probed, parts_of(probed.embeddings, pools), SEEDS)[0]
        return probe_task(probe.evaluator, probed, SEEDS)


def online_probes(
    preflight: Preflight, folder: RunFolder, front_end: FrontEnd, device: torch.device, steps: int
) -> OnlineProbes | None:
    """Build the recipe's probes with ``every``; None where it has none.

    Args:
        preflight: the recipe and its tasks.
        folder: the run's, in which the clips of a task are generated where they are not there yet.
        front_end: with the data's statistics.
        device: where the encoder computes.
        steps: optimiser steps of the run.
    """
    loaded, probes = preflight.loaded, []
    for selection in loaded.evaluators:
        section = selection.settings
        if section.every is None:
            continue
        every = max(1, steps_of(section.every, steps))
        task = preflight.validation_subset(section, folder)
        evaluator = selection.plugin(selection.options)
        reason = unfit_reason(evaluator, task.without_embeddings())
        if reason is not None:
            log.warning("probe %s on %s is left out: %s", selection.name, task.name, reason)
            continue
        probes.append(_Probe(selection.name, evaluator, task, every, section.pooling))
    return OnlineProbes(loaded, probes, front_end, device, steps) if probes else None
