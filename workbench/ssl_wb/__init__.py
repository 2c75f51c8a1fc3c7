"""The workbench: pre-train, compare and ship self-supervised audio encoders."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.2.0"

if TYPE_CHECKING:
    from ssl_wb.encoder.load import load_encoder
    from ssl_wb.workflows.evaluate import evaluate
    from ssl_wb.workflows.pretrain import train

__all__ = ["__version__", "evaluate", "load_encoder", "train"]

#: The public calls and where they are. They are imported on first use, so that ``import ssl_wb`` does not import torch.
#: No room has one of these names: importing a package would put the module in the place of the function.
_CALLS = {
    "evaluate": "ssl_wb.workflows.evaluate",
    "load_encoder": "ssl_wb.encoder.load",
    "train": "ssl_wb.workflows.pretrain",
}


def __getattr__(name: str) -> Any:
    """Import a public call on first use."""
    if name in _CALLS:
        return getattr(import_module(_CALLS[name]), name)
    raise AttributeError(f"module 'ssl_wb' has no attribute {name!r}")
