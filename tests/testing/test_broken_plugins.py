"""Each check of the kit can fail: a plugin that is broken in one way fails just the check of that."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch
from broken_plugins import BROKEN

from ssl_wb.api import Checkpoint, DataError, Mask
from ssl_wb.errors import ExitCode, UsageError
from ssl_wb.plugin.kinds import KINDS
from ssl_wb.scaffold.templates import backbone, importer, masker
from ssl_wb.testing import ContractError, check_masker, check_plugin, checks_of, heading_of

PAGE = Path(__file__).parents[2] / "workbench" / "docs" / "plugin-checks.md"
SHARED = [check.name for check in checks_of("masker")][:5]


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """A download of the scaffold's task, and a checkpoint of the system of its importer."""
    folder = tmp_path_factory.mktemp("files")
    download = folder / "download"
    download.mkdir()
    (download / "labels.csv").write_text("file,label,fold\na.wav,low,1\nb.wav,high,2\n", encoding="utf-8")
    return {"root": download, "checkpoint": checkpoint_file(folder / "checkpoint.pt")}


def checkpoint_file(path):
    """Write the encoder of a small masked autoencoder under timm's names."""
    torch.manual_seed(0)
    dim = 16
    shapes = {
        "cls_token": (1, 1, dim),
        "pos_embed": (1, 11, dim),
        "patch_embed.proj.weight": (dim, 1, 16, 16),
        "patch_embed.proj.bias": (dim,),
        **{f"blocks.0.{name}.weight": (dim,) for name in ("norm1", "norm2")},
        **{f"blocks.0.{name}.bias": (dim,) for name in ("norm1", "norm2")},
        "blocks.0.attn.qkv.weight": (3 * dim, dim),
        "blocks.0.attn.qkv.bias": (3 * dim,),
        "blocks.0.attn.proj.weight": (dim, dim),
        "blocks.0.attn.proj.bias": (dim,),
        "blocks.0.mlp.fc1.weight": (4 * dim, dim),
        "blocks.0.mlp.fc1.bias": (4 * dim,),
        "blocks.0.mlp.fc2.weight": (dim, 4 * dim),
        "blocks.0.mlp.fc2.bias": (dim,),
        "norm.weight": (dim,),
        "norm.bias": (dim,),
        "mask_token": (1, 1, dim),
    }
    torch.save({"model": {name: torch.randn(shape) for name, shape in shapes.items()}, "system": "new-plugin"}, path)
    return path


def failure(kind, plugin, given):
    with pytest.raises(ContractError) as caught:
        check_plugin(plugin, **given)
    return caught.value


@pytest.mark.parametrize(("kind", "check"), BROKEN)
def test_it_fails_its_check(kind, check, files):
    plugin, given = BROKEN[kind, check]
    options = {"options": {"clips": given["clips"]}} if "clips" in given else {}
    given = {name: files[name] for name in given if name != "clips"} | options
    error = failure(kind, plugin, given)
    assert error.check == check, error.message
    assert error.heading == heading_of(kind)
    assert error.plugin.startswith(f"{kind} ")
    assert error.exit_code == ExitCode.PLUGIN
    for part in (error.plugin, f"must {error.contract}", f"seen: {error.seen}", f"(check {check!r})"):
        assert part in error.message
    assert f"'Checks of plugins' has the contract, under '{heading_of(kind)}'" in error.hint


def test_every_check_has_a_plugin_that_fails_it():
    wanted = {(kind, check.name) for kind in KINDS for check in checks_of(kind) if check.name not in SHARED}
    assert set(BROKEN) == wanted | {("masker", name) for name in SHARED}


def test_the_scaffolds_plugins_pass(files):
    check_plugin(masker.NewPlugin)
    check_plugin(backbone.NewPlugin, {"dim": 16})
    check_plugin(importer.NewPlugin, checkpoint=files["checkpoint"])


def test_the_page_has_every_check():
    page = PAGE.read_text(encoding="utf-8")
    for kind in KINDS:
        section = page.split(f"## {heading_of(kind)}\n")[1].split("\n#")[0]
        shown = re.findall(r"^\| `([a-z0-9-]+)` \|", section, re.MULTILINE)
        assert shown == [check.name for check in checks_of(kind) if check.name not in SHARED]


def test_an_error_of_the_plugin_names_its_line():
    class Crashes(masker.NewPlugin):
        """Crashes."""

        def __call__(self, request):
            return (Mask(request.patches.undefined, None),)

    error = failure("masker", Crashes, {})
    assert re.search(r"AttributeError: .*undefined.* at test_broken_plugins.py:\d+", error.seen)


def test_a_check_that_is_skipped_does_not_run():
    plugin, _ = BROKEN["masker", "exact-count"]
    check_masker(plugin, skip=["exact-count"])
    with pytest.raises(UsageError, match="did you mean 'exact-count'"):
        check_masker(plugin, skip=["exact-counts"])


@pytest.mark.parametrize("wrong", [int, masker.NewPluginOptions, "random"])
def test_what_is_no_plugin_is_refused(wrong):
    with pytest.raises(UsageError, match="is no plugin"):
        check_plugin(wrong)


def test_options_that_do_not_fit_are_named():
    error = failure("masker", masker.NewPlugin, {"options": {"ratio": 2.0}})
    assert "less than 1" in error.seen


def test_a_checkpoint_that_cannot_be_read_is_named(tmp_path):
    (tmp_path / "empty.pt").write_bytes(b"")
    error = failure("importer", importer.NewPlugin, {"checkpoint": tmp_path / "empty.pt"})
    assert isinstance(error.__cause__, DataError)
    assert not importer.NewPlugin.recognises(Checkpoint({}))
