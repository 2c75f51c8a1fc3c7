"""The recipe's sections. What a plugin offers is validated by the plugin's own options, not here."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from ssl_wb.contracts.plugin import Duration

__all__ = [
    "SYNTHETIC",
    "BackboneSection",
    "DataSection",
    "EvaluateSection",
    "FrontEndSection",
    "MaskerSection",
    "ObjectiveSection",
    "OptimizerSection",
    "PluginSection",
    "PredictorSection",
    "Recipe",
    "ScenesSection",
    "Section",
    "TeacherSection",
    "TrainSection",
]

#: Value of ``data.train`` and of a task that stands for the workbench's own labelled sound scenes.
SYNTHETIC = "synthetic:scenes"


class Section(BaseModel):
    """Base of the workbench's own sections: unknown keys are refused, values are fixed once read."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True)


class PluginSection(BaseModel):
    """A section that names a plugin; its other keys are the plugin's options."""

    model_config = ConfigDict(extra="allow", frozen=True)

    name: str = Field(description="Name of the plugin, bare or as distribution/name.")

    @property
    def options(self) -> dict[str, Any]:
        """The keys left to the plugin."""
        return dict(self.model_extra or {})


class MaskerSection(PluginSection):
    """Which patches the student sees."""


class BackboneSection(PluginSection):
    """The encoder that is trained."""


class ObjectiveSection(PluginSection):
    """One loss; several are added up in recipe order."""

    weight: float = Field(
        1.0,
        ge=0.0,
        description="Factor of the loss in the total; 0 keeps the objective's part in the cascade.",
    )


class EvaluateSection(PluginSection):
    """A probe run after training."""

    task: str = Field(description=f"Manifest CSV with labels, or {SYNTHETIC!r}.")


class ScenesSection(Section):
    """The workbench's own labelled sound scenes, used where a path is 'synthetic:scenes'."""

    clips: int = Field(2000, ge=20, description="Number of scenes.")
    seconds: float = Field(2.0, gt=0.1, le=60.0, description="Length of a scene in seconds.")
    seed: int = Field(0, ge=0, description="Seed of the scenes, apart from the seed of training.")


class DataSection(Section):
    """Audio to train on."""

    train: str | None = Field(None, description=f"Folder (read recursively), manifest CSV, or {SYNTHETIC!r}.")
    clip_seconds: float = Field(6.08, gt=0.05, description="Length of a training crop in seconds.")
    short: Literal["zeros", "repeat"] = Field(
        "zeros",
        description="Clips shorter than a crop: 'zeros' after normalisation (the data's mean), or 'repeat'.",
    )
    workers: int | Literal["auto"] = Field(
        "auto", description="Processes that decode audio; 0 decodes in the training process."
    )
    scenes: ScenesSection = Field(default_factory=lambda: ScenesSection())


class FrontEndSection(Section):
    """Log-mel spectrogram; defaults are MATPAC's (METHODS A)."""

    name: Literal["log-mel"] = Field("log-mel", description="Natural log of a slaney mel power spectrogram.")
    sample_rate: int = Field(16000, ge=4000, description="Samples per second; audio is resampled to it.")
    window: int = Field(400, ge=16, description="Hann window in samples.")
    hop: int = Field(160, ge=8, description="Hop between frames in samples.")
    n_fft: int = Field(400, ge=16, description="FFT length in samples, at least the window.")
    n_mels: int = Field(80, ge=8, description="Mel bands.")
    f_min: float = Field(50.0, ge=0.0, description="Lowest frequency in Hz.")
    f_max: float = Field(8000.0, gt=0.0, description="Highest frequency in Hz, at most half the sample rate.")
    center: bool = Field(False, description="Centre frames with reflected edges (M2D) or start at sample 0 (MATPAC).")
    mean: float | None = Field(None, description="Mean of the log-mel values; measured from the data unless given.")
    std: float | None = Field(
        None, gt=0.0, description="Standard deviation of the log-mel values; measured unless given."
    )

    @model_validator(mode="after")
    def _consistent(self) -> FrontEndSection:
        if self.f_max > self.sample_rate / 2:
            raise ValueError(f"f_max {self.f_max:g} Hz is above half the sample rate ({self.sample_rate / 2:g} Hz)")
        if self.f_min >= self.f_max:
            raise ValueError(f"f_min {self.f_min:g} Hz is not below f_max {self.f_max:g} Hz")
        if self.n_fft < self.window:
            raise ValueError(f"n_fft {self.n_fft} is shorter than the window {self.window}")
        if (self.mean is None) != (self.std is None):
            raise ValueError("give both mean and std, or neither to measure them")
        return self


