"""Tensors of vision transformers in checkpoints, as importers share them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

from ssl_wb.layers.patches import Grid
from ssl_wb.layers.positions import sincos_2d
from ssl_wb.plugin.checkpoint_tensors import CheckpointTensors

__all__ = [
    "BlockSizes",
    "MaeEncoder",
    "assumed_heads",
    "is_sincos",
    "take_blocks",
    "take_mae",
    "take_norm",
    "take_projection",
    "take_vit",
    "time_major_rows",
]

#: Features of a head in every published ViT for audio, and the least width for which that is assumed.
HEAD_DIM, LEAST_WIDTH = 64, 192
#: Largest difference of a stored sine-cosine table from the formula: float32, computed by other libraries.
TABLE_TOLERANCE = 1e-5


class BlockSizes(NamedTuple):
    """Sizes that follow from the tensors of the blocks."""

    dim: int
    depth: int
    hidden: int
    key_bias: bool


def block_sizes(tensors: CheckpointTensors, prefix: str = "blocks.", depth: Any = None) -> BlockSizes:
    """Return the sizes of transformer blocks with timm's names below ``prefix``; ``depth`` is the stored number."""
    at = re.escape(prefix)
    return BlockSizes(
        dim=tensors.size("width", {rf"{at}\d+\.norm[12]\.(weight|bias)": 0, rf"{at}\d+\.attn\.proj\.weight": 0}),
        depth=tensors.count(rf"{at}(\d+)\.", depth),
        hidden=tensors.size(
            "hidden width of the MLPs", {rf"{at}\d+\.mlp\.fc1\.(weight|bias)": 0, rf"{at}\d+\.mlp\.fc2\.weight": 1}
        ),
        key_bias=not tensors.has(rf"{at}\d+\.attn\.[qv]_bias"),
    )


def take_blocks(
    tensors: CheckpointTensors,
    sizes: BlockSizes,
    prefix: str = "blocks.",
    may_lack_bias: bool = False,
    root: str = "trunk.",
) -> dict[str, Tensor]:
    """Take the blocks' tensors under the names of the backbone ``vit``.

    Args:
        tensors: of the checkpoint.
        sizes: of :func:`block_sizes`.
        prefix: of the blocks in the checkpoint.
        may_lack_bias: projections and MLPs may have no bias at all, which is a bias of zeros.
        root: what the names are below.
    """
    dim, hidden = sizes.dim, sizes.hidden
    shapes: dict[str, tuple[int, ...]] = {
        "norm1.weight": (dim,), "norm1.bias": (dim,), "norm2.weight": (dim,), "norm2.bias": (dim,),
        "attn.qkv.weight": (3 * dim, dim), "attn.proj.weight": (dim, dim), "attn.proj.bias": (dim,),
        "mlp.fc1.weight": (hidden, dim), "mlp.fc1.bias": (hidden,),
        "mlp.fc2.weight": (dim, hidden), "mlp.fc2.bias": (dim,),
    }  # fmt: skip
    shapes |= {"attn.qkv.bias": (3 * dim,)} if sizes.key_bias else {"attn.q_bias": (dim,), "attn.v_bias": (dim,)}
    spared = {
        name
        for name in ("attn.qkv.bias", "attn.proj.bias", "mlp.fc1.bias", "mlp.fc2.bias")
        if may_lack_bias and not tensors.has(rf"{re.escape(prefix)}\d+\.{re.escape(name)}")
    }
    state: dict[str, Tensor] = {}
    for block in range(sizes.depth):
        for name, shape in shapes.items():
            to = f"{root}blocks.{block}.{name}"
            given = name not in spared
            state[to] = tensors.take(f"{prefix}{block}.{name}", shape, to) if given else torch.zeros(shape)
    return state


def take_projection(
    tensors: CheckpointTensors, dim: int, stem: str = "patch_embed.proj", *, time_first: bool = False
) -> tuple[dict[str, Tensor], tuple[int, int]]:
    """Take the patch projection, a convolution, as the linear map of the backbone ``vit``.

    Args:
        tensors: of the checkpoint.
        dim: width.
        stem: name of the convolution.
        time_first: the convolution reads ``[time, mels]`` and not ``[mels, time]``.

    Returns:
        Weight ``[D, P]`` and bias ``[D]`` under the names of ``vit``, and the patch: mels, frames.
    """
    why = "convolution as a linear map" + (", its axes exchanged" if time_first else "")
    weight = tensors.take(f"{stem}.weight", (dim, 1, None, None), "proj.weight", why)  # [D, 1, height, width]
    if time_first:
        weight = weight.transpose(2, 3)
    bias = tensors.take(f"{stem}.bias", (dim,), "proj.bias")  # [D]
    width = weight.shape[3]
    if width & (width - 1):  # 2, 4, 8 or 16 in every release
        tensors.refuse(f"{stem}.weight", f"its patches are {width} frames wide, which is no power of two")
    return {"proj.weight": weight.flatten(1).contiguous(), "proj.bias": bias}, (weight.shape[2], weight.shape[3])


def take_vit(
    tensors: CheckpointTensors,
    *,
    norm: str | None = "norm",
    prefix: str = "blocks.",
    may_lack_bias: bool = False,
    to: str = "trunk.",
    depth: Any = None,
) -> tuple[dict[str, Tensor], BlockSizes]:
    """Take blocks and, unless ``norm`` is None, the final norm of that name, under ``vit``'s names below ``to``.

    ``depth`` is the number of blocks in the file's settings, where they have it.
    """
    sizes = block_sizes(tensors, prefix, depth)
    state = take_blocks(tensors, sizes, prefix, may_lack_bias, to)
    if norm is not None:
        state |= take_norm(tensors, norm, sizes.dim, f"{to}norm")
    return state, sizes


