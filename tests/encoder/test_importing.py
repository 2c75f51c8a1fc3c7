"""Foreign checkpoints: recognised by tensors, nothing run, nothing loaded by half, every tensor accounted for."""

from __future__ import annotations

import argparse
import json
import os
import pickle
import random
import shutil
import subprocess
import sys
import types
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch.testing import assert_close

from imported import OLDER, layouts, only
from ssl_wb.encoder.importing.convert import import_checkpoint
from ssl_wb.encoder.importing.files import read_checkpoint
from ssl_wb.errors import DataError, PluginError, UsageError

#: System that a layout has to be recognised as, by a part of its path.
SYSTEMS = {
    "beats": "beats", "inference_eat": "eat", "sslam": "eat", "audiomae": "audiomae", "msm_mae": "msm-mae",
    "m2d_clap": "m2d-clap", "audiomosaic": "audiomosaic", "dasheng": "dasheng", "matpac": "matpac", "m2d_vit": "m2d",
}  # fmt: skip


def system_of(path: Path) -> str:
    return next(system for part, system in SYSTEMS.items() if part in "/".join(path.parts[-3:]))


def name_of(path: Path) -> str:
    return "/".join(path.parts[-2:]) if path.parent.name != "golden2" else path.name


def content_of(path: Path) -> tuple[Any, dict]:
    """Return a file's content and, in it, the state dict."""
    content = load_file(path) if path.suffix == ".safetensors" else torch.load(path, weights_only=True)
    state = content.get("model") if isinstance(content.get("model"), dict) else content
    return content, state


def write(content: Any, original: Path, folder: Path) -> Path:
    """Write changed content under a name that tells nothing, with the config beside it."""
    path = folder / f"changed{original.suffix}"
    (save_file if original.suffix == ".safetensors" else torch.save)(content, path)
    if (config := original.with_name("config.json")).is_file():
        shutil.copy(config, folder)
    return path


@pytest.mark.parametrize("path", layouts(), ids=name_of)
def test_every_layout_is_recognised_without_a_flag_wherever_it_lies(path, tmp_path):
    folder = tmp_path / "as a beats of eat"  # what a path contains changes nothing
    folder.mkdir()
    content, _ = content_of(path)
    found = import_checkpoint(write(content, path, folder))
    assert found.parts.about["system"] == system_of(path)
    fates = {one.name: one for one in found.tensors}
    assert all(one.fate in ("used", "checked") or one.why for one in fates.values())
    assert {one.fate for one in fates.values()} <= {"used", "checked", "left over"}


@pytest.mark.parametrize("path", layouts(), ids=name_of)
def test_a_changed_file_is_refused_by_the_name_of_the_tensor(path, tmp_path):
    content, state = content_of(path)
    needed = [one.name for one in import_checkpoint(path).tensors if one.fate != "left over"]
    draw = random.Random(0)
    for name in draw.sample(needed, 4):
        value = state[name]
        changes = {
            "missing": {},
            "renamed": {f"{name}_": value},
            "misshapen": {name: torch.cat([value, value[:1]]) if value.dim() else value[None]},
            "longer rows": {name: torch.cat([value, value[..., :1]], dim=-1).contiguous()},
            "not finite": {name: torch.full_like(value, torch.nan)},
            "extra": {name: value, f"extra.{name}": value.clone()},
        }
        for change, instead in changes.items():
            del state[name]
            state.update(instead)
            with pytest.raises(DataError) as caught:
                import_checkpoint(write(content, path, tmp_path))
            assert name in caught.value.message, (change, caught.value.message)
            assert caught.value.hint
            for added in instead:
                del state[added]
            state[name] = value


@pytest.mark.parametrize("path", layouts(), ids=name_of)
@pytest.mark.parametrize("kept", [0.5, 0.98])
def test_half_a_file_is_refused(path, kept, tmp_path):
    half = tmp_path / path.name
    half.write_bytes(path.read_bytes()[: int(kept * path.stat().st_size)])
    with pytest.raises(DataError, match="cannot be read") as caught:
        import_checkpoint(half)
    assert "download it again" in caught.value.hint


@pytest.mark.parametrize(
    "prefix", ["module.", "_orig_mod.", "module._orig_mod.", "backbone.", "module.ar.runtime.backbone.", "model."]
)
def test_prefixes_of_wrappers_are_removed(prefix, tmp_path):
    path = next(OLDER.glob("m2d_vit_base-*/*.pth"))
    _, state = content_of(path)
    torch.save({"model": {prefix + name: value for name, value in state.items()}}, tmp_path / "wrapped.pth")
    found, plain = import_checkpoint(tmp_path / "wrapped.pth"), import_checkpoint(path)
    assert found.parts.about["system"] == "m2d"
    for name, value in plain.parts.weights.items():
        assert_close(found.parts.weights[name], value)
    assert all(one.name.startswith(prefix) for one in found.tensors)  # the report has the names of the file


