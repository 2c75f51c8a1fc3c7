"""One of the two processes of test_processes.py: ``python two_process_worker.py RANK FOLDER``."""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from torch import distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from ssl_wb.api import Grid, Mask, ModelShapes, StepState, View, gather_with_gradient, process_place
from ssl_wb_plugins.objectives.clap import Clap, ClapOptions
from ssl_wb_plugins.objectives.infonce import InfoNce, InfoNceOptions

CLIPS, DIM, CAPTION = 6, 16, 20


class Pretext(nn.Module):
    """A student of one layer under an objective, as the pretext model calls it."""

    def __init__(self, objective: nn.Module) -> None:
        super().__init__()
        self.student = nn.Linear(DIM, DIM)
        self.objective = objective

    def forward(self, sounds: torch.Tensor, captions: torch.Tensor):
        b = sounds.shape[1]
        rows = torch.zeros(b, 4, dtype=torch.int64)
        views = []
        for sound in sounds:  # [b, 4, DIM]
            latents = self.student(sound).relu()
            views.append(View(Mask(rows, rows), latents, sound, pooled=latents.mean(dim=1)))
        output = self.objective(StepState(Grid(1, 4), tuple(views), 0, 100, captions=captions))
        return output.loss, output.metrics


def measure(objective: nn.Module, views: int, *, alike: bool = False) -> dict:
    """Return figures, gradients and buffers after one step on this process' share of a batch of CLIPS clips."""
    rank, world = process_place()
    torch.manual_seed(0)
    with torch.no_grad():  # weights large enough for gradients that can be compared
        for parameter in objective.parameters():
            if parameter.requires_grad and parameter.dim() > 1:
                parameter.copy_(torch.randn_like(parameter) / parameter.shape[1] ** 0.5)
    model = Pretext(objective)
    # The views share a part of each clip. Where captions are alike, the last clip has the first one's, which is another
    # process' clip. Without targets for both, rounding would say which of the two is the nearer.
    sounds = torch.randn(1, CLIPS, 4, DIM) + 0.7 * torch.randn(views, CLIPS, 4, DIM)
    captions = torch.randn(CLIPS, CAPTION)
    if alike:
        captions[-1] = captions[0]
    share = slice(rank * CLIPS // world, (rank + 1) * CLIPS // world)
    wrapped = DistributedDataParallel(model) if world > 1 else model
    loss, metrics = wrapped(sounds[:, share], captions[share])
    loss.backward()
    return {
        "figures": {"loss": loss.detach()}
        | {name: torch.as_tensor(value) for name, value in metrics.items() if "accuracy" in name},
        "gradients": {name: each.grad for name, each in model.named_parameters() if each.grad is not None},
        "buffers": dict(model.named_buffers()),
    }


def gathering() -> dict:
    """Gather two rows per process and send weights back through them."""
    rank, world = process_place()
    rows = torch.tensor([[10.0 * rank], [10.0 * rank + 1]], requires_grad=True)
    gathered = gather_with_gradient(rows)
    ((rank + 1) * torch.arange(1.0, 2 * world + 1)[:, None] * gathered).sum().backward()
    return {"place": torch.tensor([rank, world]), "gathered": gathered.detach(), "gradient": rows.grad}


def measure_all() -> dict[str, dict]:
    """Measure every case on this process."""
    shapes = {views: ModelShapes(DIM, 8, 256, Grid(1, 4), views, 100, caption_dim=CAPTION) for views in (1, 2, 3)}
    found = {"gathering": gathering()}
    small = {"hidden": 12, "out": 8, "temperature": 0.5}
    learned = InfoNceOptions(**small, learnable_temperature=True)
    found["infonce"] = measure(InfoNce(InfoNceOptions(**small), shapes[2]), 2)
    found["infonce-learned"] = measure(InfoNce(learned, shapes[2]), 2)
    found["infonce-three-views"] = measure(InfoNce(InfoNceOptions(**small), shapes[3]), 3)
    found["clap"] = measure(Clap(ClapOptions(), shapes[1]), 1)
    found["clap-positives"] = measure(Clap(ClapOptions(duplicates="positives"), shapes[2]), 2, alike=True)
    found["clap-released"] = measure(Clap(ClapOptions(gather="released"), shapes[1]), 1)
    found["clap-local"] = measure(Clap(ClapOptions(gather="local"), shapes[1]), 1)
    return found


def main(rank: int, folder: Path) -> None:
    """Join the other process, measure, and leave what was found in the folder."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=2)
    torch.save(measure_all(), folder / f"{rank}.pt")
    dist.barrier()
    dist.destroy_process_group()


if __name__ == "__main__":
    main(int(sys.argv[1]), Path(sys.argv[2]))
