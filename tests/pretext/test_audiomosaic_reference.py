"""AudioMosaic's pre-training encoder against the published code (tests/reference/tiny_audiomosaic*)."""

from __future__ import annotations

import pytest
import torch
from torch.testing import assert_close

from ssl_wb.api import Grid, ModelShapes
from ssl_wb.layers.patches import patchify
from ssl_wb_plugins.backbones.vit import Vit, VitOptions
from ssl_wb_plugins.objectives.infonce import InfoNce, InfoNceOptions

GRID = Grid(8, 32)
CLOSE = {"rtol": 1e-4, "atol": 1e-5}


def to_ours(tokens: torch.Tensor) -> torch.Tensor:
    """Reorder tokens ``[..., t * 8 + f, D]`` (time-major) to ``[..., f * 32 + t, D]``; a class token stays first."""
    prefix, patches = tokens[..., :1, :], tokens[..., 1:, :]
    tiles = patches.unflatten(-2, (GRID.time, GRID.freq)).transpose(-3, -2)
    return torch.cat([prefix, tiles.flatten(-3, -2)], dim=-2)


@pytest.fixture(scope="module")
def io(reference):
    return reference("tiny_audiomosaic_io")


@pytest.fixture(scope="module")
def weights(reference_weights):
    return reference_weights("tiny_audiomosaic.pt")


@pytest.fixture(scope="module")
def backbone(weights) -> Vit:
    options = VitOptions(
        dim=48, depth=3, heads=4, positions="trainable", patch_norm=True, pre_norm=True, final_norm=False,
        pool="all", pool_norm=True, init="trunc-normal", drop_path=0.1,
    )  # fmt: skip
    built = Vit(options, 128, 512)
    positions = to_ours(weights["pos_embed"])
    state = {
        # The published class token has a trained position of its own, which is added to it and to nothing else.
        "cls_token": weights["cls_token"] + positions[:, :1],
        "position_table": positions[:, 1:],
        "proj.weight": weights["patch_embed.proj.weight"].transpose(2, 3).flatten(1),  # ours: mel rows, time columns
        "proj.bias": weights["patch_embed.proj.bias"],
    }
    renamed = {"patch_embed.norm.": "patch_norm.", "norm_pre.": "trunk.pre_norm.", "fc_norm.": "pool_norm."}
    renamed["blocks."] = "trunk.blocks."
    for key, value in weights.items():
        for theirs, ours in renamed.items():
            if key.startswith(theirs):
                state[ours + key.removeprefix(theirs)] = value
    built.load_state_dict(state)
    return built.eval()


@pytest.fixture(scope="module")
def tokens(backbone, io) -> torch.Tensor:
    return backbone.embed(patchify(io["input"].T[None], backbone.patch), GRID)


@torch.no_grad()
def test_every_layer_and_the_tokens(backbone, tokens, io):
    assert_close(torch.stack(backbone.layers(tokens)), to_ours(io["layers"]), **CLOSE)
    assert_close(backbone(tokens), to_ours(io["tokens"]), **CLOSE)


@torch.no_grad()
def test_pooled_and_projected(backbone, tokens, io, weights):
    latents = backbone(tokens)
    assert_close(latents.mean(dim=1), io["pooled"], **CLOSE)  # theirs is recorded before its norm, ours after it
    pooled = backbone.pool(latents)
    objective = InfoNce(InfoNceOptions(out=16), ModelShapes(48, 8, 256, GRID, 2, 100)).eval()
    state = {key: value for key, value in weights.items() if key.startswith("projector.")}
    objective.load_state_dict(state)
    assert_close(objective.projector(pooled), io["projected"], **CLOSE)


def test_trained_positions_serve_shorter_and_longer_clips(backbone):
    device = torch.device("cpu")
    whole = backbone.positions(GRID, device).unflatten(1, GRID)
    short = backbone.positions(Grid(8, 10), device).unflatten(1, (8, 10))
    assert torch.equal(short, whole[:, :, :10])
    long = backbone.positions(Grid(8, 64), device)
    assert long.shape == (1, 512, 48)
    assert_close(long.unflatten(1, (8, 64))[:, :, ::2].mean(), whole.mean(), rtol=0.1, atol=1e-3)
