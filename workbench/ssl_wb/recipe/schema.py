"""The sections that the workbench itself reads; a plugin's options are validated by the plugin's own model."""

from __future__ import annotations

import math
from collections.abc import Iterable
from functools import cache
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field, create_model, field_validator, model_validator

from ssl_wb.plugin.base import Duration, PluginOptions
from ssl_wb.plugin.kinds import KINDS
from ssl_wb.recipe.sections import Embedding, EncoderSection, InitSection, Section

if TYPE_CHECKING:
    from ssl_wb.plugin.registry import Registry

__all__ = [
    "SECTION_ORDER",
    "CaptionsSection",
    "DataSection",
    "Embedding",
    "EncoderSection",
    "InitSection",
    "PredictorSection",
    "Recipe",
    "Section",
    "TeacherSection",
    "TrainSection",
    "document_model",
    "in_section_order",
    "own_part",
    "source_tables",
]


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
        None,
        description="Folder (read recursively), manifest CSV, saved data set, or what another installed source reads, "
        "such as 'synthetic:scenes'.",
    )
    clip_seconds: float = Field(6.08, gt=0.05, description="Length of a training crop in seconds.")
    short: Literal["zeros", "repeat"] = Field(
        "zeros",
        description="Clips shorter than a crop: 'zeros' after normalisation (the data's mean), or 'repeat'.",
    )
    workers: int | Literal["auto"] = Field(
        "auto", description="Processes that decode audio; 0 decodes in the training process."
    )
    max_bad: float = Field(
        0.01,
        ge=0.0,
        le=1.0,
        description="Share of the clips read that may be unreadable before the run stops; fewer than 10 never stop it. "
        "0 stops at the first.",
    )
    captions: CaptionsSection | None = Field(None, description="Captions; none unless the section is there.")


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
    positions: Literal["2-d", "1-d"] = Field(
        "2-d",
        description="The transformer's fixed positions: sines and cosines of time and frequency, or of the number of "
        "the patch (MSM-MAE's first release).",
    )
    mask_token: Literal["learned", "noise", "zero"] = Field(
        "learned",
        description="What stands at masked places: a learned token, normal noise of deviation 0.01 drawn anew in every "
        "step (EAT), or zero.",
    )
    init: Literal["xavier", "torch"] = Field(
        "xavier", description="Xavier-uniform matrices and zero biases (MAE, M2D), or torch's own defaults (EAT)."
    )

    @model_validator(mode="after")
    def _divides(self) -> PredictorSection:
        if self.dim % self.heads or self.dim % 4:
            raise ValueError(f"dim {self.dim} must be a multiple of 4 and of heads ({self.heads})")
        return self


Decay = Annotated[float, Field(ge=0.0, le=1.0)]


class TeacherSection(Section):
    """EMA of the student; built when an objective needs a target."""

    decay: list[Decay] = Field(
        default_factory=lambda: [0.99995, 0.99999],
        min_length=2,
        max_length=2,
        description="EMA decay at the first step and at the end of decay_over, linear between.",
    )
    decay_over: Duration = Field(1.0, description="Stretch over which the decay moves; constant after it.")
    decay_end: Literal["after", "last"] = Field(
        "after",
        description="The decay reaches its end one update after that stretch (MATPAC), or with its last update (M2D).",
    )
    averages: Literal["trunk", "encoder"] = Field(
        "trunk",
        description="What is averaged: the trunk, on patches that the student embeds (M2D, MATPAC), or the whole "
        "encoder with patch projection and class token (EAT).",
    )
    init: Literal["copy", "independent"] = Field(
        "copy",
        description="Start as a copy of the student, or with weights of its own as M2D and MATPAC do.",
    )
    sees: Literal["masked", "all"] = Field(
        "masked", description="Patches the teacher encodes: the masked ones only (M2D), or all (data2vec)."
    )


Count = Annotated[int, Field(ge=1)]


