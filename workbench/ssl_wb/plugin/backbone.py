"""The backbone contract: patches to latents."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar

from torch import Tensor, nn

from ssl_wb.errors import PluginError
from ssl_wb.plugin.base import Kind, Plugin, PluginOptions
from ssl_wb.plugin.masker import Grid

__all__ = ["Backbone", "Trunk"]


class Trunk(nn.Module, ABC):
    """The part of a backbone behind the embedding: what an EMA teacher copies."""

    @abstractmethod
    def forward(self, tokens: Tensor) -> Tensor:
        """Map tokens ``[B, K, D]`` to latents ``[B, K, D]``, final norm included."""

    @abstractmethod
    def layers(self, tokens: Tensor, depth: int | None = None) -> list[Tensor]:
        """Return the output ``[B, K, D]`` of each of the first ``depth`` blocks (of all when None), not normed.

        Raises:
            ValueError: there are fewer blocks.
        """

    def finish(self, latents: Tensor) -> Tensor:
        """Apply the norm after the last block to ``[B, K, D]``; ``forward`` is ``finish(layers(tokens)[-1])``."""
        return latents

    def layers_and_branches(self, tokens: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        """Return ``layers(tokens)``, and what each block's MLP adds to its input, ``[B, K, D]``: data2vec's targets."""
        raise PluginError(f"{type(self).__name__} does not give its MLPs' outputs")

    def reset_parameters(self) -> None:
        """Draw fresh weights, for a teacher that does not start as a copy of the student."""
        raise PluginError(f"{type(self).__name__} cannot be initialised anew; use teacher.init = 'copy'")


class Backbone(Plugin, nn.Module, ABC):
    """A module over patches, not over spectrograms; any number of frames.

    Args:
        options: the plugin's options.
        n_mels: mel bins of the spectrograms.
        frames: frames of a training crop, for tables that are trained; other lengths must work all the same.

    Raises:
        ValueError: the options do not fit the spectrograms; the message reaches the user.

    Attributes:
        no_decay: names of parameters that the optimiser does not decay, as it does not decay biases, norms and tokens.
        dim: latent width ``D``.
        patch: patch height (mel bins) and width (frames).
        prefix_tokens: tokens in front of the patch tokens (a class token), dropped by whoever wants patches only.
        trunk: what follows the embedding; the teacher is an EMA copy of it and shares the embedding.
    """

    kind: ClassVar[Kind] = "backbone"
    no_decay: ClassVar[frozenset[str]] = frozenset()

    dim: int
    patch: tuple[int, int]
    prefix_tokens: int
    trunk: Trunk

    def __init__(self, options: PluginOptions, n_mels: int, frames: int) -> None:
        nn.Module.__init__(self)
        self.options = options
        self.n_mels = n_mels
        self.frames = frames

    @abstractmethod
    def embed(self, patches: Tensor, grid: Grid, indices: Tensor | None = None) -> Tensor:
        """Embed patches and add their positions.

        Args:
            patches: ``[B, N, P]``, all patches of the clip, frequency-major.
            grid: their grid.
            indices: int64 ``[B, K]``, which of them to embed; all when None.

        Returns:
            Tokens ``[B, prefix_tokens + K, D]``.
        """

    def forward(self, tokens: Tensor) -> Tensor:
        """Map tokens ``[B, K, D]`` to latents ``[B, K, D]``."""
        return self.trunk(tokens)

    def layers(self, tokens: Tensor) -> list[Tensor]:
        """Return every block's output, each ``[B, K, D]``, for probes; the last one normed and equal to ``forward``."""
        outputs = self.trunk.layers(tokens)
        return [*outputs[:-1], self.trunk.finish(outputs[-1])]

    def pool(self, latents: Tensor) -> Tensor:
        """Pool latents ``[B, prefix_tokens + K, D]`` to one embedding per clip ``[B, D]``: the mean over patches."""
        return latents[:, self.prefix_tokens :].mean(dim=1)

    @property
    def pooling(self) -> nn.Module | None:
        """What only ``pool`` uses; it is not trained where no objective asks for the clip embedding."""
        return None

    def grid_of(self, frames: int) -> Grid:
        """Return the patch grid of a spectrogram of ``frames`` frames; a last part of a patch does not count."""
        return Grid(self.n_mels // self.patch[0], frames // self.patch[1])
