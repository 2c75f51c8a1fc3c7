"""The optimiser contract: how weights are updated from their gradients."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar, Literal

from pydantic import Field
from torch.optim import Optimizer

from ssl_wb.plugin.base import Kind, Plugin, PluginOptions

__all__ = ["Optimiser", "OptimiserOptions"]


class OptimiserOptions(PluginOptions):
    """What the workbench asks of every optimiser; one adds its own."""

    lr: float = Field(
        3e-4, gt=0.0, allow_inf_nan=False, description="Peak learning rate, absolute (not per 256 clips)."
    )
    min_lr: float = Field(0.0, ge=0.0, allow_inf_nan=False, description="Learning rate at the end of the schedule.")
    weight_decay: float = Field(0.05, ge=0.0, description="Weight decay, as the optimiser applies it.")
    spare: Literal["tokens", "vectors", "nothing"] = Field(
        "tokens",
        description="What is not decayed: biases, norms, class and mask tokens and trained positions (AudioMosaic); "
        "vectors only, which are biases and norms (timm's rule: M2D, MSM-MAE, EAT); or nothing (MATPAC).",
    )
    decay_all: bool = Field(False, description="The same as spare = 'nothing'.")

    @property
    def spared(self) -> Literal["tokens", "vectors", "nothing"]:
        """What is not decayed, both options read."""
        return "nothing" if self.decay_all else self.spare


class Optimiser(Plugin, ABC):
    """Makes a torch optimiser of parameter groups.

    Args:
        options: the plugin's options, :class:`OptimiserOptions` among them.
    """

    kind: ClassVar[Kind] = "optimiser"
    Options: ClassVar[type[PluginOptions]] = OptimiserOptions

    def __init__(self, options: PluginOptions) -> None:
        self.options = options

    @abstractmethod
    def build(self, groups: Sequence[dict[str, Any]]) -> Optimizer:
        """Return the torch optimiser.

        Its state is saved with checkpoints as ``state_dict()["state"]``, tensors by parameter and name. The workbench
        writes the learning rate of each step into ``param_groups``.

        Args:
            groups: torch's parameter groups: ``params``, tensors that have gradients, and ``weight_decay``, 0 for those
                that are not decayed.
        """
