"""The checks of a backbone."""

from __future__ import annotations

import copy
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ssl_wb.plugin.backbone import Backbone, Trunk
from ssl_wb.plugin.contract_checks import check_tokens, refuse
from ssl_wb.plugin.masker import Grid
from ssl_wb.testing.checks import Checks, Subject
from ssl_wb.testing.devices import CUDA, on_cuda, to_cuda
from ssl_wb.testing.options_checks import common_checks

__all__ = ["CHECKS", "check_backbone"]

#: Clips of a batch.
ROWS = 3
#: What two computations of one value may differ by.
TOLERANCE = 1e-4

CHECKS: Checks[_Backbone] = Checks("backbone", common_checks())


@dataclass(frozen=True)
class _Backbone(Subject[Backbone]):
    """A backbone under test, with the spectrograms that it is built for."""

    n_mels: int = 80
    frames: int = 208

    def backbone(self) -> Backbone:
        """Build it, in training."""
        return self.build(self.n_mels, self.frames).train()

    def patches(self, backbone: Backbone, frames: int | None = None, *, sound: str = "noise") -> tuple[Tensor, Grid]:
        """Return patches ``[B, N, P]`` of clips of so many frames, and their grid."""
        grid = backbone.grid_of(frames or self.frames)
        patches = torch.randn(ROWS, grid.cells, backbone.patch[0] * backbone.patch[1])
        return (patches if sound == "noise" else torch.zeros_like(patches)), grid


def check_backbone(
    plugin: type[Backbone],
    options: Mapping[str, Any] | None = None,
    *,
    n_mels: int = 80,
    frames: int = 208,
    skip: Collection[str] = (),
) -> None:
    """Hold a backbone to its contract. Give options that make it small: it is built many times.

    Args:
        plugin: the class.
        options: options that differ from their defaults.
        n_mels: mel bins of the spectrograms.
        frames: frames of a training crop.
        skip: names of checks to leave out.

    Raises:
        ContractError: the first check that fails.
    """
    CHECKS.run(_Backbone(plugin, options or {}, n_mels, frames), skip)