def test_a_missing_tensor_has_the_name_it_would_have_in_the_file(tmp_path):
    path = next(OLDER.glob("m2d_vit_base-*/*.pth"))
    _, state = content_of(path)
    del state["norm.bias"]
    torch.save({f"module.{name}": value for name, value in state.items()}, tmp_path / "wrapped.pth")
    with pytest.raises(DataError, match=r"missing: module\.norm\.bias"):
        import_checkpoint(tmp_path / "wrapped.pth")


def test_a_fine_tuned_file_of_evar_keeps_its_head_out(tmp_path):
    _, state = content_of(next(OLDER.glob("m2d_vit_base-*/*.pth")))
    wrapped = {f"module.ar.runtime.backbone.{name}": value for name, value in state.items()}
    wrapped["module.head.mlp.mlp.0.weight"] = torch.zeros(7, 48)
    torch.save(wrapped, tmp_path / "tuned.pth")
    (left,) = [one for one in import_checkpoint(tmp_path / "tuned.pth").tensors if "head" in one.name]
    assert left.fate == "left over"
    assert "classifier" in left.why


class Runs:
    """A class whose pickle runs code when it is loaded the ordinary way."""

    def __init__(self, function: str, path: Path) -> None:
        self.function, self.path = function, path

    def __reduce__(self) -> tuple:
        if self.function == "system":
            return os.system, (f"touch '{self.path}'",)
        return subprocess.call, (["touch", str(self.path)],)


@pytest.mark.parametrize("function", ["system", "call"])
@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
def test_a_pickle_that_runs_code_is_refused_and_runs_nothing(zipped, function, tmp_path):
    path, trace = next(OLDER.glob("m2d_vit_base-*/*.pth")), tmp_path / "ran"
    content, _ = content_of(path)
    content["args"] = Runs(function, trace)
    torch.save(content, tmp_path / "evil.pth", _use_new_zipfile_serialization=zipped)
    with pytest.raises(DataError, match="would run code") as caught:
        import_checkpoint(tmp_path / "evil.pth")
    assert function in caught.value.message
    assert not trace.exists()


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
def test_settings_of_training_become_inert_stand_ins(zipped, tmp_path, monkeypatch):
    path = next(OLDER.glob("m2d_vit_base-*/*.pth"))
    content, _ = content_of(path)
    module = types.ModuleType("fairseq.dataclass.configs")

    class Config:
        """What fairseq stores; its own code is not there when the file is read."""

    Config.__module__, Config.__qualname__ = module.__name__, "Config"
    module.Config = Config  # type: ignore[attr-defined]
    for name in ("fairseq", "fairseq.dataclass", module.__name__):
        monkeypatch.setitem(sys.modules, name, module)
    config = Config()
    config.depth = 3  # type: ignore[attr-defined]
    content["args"], content["cfg"] = argparse.Namespace(lr=0.1), config
    torch.save(content, tmp_path / "as-released.pth", _use_new_zipfile_serialization=zipped)
    for name in ("fairseq", "fairseq.dataclass", module.__name__):
        monkeypatch.delitem(sys.modules, name)
    assert import_checkpoint(tmp_path / "as-released.pth").parts.about["system"] == "m2d"
    checkpoint, _ = read_checkpoint(tmp_path / "as-released.pth")
    assert checkpoint.setting("args", "lr") == 0.1
    assert checkpoint.setting("cfg", "depth") == 3


def test_a_file_that_is_no_checkpoint_is_told_so(tmp_path):
    (tmp_path / "notes.pt").write_text("hello")
    with pytest.raises(DataError, match="cannot be read as a checkpoint"):
        import_checkpoint(tmp_path / "notes.pt")
    torch.save([1, 2], tmp_path / "list.pt")
    with pytest.raises(DataError, match="holds a list"):
        import_checkpoint(tmp_path / "list.pt")
    torch.save({"epoch": 3}, tmp_path / "empty.pt")
    with pytest.raises(DataError, match="holds no tensors"):
        import_checkpoint(tmp_path / "empty.pt")
    with (tmp_path / "plain.pt").open("wb") as file:
        pickle.dump({"a": 1}, file)
    with pytest.raises((DataError, UsageError)):
        import_checkpoint(tmp_path / "plain.pt")
    torch.save({"linear.weight": torch.zeros(3, 3)}, tmp_path / "other.pt")
    with pytest.raises(DataError, match="no importer recognises") as caught:
        import_checkpoint(tmp_path / "other.pt")
    assert "m2d" in caught.value.hint


