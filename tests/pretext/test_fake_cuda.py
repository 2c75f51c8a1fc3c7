"""No part of a training step's forward pass mixes devices: rehearsed on CUDA tensors that need no GPU."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from fake_cuda import CUDA, FakeGenerator, fake_cuda, to_cuda
from ssl_wb.api import Grid, Mask, Masker, MaskRequest, ModelShapes, Objective, ObjectiveOutput, StepState, View
from ssl_wb.errors import PluginError
from ssl_wb.plugin.registry import load_registry
from ssl_wb.pretext.build import build_model
from ssl_wb.pretext.crop import crop_shape
from ssl_wb.pretext.inputs import StepInputs
from ssl_wb.recipe.files import bundled_recipes
from ssl_wb.recipe.load import load_recipe

pytestmark = pytest.mark.slow

ROWS, STEPS = 4, 1000
#: Blocks after the second have the devices of the second; thirty recipes of twelve blocks take minutes.
SHALLOW = ["backbone.depth=2", "predictor.depth=2"]
GRID = Grid(8, 26)


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


def names(kind: str) -> list[str]:
    return load_registry().names(kind)


@pytest.mark.parametrize("rows", [(0, None), (2, 8)])
@pytest.mark.parametrize("name", names("masker"))
def test_a_masker(name, rows):
    plugin = load_registry().get("masker", name)
    masker = plugin(plugin.Options())
    with fake_cuda():
        for progress in (0.0, 0.5, 1.0):
            request = MaskRequest(
                torch.zeros(ROWS, GRID.cells, 256, device=CUDA),
                GRID,
                progress,
                FakeGenerator("cuda"),
                first_row=rows[0],
                global_rows=rows[1],
                latents=lambda layer=None: torch.zeros(ROWS, GRID.cells, 32, device=CUDA),
            )
            masks = masker(request)
            weights = masker.importance(request)
            assert weights is None or weights.device.type == "cuda"
            for mask in masks:
                assert mask.visible.device.type == mask.masked.device.type == "cuda"


@pytest.mark.parametrize("name", names("front-end"))
def test_a_front_end(name):
    plugin = load_registry().get("front-end", name)
    for changes in ({}, {"pad": "zero", "subtract_mean": True}):
        front_end = to_cuda(plugin(plugin.Options(**changes), -7.0, 4.0))
        with fake_cuda(), torch.autocast("cuda", torch.bfloat16):
            for lengths in (None, torch.full((ROWS,), 9000, device=CUDA)):
                spectrogram, frames = front_end(torch.zeros(ROWS, 16000, device=CUDA), lengths)
                assert (spectrogram.device.type, spectrogram.dtype) == ("cuda", torch.float32)
                assert frames.device.type == "cuda"


def state_for(objective: Objective, views: int, count: int) -> StepState:
    """Everything an objective may ask for, on the device."""
    shapes = objective.shapes
    visible, dim = GRID.cells - count, shapes.latent_dim

    def on(*size: int) -> torch.Tensor:
        return torch.zeros(*size, device=CUDA, requires_grad=True)

    def view() -> View:
        places = torch.arange(GRID.cells, device=CUDA).expand(ROWS, -1)
        return View(
            mask=Mask(places[:, :visible], places[:, visible:]),
            latents=on(ROWS, visible, dim),
            patches=torch.zeros(ROWS, GRID.cells, shapes.patch_pixels, device=CUDA),
            pooled=on(ROWS, dim),
            features=on(ROWS, count, shapes.feature_dim),
            target=torch.zeros(ROWS, count, dim, device=CUDA),
            prediction=on(ROWS, count, dim),
            layers=tuple(torch.zeros(ROWS, GRID.cells, dim, device=CUDA) for _ in range(12)),
            mlp_outputs=tuple(torch.zeros(ROWS, GRID.cells, dim, device=CUDA) for _ in range(12)),
        )

    captions = torch.zeros(ROWS, shapes.caption_dim, device=CUDA)
    return StepState(GRID, tuple(view() for _ in range(views)), 3, STEPS, captions=captions)


@pytest.mark.parametrize("name", names("objective"))
def test_an_objective(name):
    plugin = load_registry().get("objective", name)
    shapes = ModelShapes(32, 16, 256, GRID, 2, STEPS, teacher_sees="all", caption_dim=24)
    objective = to_cuda(plugin(plugin.Options(), shapes)).train()
    with fake_cuda():
        state = state_for(objective, 2, 150)
        with torch.autocast("cuda", torch.bfloat16):
            output = objective(state)
            assigned = objective.assignments(torch.zeros(ROWS, GRID.cells, 32, device=CUDA))
            uncertain = objective.uncertainty(state.views[0])
        objective.after_step(4, STEPS)
        found = [output.loss, *(output.prediction or ()), *(x for x in (assigned, uncertain) if x is not None)]
        assert {each.device.type for each in found} == {"cuda"}
        assert output.loss.dtype == torch.float32


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