def _may_be_infinite(schema: dict[str, Any]) -> None:
    """Let editors accept ``inf``: taplo gives it to its validator as the JSON value without a type."""
    number = {key: schema.pop(key) for key in ("type", "exclusiveMinimum")}
    others = [{"type": kind} for kind in ("string", "boolean", "integer", "array", "object")]
    schema["anyOf"] = [number, {"not": {"anyOf": [{"type": "number"}, *others]}}]


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
    grad_clip: float = Field(
        3.0, gt=0.0, description="Largest gradient norm; inf for any.", json_schema_extra=_may_be_infinite
    )
    max_skipped: int = Field(
        3,
        ge=0,
        description="Steps in a row that may be skipped because loss or gradient is not finite. After one more the run "
        "goes back once to the last checkpoint from before, with half the learning rate, and stops the next time.",
    )
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
    """One experiment: what the workbench itself reads. The plugins it selects stand beside it in a loaded recipe."""

    title: str = Field("", description="A line for tables and logs.")
    seed: int = Field(0, ge=0, description="Seed of weights, order, crops and masks.")
    data: DataSection = Field(default_factory=lambda: DataSection())
    predictor: PredictorSection = Field(default_factory=lambda: PredictorSection())
    teacher: TeacherSection = Field(default_factory=lambda: TeacherSection())
    encoder: EncoderSection = Field(default_factory=lambda: EncoderSection())
    init: InitSection | None = Field(None, description=InitSection.__doc__)
    train: TrainSection


#: Sections of a recipe in the order in which they are listed and written; those of other kinds of plugin follow.
SECTION_ORDER = (
    *("title", "seed", "data", "front_end", "masker", "backbone", "predictor", "teacher", "objective", "optimizer"),
    *("schedule", "init", "train", "encoder", "evaluate"),
)


def in_section_order(names: Iterable[str]) -> list[str]:
    """Sort the names of top-level keys as a recipe lists them."""
    places = {name: place for place, name in enumerate(SECTION_ORDER)}
    return sorted(names, key=lambda name: places.get(name, len(places)))


@cache
def document_model(registry: Registry | None = None) -> type[Section]:
    """Return the model of a whole recipe file: :class:`Recipe` with the sections of every kind of plugin.

    It is made when it is first asked for, because the kinds' contracts import torch.

    Args:
        registry: the plugins; of their sources those with options have a table ``[data.NAME]``. None for no sources.
    """
    tables: dict[str, Any] = {} if registry is None else source_tables(registry)
    data = create_model(
        "DataSection", __base__=Section, __doc__=DataSection.__doc__, **_fields(DataSection, ("data",)), **tables
    )
    fields = _fields(Recipe, ()) | {"data": (data, Field(default_factory=data, description=DataSection.__doc__))}
    ordered = {name: fields[name] for name in in_section_order(fields)}
    return create_model("Recipe", __base__=Section, __doc__=Recipe.__doc__, **ordered)


def source_tables(registry: Registry) -> dict[str, tuple[type[PluginOptions], Any]]:
    """Return the fields of ``[data]`` that hold the options of sources, by the source's name.

    A source without options has none, nor has one that is called like a key of ``[data]``.
    """
    taken = {*DataSection.model_fields, *(spec.section[-1] for spec in KINDS.values() if spec.section[:1] == ("data",))}
    return {
        source.name: (source.Options, Field(default_factory=source.Options, description=source.Options.__doc__))
        for source in registry.classes("source")
        if source.Options.model_fields and source.name not in taken
    }


def _fields(model: type[Section], at: tuple[str, ...]) -> dict[str, Any]:
    """Return the fields of the table at ``at``: the model's own, and a section for each kind selected in it."""
    fields: dict[str, Any] = {name: (info.annotation, info) for name, info in model.model_fields.items()}
    for spec in KINDS.values():
        if spec.section[:-1] != at or not spec.section:
            continue
        section: Any = spec.section_model
        if spec.listed:
            length: dict[str, Any] = {"min_length": 1} if spec.required else {"default_factory": list}
            fields[spec.section[-1]] = (list[section], Field(description=spec.description, **length))
        else:
            fields[spec.section[-1]] = (section, ... if spec.required else Field(default_factory=section))
    return fields


def own_part(document: Any) -> Recipe:
    """Return what the workbench itself reads of a validated document; nothing is validated again."""
    data = DataSection.model_construct(**{name: getattr(document.data, name) for name in DataSection.model_fields})
    own = {name: getattr(document, name) for name in Recipe.model_fields if name != "data"}
    return Recipe.model_construct(data=data, **own)
