"""Makes api1-expected.json: ``python make_api1_expected.py RUN``, with ssl-wb 0.1 and the plugins in api1/ installed.

Its imports are those of version 0.1; later versions have these functions elsewhere.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import torch
from ssl_wb.cli.probes import run_recipe_probes
from ssl_wb.train.run import train

from ssl_wb.encoder.load import load_encoder
from ssl_wb.encoder.uncertainty import load_held_out

KEYS = ("loss", "gradient_norm", "api1-ladder.loss", "api1-codes.loss", "api1-codes.uniformity")


def main(folder: Path) -> None:
    """Train, evaluate and embed, and write the numbers beside this file."""
    torch.set_num_threads(1)  # sums in another order round differently
    train("ssl_wb_api1", out=folder, cpu=True, quiet=True)
    run_recipe_probes(folder, quiet=True, cpu=True)
    steps = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    results = json.loads((folder / "results.json").read_text())
    time = torch.arange(24000) / 16000
    waveforms = torch.stack([0.3 * torch.sin(6000 * time), 0.2 * torch.sin((1000 + 2000 * time) * time)])
    lengths = torch.tensor([24000, 9000])
    encoder = load_encoder(folder)
    embeddings = {
        "clip": encoder.embed_clip(waveforms, lengths),
        "frames": encoder.embed_frames(waveforms, lengths).mean(dim=-1),
        "layers": encoder.layers(waveforms).mean(dim=-1),
        "uncertainty": load_held_out(folder).frames(waveforms, lengths),
    }
    expected = {
        "metrics": [{key: one[key] for key in KEYS} for one in steps if "loss" in one],
        "probes": [one["probe"] for one in steps if "probe" in one],
        "results": {
            f"{one['role']} {one['encoder'].replace(folder.name, 'RUN')} {one['evaluator']}": {
                key: one[key] for key in ("metric", "mean", "interval", "per_seed", "per_fold", "table", "notes")
            }
            for one in results
        },
        "embeddings": {name: [round(one, 6) for one in value.flatten().tolist()] for name, value in embeddings.items()},
    }
    # One line for each step and result.
    text = json.dumps(expected).replace('{"loss"', '\n{"loss"').replace('"encoder ', '\n"encoder ')
    text = text.replace('"untrained ', '\n"untrained ').replace('"baseline ', '\n"baseline ')
    (Path(__file__).parent / "api1-expected.json").write_text(text + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
