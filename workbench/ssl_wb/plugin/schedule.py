"""The schedule contract: how the learning rate changes after the warm-up."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar

from ssl_wb.plugin.base import Kind, Plugin, PluginOptions

__all__ = ["Schedule"]


class Schedule(Plugin, ABC):
    """The learning rate of each step after the warm-up, between ``optimizer.lr`` and ``optimizer.min_lr``.

    The workbench adds the linear warm-up (``train.warmup``) in front of it:
    ``rate = min_lr + (lr - min_lr) * share(progress)``.

    Args:
        options: the plugin's options.
    """

    kind: ClassVar[Kind] = "schedule"

    def __init__(self, options: PluginOptions) -> None:
        self.options = options

    @abstractmethod
    def share(self, progress: float) -> float:
        """Return where the rate is: 1.0 at ``lr``, 0.0 at ``min_lr``.

        It depends on ``progress`` alone, so that a resumed run continues with the same rates.

        Args:
            progress: share of the steps after the warm-up that are done, 0 to 1.
        """
