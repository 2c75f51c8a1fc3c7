"""Every bundled plugin is held to its contract by the kit that authors use."""

from __future__ import annotations

from pathlib import Path

import pytest

from ssl_wb.plugin.kinds import KINDS
from ssl_wb.plugin.registry import load_registry
from ssl_wb.testing import check_plugin, checks_of

REFERENCE = Path(__file__).parents[1] / "reference"
GOLDEN = REFERENCE / "golden2"

#: Options that make a plugin small and its checks fast.
OPTIONS = {
    "sgim": {"iterations": 4},
    "dino": {"prototypes": 20, "hidden": 16, "bottleneck": 8},
    "infonce": {"hidden": 16, "out": 8},
    "vit": {"dim": 32, "depth": 2, "heads": 2},
    "beats": {
        "dim": 32,
        "depth": 2,
        "heads": 2,
        "hidden": 48,
        "patch_dim": 16,
        "conv_kernel": 8,
        "conv_groups": 4,
    },
    "linear": {"epochs": 2, "resamples": 100, "lr": 1e-3, "weight_decay": [1e-3]},
    "mlp": {"epochs": 2, "resamples": 100, "lr": 1e-3, "hidden": 8, "hidden_layers": 1},
    "layers": {"epochs": 2, "resamples": 100, "lr": 1e-3},
    "attentive": {"epochs": 2, "resamples": 100, "lr": 1e-3},
    "knn": {"resamples": 100},
    "fine-tune": {"epochs": 1, "resamples": 100},
    "clusters": {"starts": 1},
    "lars": {"lr": 1.0},
    "scenes": {"clips": 20, "seconds": 0.2},
}
#: What the check of a kind takes besides.
GIVEN = {
    "msm-mae": {"checkpoint": GOLDEN / "inference_msm_mae/80x208p16x16/checkpoint-100.pth"},
    "beats importer": {"checkpoint": GOLDEN / "inference_beats.pt"},
    "dasheng": {"checkpoint": GOLDEN / "inference_dasheng.pt"},
    "audiomae": {"checkpoint": GOLDEN / "inference_audiomae_pretrained.pt"},
    "audiomosaic": {"checkpoint": GOLDEN / "inference_audiomosaic_hf"},
    "eat": {"checkpoint": GOLDEN / "inference_eat_hf"},
    "matpac": {"checkpoint": REFERENCE / "tiny_matpac.pt"},
    "m2d": {"checkpoint": REFERENCE / "m2d_vit_base-80x208p16x16p16k/checkpoint-300.pth"},
}
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
    options = OPTIONS.get(name, {}) if kind != "importer" else {}
    given = GIVEN.get(f"{name} importer", GIVEN.get(name, {})) if kind == "importer" else {}
    arguments = [] if kind == "task" else [options]
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
            with pytest.raises(Exception, match=f"check '{check}'"):
                check_plugin(
                    load_registry().get(kind, name), OPTIONS.get(name, {}) if kind != "importer" else {}, skip=others
                )


def test_every_kind_has_checks():
    for kind in KINDS:
        names = [check.name for check in checks_of(kind)]
        assert len(names) == len(set(names)) > 5
        assert all(check.contract for check in checks_of(kind)), kind
