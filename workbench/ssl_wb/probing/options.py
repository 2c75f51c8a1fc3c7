"""Options that probes share, and the grid of settings that validation chooses from."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import product
from typing import Annotated, Any, Literal

from pydantic import Field

from ssl_wb.plugin.base import PluginOptions
from ssl_wb.plugin.evaluator import Split

__all__ = ["Decays", "HeadOptions", "ProbeOptions", "Rates", "settings_grid", "sorted_values"]

Rate = Annotated[float, Field(gt=0.0)]
Decay = Annotated[float, Field(ge=0.0)]
#: Learning rates as an option: one, or several to choose from.
Rates = Rate | Annotated[list[Rate], Field(min_length=1)]
#: Weight decays as an option: one, or several to choose from.
Decays = Decay | Annotated[list[Decay], Field(min_length=1)]


class ProbeOptions(PluginOptions):
    """Options of a probe that learns from training clips and is scored on test clips."""

    standardise: bool = Field(True, description="Scale every dimension to mean 0 and variance 1 of the training clips.")
    refit: Literal["held-out", "always", "never"] = Field(
        "held-out",
        description="Train again on training and validation clips with the settings and epochs chosen: where "
        "the workbench itself held the validation clips out of the training part, always, or never.",
    )
    resamples: int = Field(1000, ge=100, description="Bootstrap resamples of the interval; a fifth for mAP.")

    def refits(self, split: Split) -> bool:
        """Return whether validation clips of a split train too, once the settings are chosen."""
        return split.held_out if self.refit == "held-out" else self.refit == "always"


class HeadOptions(ProbeOptions):
    """Options of every probe that trains a head with :func:`ssl_wb.api.train_head`."""

    batch_size: int = Field(200, ge=1, description="Clips per step, at most the clips there are.")
    epochs: int = Field(200, ge=1, description="Passes over the training clips, at most.")
    patience: int | None = Field(
        None,
        ge=1,
        description="Stop after so many epochs without a better validation score and keep the best epoch; all epochs "
        "are trained and the last one is kept unless given.",
    )


def sorted_values(option: Any) -> list[Any]:
    """Return the values of an option that takes one or several, each once, the smallest first."""
    return sorted(set(option)) if isinstance(option, list) else [option]


def settings_grid(**options: Any | Iterable[Any]) -> list[dict[str, Any]]:
    """Return every combination of options that take one value or several.

    The last option varies fastest and smaller values come first: of settings with equal validation scores and losses
    the first is chosen, so the order decides ties.
    """
    values = [sorted_values(option) for option in options.values()]
    return [dict(zip(options, point, strict=True)) for point in product(*values)]
