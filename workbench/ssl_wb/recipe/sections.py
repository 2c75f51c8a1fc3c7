"""The base of a recipe's own sections, and those about the encoder: how it is read, what it starts from."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

__all__ = ["Embedding", "EncoderSection", "InitSection", "Section"]


class Section(BaseModel):
    """Base of the workbench's own sections: unknown keys are refused, values are fixed once read."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True)


#: What an embedding is made of.
Embedding = Literal["folded", "frames", "clip-token", "pooled"]


class EncoderSection(Section):
    """How the trained encoder is read: as the system's authors read theirs."""

    embedding: Embedding = Field(
        "folded",
        description="What probes and embed get: frames with the rows of patches concatenated (M2D, MATPAC) or averaged "
        "('frames'), the class token, or the backbone's own pooling (AudioMosaic).",
    )
    fine_tuned: Embedding = Field("folded", description="What fine-tuning puts its head on.")


class InitSection(Section):
    """What the encoder starts from instead of random weights; the teacher starts as a copy of it."""

    source: str = Field(
        alias="from",
        min_length=1,
        description="A run, an encoder folder, a published checkpoint, or one of the latter two on the hub as "
        "hf://OWNER/NAME[@REVISION]. Front end and backbone have to be the same; clip length, masker, objectives and "
        "the rest may differ.",
    )
