"""The encoder folder: ``config.json`` and ``model.safetensors``, all that an encoder is, without the run or the file.

An imported encoder and an exported run have the same folder. ``config.json`` names front end and backbone with every
option, as a recipe does, so that their plugins rebuild the encoder; everything a reader of the file may ask (sample
rate, hop, width, source) stands beside.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, cast

import torch
from pydantic import ValidationError
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from ssl_wb import __version__
from ssl_wb.encoder.encoder import FrozenEncoder
from ssl_wb.encoder.heads import build_head
from ssl_wb.errors import DataError, RunFolderError, WorkbenchError
from ssl_wb.plugin.backbone import Backbone
from ssl_wb.plugin.front_end import FrontEnd
from ssl_wb.plugin.importer import ClipReading, HeadSpec
from ssl_wb.plugin.registry import load_registry
from ssl_wb.runs.checkpoint import mismatch

__all__ = ["FORMAT", "EncoderParts", "is_encoder_folder", "read_folder", "write_folder"]

CONFIG, WEIGHTS = "config.json", "model.safetensors"
#: What ``config.json`` says of itself.
FORMAT = "ssl-wb encoder"
#: Version of the folder; a larger one is not read.
FORMAT_VERSION = 1
#: What to do about a damaged folder.
DAMAGED = "the folder is damaged or was changed: make it again with ssl-wb import or ssl-wb export"


@dataclass(frozen=True)
class EncoderParts:
    """An encoder in plain values and tensors.

    Attributes:
        front_end: ``name`` and every option of the front end, ``mean`` and ``std`` of the data among them.
        backbone: ``name`` and every option of the backbone.
        frames: frames of a training crop, which trained tables are sized by.
        reading: how clips are cut and padded.
        published: embedding that the authors' own code hands to a probe.
        fine_tuned: embedding that they put a head on in fine-tuning.
        weights: tensors of the backbone, and of heads as ``heads.NAME.LAYER.weight``; None for initial ones.
        heads: modules behind the encoder, by name: what they read, their layers and classes.
        about: where the encoder is from: system, source, revision, checksum, notes; written to ``config.json``.
    """

    front_end: Mapping[str, Any]
    backbone: Mapping[str, Any]
    frames: int
    reading: ClipReading
    published: str
    fine_tuned: str
    weights: Mapping[str, Tensor] | None
    heads: Mapping[str, HeadSpec] = field(default_factory=dict)
    about: Mapping[str, Any] = field(default_factory=dict)

    def build(self, where: str, embedding: str = "published") -> FrozenEncoder:
        """Build the encoder and load its weights.

        Args:
            where: the folder or file, for messages.
            embedding: what the embedding of a clip is; see :class:`FrozenEncoder`.

        Raises:
            PluginError: the front end or backbone is not installed.
            DataError: an option does not fit, or the weights do not.
        """
        front_end, backbone = self._front_end(where), self._backbone(where)
        heads = nn.ModuleDict({name: build_head(list(spec.layers)) for name, spec in self.heads.items()})
        if self.weights is not None:
            own = {name: value for name, value in self.weights.items() if not name.startswith("heads.")}
            behind = {name.removeprefix("heads."): value for name, value in self.weights.items() if name not in own}
            _load(backbone, own, where)
            _load(heads, behind, where)
        reads = {name: spec.reads for name, spec in self.heads.items()}
        frames = self.reading.chunk_frames or self.frames
        return FrozenEncoder(
            front_end,
            backbone,
            frames,
            reading=self.reading,
            embedding=embedding,
            published=self.published,
            fine_tuned=self.fine_tuned,
            heads=heads,
            head_inputs=reads,
        )

    def _front_end(self, where: str) -> FrontEnd:
        plugin, options = _selected("front-end", self.front_end, where)
        mean, std = self.front_end.get("mean"), self.front_end.get("std")
        return cast(FrontEnd, plugin(options, 0.0 if mean is None else mean, 1.0 if std is None else std))

    def _backbone(self, where: str) -> Backbone:
        plugin, options = _selected("backbone", self.backbone, where)
        with torch.random.fork_rng(devices=[]):  # building draws weights; keep the caller's random state
            torch.manual_seed(int(self.about.get("seed", 0)))
            try:
                return cast(Backbone, plugin(options, int(self.front_end["n_mels"]), self.frames))
            except ValueError as error:
                raise DataError(f"{where}: backbone: {error}", hint=DAMAGED) from error


def _selected(kind: str, section: Mapping[str, Any], where: str) -> tuple[Any, Any]:
    """Return the plugin that a section names, and its options."""
    plugin: Any = load_registry().get(kind, str(section.get("name")))
    values = {key: value for key, value in section.items() if key != "name"}
    try:
        return plugin, plugin.Options.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(map(str, first["loc"]))
        raise DataError(f"{where}: {kind} {section.get('name')!r}: {key}: {first['msg']}", hint=DAMAGED) from error


def _load(module: nn.Module, weights: Mapping[str, Tensor], where: str) -> None:
    if fault := mismatch(module, weights):
        raise DataError(f"{where}: the weights do not fit its settings ({fault})", hint=DAMAGED)
    module.load_state_dict(dict(weights))


def config_of(parts: EncoderParts, encoder: FrozenEncoder) -> dict[str, Any]:
    """Return the content of ``config.json``: what rebuilds the encoder, and what a reader wants to know of it."""
    heads = {
        name: {"reads": spec.reads, "layers": [dict(one) for one in spec.layers], "classes": list(spec.classes)}
        for name, spec in parts.heads.items()
    }
    front_end = dict(encoder.front_end.options.model_dump(mode="json"))
    front_end |= {"mean": float(encoder.front_end.mean), "std": float(encoder.front_end.std)}
    return {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "ssl_wb": __version__,
        **parts.about,
        "sample_rate": encoder.sample_rate,
        "hop_seconds": encoder.hop_seconds,
        "width": encoder.clip_dim,
        "parameters": sum(one.numel() for one in encoder.backbone.parameters()),
        "embedding": {"published": parts.published, "fine_tuned": parts.fine_tuned},
        "reading": asdict(parts.reading),
        "front_end": {"name": parts.front_end["name"], **front_end},
        "backbone": {"name": parts.backbone["name"], **encoder.backbone.options.model_dump(mode="json")},
        "frames": parts.frames,
        "heads": heads,
    }


def write_folder(folder: Path, parts: EncoderParts, encoder: FrozenEncoder) -> None:
    """Write ``config.json`` and ``model.safetensors`` into a folder that exists.

    Args:
        folder: where.
        parts: what the encoder is.
        encoder: built of them; its weights are written.
    """
    weights = {name: value.detach().cpu().contiguous() for name, value in encoder.backbone.state_dict().items()}
    weights |= {f"heads.{name}": value.cpu().contiguous() for name, value in encoder.heads.state_dict().items()}
    save_file(weights, folder / WEIGHTS, metadata={"format": "pt"})
    text = json.dumps(config_of(parts, encoder), indent=2, ensure_ascii=False)
    (folder / CONFIG).write_text(text + "\n", encoding="utf-8")


def is_encoder_folder(path: Path) -> bool:
    """Whether a folder holds an encoder in this format, whatever its version."""
    try:
        config = json.loads((path / CONFIG).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(config, dict) and config.get("format") == FORMAT


def read_folder(path: Path) -> EncoderParts:
    """Read an encoder folder.

    Raises:
        RunFolderError: a file is damaged or missing, or a newer ssl-wb wrote the folder.
    """
    file = path / CONFIG
    try:
        config: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
        version = int(config["format_version"])
        if version > FORMAT_VERSION:
            raise RunFolderError(
                f"{path}: an encoder folder of version {version}, and this ssl-wb reads up to {FORMAT_VERSION}",
                hint="install a newer ssl-wb",
            )
        heads = {
            name: HeadSpec(head["reads"], tuple(head["layers"]), {}, tuple(head["classes"]))
            for name, head in config["heads"].items()
        }
        return EncoderParts(
            front_end=config["front_end"],
            backbone=config["backbone"],
            frames=int(config["frames"]),
            reading=ClipReading(**config["reading"]),
            published=str(config["embedding"]["published"]),
            fine_tuned=str(config["embedding"]["fine_tuned"]),
            weights=load_file(path / WEIGHTS),
            heads=heads,
            about={
                key: config[key] for key in ("system", "source", "seed", "notes", "title", "licence") if key in config
            },
        )
    except WorkbenchError:
        raise
    except (OSError, ValueError, KeyError, TypeError, AttributeError, SafetensorError) as error:
        raise RunFolderError(
            f"{path}: cannot be read as an encoder folder ({type(error).__name__}: {error})", hint=DAMAGED
        ) from error
