"""Maskers and objectives that break their contract, each in one way that its name says."""

from __future__ import annotations

import torch
from torch import nn

from ssl_wb.api import Mask, Masker, Objective, ObjectiveOutput, hookimpl, visible_count

MASKERS: list[type[Masker]] = []
OBJECTIVES: list[type[Objective]] = []


def masker(name, answer, views=1):
    def call(self, request):
        cells = request.grid.cells
        good = Mask.from_scores(request.uniform(cells), visible_count(cells, 0.7))
        return answer(request, good)

    body = {"__doc__": f"Bad: {name}.", "__module__": __name__, "name": name, "views": views, "__call__": call}
    MASKERS.append(type(name, (Masker,), body))


def draw(request, visible):
    return Mask.from_scores(request.uniform(request.grid.cells), visible)


def overlap(request, good):
    return (Mask(good.visible, torch.cat([good.visible[:, :1], good.masked[:, 1:]], 1).sort(1).values),)


def boolean(request, good):
    noise = request.uniform(request.grid.cells)
    return (Mask(noise < 0.3, noise >= 0.3),)


def from_the_global_generator(request, good):
    return (Mask.from_scores(torch.rand(request.patches.shape[:2], device=request.patches.device), 10),)


def writing(request, good):
    request.patches.zero_()
    return (good,)


masker("m-none", lambda r, m: None)
masker("m-single", lambda r, m: m)
masker("m-list", lambda r, m: [m])
masker("m-pair", lambda r, m: ((m.visible, m.masked),))
masker("m-empty", lambda r, m: ())
masker("m-not-a-partition", lambda r, m: (Mask(m.visible, m.masked[:, :-1]),))
masker("m-overlap", overlap)
masker("m-range", lambda r, m: (Mask(m.visible, m.masked + 99),))
masker("m-negative", lambda r, m: (Mask(m.visible - 99, m.masked),))
masker("m-unsorted", lambda r, m: (Mask(m.visible.flip(1), m.masked.flip(1)),))
masker("m-meta", lambda r, m: (Mask(m.visible.to("meta"), m.masked.to("meta")),))
masker("m-float", lambda r, m: (Mask(m.visible.float(), m.masked.float()),))
masker("m-int32", lambda r, m: (Mask(m.visible.int(), m.masked.int()),))
masker("m-bool", boolean)
masker("m-rows-less", lambda r, m: (Mask(m.visible[:-1], m.masked[:-1]),))
masker("m-no-visible", lambda r, m: (draw(r, 0),))
masker("m-no-masked", lambda r, m: (draw(r, r.grid.cells),))
masker("m-two-for-one", lambda r, m: (m, m))
masker("m-one-for-two", lambda r, m: (m,), views=2)
masker("m-ragged", lambda r, m: (Mask([[0, 1], [0]], m.masked),))
masker("m-global", from_the_global_generator)
masker("m-writing", writing)
masker("m-no-latents", lambda r, m: (Mask.from_scores(r.latents(None).mean(-1), 10),))


class RaisesValueError(Masker):
    """Refuses its options."""

    name = "m-constructor"

    def __init__(self, options):
        raise ValueError("ratio and size do not fit")

    def __call__(self, request): ...


class TakesNoOptions(Masker):
    """Has a constructor without arguments."""

    name = "m-no-arguments"

    def __init__(self):
        pass

    def __call__(self, request): ...


MASKERS += [RaisesValueError, TakesNoOptions]


def objective(name, answer, needs=("features",), extra_head=False):
    def init(self, options, shapes):
        Objective.__init__(self, options, shapes)
        self.head = nn.Linear(shapes.feature_dim, shapes.latent_dim)
        if extra_head:
            self.unused = nn.Linear(shapes.feature_dim, 4)

    def forward(self, state):
        made = self.head(state.views[0].features)
        return answer(made, made.float().square().mean(), state)

    body = {"__doc__": f"Bad: {name}.", "__module__": __name__, "name": name, "needs": frozenset(needs)}
    OBJECTIVES.append(type(name, (Objective,), {**body, "__init__": init, "forward": forward}))


objective("o-none", lambda made, loss, state: None)
objective("o-tensor", lambda made, loss, state: loss)
objective("o-number", lambda made, loss, state: ObjectiveOutput(1.0))
objective("o-nan", lambda made, loss, state: ObjectiveOutput(loss * float("nan")))
objective("o-inf", lambda made, loss, state: ObjectiveOutput(loss / 0))
objective("o-per-clip", lambda made, loss, state: ObjectiveOutput(made.float().square().mean((1, 2))))
objective("o-one-number", lambda made, loss, state: ObjectiveOutput(loss[None]))
objective("o-detached", lambda made, loss, state: ObjectiveOutput(loss.detach()))
objective("o-bf16", lambda made, loss, state: ObjectiveOutput(loss.bfloat16()))
objective("o-metric-tensor", lambda made, loss, state: ObjectiveOutput(loss, {"a": made.detach()}))
objective("o-metric-text", lambda made, loss, state: ObjectiveOutput(loss, {"a": "fine"}))
objective("o-undeclared", lambda made, loss, state: ObjectiveOutput(loss + state.views[0].target.mean()))
objective("o-unknown-need", lambda made, loss, state: ObjectiveOutput(loss), needs=("features", "targets"))
objective("o-prediction-bare", lambda made, loss, state: ObjectiveOutput(loss, {}, made))
objective("o-prediction-short", lambda made, loss, state: ObjectiveOutput(loss, {}, (made[:, 1:],)))
objective("o-unused-head", lambda made, loss, state: ObjectiveOutput(loss), extra_head=True)
objective("o-prediction-first", lambda m, loss, s: ObjectiveOutput(loss), needs=("features", "prediction"))
objective("o-captions", lambda m, loss, s: ObjectiveOutput(loss), needs=("features", "captions"))


class ForgetsSuper(Objective):
    """Does not call its base's constructor."""

    name = "o-no-super"

    def __init__(self, options, shapes):
        self.head = nn.Linear(shapes.latent_dim, 4)

    def forward(self, state): ...


OBJECTIVES += [ForgetsSuper]


@hookimpl
def ssl_wb_maskers():
    return MASKERS


@hookimpl
def ssl_wb_objectives():
    return OBJECTIVES
