"""Every misuse of the contracts of maskers, objectives and backbones: one message and the documented exit code."""

from __future__ import annotations

from importlib.metadata import EntryPoint, entry_points

import pytest
import torch

from ssl_wb.errors import PluginError, WorkbenchError
from ssl_wb.plugin import registry as registry_module
from ssl_wb.plugin.fault import described
from ssl_wb.plugin.registry import load_registry
from ssl_wb.pretext.build import build_model
from ssl_wb.pretext.inputs import StepInputs
from ssl_wb.pretext.plan import make_plan
from ssl_wb.recipe.load import load_recipe
from ssl_wb_plugins.backbones.vit import Vit

VIEWS = "return a tuple of Mask, one for each view"
SCALAR = "must return a float32 scalar as loss"
#: Name, exit code, part of the message.
TABLE = [
    ("m-none", 4, f"{VIEWS}; seen: NoneType"),
    ("m-single", 4, f"{VIEWS}; seen: Mask"),
    ("m-list", 4, f"{VIEWS}; seen: a list of 1 Mask"),
    ("m-pair", 4, f"{VIEWS}; seen: a tuple of 1 tuple"),
    ("m-empty", 4, "as many masks as its attribute `views`, 1; seen: 0 masks"),
    ("m-not-a-partition", 4, "visible or masked; seen:"),
    ("m-overlap", 4, "once; seen: a row with a patch twice"),
    ("m-range", 4, "return indices from 0 to"),
    ("m-negative", 4, "return indices from 0 to"),
    ("m-unsorted", 4, "must sort the indices of each row"),
    ("m-meta", 4, "stay on the device of the patches, cpu; seen: int64"),
    ("m-float", 4, "return int64 [B, Nv] as Mask.visible; seen: float32"),
    ("m-int32", 4, "return int64 [B, Nv] as Mask.visible; seen: int32"),
    ("m-bool", 4, "return int64 [B, Nv] as Mask.visible; seen: bool"),
    ("m-rows-less", 4, "one row per clip in Mask.visible"),
    ("m-no-visible", 3, "none would be visible"),
    ("m-no-masked", 3, "none would be masked"),
    ("m-two-for-one", 4, "as many masks as its attribute `views`, 1; seen: 2 masks"),
    ("m-one-for-two", 4, "as many masks as its attribute `views`, 2; seen: 1 masks"),
    ("m-ragged", 4, "return int64 [B, Nv] as Mask.visible; seen: a list of 2 list"),
    ("m-global", 4, "it draws from torch's global generator"),
    ("m-writing", 4, "leave request.patches as they are"),
    ("m-no-latents", 4, "TypeError"),
    ("m-constructor", 3, "ratio and size do not fit"),
    ("m-no-arguments", 4, "must have a constructor with the arguments of its base class; seen: TakesNoOptions"),
    ("o-none", 4, "must return an ObjectiveOutput; seen: NoneType"),
    ("o-tensor", 4, "must return an ObjectiveOutput; seen: float32 []"),
    ("o-number", 4, f"{SCALAR}, the mean over clips and patches; seen: float"),
    ("o-nan", 4, "must return a finite loss for finite latents in the first step; seen: nan"),
    ("o-inf", 4, "must return a finite loss for finite latents in the first step; seen: inf"),
    ("o-per-clip", 4, SCALAR),
    ("o-one-number", 4, f"{SCALAR}, the mean over clips and patches; seen: float32 [1]"),
    ("o-detached", 4, "a loss that depends on nothing that is trained"),
    ("o-bf16", 4, f"{SCALAR}, the mean over clips and patches; seen: bfloat16 []"),
    ("o-metric-tensor", 4, "must return scalars as metrics; seen: 'a' is float32"),
    ("o-metric-text", 4, "must return scalars as metrics; seen: 'a' is str"),
    ("o-undeclared", 4, "AttributeError"),
    ("o-unknown-need", 4, "'targets'; did you mean 'target'?"),
    ("o-prediction-bare", 4, "must return one prediction [B, Nm, D] for each view, in a tuple"),
    ("o-prediction-short", 4, "must return one prediction [B, Nm, D] for each view, in a tuple"),
    ("o-unused-head", 4, "no gradient of unused.weight, unused.bias"),
    ("o-prediction-first", 3, "needs a prediction"),
    ("o-captions", 3, "needs captions"),
    ("o-no-super", 4, "AttributeError"),
]


@pytest.fixture
def registry(monkeypatch):
    """The installed plugins and the wrong ones."""
    monkeypatch.setattr(registry_module, "_cached", None)
    wrong = EntryPoint("wrong", "misused_plugins", "ssl_wb")
    found = load_registry([*entry_points(group="ssl_wb"), wrong])
    monkeypatch.setattr(registry_module, "_cached", found)
    return found


def first_step(registry, *settings):
    """Do what `validate` does, and then a first step; return exit code and message of what stops it."""
    try:
        loaded = load_recipe("quickstart", settings, registry=registry)
        make_plan(loaded)
        model = build_model(loaded, 100).train()
        model(StepInputs(torch.randn(3, loaded.front_end.options.n_mels, 208), step=0))
    except Exception as error:
        found = described(error)
        assert isinstance(found, WorkbenchError), found
        return int(found.exit_code), found.message
    return 0, ""


@pytest.mark.parametrize(("name", "code", "text"), TABLE)
def test_misuse(registry, name, code, text):
    kind = "masker" if name.startswith("m-") else "objective"
    value = f'{{name = "{name}"}}'
    seen, message = first_step(registry, f"{kind}={value}" if kind == "masker" else f"{kind}=[{value}]")
    assert (seen, text in message) == (code, True), (seen, message)
    if "failed at" not in message:  # an error within a lambda, of a file that holds many plugins
        assert name in message
    assert message.count("\n") <= 1
    if code == 4:
        assert "of unknown" in message  # the distribution: these have none


def test_every_wrong_plugin_has_its_row(registry):
    offered = {record.name for record in registry.records if record.module == "misused_plugins"}
    assert offered == {name for name, _, _ in TABLE}


@pytest.mark.parametrize("method", ["embed", "forward"])
def test_a_backbone_whose_output_has_another_shape(registry, monkeypatch, method):
    right = getattr(Vit, method)
    monkeypatch.setattr(Vit, method, lambda self, *given: right(self, *given)[:, 1:])
    code, message = first_step(registry)
    assert code == 4
    assert message.startswith("backbone 'vit' of ssl-wb ")
    assert f"from {method}; seen: float32" in message


def test_a_loss_that_diverges_later_is_no_fault_of_the_plugin(registry):
    loaded = load_recipe("quickstart", ['objective=[{name = "o-nan"}]'], registry=registry)
    model = build_model(loaded, 100).train()
    spectrogram = torch.randn(3, loaded.front_end.options.n_mels, 208)
    assert model(StepInputs(spectrogram, step=7)).loss.isnan()
    with pytest.raises(PluginError):
        model(StepInputs(spectrogram, step=0))


def test_under_autocast_an_old_plugins_half_precision_loss_is_accepted(registry):
    loaded = load_recipe("quickstart", ['objective=[{name = "o-bf16"}]'], registry=registry)
    model = build_model(loaded, 100).train()
    with torch.autocast("cpu", torch.bfloat16):
        loss = model(StepInputs(torch.randn(3, loaded.front_end.options.n_mels, 208), step=0)).loss
    assert loss.dtype == torch.float32
