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

from ssl_wb.audio.clip import Clip, ClipSet, listing_digest
from ssl_wb.audio.decode import EXTENSIONS as AUDIO_EXTENSIONS
from ssl_wb.audio.decode import AudioInfo, StoredAudio
from ssl_wb.audio.decode import info as audio_info
from ssl_wb.audio.decode import read as read_audio
from ssl_wb.errors import AudioError, DataError, UsageError, WorkbenchError, itemise
from ssl_wb.files import write_atomically
from ssl_wb.layers.attention import attention
from ssl_wb.layers.autocast import full_precision
from ssl_wb.layers.batch_norm import GlobalBatchNorm
from ssl_wb.layers.ema import ema_update, linear_schedule
from ssl_wb.layers.health import collapse_figures, direction_std, effective_rank, feature_std, uniformity
from ssl_wb.layers.initialise import initialise, initialise_normal, initialise_trunc_normal
from ssl_wb.layers.noise import drop_path_scales
from ssl_wb.layers.normalise import standardise_rows, unit_vectors
from ssl_wb.layers.patches import gather_rows, patchify
from ssl_wb.layers.positions import sincos_2d
from ssl_wb.layers.processes import StepMean, gather_with_gradient, mean_over_processes, own_rows, process_place
from ssl_wb.layers.schedules import warmup_cosine
from ssl_wb.layers.transformer import Block
from ssl_wb.plugin.augmentation import Augmentation
from ssl_wb.plugin.backbone import Backbone, Trunk
from ssl_wb.plugin.base import API_VERSION, Duration, Plugin, PluginOptions, hookimpl, retire, steps_of
from ssl_wb.plugin.caption_space import CaptionMatchingEncoder, SharedSpace
from ssl_wb.plugin.checkpoint_tensors import CheckpointTensors, TensorFate
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
from ssl_wb.plugin.front_end import LOG_OFFSET, FrontEnd, FrontEndOptions, MelOptions, mel_filters, mel_power
from ssl_wb.plugin.hints import HintOptions, exchange_hints, highest_cells
from ssl_wb.plugin.importer import Checkpoint, ClipReading, HeadSpec, ImportedEncoder, Importer, ImportOptions
from ssl_wb.plugin.masker import Count, Grid, Latents, Mask, Masker, MaskRequest, visible_count
from ssl_wb.plugin.objective import (
    HealthRule,
    Metrics,
    ModelShapes,
    Need,
    Objective,
    ObjectiveOutput,
    StepState,
    View,
)
from ssl_wb.plugin.optimiser import Optimiser, OptimiserOptions
from ssl_wb.plugin.schedule import Schedule
from ssl_wb.plugin.source import Source
from ssl_wb.plugin.task import Task, TaskRow
from ssl_wb.plugin.task_files import (
    check_cell,
    dataset_folder,
    first_existing,
    part_of_group,
    read_json,
    read_lines,
    read_table,
    walk_audio,
)
from ssl_wb.plugin.vit_tensors import (
    BlockSizes,
    MaeEncoder,
    assumed_heads,
    is_sincos,
    take_blocks,
    take_mae,
    take_norm,
    take_projection,
    take_vit,
    time_major_rows,
)
from ssl_wb.probing.attention_pool import AttentionPool
from ssl_wb.probing.checks import require_labels, require_parts, unfit_labels, unfit_parts
from ssl_wb.probing.clips import captioned, match_captions, pad_batches, read_waveforms
from ssl_wb.probing.encoder_with_head import EncoderWithHead, published_pool
from ssl_wb.probing.heads import Head, LinearHead, linear_layer
from ssl_wb.probing.inputs import Inputs, InputScaling, fit_scaler
from ssl_wb.probing.optimiser import build_optimiser
from ssl_wb.probing.options import Decays, HeadOptions, ProbeOptions, Rates, settings_grid, sorted_values
from ssl_wb.probing.patchout import lines_masked, mask_of_lines
from ssl_wb.probing.results import ProbedSplit, probe_splits, settings_of
from ssl_wb.probing.spectrogram_augment import mixup, mixup_draw, random_resized_crop, roll_in_time, spec_augment
from ssl_wb.probing.spectrograms import TaskSpectrograms, TrainableEncoder
from ssl_wb.probing.targets import Targets
from ssl_wb.probing.training import TrainedHeads, batches_per_epoch, train_heads
from ssl_wb.scoring.metrics import average_precision, choose_metric, correct, kind_of, metric_of, score
from ssl_wb.scoring.ranking import ranked_scores
from ssl_wb.scoring.summary import bootstrap, interval_of, scores_by_seed, summarise

