"""Trunks and objectives written against ssl-wb 0.1: ``finish``, ``branches`` and ``layers_and_branches`` still work."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from ssl_wb.api import Backbone, Grid, Mask, ModelShapes, Objective, ObjectiveOutput, PluginOptions, Trunk, View
from ssl_wb.errors import PluginError
from ssl_wb.plugin.backbone import final_norm_of
from ssl_wb.pretext.inputs import StepInputs
from ssl_wb.pretext.model import PretextModel, WeightedObjective
from ssl_wb.recipe.schema import TeacherSection
from ssl_wb_plugins.maskers.random import RandomMasker, RandomOptions

DIM, PIXELS = 8, 256


class OldTrunk(Trunk):
    """A trunk of 0.1; its norm has the name that a method has now."""

    def __init__(self):
        super().__init__()
        self.mlp = nn.Linear(DIM, DIM)
        self.final_norm = nn.LayerNorm(DIM)
        nn.init.constant_(self.final_norm.bias, 2.0)

    def finish(self, latents):
        return 3.0 * self.final_norm(latents)

    def layers(self, tokens, depth=None):
        return [tokens + self.mlp(tokens)]

    def layers_and_branches(self, tokens):
        return self.layers(tokens), [self.mlp(tokens)]

    def forward(self, tokens):
        return self.finish(self.layers(tokens)[-1])


class OldBackbone(Backbone):
    """A linear embedding before it."""

    name = "old"

    def __init__(self):
        super().__init__(PluginOptions(), 32, 64)
        self.dim, self.patch, self.prefix_tokens = DIM, (16, 16), 0
        self.proj, self.trunk = nn.Linear(PIXELS, DIM), OldTrunk()

    def embed(self, patches, grid, indices=None):
        tokens = self.proj(patches)
        return tokens if indices is None else tokens.gather(1, indices[:, :, None].expand(-1, -1, DIM))


class OldObjective(Objective):
    """Reads a view by its old names."""

    name = "old"
    needs = frozenset({"branches"})

    def forward(self, state):
        view = state.views[0]
        with pytest.warns(DeprecationWarning, match=r"View\.branches"):
            branch = view.branches[-1]
        with pytest.warns(DeprecationWarning, match=r"View\.finish"):
            normed = view.finish(view.layers[-1])
        self.seen = branch, normed
        return ObjectiveOutput(view.latents.mean() + normed.mean())


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_an_old_trunk_and_an_old_objective_compute_what_they_did():
    torch.manual_seed(0)
    backbone, shapes = OldBackbone(), ModelShapes(DIM, 8, PIXELS, Grid(2, 4), 1, 100)
    objective = OldObjective(PluginOptions(), shapes)
    model = PretextModel(
        backbone=backbone,
        masker=RandomMasker(RandomOptions(ratio=0.5)),
        predictor=None,
        teacher=TeacherSection(),
        objectives=[WeightedObjective("old", 1.0, objective)],
        shapes=shapes,
        seed=0,
    )
    tokens = torch.randn(2, 5, DIM)
    assert_close(backbone.layers(tokens)[-1], backbone(tokens))
    assert_close(copy.deepcopy(backbone)(tokens), backbone(tokens))
    assert "trunk.final_norm.weight" in backbone.state_dict()
    mask = Mask(torch.arange(4)[None].expand(2, -1), torch.arange(4, 8)[None].expand(2, -1))
    output = model(StepInputs(torch.randn(2, 32, 64), step=0, masks=(mask,)))
    output.loss.backward()
    branch, normed = objective.seen
    assert branch.shape == (2, 4, DIM)
    assert_close(normed.mean(), torch.tensor(6.0), rtol=1e-4, atol=1e-4)  # 3 times the norm's bias


def test_the_old_names_of_a_new_trunk_are_answered_with_a_warning():
    class NewTrunk(Trunk):
        def forward(self, tokens):
            return tokens

        def layers(self, tokens, depth=None):
            return [tokens]

        def final_norm(self, latents):
            return latents + 1

    trunk, tokens = NewTrunk(), torch.zeros(1, 1, DIM)
    with pytest.warns(DeprecationWarning, match=r"Trunk\.finish"):
        assert_close(trunk.finish(tokens), tokens + 1)
    with pytest.raises(PluginError, match="MLPs' outputs"):
        trunk.layers_and_mlp_outputs(tokens)
    with (
        pytest.warns(DeprecationWarning, match="layers_and_branches"),
        pytest.raises(PluginError, match="MLPs' outputs"),
    ):
        trunk.layers_and_branches(tokens)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_an_old_trunk_that_calls_the_finish_of_the_base_class_norms_once():
    class Calls(OldTrunk):
        def finish(self, latents):
            return Trunk.finish(self, self.final_norm(latents))

    trunk, tokens = Calls(), torch.randn(1, 3, DIM)
    assert_close(trunk.finish(tokens), trunk.final_norm(tokens))


@pytest.mark.parametrize("attribute", [nn.LayerNorm(DIM), True])
def test_an_old_trunk_without_finish_may_call_anything_final_norm(attribute):
    class Plain(Trunk):
        def __init__(self):
            super().__init__()
            self.final_norm = attribute

        def forward(self, tokens):
            return self.layers(tokens)[-1]

        def layers(self, tokens, depth=None):
            return [2 * tokens + 1]

    trunk, tokens = Plain(), torch.randn(1, 3, DIM)
    assert trunk.final_norm is attribute
    assert_close(final_norm_of(trunk)(trunk.layers(tokens)[-1]), trunk(tokens))


def test_a_view_has_its_new_names():
    view = View(
        Mask(torch.zeros(1, 1), torch.zeros(1, 1)), torch.zeros(1), torch.zeros(1), mlp_outputs=(torch.ones(1),)
    )
    assert view.mlp_outputs[0] == 1
    assert view.final_norm(torch.ones(1)) == 1
