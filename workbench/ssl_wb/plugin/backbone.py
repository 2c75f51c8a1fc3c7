"""The backbone contract: patches to latents."""

from __future__ import annotations

import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable
from types import MethodType
from typing import ClassVar

from torch import Tensor, nn

from ssl_wb.errors import PluginError
from ssl_wb.plugin.base import Kind, Plugin, PluginOptions
from ssl_wb.plugin.masker import Grid

__all__ = ["Backbone", "Trunk", "final_norm_of"]


class Trunk(nn.Module, ABC):
    """The part of a backbone behind the embedding, which the EMA teacher copies.

    Tokens are embedded patches ``[B, K, D]``, prefix tokens in front; K differs from call to call.
    """

    @abstractmethod
    def forward(self, tokens: Tensor) -> Tensor:
        """Map tokens ``[B, K, D]`` to latents ``[B, K, D]``, with the final norm applied."""

    @abstractmethod
    def layers(self, tokens: Tensor, depth: int | None = None) -> list[Tensor]:
        """Return the output ``[B, K, D]`` of each of the first ``depth`` blocks (of all when None), not normed.

        Raises:
            ValueError: there are fewer blocks.
        """

    def final_norm(self, latents: Tensor) -> Tensor:
        """Apply the norm after the last block to ``[B, K, D]``; ``forward`` is ``final_norm(layers(tokens)[-1])``."""
        return latents

    def layers_and_mlp_outputs(self, tokens: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        """Return ``layers(tokens)``, and what each block's MLP adds to its input, ``[B, K, D]``: data2vec's targets.

        Raises:
            PluginError: the trunk does not offer it.
        """
        if type(self).layers_and_branches is not Trunk.layers_and_branches:  # a trunk written for ssl-wb 0.1
            warnings.warn(
                f"{type(self).__name__}.layers_and_branches: rename it to layers_and_mlp_outputs",
                DeprecationWarning,
                stacklevel=2,
            )
            return self.layers_and_branches(tokens)
        raise PluginError(f"{type(self).__name__} does not give its MLPs' outputs")

    def finish(self, latents: Tensor) -> Tensor:
        """Old name of :meth:`final_norm`."""
        warnings.warn("Trunk.finish is now Trunk.final_norm", DeprecationWarning, stacklevel=2)
        if type(self).finish is not Trunk.finish:  # called by an override, through super(): what 0.1 had here
            return latents
        return type(self).final_norm(self, latents)

    def layers_and_branches(self, tokens: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        """Old name of :meth:`layers_and_mlp_outputs`."""
        warnings.warn("Trunk.layers_and_branches is now Trunk.layers_and_mlp_outputs", DeprecationWarning, stacklevel=2)
        if type(self).layers_and_mlp_outputs is Trunk.layers_and_mlp_outputs:  # called by an override, through super()
            raise PluginError(f"{type(self).__name__} does not give its MLPs' outputs")
        return self.layers_and_mlp_outputs(tokens)

    def __setattr__(self, name: str, value: Tensor | nn.Module) -> None:
        super().__setattr__(name, value)
        if name == "final_norm" and isinstance(value, nn.Module):
            # torch keeps a submodule beside the instance's dictionary, where the method of this name would hide it.
            # A trunk written before the method existed may well have called its norm so. It is for the trunk's own
            # code only: what is applied after the last block is the class' method (final_norm_of).
            vars(self)[name] = value

    def set_drop_path(self, rate: float) -> None:
        """Change the rate of stochastic depth, 0 to below 1, for fine-tuning with another one than in pre-training.

        Raises:
            PluginError: the trunk has no such rate.
        """
        raise PluginError(f"{type(self).__name__} has no drop path that can be set; leave drop_path out")

    def reset_parameters(self) -> None:
        """Draw new weights, for a teacher that does not start as a copy of the student (M2D, MATPAC).

        Raises:
            PluginError: the trunk does not offer it.
        """
        raise PluginError(f"{type(self).__name__} cannot be initialised anew; use teacher.init = 'copy'")


def final_norm_of(trunk: Trunk) -> Callable[[Tensor], Tensor]:
    """Return what a trunk applies after its last block, ``[B, K, D]`` to ``[B, K, D]``."""
    if type(trunk).finish is not Trunk.finish:
        warnings.warn(f"{type(trunk).__name__}.finish: rename it to final_norm", DeprecationWarning, stacklevel=2)
        return trunk.finish
    # By the class: on the trunk itself, an attribute of its own (a module, a flag) may hide the method.
    return MethodType(type(trunk).final_norm, trunk)


class Backbone(Plugin, nn.Module, ABC):
    """A module over patches, not over spectrograms; any number of frames.

    Args:
        options: the plugin's options.
        n_mels: mel bins of the spectrograms.
        frames: frames of a training crop, for tables that are trained; other lengths must work all the same.

    Raises:
        ValueError: the options do not fit the spectrograms; the message reaches the user.

    Attributes:
        no_decay: names of parameters without weight decay, besides biases, norms and tokens.
        dim: latent width ``D``; ``__init__`` sets it and the next three.
        patch: patch height (mel bins) and width (frames).
        prefix_tokens: number of tokens in front of the patch tokens, such as a class token. What reads patches drops
            them.
        trunk: what follows the embedding. The teacher is an EMA copy of it and uses the student's embedding, or is a
            copy of the whole backbone (``teacher.averages``).
        options: the plugin's options.
        n_mels: mel bins of the spectrograms.
        frames: frames of a training crop.
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

        All patches are given, also where few are embedded: a backbone may look at the neighbours of a patch.

        Args:
            patches: ``[B, N, P]``, all patches of the clip, frequency-major (patch ``f * time + t``).
            grid: their grid.
            indices: int64 ``[B, K]``, which of them to embed; all when None.

        Returns:
            Tokens ``[B, prefix_tokens + K, D]``.
        """

    def forward(self, tokens: Tensor) -> Tensor:
        """Map tokens ``[B, K, D]`` to latents ``[B, K, D]``."""
        latents: Tensor = self.trunk(tokens)
        return latents

    def layers(self, tokens: Tensor) -> list[Tensor]:
        """Return every block's output, each ``[B, K, D]``, for probes; the last one normed and equal to ``forward``."""
        outputs = self.trunk.layers(tokens)
        return [*outputs[:-1], final_norm_of(self.trunk)(outputs[-1])]

    def pool(self, latents: Tensor) -> Tensor:
        """Pool latents ``[B, prefix_tokens + K, D]`` to one embedding per clip ``[B, D]``: the mean over patches."""
        return latents[:, self.prefix_tokens :].mean(dim=1)

    @property
    def pooling(self) -> nn.Module | None:
        """The module that only ``pool`` uses, if any; it is not trained where no objective needs the clip embedding."""
        return None

    def grid_of(self, frames: int) -> Grid:
        """Return the patch grid of a spectrogram of ``frames`` frames; an incomplete last patch is left out."""
        return Grid(self.n_mels // self.patch[0], frames // self.patch[1])
