"""Plugins by name, and what is said when there is none, two, or one that does not work."""

from __future__ import annotations

import logging

import pytest

from ssl_wb.errors import ExitCode, PluginError
from ssl_wb.plugin import registry as module
from ssl_wb.plugin.base import Plugin
from ssl_wb.plugin.registry import PluginRecord, Registry, load_registry

QUIET: dict[str, str] = {}


@pytest.fixture
def load(caplog):
    """Load made-up plugins without the caller's environment."""
    caplog.set_level(logging.WARNING, logger="ssl_wb")

    def load_them(*entry_points, **environment):
        return load_registry(entry_points, environment=environment)

    return load_them


def refusal(registry, kind, name) -> PluginError:
    with pytest.raises(PluginError) as caught:
        registry.get(kind, name)
    assert caught.value.exit_code == ExitCode.PLUGIN
    assert caught.value.hint
    assert "\n" not in caught.value.message
    return caught.value


def test_bare_and_qualified_names(load, masker):
    registry = load(masker("sample"))
    plugin = registry.get("masker", "sample")
    assert plugin.name == "sample"
    for qualified in ("sample-plugins/sample", "Sample_Plugins/sample"):
        assert registry.get("masker", qualified) is plugin
    assert registry.names("masker") == ["sample"]
    assert registry.record("masker", "sample").plugin is plugin


def test_an_unknown_name(load, masker):
    error = refusal(load(masker("random"), masker("block")), "masker", "randm")
    assert error.message == "no masker is called 'randm'; did you mean 'random'? maskers: block, random"
    assert error.hint == "`ssl-wb list-plugins --kind masker` says what each does"


def test_an_unknown_name_unlike_any(load, masker):
    assert refusal(load(masker("random")), "masker", "zzz").message == "no masker is called 'zzz'; maskers: random"


def test_an_unknown_qualified_name(load, masker):
    message = refusal(load(masker("random")), "masker", "sample-plugin/random").message
    assert "did you mean 'sample-plugins/random'?" in message


def test_a_name_of_another_kind(load, masker):
    registry = load(masker("random"))
    assert "'random' is a masker" in refusal(registry, "objective", "random").message


def test_no_plugin_at_all(load):
    error = refusal(load(), "objective", "dino")
    assert error.message == "no objective is called 'dino': none is installed"
    assert "pip install -e ." in error.hint


def test_a_name_offered_twice(load, masker):
    registry = load(masker("random", distribution="alpha"), masker("random", distribution="beta"))
    error = refusal(registry, "masker", "random")
    assert error.message == (
        "masker 'random' is offered by 'random' (alpha 1.2) and 'random' (beta 1.2); "
        "write 'alpha/random' or 'beta/random'"
    )
    alpha, beta = registry.get("masker", "alpha/random"), registry.get("masker", "beta/random")
    assert alpha is not beta
    assert registry.names("masker") == ["alpha/random", "beta/random"]
    assert all(registry.get("masker", name) for name in registry.names("masker"))


def test_plugins_that_failed_are_named_as_suspects(load, masker, plugin):
    registry = load(
        masker("random"),
        *(plugin("bad", "1 / 0"), plugin("worse", "[][1]"), plugin("later", "API_VERSION = 99")),
        plugin("shut", ""),
        SSL_WB_BLOCK_PLUGINS="shut",
    )
    message = refusal(registry, "masker", "spiral").message
    both = "plugin 'bad' (sample-plugins 1.2), 'worse' (sample-plugins 1.2) failed to load and may provide it"
    assert both in message
    assert "'later' (sample-plugins 1.2) is incompatible and may provide it" in message
    assert "'shut' (sample-plugins 1.2) is blocked and may provide it" in message


def test_selecting_one_that_does_not_work_says_why(load, plugin):
    registry = load(
        *(plugin("bad", "1 / 0"), plugin("shut", ""), plugin("later", "API_VERSION = 99")),
        SSL_WB_BLOCK_PLUGINS="shut",
    )
    broken = refusal(registry, "masker", "bad")
    assert "plugin 'bad' (sample-plugins 1.2) is broken: ZeroDivisionError" in broken.message
    assert "SSL_WB_BLOCK_PLUGINS=bad" in broken.hint
    assert "pip uninstall sample-plugins" in broken.hint
    assert "is incompatible: needs plugin API 99" in refusal(registry, "masker", "later").message
    shut = refusal(registry, "masker", "sample-plugins/shut")
    assert "is blocked" in shut.message
    assert shut.hint == "take its name out of SSL_WB_BLOCK_PLUGINS"


def test_each_plugin_left_out_costs_one_warning_line(load, masker, plugin, caplog):
    load(masker("fine"), plugin("bad", "1 / 0"), plugin("later", "API_VERSION = 99"), plugin("shut", ""))
    lines = [record.getMessage() for record in caplog.records if "shut" not in record.getMessage()]
    assert len(lines) == 2
    assert all("\n" not in line for line in lines)
    assert lines[0].startswith("plugin 'bad' (sample-plugins 1.2) is broken and left out: ZeroDivisionError")
    assert lines[0].endswith("block it with SSL_WB_BLOCK_PLUGINS=bad, or remove it with `pip uninstall sample-plugins`")
    assert lines[1].startswith("plugin 'later' (sample-plugins 1.2) is incompatible and left out")


def test_blocked_plugins_cost_none(load, masker, plugin, caplog):
    load(masker("fine"), plugin("bad", "1 / 0"), SSL_WB_BLOCK_PLUGINS=" bad , ")
    assert caplog.records == []


def test_a_block_that_blocks_nothing_is_told(load, masker, caplog):
    load(masker("random"), SSL_WB_BLOCK_PLUGINS="randm")
    (record,) = caplog.records
    assert record.getMessage() == (
        "SSL_WB_BLOCK_PLUGINS names 'randm', which is no plugin here; did you mean 'random'?"
    )


