"""The masker contract: which patches the student sees."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal, Protocol

import torch
from pydantic import Field
from torch import Tensor

from ssl_wb.layers.patches import Grid
from ssl_wb.plugin.base import Kind, Plugin, PluginOptions

__all__ = ["Count", "Grid", "Latents", "Mask", "MaskRequest", "Masker", "visible_count"]


#: How a share of patches becomes a number of them: the option ``count`` of maskers.
Count = Annotated[
    Literal["exact", "published"],
    Field(
        description="Visible patches: int(N * (1 - ratio)) of the exact product, or of the floating-point one as in "
        "the released code of M2D and EAT: one fewer where the product is whole (37 of 190 at ratio 0.8)."
    ),
]


def visible_count(cells: int, ratio: float, count: Count = "exact") -> int:
    """Patches left visible by a mask ratio: ``int(N * (1 - ratio))`` (MAE).

    Args:
        cells: patches N of the grid.
        ratio: share that is masked.
        count: ``exact`` rounds the product to 9 decimals first, so that 10 patches at ratio 0.9 leave 1 and not 0.
            ``published`` cuts the floating-point product, as the released code of MAE, M2D and EAT does: 190 patches at
            0.8 leave 37, where ``exact`` leaves 38.
    """
    product = cells * (1.0 - ratio)
    return int(product if count == "published" else round(product, 9))


@dataclass(frozen=True)
class Mask:
    """Which patches are visible and which are masked, in one view of every clip of the batch.

    Rows are sorted because order has no meaning to the model: equal sets then give equal tensors, bit for bit.

    Attributes:
        visible: int64 ``[B, Nv]``, each row sorted.
        masked: int64 ``[B, Nm]``, each row sorted; with ``visible`` a partition of ``0..N-1``.
    """

    visible: Tensor
    masked: Tensor

    @classmethod
    def from_scores(cls, scores: Tensor, visible: int) -> Mask:
        """Keep the ``visible`` patches of lowest score in each row.

        Args:
            scores: float ``[B, N]``, without ties to be exact in distribution.
            visible: number of patches kept visible.
        """
        # Stable: ties fall the same way on every device and for every batch size.
        order = scores.argsort(dim=1, stable=True)  # [B, N]
        return cls(order[:, :visible].sort(dim=1).values, order[:, visible:].sort(dim=1).values)


class Latents(Protocol):
    """Yields latents of all patches of the clips."""

    def __call__(self, layer: int | None = None) -> Tensor:
        """Return float ``[B, N, D]`` without gradient; ``layer`` counts blocks from 1, None is the last one, normed."""
        ...


@dataclass(frozen=True)
class MaskRequest:
    """What a masker may use.

    Attributes:
        patches: float ``[B, N, P]``, pixels of the normalised spectrogram, ``P`` = patch height x width.
        grid: the patch grid, ``grid.cells == N``.
        progress: share of training done, 0 to 1; schedules are written in it.
        generator: the only source of randomness, on the device of ``patches``, seeded from (seed, step).
        first_row: index of this batch's first clip within the global batch of the step.
        global_rows: clips in the global batch.
        latents: for maskers with ``needs_latents``: ``latents(layer)`` yields float ``[B, N, D]`` of all patches of the
            masker's ``latents_from``, without gradient.
    """

    patches: Tensor
    grid: Grid
    progress: float
    generator: torch.Generator
    first_row: int = 0
    global_rows: int | None = None
    latents: Latents | None = None

    def uniform(self, *shape: int) -> Tensor:
        """Draw float32 ``[B, *shape]``, uniform in [0, 1).

        The numbers are drawn for the whole global batch and this process keeps its rows: a step has the same masks on
        one process as on eight, and whatever the gradient accumulation.
        """
        rows = self.patches.shape[0]
        everyone = self.global_rows or rows
        noise = torch.rand(everyone, *shape, generator=self.generator, device=self.patches.device)
        return noise[self.first_row : self.first_row + rows]


class Masker(Plugin, ABC):
    """Chooses visible and masked patches, one :class:`Mask` per view.

    A masker works on the whole batch at once, on the patches' device; its only randomness is that of ``request``. Where
    each view has an augmentation of its own, the masker is called once per view, on the patches of that view and with
    the same randomness, and the mask of that view is used.

    Args:
        options: the plugin's options.

    Attributes:
        views: number of masks returned, 1 unless set. It is read before the model is built, so ``__init__`` sets it
            where it depends on options.
        needs_latents: ``request.latents`` is set; it costs a pass of the encoder when it is called.
        latents_from: whose latents these are: the student's, or its EMA teacher's. A recipe in which no objective needs
            a teacher is refused with ``teacher``. ``__init__`` may set it on the instance.
        options: the plugin's options.
    """

    kind: ClassVar[Kind] = "masker"
    needs_latents: ClassVar[bool] = False
    latents_from: Literal["student", "teacher"] = "student"
    views: int = 1

    def __init__(self, options: PluginOptions) -> None:
        self.options = options

    @abstractmethod
    def __call__(self, request: MaskRequest) -> tuple[Mask, ...]:
        """Return one mask per view.

        Args:
            request: patches ``[B, N, P]``, their grid, and what else a masker may use.

        Raises:
            ValueError: the options do not fit the grid. Every recipe is tried on one clip before training, and the user
                gets the message as a mistake of the recipe.
        """

    def importance(self, request: MaskRequest) -> Tensor | None:
        """Return the weights by which patches are chosen, float ``[B, N]``; None where all are alike.

        Only pictures of masks use it.
        """
        return None
