"""The workbench: pre-train, compare and ship self-supervised audio encoders."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0.dev0"

if TYPE_CHECKING:
    from ssl_wb.encoder.load import load_encoder
    from ssl_wb.train.run import train

__all__ = ["__version__", "load_encoder", "train"]


def __getattr__(name: str) -> Any:
    """Import the two public calls on first use, so that ``import ssl_wb`` does not import torch."""
    if name == "load_encoder":
        from ssl_wb.encoder.load import load_encoder

        return load_encoder
    if name == "train":
        from ssl_wb.train.run import train

        return train
    raise AttributeError(f"module 'ssl_wb' has no attribute {name!r}")