@pytest.mark.parametrize(("value", "strict"), [("1", True), ("yes", True), ("0", False), ("", False)])
def test_strict(load, plugin, value, strict):
    entry_point = plugin("bad", "1 / 0")
    if strict:
        with pytest.raises(PluginError, match="is broken: ZeroDivisionError"):
            load(entry_point, SSL_WB_STRICT_PLUGINS=value)
    else:
        assert load(entry_point, SSL_WB_STRICT_PLUGINS=value).records[0].status == "broken"


def test_records_are_in_the_order_of_kinds_then_names(load, masker, plugin):
    registry = load(plugin("aaa", "1 / 0"), masker("b"), masker("a"))
    assert [(record.kind, record.name) for record in registry.records] == [
        ("masker", "a"),
        ("masker", "b"),
        (None, "aaa"),
    ]


def test_the_installed_plugins_are_loaded_once(monkeypatch):
    calls = []
    monkeypatch.setattr(module, "_cached", None)
    monkeypatch.setattr(module.metadata, "entry_points", lambda group: calls.append(group) or [])
    first = load_registry(environment=QUIET)
    assert load_registry(environment=QUIET) is first
    assert calls == ["ssl_wb"]
    assert load_registry(environment=QUIET, refresh=True) is not first
    assert calls == ["ssl_wb", "ssl_wb"]


def test_made_up_plugins_are_not_kept(monkeypatch, load, masker):
    monkeypatch.setattr(module, "_cached", "the installed ones")
    load(masker("sample"))
    assert load_registry() == "the installed ones"


def test_the_bundled_plugins_are_there():
    registry = load_registry(environment=QUIET, refresh=True)
    bundled = {
        (record.kind, record.name, record.status) for record in registry.records if record.distribution == "ssl-wb"
    }
    assert bundled == {
        ("source", "folder", "active"),
        ("source", "manifest", "active"),
        ("source", "arrow", "active"),
        ("source", "scenes", "active"),
        ("masker", "random", "active"),
        ("masker", "ibm", "active"),
        ("masker", "dwm", "active"),
        ("masker", "time-frequency", "active"),
        ("masker", "structured", "active"),
        ("masker", "sgim", "active"),
        ("objective", "malap", "active"),
        ("objective", "mcl", "active"),
        ("objective", "dino", "active"),
        ("objective", "reconstruction", "active"),
        ("objective", "eat", "active"),
        ("objective", "infonce", "active"),
        ("objective", "clap", "active"),
        ("backbone", "vit", "active"),
        ("backbone", "beats", "active"),
        ("front-end", "log-mel", "active"),
        ("front-end", "kaldi-fbank", "active"),
        ("front-end", "db-mel", "active"),
        ("augmentation", "roll", "active"),
        ("augmentation", "gain-beta", "active"),
        ("augmentation", "audiomentations", "active"),
        ("optimiser", "adamw", "active"),
        ("optimiser", "sgd", "active"),
        ("optimiser", "lars", "active"),
        ("optimiser", "muon", "active"),
        ("schedule", "cosine", "active"),
        ("schedule", "linear", "active"),
        ("schedule", "constant", "active"),
        ("schedule", "warm-up-stable-decay", "active"),
        ("evaluator", "linear", "active"),
        ("evaluator", "zero-shot", "active"),
        ("evaluator", "caption-retrieval", "active"),
        ("evaluator", "knn", "active"),
        ("evaluator", "mlp", "active"),
        ("evaluator", "layers", "active"),
        ("evaluator", "attentive", "active"),
        ("evaluator", "clusters", "active"),
        ("evaluator", "spectrum", "active"),
        ("evaluator", "retrieval", "active"),
        ("evaluator", "fine-tune", "active"),
        *(("importer", name, "active") for name in ("matpac", "m2d", "m2d-clap", "msm-mae", "eat", "audiomosaic")),
        *(("importer", name, "active") for name in ("beats", "audiomae", "dasheng")),
        *(("task", name, "active") for name in ("esc50", "esc10", "urbansound8k", "fsd50k", "envsdd")),
        *(("task", name, "active") for name in ("speech-commands-v1", "speech-commands-v2", "voxceleb1")),
        *(("task", name, "active") for name in ("voxforge", "crema-d", "gtzan", "nsynth-family", "nsynth-pitch")),
        *(("task", name, "active") for name in ("surge", "openmic", "magnatagatune", "audioset20k", "audioset2m")),
        *(("task", f"mtg-jamendo-{tags}", "active") for tags in ("top50", "genre", "instrument", "moodtheme")),
    }


def test_a_class_may_stand_for_a_library(caplog):
    class Named(Plugin):
        """One of the library."""

        kind = "masker"
        name = "stripes-3"

    class Library(Plugin):
        """A library of stripes."""

        kind = "masker"
        name = "stripes"
        is_library = True

        @classmethod
        def library_plugin(cls, name):
            return Named if name == "stripes-3" else None

        @classmethod
        def library_names(cls):
            return ["stripes-3"]

    class Other(Plugin):
        """Another masker."""

        kind = "masker"
        name = "other"

    records = [PluginRecord("masker", one.name, "fakes", "1.0", "active", plugin=one) for one in (Library, Other)]
    registry = Registry(records)
    assert registry.get("masker", "stripes-3") is Named
    assert registry.names("masker") == ["other"]
    assert registry.record("masker", "stripes").plugin is Library
    with pytest.raises(PluginError, match="stands for a library; name one of its plugins"):
        registry.get("masker", "stripes")
    with pytest.raises(PluginError, match="did you mean 'stripes-3'"):
        registry.get("masker", "strips-3")
