"""The recipe's sections. What a plugin offers is validated by the plugin's own options, not here."""

from __future__ import annotations

import math
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from ssl_wb.plugin.base import Duration

__all__ = [
    "SYNTHETIC",
    "AugmentSection",
    "BackboneSection",
    "CaptionsSection",
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
    """A probe run after training and, where ``every`` is given, while it goes on."""

    task: str = Field(description=f"Manifest CSV with labels, or {SYNTHETIC!r}.")
    metric: str | None = Field(
        None, description="What is reported: a metric that fits the labels; accuracy, mAP or R2 unless given."
    )
    every: Duration | None = Field(
        None,
        description="Between probes while training, on clips that are not in the task's test part. The first probe "
        "with this key decides which checkpoint is 'best'.",
    )
    every_clips: int = Field(2000, ge=20, description="Clips of a probe while training, at most.")

    @field_validator("every")
    @classmethod
    def _some(cls, every: float | None) -> float | None:
        if every == 0:
            raise ValueError("0 is no stretch of training; leave it out to probe after training only")
        return every


class ScenesSection(Section):
    """The workbench's own labelled sound scenes, used where a path is 'synthetic:scenes'."""

    clips: int = Field(2000, ge=20, description="Number of scenes.")
    seconds: float = Field(2.0, gt=0.1, le=60.0, description="Length of a scene in seconds.")
    seed: int = Field(0, ge=0, description="Seed of the scenes, apart from the seed of training.")


class AugmentSection(BaseModel):
    """One change of the waveform, drawn anew for each clip, epoch and view; they run in recipe order."""

    model_config = ConfigDict(extra="allow", frozen=True)

    name: str = Field(
        description="'roll', 'gain-beta', or a class of audiomentations in kebab-case, as 'time-stretch'; "
        "the other keys are its options."
    )
    p: float | None = Field(
        None, ge=0.0, le=1.0, description="Probability; 1 for 'roll' and 'gain-beta', else audiomentations' default."
    )

    @property
    def options(self) -> dict[str, Any]:
        """The keys left to the augmentation."""
        return dict(self.model_extra or {})


class CaptionsSection(Section):
    """Captions of the clips as sentence embeddings, for objectives that need them."""

    source: Literal["caption", "label", "embedding"] = Field(
        "caption",
        description="Column 'caption' of the manifest (alternatives separated by |), its 'label' put into the "
        "template, or 'caption_embedding', a .npy file of floats [C] or [k, C] for each clip.",
    )
    template: str = Field("{} can be heard", description="Caption of a label, which takes the place of {}.")
    encoder: str = Field(
        "thenlper/gte-base",
        description="Name of a sentence-transformers model (or its folder, absolute), or 'hashing': hashed words and "
        "pairs of words, which needs no download and knows nothing of what words mean. Not used with source "
        "'embedding'.",
    )
    dim: int = Field(768, ge=1, description="Width C of the embeddings.")

    @model_validator(mode="after")
    def _has_place(self) -> CaptionsSection:
        if "{}" not in self.template:
            raise ValueError(f"template {self.template!r} has no {{}} for the label")
        return self


class DataSection(Section):
    """Audio to train on."""

    train: str | None = Field(
        None, description=f"Folder (read recursively), manifest CSV, saved data set, or {SYNTHETIC!r}."
    )
    clip_seconds: float = Field(6.08, gt=0.05, description="Length of a training crop in seconds.")
    short: Literal["zeros", "repeat"] = Field(
        "zeros",
        description="Clips shorter than a crop: 'zeros' after normalisation (the data's mean), or 'repeat'.",
    )
    workers: int | Literal["auto"] = Field(
        "auto", description="Processes that decode audio; 0 decodes in the training process."
    )
    augment: list[AugmentSection] = Field(
        default_factory=list, description="Changes of the waveform, in the order they run; each view has its own."
    )
    captions: CaptionsSection | None = Field(None, description="Captions; none unless the section is there.")
    scenes: ScenesSection = Field(default_factory=lambda: ScenesSection())


class FrontEndSection(Section):
    """Log-mel spectrogram; defaults are MATPAC's, whichever the name."""

    name: Literal["log-mel", "kaldi-fbank"] = Field(
        "log-mel",
        description="'log-mel': natural log of a slaney mel power spectrogram; 'kaldi-fbank': Kaldi's filter bank "
        "(AudioMAE, EAT, AudioMosaic: n_fft 512, n_mels 128, f_min 20, subtract_mean, std_factor 2).",
    )
    sample_rate: int = Field(16000, ge=4000, description="Samples per second; audio is resampled to it.")
    window: int = Field(400, ge=16, description="Hann window in samples.")
    hop: int = Field(160, ge=8, description="Hop between frames in samples.")
    n_fft: int = Field(400, ge=16, description="FFT length in samples, at least the window.")
    n_mels: int = Field(80, ge=8, description="Mel bands.")
    f_min: float = Field(50.0, ge=0.0, description="Lowest frequency in Hz.")
    f_max: float = Field(8000.0, gt=0.0, description="Highest frequency in Hz, at most half the sample rate.")
    center: bool = Field(False, description="Centre frames with reflected edges (M2D) or start at sample 0 (MATPAC).")
    preemphasis: float = Field(0.97, ge=0.0, le=1.0, description="Pre-emphasis within a frame; kaldi-fbank only.")
    subtract_mean: bool = Field(False, description="Remove the mean of each clip's waveform first.")
    mean: float | None = Field(None, description="Mean of the log-mel values; measured from the data unless given.")
    std: float | None = Field(
        None, gt=0.0, description="Standard deviation of the log-mel values; measured unless given."
    )
    std_factor: float = Field(
        1.0, gt=0.0, description="Normalised is (x - mean) / (std_factor * std); 2 in the AudioMAE family."
    )
    pad: Literal["mean", "zero"] = Field(
        "mean",
        description="Frames past a clip's end: 'mean' of the data, or 'zero', log-mel 0 before normalisation "
        "(AudioMosaic's and M2D's training).",
    )

    @model_validator(mode="after")
    def _consistent(self) -> FrontEndSection:
        if self.f_max > self.sample_rate / 2:
            raise ValueError(f"f_max {self.f_max:g} Hz is above half the sample rate ({self.sample_rate / 2:g} Hz)")
        if self.f_min >= self.f_max:
            raise ValueError(f"f_min {self.f_min:g} Hz is not below f_max {self.f_max:g} Hz")
        if self.n_fft < self.window:
            raise ValueError(f"n_fft {self.n_fft} is shorter than the window {self.window}")
        if self.name == "kaldi-fbank" and self.center:
            raise ValueError("center = true is for log-mel; kaldi-fbank takes whole windows only, so leave it false")
        if self.name == "kaldi-fbank" and self.n_fft % 2:
            raise ValueError(f"n_fft {self.n_fft} is odd; kaldi-fbank needs an even one")
        if (self.mean is None) != (self.std is None):
            raise ValueError("give both mean and std, or neither to measure them")
        return self


class PredictorSection(Section):
    """What fills in the masked patches from the visible latents; built when an objective needs features."""

    name: Literal["transformer", "conv"] = Field(
        "transformer",
        description="Transformer over visible latents and mask tokens (MAE, M2D, MATPAC), or 3 x 3 convolutions over "
        "the whole patch grid (EAT).",
    )
    dim: int = Field(512, ge=8, description="Width.")
    depth: int = Field(8, ge=1, description="Blocks, or convolutions.")
    heads: int = Field(16, ge=1, description="Attention heads, or groups of the convolutions; divides dim.")
    mlp_ratio: float = Field(4.0, gt=0.0, description="Hidden width of the transformer's MLP over dim.")

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
        description="EMA decay at the first step and at the end of decay_over, linear between.",
    )
    decay_over: Duration = Field(1.0, description="Stretch over which the decay moves; constant after it.")
    init: Literal["copy", "independent"] = Field(
        "copy",
        description="Start as a copy of the student, or with weights of its own as M2D and MATPAC do.",
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


Count = Annotated[int, Field(ge=1)]


class TrainSection(Section):
    """How long, how large, how precise."""

    steps: int | None = Field(None, ge=1, description="Optimiser steps. Give one of steps, epochs, samples.")
    epochs: float | None = Field(None, gt=0.0, description="Passes over the data.")
    samples: int | None = Field(None, ge=1, description="Clips seen in all.")
    batch_size: int = Field(2048, ge=1, description="Clips per optimiser step over all processes.")
    accumulate: Count | Literal["auto"] = Field(
        1,
        description="Micro-batches per optimiser step on each process, each with a loss of its own; 'auto' finds the "
        "fewest that fit into memory before training.",
    )
    micro_batch: Count | Literal["auto"] | None = Field(
        None,
        description="Most clips of one pass through the encoder on each process; 'auto' finds the most that fit into "
        "memory before training. The losses are over the whole batch all the same, as a contrast of clips wants it: "
        "each micro-batch is encoded twice (gradient caching).",
    )
    warmup: Duration = Field(0.0667, description="Linear warm-up of the learning rate.")
    grad_clip: float = Field(3.0, gt=0.0, description="Largest gradient norm; inf for any.")
    precision: Literal["auto", "fp32", "bf16", "fp16"] = Field(
        "auto",
        description="Autocast of the forward pass; 'auto' is bf16 where the device computes it natively.",
    )
    compile: bool = Field(
        False, description="Let torch.compile make the transformer blocks' kernels, for the shapes of this recipe."
    )
    checkpoint_blocks: float = Field(
        0.0,
        ge=0.0,
        le=1.0,
        description="Share of the backbone's blocks whose inside is computed again in the backward pass instead of "
        "kept: less memory, up to a third more time.",
    )
    strategy: Literal["ddp", "fsdp"] = Field(
        "ddp",
        description="What several processes share: gradients ('ddp'), or weights, their averages, gradients and "
        "optimiser state, each process holding its part ('fsdp'; CUDA only).",
    )
    log_every: int = Field(10, ge=1, description="Steps between lines of metrics.jsonl.")
    checkpoint_every: Duration = Field(0.1, description="Between checkpoints.")
    keep_checkpoints: int = Field(2, ge=1, description="Newest checkpoints kept beside the best one.")
    trackers: list[Literal["tensorboard"]] = Field(
        default_factory=list, description="Besides metrics.jsonl: 'tensorboard' (extra ssl-wb[tensorboard])."
    )

    @field_validator("batch_size", mode="before")
    @classmethod
    def _is_no_search(cls, value: Any) -> Any:
        if value == "auto":
            raise ValueError(
                "the clips of a step are part of the method (losses and learning rate go with them) and are not "
                "searched for; micro_batch = 'auto', or accumulate = 'auto' where losses are means over clips, finds "
                "how many fit into memory at once and leaves batch_size as it is"
            )
        return value

    @model_validator(mode="after")
    def _one_length(self) -> TrainSection:
        given = [key for key in ("steps", "epochs", "samples") if getattr(self, key) is not None]
        if len(given) != 1:
            raise ValueError(f"give exactly one of steps, epochs, samples; here: {', '.join(given) or 'none'}")
        if self.accumulate != "auto" and self.batch_size % self.accumulate:
            raise ValueError(f"batch_size {self.batch_size} is not a multiple of accumulate {self.accumulate}")
        if self.micro_batch is not None and self.accumulate != 1:
            raise ValueError(
                f"give accumulate ({self.accumulate}) or micro_batch ({self.micro_batch}), not both: the first "
                "averages losses of small batches, the second computes the loss of the whole one"
            )
        if self.batch_size % self.passes():
            raise ValueError(
                f"batch_size {self.batch_size} does not divide into {self.passes()} passes of at most micro_batch "
                f"{self.micro_batch} clips"
            )
        return self

    def passes(self, processes: int = 1) -> int:
        """Return the micro-batches of an optimiser step on each of so many processes; 1 while they are not found."""
        if self.searched is not None:
            return 1
        if self.micro_batch is None:
            return int(self.accumulate)
        return max(1, math.ceil(self.batch_size // processes / int(self.micro_batch)))

    @property
    def searched(self) -> Literal["accumulate", "micro_batch"] | None:
        """The key that is 'auto': its number is found before training, on the machine that trains."""
        if self.micro_batch == "auto":
            return "micro_batch"
        return "accumulate" if self.accumulate == "auto" else None

    def found(self, passes: int, processes: int) -> TrainSection:
        """Return this section with the number of passes that was searched for, on each of so many processes."""
        number = passes if self.searched == "accumulate" else self.batch_size // processes // passes
        return self.model_copy(update={str(self.searched): number})


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