__all__ = [
    "API_VERSION",
    "AUDIO_EXTENSIONS",
    "LOG_OFFSET",
    "Assigned",
    "AssigningEncoder",
    "AttentionPool",
    "AudioError",
    "AudioInfo",
    "Augmentation",
    "Backbone",
    "Block",
    "BlockSizes",
    "CaptionMatchingEncoder",
    "Checkpoint",
    "CheckpointTensors",
    "Clip",
    "ClipReading",
    "ClipSet",
    "Count",
    "DataError",
    "Decays",
    "Duration",
    "Encoder",
    "EncoderWithHead",
    "Evaluator",
    "Field",
    "FrontEnd",
    "FrontEndOptions",
    "GlobalBatchNorm",
    "Grid",
    "Head",
    "HeadOptions",
    "HeadSpec",
    "HealthRule",
    "HintOptions",
    "ImportOptions",
    "ImportedEncoder",
    "Importer",
    "InputScaling",
    "Inputs",
    "Latents",
    "Level",
    "LinearHead",
    "MaeEncoder",
    "Mask",
    "MaskRequest",
    "Masker",
    "MaskingEncoder",
    "MelOptions",
    "Metrics",
    "ModelShapes",
    "Need",
    "Objective",
    "ObjectiveOutput",
    "Optimiser",
    "OptimiserOptions",
    "Plugin",
    "PluginOptions",
    "ProbeOptions",
    "ProbeTask",
    "ProbedSplit",
    "Rates",
    "Result",
    "Schedule",
    "SharedSpace",
    "Source",
    "Split",
    "SplitScores",
    "StepMean",
    "StepState",
    "StoredAudio",
    "Targets",
    "Task",
    "TaskRow",
    "TaskSpectrograms",
    "TensorFate",
    "TrainableEncoder",
    "TrainedHeads",
    "Trunk",
    "UsageError",
    "View",
    "WorkbenchError",
    "assumed_heads",
    "attention",
    "audio_info",
    "average_precision",
    "batches_per_epoch",
    "bootstrap",
    "build_optimiser",
    "captioned",
    "check_cell",
    "choose_metric",
    "collapse_figures",
    "correct",
    "dataset_folder",
    "direction_std",
    "drop_path_scales",
    "effective_rank",
    "ema_update",
    "exchange_hints",
    "feature_std",
    "field_validator",
    "first_existing",
    "fit_scaler",
    "full_precision",
    "gather_rows",
    "gather_with_gradient",
    "highest_cells",
    "hookimpl",
    "initialise",
    "initialise_normal",
    "initialise_trunc_normal",
    "interval_of",
    "is_sincos",
    "itemise",
    "kind_of",
    "linear_layer",
    "linear_schedule",
    "lines_masked",
    "listing_digest",
    "mask_of_lines",
    "match_captions",
    "mean_over_processes",
    "mel_filters",
    "mel_power",
    "metric_of",
    "mixup",
    "mixup_draw",
    "model_validator",
    "own_rows",
    "pad_batches",
    "part_of_group",
    "patchify",
    "probe_splits",
    "process_place",
    "published_pool",
    "random_resized_crop",
    "ranked_scores",
    "read_audio",
    "read_json",
    "read_lines",
    "read_table",
    "read_waveforms",
    "require_labels",
    "require_parts",
    "retire",
    "roll_in_time",
    "score",
    "scores_by_seed",
    "settings_grid",
    "settings_of",
    "sincos_2d",
    "sorted_values",
    "spec_augment",
    "standardise_rows",
    "steps_of",
    "summarise",
    "take_blocks",
    "take_mae",
    "take_norm",
    "take_projection",
    "take_vit",
    "time_major_rows",
    "train_heads",
    "unfit_labels",
    "unfit_parts",
    "uniformity",
    "unit_vectors",
    "visible_count",
    "walk_audio",
    "warmup_cosine",
    "write_atomically",
]
