"""Sizes come from shapes and stored settings: every layout imports in other sizes, and gives what they imply."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from imported import OLDER, only
from ssl_wb import load_encoder
from ssl_wb.workflows.encoder_folders import import_encoder

#: By layout: replacements of sizes, axis by axis; of stored settings, by key; and what the encoder then has. Widths and
#: depths are those of the recorded files: 32 or 48 wide, hidden 4 times that.
VARIANTS: dict[str, dict[str, Any]] = {
    "inference_eat_fairseq.pt": {
        "sizes": {32: 40, 96: 120, 128: 60, 384: 320},
        "settings": {"num_heads": 5, "target_length": 256},
        "has": {"dim": 40, "heads": 5, "chunk": 256, "published": 40},
    },
    "inference_eat_hf": {
        "sizes": {32: 40, 96: 120, 128: 60, 384: 320},
        "settings": {"num_heads": 5, "img_size": [192, 128]},
        "has": {"dim": 40, "heads": 5, "chunk": 192, "published": 40},
    },
    "inference_audiomosaic_hf": {
        "sizes": {32: 40, 96: 120, 128: 60, 257: 129, 512: 52},
        "settings": {"num_heads": 5, "target_length": 256},
        "has": {"dim": 40, "heads": 5, "chunk": 256, "published": 40},
    },
    "inference_audiomosaic_hf_classifier": {
        "sizes": {32: 40, 96: 120, 128: 60, 257: 129, 9: 7},
        "settings": {"num_heads": 5, "target_length": 256, "num_classes": 7},
        "has": {"dim": 40, "heads": 5, "chunk": 256, "published": 40},
    },
    "inference_audiomae_pretrained.pt": {
        "sizes": {32: 40, 96: 120, 128: 60, 513: 257},
        "has": {"dim": 40, "heads": 4, "chunk": 512, "published": 40},
    },
    "inference_audiomae_finetuned.pt": {
        "sizes": {32: 40, 96: 120, 128: 60, 513: 257, 13: 9},
        "has": {"dim": 40, "heads": 4, "chunk": 512, "published": 40},
    },
    "inference_beats.pt": {
        "sizes": {32: 42, 128: 50, 24: 20, 4: 6, 8: 7},
        "names": {"weight_v": (42, 7, 10), "weight_g": (1, 1, 10), "grep_linear.weight": (8, 7),
                  "grep_linear.bias": (8,), "bias.weight": (48, 6)},
        "settings": {"conv_pos": 10, "conv_pos_groups": 6, "encoder_attention_heads": 6, "num_buckets": 48},
        "has": {"dim": 42, "heads": 6, "chunk": 6000, "published": 42},
    },
    "inference_dasheng.pt": {
        "sizes": {32: 40, 96: 120, 128: 60, 52: 30},
        "settings": {"num_heads": 5, "embed_dim": 40, "target_length": 120},
        "has": {"dim": 40, "heads": 5, "chunk": 120, "published": 40},
    },
    "inference_msm_mae/*": {
        "sizes": {32: 40, 96: 120, 128: 60, 66: 45},
        "drop": ("cls_token",),
        "has": {"dim": 40, "heads": 4, "chunk": 144, "published": 200},
    },
    "inference_m2d_clap/*p16x16-*": {
        "sizes": {32: 40, 96: 120, 128: 60},
        "names": {"pos_embed": (1, 36, 40)},
        "drop": ("text_proj.weight", "text_proj.bias"),
        "has": {"dim": 40, "heads": 4, "chunk": 112, "published": 200},
    },
    "inference_m2d_clap/*kpB-*": {
        "sizes": {32: 40, 96: 120, 128: 60},
        "names": {"pos_embed": (1, 36, 40), "sem_blocks.0.mlp.fc1.weight": (80, 40), "sem_blocks.0.mlp.fc1.bias": (80,),
                  "sem_blocks.0.mlp.fc2.weight": (40, 80), "sem_blocks.1.mlp.fc1.weight": (80, 40),
                  "sem_blocks.1.mlp.fc1.bias": (80,), "sem_blocks.1.mlp.fc2.weight": (40, 80)},
        "has": {"dim": 40, "heads": 4, "chunk": 112, "published": 200},
    },
}  # fmt: skip


def resized(name: str, value: Tensor, variant: dict[str, Any]) -> Tensor:
    """Return random values of the replaced shape; the patch's own sizes stay."""
    if not value.is_floating_point() or ("patch" in name and value.dim() == 4 and "beats" not in name):
        shape = (variant["sizes"].get(value.shape[0], value.shape[0]), *value.shape[1:]) if value.dim() else ()
    else:
        given = next((shape for part, shape in variant.get("names", {}).items() if part in name), None)
        shape = given or tuple(variant["sizes"].get(size, size) for size in value.shape)
    if tuple(shape) == tuple(value.shape):
        return value
    draw = torch.Generator().manual_seed(len(name))
    found = 0.1 * torch.randn(shape, generator=draw)
    return found.abs() + 0.5 if name.endswith(("running_var", "weight_g")) else found


def replaced(settings: Any, changes: dict[str, Any]) -> Any:
    """Replace settings wherever their keys stand."""
    if isinstance(settings, dict):
        return {key: changes.get(key, replaced(one, changes)) for key, one in settings.items()}
    return settings


@pytest.mark.parametrize("pattern", VARIANTS)
def test_other_sizes_import_without_a_flag(pattern, tmp_path):
    variant = copy.deepcopy(VARIANTS[pattern])
    place = only(pattern)[0]
    path = next(iter(sorted(place.glob("*.pth")) + sorted(place.glob("*.safetensors")))) if place.is_dir() else place
    safe = path.suffix == ".safetensors"
    content = load_file(path) if safe else torch.load(path, weights_only=True)
    state = content.get("model", content)
    for name in list(state):
        if name in variant.get("drop", ()):
            del state[name]
        elif isinstance(state[name], Tensor):
            state[name] = resized(name, state[name], variant).contiguous()
    settings = variant.get("settings", {})
    if safe:
        config = json.loads(path.with_name("config.json").read_text())
        (tmp_path / "config.json").write_text(json.dumps(replaced(config, settings)))
        save_file(state, tmp_path / "model.safetensors")
    else:
        for key in ("cfg", "config"):
            if key in content:
                content[key] = replaced(content[key], settings)
        torch.save(content, tmp_path / path.name)
    import_encoder(str(tmp_path), tmp_path / "encoder")
    encoder = load_encoder(tmp_path / "encoder")
    options, has = encoder.backbone.options, variant["has"]
    assert (encoder.backbone.dim, options.heads) == (has["dim"], has["heads"])
    assert encoder.reading.chunk_frames == has["chunk"]
    clip = 0.1 * torch.randn(1, 50_000, generator=torch.Generator().manual_seed(0))
    embedding = encoder.embed_clip(clip)
    assert embedding.shape == (1, has["published"])
    assert bool(embedding.isfinite().all())
    for head in encoder.heads:
        assert bool(encoder.apply_head(head, clip).isfinite().all())


def test_the_recorded_files_are_where_this_test_expects_them():
    assert all(only(pattern) for pattern in VARIANTS), OLDER
    assert isinstance(OLDER, Path)