def take_norm(tensors: CheckpointTensors, name: str, dim: int, to: str) -> dict[str, Tensor]:
    """Take weight and bias of a norm."""
    return {f"{to}.{part}": tensors.take(f"{name}.{part}", (dim,), f"{to}.{part}") for part in ("weight", "bias")}


@dataclass(frozen=True)
class MaeEncoder:
    """An encoder with the names of MAE, mapped to the backbone ``vit``.

    Attributes:
        weights: state dict of ``vit``; an importer may add to it.
        options: section of ``vit``, ``name`` included; an importer may add to it.
        grid: patches of the position table.
        frames: that these cover.
        notes: what was assumed.
    """

    weights: dict[str, Tensor]
    options: dict[str, Any]
    grid: Grid
    frames: int
    notes: tuple[str, ...]


def take_mae(
    tensors: CheckpointTensors,
    mels: int,
    heads: int | None,
    *,
    norm: str | None = "norm",
    prefix: str = "blocks.",
    time_first: bool = False,
    class_token: bool = True,
    may_lack_bias: bool = False,
    depth: Any = None,
) -> MaeEncoder:
    """Take patch projection, class token, position table, blocks and final norm of an encoder with MAE's names.

    The class token's row of the table is added to the token, which is all that the row is for. A table that is the
    sine-cosine one is computed by ``vit``, for any length; any other is kept.

    Args:
        tensors: of the checkpoint.
        mels: mel bands of the system's front end.
        heads: attention heads as the user or the file says; None to assume them.
        norm: name of the final norm; None where there is none.
        prefix: of the blocks.
        time_first: patches are projected from ``[time, mels]`` and counted ``t * freq + f``; otherwise mels first.
        class_token: whether there is one, with a row in the table.
        may_lack_bias: as for :func:`take_blocks`.
        depth: number of blocks in the file's settings, where they have it.
    """
    state, sizes = take_vit(tensors, norm=norm, prefix=prefix, may_lack_bias=may_lack_bias, depth=depth)
    projection, patch = take_projection(tensors, sizes.dim, time_first=time_first)
    if mels % patch[0]:
        tensors.refuse("patch_embed.proj.weight", f"its patches are {patch[0]} mels high, which does not divide {mels}")
    rows = max(1, mels // max(1, patch[0]))
    table = tensors.take("pos_embed", (1, None, sizes.dim), "", "positions, by the backbone's table")[0]  # [1 + N, D]
    columns, left = divmod(len(table) - class_token, rows)
    if left or columns < 1:
        if not class_token and (len(table) - 1) % rows == 0:
            tensors.refuse("cls_token", "missing, and pos_embed has a row for it")
        else:
            also = " after the class token's" if class_token else ""
            tensors.refuse("pos_embed", f"its {len(table)} rows{also} are no whole number of columns of {rows} patches")
        table = torch.zeros(rows + class_token, sizes.dim)
    grid = Grid(rows, (len(table) - class_token) // rows)
    if class_token:
        token = tensors.take("cls_token", (1, 1, sizes.dim), "cls_token", "its row of pos_embed added")
        state["cls_token"] = token + table[:1]
    places = time_major_rows(table[int(class_token) :], grid) if time_first else table[int(class_token) :]  # [N, D]
    count, notes = assumed_heads(sizes.dim, heads)
    options: dict[str, Any] = {
        "name": "vit", "dim": sizes.dim, "depth": sizes.depth, "heads": count, "mlp_ratio": sizes.hidden / sizes.dim,
        "patch": list(patch), "class_token": class_token, "key_bias": sizes.key_bias, "final_norm": norm is not None,
    }  # fmt: skip
    if not is_sincos(places, grid):
        options["positions"] = "trainable"
        state["position_table"] = places[None].contiguous()
    return MaeEncoder(state | projection, options, grid, grid.time * patch[1], notes)


def time_major_rows(rows: Tensor, grid: Grid) -> Tensor:
    """Reorder rows ``[N, D]`` from ``t * freq + f`` to the ``f * time + t`` of the workbench."""
    tiles = rows.reshape(grid.time, grid.freq, -1)  # [t, f, D]
    return tiles.transpose(0, 1).reshape(grid.cells, -1)


def is_sincos(table: Tensor, grid: Grid, first: Literal["time", "frequency"] = "time") -> bool:
    """Whether a frequency-major table ``[N, D]`` is the fixed sine-cosine table of a grid."""
    if len(table) != grid.cells or table.shape[1] % 4:
        return False
    return bool((table - sincos_2d(grid, table.shape[1], first)).abs().max() <= TABLE_TOLERANCE)


def assumed_heads(dim: int, given: int | None, stored: int | None = None) -> tuple[int, tuple[str, ...]]:
    """Return the number of attention heads, which no shape tells, and a note where it is assumed.

    Args:
        dim: width.
        given: by the user.
        stored: in the file's settings.
    """
    if given or stored:
        return int(given or stored or 0), ()
    if dim % HEAD_DIM == 0 and dim >= LEAST_WIDTH:
        return dim // HEAD_DIM, (f"{dim // HEAD_DIM} heads assumed: 64 features each, as in every published model",)
    heads = 4 if dim % 4 == 0 else 1
    return heads, (f"{heads} heads assumed: the file does not say, and {dim} is no published width; --set heads=N",)