def test_a_folder_needs_one_file_with_weights(tmp_path):
    with pytest.raises(UsageError, match="no such file or folder"):
        import_checkpoint(tmp_path / "absent")
    with pytest.raises(UsageError, match="no file with weights"):
        read_checkpoint(tmp_path)
    for name in ("checkpoint-1.pth", "checkpoint-2.pth"):
        shutil.copy(next(OLDER.glob("m2d_vit_base-*/*.pth")), tmp_path / name)
    with pytest.raises(UsageError, match=r"2 files end in \.pth"):
        read_checkpoint(tmp_path)


def test_a_system_can_be_named_and_its_options_set():
    path = next(OLDER.glob("m2d_vit_base-*/*.pth"))
    found = import_checkpoint(path, "m2d", {"heads": 8})
    assert found.parts.backbone["heads"] == 8
    with pytest.raises(PluginError, match="did you mean 'm2d'"):
        import_checkpoint(path, "m2dd")
    with pytest.raises(UsageError, match="--set head"):
        import_checkpoint(path, "m2d", {"head": 8})
    with pytest.raises(DataError):
        import_checkpoint(path, "beats")


def test_the_sample_rate_of_m2d_is_in_names_only_and_can_be_set(tmp_path):
    path = next(OLDER.glob("m2d_vit_base-*/*.pth"))
    folder = tmp_path / path.parent.name.replace("p16k", "p32k")
    folder.mkdir()
    shutil.copy(path, folder / "weights.pth")
    assert import_checkpoint(folder).encoder.sample_rate == 32000
    shutil.copy(path, tmp_path / "weights.pth")
    found = import_checkpoint(tmp_path / "weights.pth")
    assert found.encoder.sample_rate == 16000
    assert any("16 kHz assumed" in note for note in found.parts.about["notes"])
    assert import_checkpoint(tmp_path / "weights.pth", settings={"sample_rate": 32000}).encoder.sample_rate == 32000


def test_an_encoder_alone_may_lack_statistics_and_a_training_file_may_not(tmp_path):
    _, state = content_of(next(OLDER.glob("m2d_vit_base-*/*.pth")))
    del state["norm_stats"]
    torch.save(state, tmp_path / "training.pth")
    with pytest.raises(DataError, match="missing: norm_stats"):
        import_checkpoint(tmp_path / "training.pth")
    assert import_checkpoint(tmp_path / "training.pth", settings={"norm_stats": [-7.1, 4.2]}).encoder.sample_rate
    alone = {name: value for name, value in state.items() if not name.startswith(("decoder_", "target_", "mask_"))}
    torch.save(alone, tmp_path / "encoder.pth")
    found = import_checkpoint(tmp_path / "encoder.pth")
    assert found.parts.about["system"] == "m2d"  # by its position table
    assert float(found.encoder.front_end.mean) == pytest.approx(-7.1)


def test_stored_positions_that_are_not_the_formula_are_kept(tmp_path):
    _, state = content_of(next(OLDER.glob("m2d_vit_base-*/*.pth")))
    state["pos_embed"] = state["pos_embed"] + 0.25
    torch.save(state, tmp_path / "trained.pth")
    found = import_checkpoint(tmp_path / "trained.pth")
    assert_close(found.parts.weights["position_table"], state["pos_embed"][:, 1:])
    assert any("pos_embed" in note for note in found.parts.about["notes"])


def test_fairseq_files_that_torch_saved_anew_have_other_names_of_the_weight_norm(tmp_path):
    path = only("inference_beats.pt")[0]
    content, state = content_of(path)
    plain = import_checkpoint(path)
    for old, new in (("weight_g", "original0"), ("weight_v", "original1")):
        state[f"encoder.pos_conv.0.parametrizations.weight.{new}"] = state.pop(f"encoder.pos_conv.0.{old}")
    torch.save(content, tmp_path / "new.pt")
    found = import_checkpoint(tmp_path / "new.pt")
    assert_close(found.parts.weights["trunk.conv.weight"], plain.parts.weights["trunk.conv.weight"])


