"""The importer contract: a published checkpoint of one system to a front end, a backbone and its weights."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

from pydantic import Field
from torch import Tensor

from ssl_wb.plugin.base import Kind, Plugin, PluginOptions
from ssl_wb.plugin.checkpoint_tensors import CheckpointTensors

__all__ = ["Checkpoint", "ClipReading", "HeadSpec", "ImportOptions", "ImportedEncoder", "Importer"]


@dataclass(frozen=True)
class Checkpoint:
    """What a file holds, read without running any of its code.

    Attributes:
        tensors: by name. Prefixes of wrappers (DDP, ``torch.compile``, ...) are removed.
        settings: other plain values by name: the file's own (``cfg``, ``config``, ``args``, ``label_dict``, ...), and
            the content of a ``config.json`` beside it as ``config``.
        labels: names of the file and its folders, nearest first, for what some systems write nowhere else, such as the
            sample rate of M2D. A system is never recognised by them.
        where: the file, for messages.
        original: names in the file, by name in ``tensors``, where they differ.
    """

    tensors: Mapping[str, Tensor]
    settings: Mapping[str, Any] = field(default_factory=dict)
    labels: tuple[str, ...] = ()
    where: str = "checkpoint"
    original: Mapping[str, str] = field(default_factory=dict)

    def account(self) -> CheckpointTensors:
        """Return the tensors with an account of what becomes of each."""
        return CheckpointTensors(self.tensors, self.where, self.original)

    def setting(self, *path: str, default: Any = None) -> Any:
        """Return the value under nested keys of the settings; ``default`` where one is absent or None."""
        value: Any = self.settings
        for key in path:
            value = value.get(key) if isinstance(value, Mapping) else None
        return default if value is None else value


@dataclass(frozen=True)
class ClipReading:
    """How an encoder reads clips of any length.

    Attributes:
        chunk_frames: most spectrogram frames encoded at once; None for whole clips.
        padded_chunks: pad every chunk to ``chunk_frames`` with the front end's pad value, and let the padding take part
            (EAT, AudioMAE, AudioMosaic, MSM-MAE's first release); otherwise a short chunk stays short.
        partial_patch: what is done with frames after the last whole patch: "padded" to one, or "dropped" (BEATs,
            Dasheng).
        long_clips: "chunks" encodes all of a clip, piece by piece; "cut" its first chunk only (EAT, AudioMAE,
            AudioMosaic).
    """

    chunk_frames: int | None
    padded_chunks: bool = False
    partial_patch: Literal["padded", "dropped"] = "padded"
    long_clips: Literal["chunks", "cut"] = "chunks"


@dataclass(frozen=True)
class HeadSpec:
    """A module behind the encoder that a checkpoint brings along, such as a CLAP projector or a classifier.

    Attributes:
        reads: what it is given: "tokens", the latents of all patches of a clip ``[1, K, D]``, or one of the embeddings
            "clip-token" and "pooled", ``[n, D]``.
        layers: in order, each ``{"layer": NAME, ...}`` with its arguments; names and arguments are those of
            ``ssl_wb/encoder/heads.py``.
        weights: state dict, by number of layer: ``0.weight``.
        classes: names of the outputs in order; () where they have none.
    """

    reads: Literal["tokens", "clip-token", "pooled"]
    layers: tuple[Mapping[str, Any], ...]
    weights: Mapping[str, Tensor]
    classes: tuple[str, ...] = ()


@dataclass(frozen=True)
class ImportedEncoder:
    """An encoder as an importer describes it; the workbench builds, checks and saves it.

    Attributes:
        front_end: name of a front end and its options, ``mean`` and ``std`` among them, as in a recipe.
        backbone: name of a backbone and its options, as in a recipe.
        frames: frames of a training crop, which the backbone's trained tables are sized by.
        weights: state dict of the backbone.
        reading: how clips are read.
        published: embedding that the authors' own code hands to a probe: "folded", "frames", "clip-token" or "pooled".
        heads: further modules of the file, by name, as ``clap-audio`` or ``classifier``.
        fine_tuned: embedding that the authors put a head on in fine-tuning; None where that is the published one.
        notes: what a user has to know: assumed values, what the file does not have.
    """

    front_end: Mapping[str, Any]
    backbone: Mapping[str, Any]
    frames: int
    weights: Mapping[str, Tensor]
    reading: ClipReading
    published: str
    heads: Mapping[str, HeadSpec] = field(default_factory=dict)
    fine_tuned: str | None = None
    notes: tuple[str, ...] = ()


class ImportOptions(PluginOptions):
    """What a user may tell an importer; one adds its own."""

    heads: int | None = Field(
        None, ge=1, description="Attention heads, for files that do not say; 64 features per head unless given."
    )


class Importer(Plugin, ABC):
    """Reads published checkpoints of one system.

    Args:
        options: the plugin's options, :class:`ImportOptions` among them.
    """

    kind: ClassVar[Kind] = "importer"
    Options: ClassVar[type[PluginOptions]] = ImportOptions
    #: Order in which importers are asked: larger numbers first. Of those that recognise a file, the first is taken;
    #: two of equal number that both recognise it are an error.
    specificity: ClassVar[int] = 1

    def __init__(self, options: PluginOptions) -> None:
        self.options = options

    @classmethod
    @abstractmethod
    def recognises(cls, checkpoint: Checkpoint) -> bool:
        """Whether this is a file of the system, by names and shapes of tensors and stored settings alone."""

    @abstractmethod
    def read(self, checkpoint: Checkpoint, tensors: CheckpointTensors) -> ImportedEncoder:
        """Map a checkpoint.

        Args:
            checkpoint: the file.
            tensors: its tensors. Take every one that is used, and leave over those that are known and not used: the
                workbench refuses the file if any other is missing or left.

        Raises:
            DataError: the file is of the system and cannot be mapped.
        """