class PredictorSection(Section):
    """Transformer over visible latents and mask tokens; built when an objective needs features."""

    dim: int = Field(512, ge=8, description="Width.")
    depth: int = Field(8, ge=1, description="Blocks.")
    heads: int = Field(16, ge=1, description="Attention heads; divides dim.")
    mlp_ratio: float = Field(4.0, gt=0.0, description="Hidden width of the MLP over dim.")

    @model_validator(mode="after")
    def _divides(self) -> PredictorSection:
        if self.dim % self.heads or self.dim % 4:
            raise ValueError(f"dim {self.dim} must be a multiple of 4 and of heads ({self.heads})")
        return self


Decay = Annotated[float, Field(ge=0.0, le=1.0)]


class TeacherSection(Section):
    """EMA of the student's trunk; built when an objective needs a target."""

    decay: list[Decay] = Field(
        default_factory=lambda: [0.99995, 0.99999],
        min_length=2,
        max_length=2,
        description="EMA decay at the first and at the last step, linear between.",
    )
    init: Literal["copy", "independent"] = Field(
        "copy",
        description="Start as a copy of the student, or with weights of its own as M2D and MATPAC do (METHODS 0.8).",
    )
    sees: Literal["masked", "all"] = Field(
        "masked", description="Patches the teacher encodes: the masked ones only (M2D), or all (data2vec)."
    )


class OptimizerSection(Section):
    """How weights move."""

    name: Literal["adamw"] = Field("adamw", description="AdamW, decoupled weight decay.")
    lr: float = Field(3e-4, gt=0.0, description="Peak learning rate, absolute (not per 256 clips).")
    min_lr: float = Field(0.0, ge=0.0, description="Learning rate at the end of the cosine.")
    betas: list[Decay] = Field(
        default_factory=lambda: [0.9, 0.95], min_length=2, max_length=2, description="AdamW betas."
    )
    eps: float = Field(1e-8, gt=0.0, description="AdamW epsilon.")
    weight_decay: float = Field(0.05, ge=0.0, description="Decoupled weight decay.")
    decay_all: bool = Field(
        False, description="Decay biases, norms and tokens too (MATPAC); otherwise matrices only (M2D, MAE)."
    )


class TrainSection(Section):
    """How long, how large, how precise."""

    steps: int | None = Field(None, ge=1, description="Optimiser steps. Give one of steps, epochs, samples.")
    epochs: float | None = Field(None, gt=0.0, description="Passes over the data.")
    samples: int | None = Field(None, ge=1, description="Clips seen in all.")
    batch_size: int = Field(2048, ge=1, description="Clips per optimiser step over all processes.")
    accumulate: int = Field(1, ge=1, description="Micro-batches per optimiser step on each process.")
    warmup: Duration = Field(0.0667, description="Linear warm-up of the learning rate.")
    grad_clip: float | None = Field(3.0, gt=0.0, description="Largest gradient norm.")
    precision: Literal["auto", "fp32", "bf16", "fp16"] = Field(
        "auto",
        description="Autocast of the forward pass; 'auto' is bf16 where the device computes it natively.",
    )
    log_every: int = Field(10, ge=1, description="Steps between lines of metrics.jsonl.")
    checkpoint_every: Duration = Field(0.1, description="Between checkpoints.")
    keep_checkpoints: int = Field(2, ge=1, description="Newest checkpoints kept beside the best one.")
    trackers: list[Literal["tensorboard"]] = Field(
        default_factory=list, description="Besides metrics.jsonl: 'tensorboard' (extra ssl-wb[tensorboard])."
    )

    @model_validator(mode="after")
    def _one_length(self) -> TrainSection:
        given = [key for key in ("steps", "epochs", "samples") if getattr(self, key) is not None]
        if len(given) != 1:
            raise ValueError(f"give exactly one of steps, epochs, samples; here: {', '.join(given) or 'none'}")
        if self.batch_size % self.accumulate:
            raise ValueError(f"batch_size {self.batch_size} is not a multiple of accumulate {self.accumulate}")
        return self


class Recipe(Section):
    """One experiment, whole."""

    title: str = Field("", description="A line for tables and logs.")
    seed: int = Field(0, ge=0, description="Seed of weights, order, crops and masks.")
    data: DataSection = Field(default_factory=lambda: DataSection())
    front_end: FrontEndSection = Field(default_factory=lambda: FrontEndSection())
    masker: MaskerSection
    backbone: BackboneSection
    predictor: PredictorSection = Field(default_factory=lambda: PredictorSection())
    teacher: TeacherSection = Field(default_factory=lambda: TeacherSection())
    objective: list[ObjectiveSection] = Field(min_length=1, description="Losses, in the order they run.")
    optimizer: OptimizerSection = Field(default_factory=lambda: OptimizerSection())
    train: TrainSection
    evaluate: list[EvaluateSection] = Field(default_factory=list, description="Probes after training.")