def _some(grid: Grid) -> Tensor:
    """Return indices of a third of the patches, another third for each clip: int64 ``[B, K]``."""
    return torch.stack([torch.arange(row % 3, grid.cells // 3 * 3, 3) for row in range(ROWS)])


def _close(first: Tensor, second: Tensor) -> bool:
    return first.shape == second.shape and torch.allclose(first, second, atol=TOLERANCE, rtol=TOLERANCE)


@CHECKS
def attributes(subject: _Backbone) -> None:
    """Its constructor sets ``dim``, ``patch``, ``prefix_tokens`` and ``trunk``; ``no_decay`` names parameters."""
    backbone = subject.backbone()
    wanted: dict[str, Any] = {"dim": int, "patch": tuple, "prefix_tokens": int, "trunk": Trunk}
    for name, kind in wanted.items():
        value = getattr(backbone, name, None)
        if not isinstance(value, kind):
            refuse(backbone, f"set {name}, {kind.__name__}, in its constructor", type(value).__name__)
    known = {own.rpartition(".")[2] for own, _ in backbone.named_parameters()}
    for name in backbone.no_decay:
        # A table that an option may freeze is no parameter then, and an attribute all the same.
        if name.rpartition(".")[2] not in known and not hasattr(backbone, name):
            refuse(backbone, "name parameters of its own in no_decay", repr(name))


@CHECKS
def tokens(subject: _Backbone) -> None:
    """``embed`` and ``forward`` return [B, prefix_tokens + N, dim] for clips of any length, ``pool`` [B, dim]."""
    backbone = subject.backbone()
    for frames in (subject.frames, backbone.patch[1], 2 * subject.frames):
        patches, grid = subject.patches(backbone, frames)
        made = backbone.embed(patches, grid)
        latents = backbone(made)
        shape = (ROWS, backbone.prefix_tokens + grid.cells, backbone.dim)
        check_tokens(backbone, shape, embed=made, forward=latents)
        pooled = backbone.pool(latents)
        if pooled.shape != (ROWS, backbone.dim):
            refuse(backbone, f"return [B, dim] = {[ROWS, backbone.dim]} from pool", f"{list(pooled.shape)}")


@CHECKS
def indices(subject: _Backbone) -> None:
    """``embed(patches, grid, indices)`` returns [B, prefix_tokens + K, dim], the tokens that ``embed(patches, grid)``
    has at these patches: the student sees some of them only.
    """
    backbone = subject.backbone().eval()
    patches, grid = subject.patches(backbone)
    some, prefix = _some(grid), backbone.prefix_tokens
    made = backbone.embed(patches, grid, some)
    check_tokens(backbone, (ROWS, prefix + some.shape[1], backbone.dim), embed=made, forward=backbone(made))
    rows = some[:, :, None].expand(-1, -1, backbone.dim)
    whole = backbone.embed(patches, grid)[:, prefix:].gather(1, rows)
    if not _close(whole, made[:, prefix:]):
        refuse(backbone, "embed a patch alike, whichever others are embedded", "other tokens where indices are given")


@CHECKS
def layers(subject: _Backbone) -> None:
    """``layers`` has one output per block, the last one equal to ``forward``; the trunk gives as many as it is asked
    for, and refuses more than it has with ValueError.
    """
    backbone = subject.backbone().eval()
    patches, grid = subject.patches(backbone)
    made = backbone.embed(patches, grid)
    found = backbone.layers(made)
    if not _close(found[-1], backbone(made)):
        refuse(backbone, "end `layers` with what `forward` returns", "another output")
    first = backbone.trunk.layers(made, 1)
    if len(first) != 1 or not _close(first[0], backbone.trunk.layers(made)[0]):
        refuse(backbone, "return one output from trunk.layers(tokens, 1), that of the first block", f"{len(first)}")
    try:
        backbone.trunk.layers(made, len(found) + 1)
    except ValueError:
        return
    refuse(backbone, "raise ValueError where more blocks are asked for than there are", "no error")


@CHECKS
def clips_apart(subject: _Backbone) -> None:
    """A clip's latents do not depend on the other clips of its batch."""
    backbone = subject.backbone().eval()
    patches, grid = subject.patches(backbone)
    together = backbone(backbone.embed(patches, grid))
    alone = backbone(backbone.embed(patches[:1], grid))
    if not _close(together[:1], alone):
        refuse(backbone, "encode a clip alike, whatever the rest of its batch", "other latents for a clip alone")


@CHECKS
def gradients(subject: _Backbone) -> None:
    """A gradient reaches each of its trained parameters, those of ``pool`` included: several processes wait for it."""
    backbone = subject.backbone()
    patches, grid = subject.patches(backbone)
    latents = backbone(backbone.embed(patches, grid))
    weights = torch.randn(latents.shape), torch.randn(ROWS, backbone.dim)
    ((latents * weights[0]).sum() + (backbone.pool(latents) * weights[1]).sum()).backward()
    idle = [name for name, each in backbone.named_parameters() if each.requires_grad and each.grad is None]
    if idle:
        refuse(backbone, "use every trained parameter", f"no gradient of {', '.join(idle[:5])}")


@CHECKS
def finite(subject: _Backbone) -> None:
    """Latents and gradients are finite for noise and for silence."""
    for sound in ("noise", "silence"):
        backbone = subject.backbone()
        patches, grid = subject.patches(backbone, sound=sound)
        latents = backbone(backbone.embed(patches, grid))
        latents.square().mean().backward()
        wrong = [name for name, each in backbone.named_parameters() if each.grad is not None and not _finite(each.grad)]
        if wrong or not _finite(latents):
            refuse(
                backbone, f"be finite for {sound}", f"the gradient of {wrong[0]}" if wrong else "latents that are not"
            )


def _finite(tensor: Tensor) -> bool:
    return bool(tensor.isfinite().all())


@CHECKS
def autocast(subject: _Backbone) -> None:
    """It computes under bf16 autocast."""
    backbone = subject.backbone()
    patches, grid = subject.patches(backbone)
    with torch.autocast("cpu", torch.bfloat16):
        made = backbone.embed(patches, grid)
        latents = backbone(made)
    check_tokens(backbone, (ROWS, made.shape[1], backbone.dim), forward=latents)
    if not _finite(latents):
        refuse(backbone, "be finite under bf16 autocast", "latents that are not")


@CHECKS
def saved(subject: _Backbone) -> None:
    """All its state is in ``state_dict``; the trunk can be copied, as the teacher is."""
    backbone, again = subject.backbone().eval(), subject.backbone().eval()
    patches, grid = subject.patches(backbone)
    with torch.no_grad():
        for weight in backbone.parameters():
            weight.add_(0.01 * torch.randn_like(weight))
    again.load_state_dict(backbone.state_dict())
    made = backbone.embed(patches, grid)
    if not _close(backbone(made), again(again.embed(patches, grid))):
        refuse(backbone, "keep all that it computes with in parameters and buffers", "other latents after loading")
    if not _close(backbone.trunk(made), copy.deepcopy(backbone.trunk)(made)):
        refuse(backbone, "have a trunk that can be copied", "other latents of the copy")


@CHECKS
def meta(subject: _Backbone) -> None:
    """It can be built and run on torch's meta device, where ``validate`` computes sizes."""
    with torch.device("meta"):
        backbone = subject.backbone()
        patches, grid = subject.patches(backbone)
        latents = backbone(backbone.embed(patches, grid))
    if latents.device.type != "meta":
        refuse(backbone, "compute on the device of its patches", f"latents on {latents.device.type}")


@CHECKS
def device(subject: _Backbone) -> None:
    """It works on a GPU: what it keeps moves with it, and new tensors are on the device of its inputs."""
    backbone = subject.backbone()
    to_cuda(backbone)
    with on_cuda():
        grid = backbone.grid_of(subject.frames)
        patches = torch.zeros(ROWS, grid.cells, backbone.patch[0] * backbone.patch[1], device=CUDA)
        latents = backbone(backbone.embed(patches, grid))
        for part in (latents, backbone.pool(latents), *backbone.layers(backbone.embed(patches, grid))):
            if part.device.type != "cuda":
                refuse(backbone, "compute on the device of its patches", f"a result on {part.device.type}")
