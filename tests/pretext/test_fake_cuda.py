"""No part of a training step's forward pass mixes devices: rehearsed on CUDA tensors that need no GPU.

Each masker, objective, backbone and front end by itself is rehearsed by the kit: tests/testing/test_bundled_plugins.py.
"""

from __future__ import annotations

import pytest
import torch
from torch import nn

from fake_cuda import CUDA, FakeGenerator, fake_cuda, to_cuda
from ssl_wb.api import Mask, Masker, Objective, ObjectiveOutput
from ssl_wb.errors import PluginError
from ssl_wb.pretext.build import build_model
from ssl_wb.pretext.crop import crop_shape
from ssl_wb.pretext.inputs import StepInputs
from ssl_wb.recipe.files import bundled_recipes
from ssl_wb.recipe.load import load_recipe

pytestmark = pytest.mark.slow

ROWS, STEPS = 4, 1000
#: Blocks after the second have the devices of the second; thirty recipes of twelve blocks take minutes.
SHALLOW = ["backbone.depth=2", "predictor.depth=2"]


def rehearse(recipe: str, change=lambda model: model, **options):
    """Run front end, masks, student, predictor, teacher, objectives and EMA of a recipe; return the output."""
    loaded = load_recipe(recipe, SHALLOW if "sgim" not in recipe else [*SHALLOW, "masker.layer=1"])
    front_end = to_cuda(loaded.front_end.build())
    with torch.device("meta"):
        model = build_model(loaded, STEPS)
    samples = crop_shape(loaded, model.backbone).samples
    model = to_cuda(change(model)).train()
    views = model.masker.views if loaded.augmentations else 1
    with fake_cuda():
        waveform = torch.zeros(ROWS * views, samples, device=CUDA)
        lengths = torch.full((ROWS * views,), samples - 100, device=CUDA)
        spectrogram, frames = front_end(waveform, lengths)
        assert spectrogram.device.type == frames.device.type == "cuda"
        if views > 1:
            spectrogram = spectrogram.unflatten(0, (ROWS, views))
        captions = torch.zeros(ROWS, model.shapes.caption_dim, device=CUDA) if "captions" in model.needs else None
        inputs = StepInputs(spectrogram, step=STEPS // 2, captions=captions, **options)
        with torch.autocast("cuda", torch.bfloat16):
            output = model(inputs)
        model.after_step(STEPS // 2 + 1)
        return output


@pytest.mark.parametrize("name", sorted(bundled_recipes()))
def test_a_recipe(name):
    output = rehearse(name)
    assert output.loss.device.type == "cuda"
    assert (output.loss.shape, output.loss.dtype) == ((), torch.float32)


class OnTheHost(Masker):
    """Draws its masks on the host, whatever device the patches are on."""

    name = "on-the-host"

    def __call__(self, request):
        scores = torch.rand(len(request.patches), request.grid.cells)
        return (Mask.from_scores(scores, 10),)


class WrongGenerator(OnTheHost):
    """Draws on the patches' device by a generator of the host."""

    def __call__(self, request):
        shape, device = (len(request.patches), request.grid.cells), request.patches.device
        return (Mask.from_scores(torch.rand(shape, generator=FakeGenerator("cpu"), device=device), 10),)


class PlainTensor(Objective):
    """Keeps a tensor that is no buffer, so that it stays behind when the module moves."""

    name = "plain-tensor"
    needs = frozenset({"features"})

    def __init__(self, options, shapes):
        super().__init__(options, shapes)
        self.head = nn.Linear(shapes.feature_dim, 1)
        self.centre = torch.zeros(1)

    def forward(self, state):
        return ObjectiveOutput((self.head(state.views[0].features).float() - self.centre).square().mean())


@pytest.mark.parametrize("masker", [OnTheHost, WrongGenerator])
def test_a_masker_on_another_device_is_noticed(masker):
    def plant(model):
        model.masker = masker(masker.Options())
        return model

    with pytest.raises((RuntimeError, PluginError), match=r"device|generator on cpu"):
        rehearse("quickstart", plant)


def test_a_tensor_that_stays_behind_is_noticed():
    def plant(model):
        objective = PlainTensor(PlainTensor.Options(), model.shapes)
        model.objectives = nn.ModuleDict({"planted": objective})
        model.weights = {"planted": 1.0}
        return model

    with pytest.raises((RuntimeError, AssertionError), match=r"device|convert all Tensors"):
        rehearse("quickstart", plant)