def test_beats_without_its_settings_is_refused(tmp_path):
    content, _ = content_of(only("inference_beats.pt")[0])
    torch.save(content["model"], tmp_path / "bare.pt")
    with pytest.raises(DataError, match="has no cfg"):
        import_checkpoint(tmp_path / "bare.pt")
    content["cfg"]["layer_norm_first"] = True
    torch.save(content, tmp_path / "other.pt")
    with pytest.raises(DataError, match=r"cfg\.layer_norm_first is True"):
        import_checkpoint(tmp_path / "other.pt")


def test_a_damaged_config_is_told(tmp_path):
    folder = only("inference_eat_hf")[0]
    shutil.copytree(folder, tmp_path / "hub")
    (tmp_path / "hub" / "config.json").write_text("{")
    with pytest.raises(DataError, match=r"config\.json: cannot be read as JSON"):
        import_checkpoint(tmp_path / "hub")


def test_the_order_of_deciding_between_80_and_128_mels_is_the_table(tmp_path):
    """A bare encoder of 320 patches may be 5 x 64 or 8 x 40: its table tells."""
    from ssl_wb.layers.patches import Grid
    from ssl_wb.layers.positions import sincos_2d

    _, state = content_of(next(OLDER.glob("m2d_vit_base-*/*.pth")))
    keep = ("blocks.", "norm.", "patch_embed.", "cls_token")
    bare = {name: value for name, value in state.items() if name.startswith(keep)}
    table = sincos_2d(Grid(5, 64), 48)
    bare["pos_embed"] = torch.cat([torch.zeros(1, 48), table])[None]
    torch.save(bare, tmp_path / "bare.pth")
    found = import_checkpoint(tmp_path / "bare.pth")
    assert found.parts.about["system"] == "m2d"
    assert found.parts.frames == 64 * 16


@pytest.mark.parametrize(("dim", "patch", "columns", "depth"), [(64, (16, 8), 7, 2), (24, (80, 4), 31, 5)])
def test_geometry_follows_from_shapes(dim, patch, columns, depth, tmp_path):
    from ssl_wb.layers.patches import Grid
    from ssl_wb.layers.positions import sincos_2d
    from ssl_wb_plugins.backbones.vit import Vit, VitOptions

    height, width = patch
    rows = 80 // height
    source = Vit(VitOptions(dim=dim, depth=depth, heads=4, patch=list(patch), mlp_ratio=3.0), 80)
    state = {
        f"patch_embed.{name}" if name.startswith("proj.") else name.removeprefix("trunk."): value
        for name, value in source.state_dict().items()
    }
    state["patch_embed.proj.weight"] = state["patch_embed.proj.weight"].view(dim, 1, height, width)
    state["pos_embed"] = torch.cat([torch.zeros(1, dim), sincos_2d(Grid(rows, columns), dim)])[None]
    state["norm_stats"] = torch.tensor([-6.0, 3.0])
    torch.save(state, tmp_path / "tiny.pth")
    encoder = import_checkpoint(tmp_path / "tiny.pth").encoder
    assert encoder.chunk_columns == columns
    assert encoder.dim == rows * dim
    patches = torch.randn(2, rows * columns, height * width)
    grid = Grid(rows, columns)
    with torch.no_grad():
        assert_close(
            encoder.backbone(encoder.backbone.embed(patches, grid)), source.eval()(source.embed(patches, grid))
        )


@pytest.mark.parametrize("pattern", ["inference_eat_fairseq.pt", "inference_beats.pt", "inference_dasheng.pt"])
def test_a_whole_block_that_is_missing_is_noticed_by_the_stored_depth(pattern, tmp_path):
    path = only(pattern)[0]
    content, state = content_of(path)
    blocks = "encoder.layers" if "beats" in pattern else "blocks"
    last = max(int(name.split(".")[blocks.count(".") + 1]) for name in state if name.startswith(f"{blocks}."))
    for name in [name for name in state if name.startswith(f"{blocks}.{last}.")]:
        del state[name]
    with pytest.raises(DataError, match=rf"missing: {blocks}\.{last}\."):
        import_checkpoint(write(content, path, tmp_path))


def test_the_report_is_plain_json():
    found = import_checkpoint(only("inference_eat_fairseq.pt")[0])
    report = json.loads(json.dumps(found.as_json()))
    assert report["system"] == "eat"
    assert len(report["source"]["sha256"]) == 64
    fates = {one["name"]: one for one in report["tensors"]}
    assert fates["blocks.0.norm1.weight"]["to"] == "trunk.blocks.0.norm1.weight"
    assert "average" in fates["_ema.blocks.0.norm1.weight"]["why"]
