"""Small pretext models of several kinds, and what is left to know of them: gradients, bytes kept for going back."""

from __future__ import annotations

import weakref
from contextlib import contextmanager
from types import SimpleNamespace

import torch
from torch import nn

from ssl_wb.api import ModelShapes
from ssl_wb.data.loader import Batch
from ssl_wb.pretext.model import PretextModel, WeightedObjective
from ssl_wb.pretext.predictor import Predictor
from ssl_wb.recipe.schema import PredictorSection, TeacherSection
from ssl_wb_plugins.backbones.vit import Vit, VitOptions
from ssl_wb_plugins.maskers.random import RandomMasker, RandomOptions
from ssl_wb_plugins.maskers.time_frequency import TimeFrequencyMasker, TimeFrequencyOptions
from ssl_wb_plugins.objectives.clap import Clap, ClapOptions
from ssl_wb_plugins.objectives.dino import Dino, DinoOptions
from ssl_wb_plugins.objectives.eat import Eat, EatOptions
from ssl_wb_plugins.objectives.infonce import InfoNce, InfoNceOptions
from ssl_wb_plugins.objectives.mcl import Mcl, MclOptions
from ssl_wb_plugins.objectives.reconstruction import Reconstruction, ReconstructionOptions

MELS, FRAMES, DIM, CAPTION = 32, 80, 16, 12

KINDS = {
    "contrast": (2, lambda s: [InfoNce(InfoNceOptions(hidden=12, out=8, temperature=0.5), s)]),
    "matpac": (1, lambda s: [Mcl(MclOptions(hypotheses=3), s), Dino(DinoOptions(prototypes=8, hidden=12), s)]),
    "eat": (3, lambda s: [Eat(EatOptions(), s)]),
    "pixels": (2, lambda s: [Reconstruction(ReconstructionOptions(), s)]),
    "captions": (1, lambda s: [Clap(ClapOptions(), s)]),
}


def build(kind: str, depth: int = 3, drop_path: float = 0.5, attention: str = "auto") -> PretextModel:
    """A model of a kind; the same weights every time."""
    torch.manual_seed(0)
    views, make = KINDS[kind]
    options = VitOptions(dim=DIM, depth=depth, heads=2, drop_path=drop_path, pool_norm=True, attention=attention)
    backbone = Vit(options, MELS, FRAMES)
    sees = "all" if kind == "eat" else "masked"
    shapes = ModelShapes(DIM, 8, 256, backbone.grid_of(FRAMES), views, 100, sees, CAPTION)
    contrast = kind == "contrast"
    objectives = make(shapes)
    model = PretextModel(
        backbone=backbone,
        masker=TimeFrequencyMasker(TimeFrequencyOptions()) if contrast else RandomMasker(RandomOptions(views=views)),
        predictor=Predictor(PredictorSection(dim=8, depth=1, heads=2), DIM, 1)
        if any("features" in each.needs for each in objectives)
        else None,
        teacher=TeacherSection(sees=sees),
        objectives=[WeightedObjective(type(each).name, 0.7, each) for each in objectives],
        shapes=shapes,
        seed=0,
    )
    with torch.no_grad():  # matrices large enough for gradients that can be compared
        for parameter in model.parameters():
            if parameter.requires_grad and parameter.dim() > 1:
                parameter.add_(0.1 * torch.randn_like(parameter))
    return model.train()


def spectrogram(model: PretextModel, rows: int) -> torch.Tensor:
    """Noise: for the contrast, which augments, one reading for each view."""
    generator = torch.Generator().manual_seed(1)
    shape = (rows, 2, MELS, FRAMES) if isinstance(model.masker, TimeFrequencyMasker) else (rows, MELS, FRAMES)
    return torch.randn(shape, generator=generator)


def captions(model: PretextModel, rows: int) -> torch.Tensor | None:
    if "captions" not in model.needs:
        return None
    return torch.randn(rows, CAPTION, generator=torch.Generator().manual_seed(2))


def batches(model: PretextModel, rows: int, size: int) -> list[Batch]:
    """Micro-batches; their waveform is the spectrogram already."""
    whole, said = spectrogram(model, rows), captions(model, rows)
    return [
        Batch(
            whole[first : first + size],
            torch.full((size,), FRAMES),
            torch.arange(first, first + size),
            first,
            None if said is None else said[first : first + size],
        )
        for first in range(0, rows, size)
    ]


def engine() -> SimpleNamespace:
    """What a training step uses of an Accelerator."""
    device = torch.device("cpu")
    return SimpleNamespace(device=device, mixed_precision="no", backward=lambda loss: loss.backward())


def gradients(model: nn.Module) -> dict[str, torch.Tensor]:
    return {name: each.grad.clone() for name, each in model.named_parameters() if each.grad is not None}


class KeptBytes:
    """Bytes kept for a backward pass: now, and the most so far; each storage counts once, weights do not."""

    def __init__(self) -> None:
        self.now = self.most = 0
        self._users: dict[int, int] = {}

    def drop(self, key: int, size: int) -> None:
        self._users[key] -= 1
        if not self._users[key]:
            self.now -= size

    @contextmanager
    def counting(self, model: nn.Module):
        weights = {each.untyped_storage()._cdata for each in (*model.parameters(), *model.buffers())}

        class Kept:
            def __init__(self, tensor):
                self.tensor = tensor

        def pack(tensor):
            # Detached: an output that is kept by its own node would hold that node for ever.
            kept, storage = Kept(tensor.detach()), tensor.untyped_storage()
            key, size = storage._cdata, storage.nbytes()
            if key not in weights:
                self._users[key] = self._users.get(key, 0) + 1
                self.now += size if self._users[key] == 1 else 0
                self.most = max(self.most, self.now)
                weakref.finalize(kept, self.drop, key, size)
            return kept

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda kept: kept.tensor):
            yield self
