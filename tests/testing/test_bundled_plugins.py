"""Every bundled plugin is held to its contract by the kit that authors use."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from ssl_wb.api import ProbeTask
from ssl_wb.plugin.kinds import KINDS
from ssl_wb.plugin.registry import load_registry
from ssl_wb.testing import ContractError, check_plugin, checks_of, tiny_task

REFERENCE = Path(__file__).parents[1] / "reference"
GOLDEN = REFERENCE / "golden2"

#: Options that make a plugin small and its checks fast.
OPTIONS = {
    ("masker", "sgim"): {"iterations": 4},
    ("objective", "dino"): {"prototypes": 20, "hidden": 16, "bottleneck": 8},
    ("objective", "infonce"): {"hidden": 16, "out": 8},
    ("backbone", "vit"): {"dim": 32, "depth": 2, "heads": 2},
    ("backbone", "beats"): {
        "dim": 32,
        "depth": 2,
        "heads": 2,
        "hidden": 48,
        "patch_dim": 16,
        "conv_kernel": 8,
        "conv_groups": 4,
    },
    ("evaluator", "linear"): {"epochs": 2, "resamples": 100, "lr": 1e-3, "weight_decay": [1e-3]},
    ("evaluator", "mlp"): {"epochs": 2, "resamples": 100, "lr": 1e-3, "hidden": 8, "hidden_layers": 1},
    ("evaluator", "layers"): {"epochs": 2, "resamples": 100, "lr": 1e-3},
    ("evaluator", "attentive"): {"epochs": 2, "resamples": 100, "lr": 1e-3},
    ("evaluator", "knn"): {"resamples": 100},
    ("evaluator", "fine-tune"): {"epochs": 1, "resamples": 100},
    ("evaluator", "clusters"): {"starts": 1},
    ("optimiser", "lars"): {"lr": 1.0},
    ("source", "scenes"): {"clips": 20, "seconds": 0.2},
}
#: Small checkpoints, by importer.
CHECKPOINTS = {
    "msm-mae": GOLDEN / "inference_msm_mae/80x208p16x16/checkpoint-100.pth",
    "beats": GOLDEN / "inference_beats.pt",
    "dasheng": GOLDEN / "inference_dasheng.pt",
    "audiomae": GOLDEN / "inference_audiomae_pretrained.pt",
    "audiomosaic": GOLDEN / "inference_audiomosaic_hf",
    "eat": GOLDEN / "inference_eat_hf",
    "matpac": REFERENCE / "tiny_matpac.pt",
    "m2d": REFERENCE / "m2d_vit_base-80x208p16x16p16k/checkpoint-300.pth",
}


class Matching:
    """Hears which of the classes of the kit's task a tone is of."""

    sample_rate = 16000

    def match_captions(self, waveform, captions, lengths=None):
        pitch = torch.fft.rfft(waveform).abs().argmax(dim=1) * 16000 / waveform.shape[1] / 400  # [B], 1 for class 0
        words = torch.arange(len(captions)) % 3  # [m]
        return 1.0 / (1.0 + (pitch[:, None] - 1.0 - words).abs())


def captioned() -> ProbeTask:
    captions = [(f"class {number % 3} can be heard",) for number in range(60)]
    return replace(tiny_task("audio"), encoder=Matching(), captions=captions)


#: Evaluators that need an encoder trained beside captions.
CAPTIONED = {"zero-shot", "caption-retrieval"}
#: Checks that a plugin departs from, each with its reason.
DEPARTURES = {
    ("masker", "structured"): {
        "exact-count": "its ratio is of rows plus columns, and the released code draws how it is divided for each batch"
    },
    ("backbone", "beats"): {
        "indices": "for released encoders only: its positions follow from all patches, and it says so"
    },
    ("front-end", "db-mel"): {"options-bounded": "a batch norm's factors and summands may be any numbers"},
    ("importer", "m2d"): {"options-bounded": "norm_stats are statistics of log-mel values, which may be any numbers"},
    ("importer", "m2d-clap"): {"options-bounded": "as m2d"},
}


def bundled() -> list[tuple[str, str]]:
    records = load_registry().records
    return [(one.kind, one.name) for one in records if one.distribution == "ssl-wb" and not one.plugin.is_library]


@pytest.mark.parametrize(("kind", "name"), bundled())
def test_it_keeps_the_contract(kind, name):
    plugin = load_registry().get(kind, f"ssl-wb/{name}")
    arguments = [] if kind == "task" else [OPTIONS.get((kind, name), {})]
    given = {"checkpoint": CHECKPOINTS[name]} if kind == "importer" and name in CHECKPOINTS else {}
    if name in CAPTIONED:
        given = {"task": captioned()}
    check_plugin(plugin, *arguments, skip=list(DEPARTURES.get((kind, name), {})), **given)


@pytest.mark.parametrize("name", ["gain", "polarity-inversion"])
def test_a_librarys_plugin_keeps_it(name):
    plugin = load_registry().get("augmentation", name)
    check_plugin(plugin, skip=["plugin-class", "options-documented", "options-bounded"])  # the library's own names


def test_every_departure_is_one():
    """A departure that is mended is taken out of the list."""
    for (kind, name), reasons in DEPARTURES.items():
        for check in reasons:
            others = [one.name for one in checks_of(kind) if one.name != check]
            plugin, options = load_registry().get(kind, name), OPTIONS.get((kind, name), {})
            with pytest.raises(ContractError, match=f"check '{check}'"):
                check_plugin(plugin, options, skip=others)


def test_every_kind_has_checks():
    for kind in KINDS:
        names = [check.name for check in checks_of(kind)]
        assert len(names) == len(set(names)) > 5
        assert all(check.contract for check in checks_of(kind)), kind
