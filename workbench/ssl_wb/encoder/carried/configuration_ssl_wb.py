"""Configuration of an encoder of ssl-wb for transformers: the content of the folder's ``config.json``."""

from __future__ import annotations

from typing import Any

from transformers import PretrainedConfig

__all__ = ["SslWbConfig"]


class SslWbConfig(PretrainedConfig):
    """What the encoder is made of.

    Args:
        front_end: name and options of the front end.
        backbone: name and options of the backbone.
        reading: how clips are cut into chunks.
        embedding: ``published``, the embedding of a clip.
        frames: frames of a training crop.
        sample_rate: samples per second.
        width: of the embedding of a clip.
        **more: everything else of ``config.json``.
    """

    model_type = "ssl-wb"

    def __init__(
        self,
        front_end: dict[str, Any] | None = None,
        backbone: dict[str, Any] | None = None,
        reading: dict[str, Any] | None = None,
        embedding: dict[str, Any] | None = None,
        frames: int = 0,
        sample_rate: int = 16000,
        width: int = 0,
        **more: Any,
    ) -> None:
        self.front_end, self.backbone = front_end or {}, backbone or {}
        self.reading, self.embedding = reading or {}, embedding or {}
        self.frames, self.sample_rate, self.width = frames, sample_rate, width
        super().__init__(**more)
