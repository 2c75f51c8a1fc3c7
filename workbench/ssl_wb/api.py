"""Everything a plugin may import, and nothing else.

A plugin is a module with an entry point in the group ``ssl_wb``; a hook in it returns classes::

    from ssl_wb.api import Field, Mask, Masker, MaskRequest, PluginOptions, hookimpl, visible_count


    class Checkerboard(Masker):
        \"\"\"Masks every other patch.\"\"\"

        name = "checkerboard"

        class Options(PluginOptions):
            phase: int = Field(0, ge=0, le=1, description="Which colour is masked.")

        def __call__(self, request: MaskRequest) -> tuple[Mask, ...]: ...


    @hookimpl
    def ssl_wb_maskers():
        return [Checkerboard]
"""

from __future__ import annotations

from pydantic import Field, field_validator, model_validator

from ssl_wb.errors import AudioError, DataError, UsageError, WorkbenchError
from ssl_wb.layers.attention import attention
from ssl_wb.layers.autocast import full_precision
from ssl_wb.layers.batch_norm import GlobalBatchNorm
from ssl_wb.layers.ema import ema_update, linear_schedule
from ssl_wb.layers.health import direction_std, effective_rank, feature_std, uniformity
from ssl_wb.layers.initialise import initialise, initialise_trunc_normal
from ssl_wb.layers.noise import drop_path_scales
from ssl_wb.layers.normalise import standardise_rows
from ssl_wb.layers.patches import gather_rows, patchify
from ssl_wb.layers.positions import sincos_2d
from ssl_wb.layers.processes import gather_with_gradient, mean_over_processes, process_place
from ssl_wb.layers.schedules import warmup_cosine
from ssl_wb.layers.transformer import Block
from ssl_wb.plugin.augmentation import Augmentation
from ssl_wb.plugin.backbone import Backbone, Trunk
from ssl_wb.plugin.base import API_VERSION, Duration, Plugin, PluginOptions, hookimpl, steps_of
from ssl_wb.plugin.evaluator import (
    Assigned,
    AssigningEncoder,
    Encoder,
    Evaluator,
    Level,
    MaskingEncoder,
    ProbeTask,
    Result,
    Split,
    SplitScores,
)
from ssl_wb.plugin.front_end import LOG_OFFSET, FrontEnd, FrontEndOptions, MelOptions
from ssl_wb.plugin.hints import HintOptions, exchange_hints, highest_cells
from ssl_wb.plugin.masker import Grid, Latents, Mask, Masker, MaskRequest, visible_count
from ssl_wb.plugin.objective import (
    HealthRule,
    ModelShapes,
    Need,
    Objective,
    ObjectiveOutput,
    StepState,
    View,
)
from ssl_wb.plugin.optimiser import Optimiser, OptimiserOptions
from ssl_wb.scoring.metrics import average_precision, choose_metric, correct, kind_of, metric_of, score
from ssl_wb.scoring.summary import bootstrap, interval_of, summarise

__all__ = [
    "API_VERSION",
    "LOG_OFFSET",
    "Assigned",
    "AssigningEncoder",
    "AudioError",
    "Augmentation",
    "Backbone",
    "Block",
    "DataError",
    "Duration",
    "Encoder",
    "Evaluator",
    "Field",
    "FrontEnd",
    "FrontEndOptions",
    "GlobalBatchNorm",
    "Grid",
    "HealthRule",
    "HintOptions",
    "Latents",
    "Level",
    "Mask",
    "MaskRequest",
    "Masker",
    "MaskingEncoder",
    "MelOptions",
    "ModelShapes",
    "Need",
    "Objective",
    "ObjectiveOutput",
    "Optimiser",
    "OptimiserOptions",
    "Plugin",
    "PluginOptions",
    "ProbeTask",
    "Result",
    "Split",
    "SplitScores",
    "StepState",
    "Trunk",
    "UsageError",
    "View",
    "WorkbenchError",
    "attention",
    "average_precision",
    "bootstrap",
    "choose_metric",
    "correct",
    "direction_std",
    "drop_path_scales",
    "effective_rank",
    "ema_update",
    "exchange_hints",
    "feature_std",
    "field_validator",
    "full_precision",
    "gather_rows",
    "gather_with_gradient",
    "highest_cells",
    "hookimpl",
    "initialise",
    "initialise_trunc_normal",
    "interval_of",
    "kind_of",
    "linear_schedule",
    "mean_over_processes",
    "metric_of",
    "model_validator",
    "patchify",
    "process_place",
    "score",
    "sincos_2d",
    "standardise_rows",
    "steps_of",
    "summarise",
    "uniformity",
    "visible_count",
    "warmup_cosine",
]
