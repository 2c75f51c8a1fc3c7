"""The model card of an encoder folder, ``README.md``: filled from what is known, and honest about what is not."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ssl_wb.runs.folder import RunFolder

__all__ = ["OWN_USE", "Usage", "card_of", "carried_sections", "run_sections"]

#: What stands in a field that nobody filled in.
UNKNOWN = "not stated"
#: Points of the training curve that the card shows.
CURVE = 6
#: Headings between which stands what is known of the training.
USE, LIMITS = "## Use", "## Limits"
#: How ssl-wb itself reads the folder.
OWN_USE = (
    "```python",
    "import ssl_wb",
    "",
    'encoder = ssl_wb.load_encoder("FOLDER")            # or hf://OWNER/NAME',
    "clips = encoder.embed_clip(waveform)               # [B, samples] at the sample rate -> [B, D]",
    "frames = encoder.embed_frames(waveform)            # [B, T, D]",
    "```",
)


@dataclass(frozen=True)
class Usage:
    """How an encoder is used in an exported format.

    Attributes:
        target: name of the format.
        runtime: what has to be installed.
        lines: of Markdown, a fenced block.
        notes: what a user has to know.
    """

    target: str
    runtime: str
    lines: Sequence[str]
    notes: Sequence[str] = ()


def card_of(
    config: Mapping[str, Any],
    title: str,
    licence: str | None,
    sections: Sequence[str] = (),
    usage: Usage | None = None,
) -> str:
    """Return the card of an encoder.

    Args:
        config: content of its ``config.json``.
        title: heading.
        licence: identifier of the weights' licence, such as ``cc-by-4.0``; None where it is not stated.
        sections: further sections in Markdown, as those of :func:`run_sections`.
        usage: in an exported format, where it is another than that of ssl-wb itself.
    """
    front, backbone, reading = config["front_end"], config["backbone"], config["reading"]
    source = config.get("source", {})
    facts = {
        "system": config.get("system", UNKNOWN),
        "source": source.get("place", UNKNOWN),
        "revision": source.get("revision") or UNKNOWN,
        "SHA-256 of the source": source.get("sha256") or UNKNOWN,
        "licence of the weights": licence or UNKNOWN,
        "sample rate": f"{config['sample_rate']} Hz",
        "front end": f"{front['name']}, {front['n_mels']} bands, mean {front['mean']:g}, deviation {front['std']:g}",
        "backbone": f"{backbone['name']}, {config['parameters']:,} parameters",
        "published embedding": f"{config['embedding']['published']}, {config['width']} values",
        "frames": f"one every {1000 * config['hop_seconds']:g} ms",
        "clips": _reading(reading),
        "heads": ", ".join(config["heads"]) or "none",
    }
    lines = [
        "---",
        "library_name: ssl-wb",
        "pipeline_tag: feature-extraction",
        *([f"license: {licence}"] if licence else []),
        "tags: [audio, self-supervised]",
        "---",
        "",
        f"# {title}",
        "",
        "| what | value |",
        "| --- | --- |",
        *(f"| {key} | {value} |" for key, value in facts.items()),
        "",
        *_use(usage),
        *sections,
        LIMITS,
        "",
        *(f"- {limit}" for limit in [*_limits(config, licence), *(usage.notes if usage else ())]),
        "",
    ]
    return "\n".join(lines)


def _use(usage: Usage | None) -> Iterator[str]:
    """Yield the sections on how the encoder is used."""
    if usage is not None and usage.target != "encoder":
        yield from (f"## Use as {usage.target}", "", f"Needs: {usage.runtime}.", "", *usage.lines, "")
    yield from (USE, "", *OWN_USE, "")


def carried_sections(card: str) -> list[str]:
    """Return what stands in a card between how it is used and its limits: training, data, probes."""
    lines = card.splitlines()
    if USE not in lines or LIMITS not in lines:
        return []
    rest = lines[lines.index(USE) + 1 : lines.index(LIMITS)]
    first = next((place for place, line in enumerate(rest) if line.startswith("## ")), len(rest))
    return rest[first:]


def _reading(reading: Mapping[str, Any]) -> str:
    """Say how clips are read, in one line."""
    length = f"chunks of {reading['chunk_frames']} spectrogram frames" if reading["chunk_frames"] else "whole clips"
    if reading["long_clips"] == "cut":
        length = f"the first {reading['chunk_frames']} spectrogram frames of each, padded to that length"
    elif reading["padded_chunks"]:
        length += ", each padded to that length"
    if reading["long_clips"] == "cut":
        return length
    return f"{length}; an incomplete last patch is {reading['partial_patch']}"


def _limits(config: Mapping[str, Any], licence: str | None) -> Iterator[str]:
    """Yield what a user has to know."""
    if config["reading"]["long_clips"] == "cut":
        yield "What comes after the training length is not read: cut long recordings into clips yourself."
    if not licence:
        yield "The licence of the weights is not stated here. Ask those who trained them before you publish anything."
    yield from config.get("notes", [])
    yield f"Audio of another sample rate has to be resampled to {config['sample_rate']} Hz first."


def run_sections(folder: RunFolder, picture: str | None = None) -> list[str]:
    """Return the sections of a run's card: training, data, probes.

    Args:
        folder: of the run.
        picture: name of the file with its curves, if there is one.
    """
    return [*_training(folder, picture), *_data(folder), *_probes(folder.results)]


def _training(folder: RunFolder, picture: str | None) -> list[str]:
    """Return the loss over the run, at a few steps."""
    rows = []
    if folder.metrics.is_file():
        for line in folder.metrics.read_text(encoding="utf-8").splitlines():
            try:
                rows.append(json.loads(line))
            except ValueError:
                break  # the incomplete last line of a killed run
    if not rows:
        return []
    places = sorted({round(place * (len(rows) - 1) / max(1, CURVE - 1)) for place in range(CURVE)})
    lines = [
        f"| {rows[place]['step']} | {rows[place]['samples_seen']} | {rows[place]['loss']:.4g} |" for place in places
    ]
    warnings = sorted({str(one) for row in rows for one in row.get("health", {}).get("warnings", [])})
    told = [f"Warnings of the run: {'; '.join(warnings)}", ""] if warnings else []
    return [
        "## Training",
        "",
        "The recipe, every default written out, is in `recipe.toml`.",
        "",
        "| step | clips seen | loss |",
        "| ---: | ---: | ---: |",
        *lines,
        "",
        *([f"![Losses over the steps]({picture})", ""] if picture else []),
        *told,
    ]


def _data(folder: RunFolder) -> list[str]:
    """Return what is known of the training data."""
    found = _read(folder.data)
    if not isinstance(found, dict):
        return []
    unreadable = _read(folder.unreadable)
    count = len(unreadable) if isinstance(unreadable, (list, dict)) else 0
    return [
        "## Training data",
        "",
        f"{found.get('clips', UNKNOWN)} clips; digest `{found.get('digest', UNKNOWN)}`; {count} could not be read.",
        "",
    ]


def _probes(file: Path) -> list[str]:
    """Return the table of the run's probes."""
    rows = _read(file)
    if not isinstance(rows, list) or not rows:
        return ["## Probes", "", "None were run.", ""]
    return [
        "## Probes",
        "",
        "| encoder | task | evaluator | metric | score | 95 % interval | chance |",
        "| --- | --- | --- | --- | ---: | --- | ---: |",
        *(_probe(row) for row in rows if isinstance(row, dict)),
        "",
    ]


def _probe(row: Mapping[str, Any]) -> str:
    interval = row.get("interval")
    span = "" if not interval else " to ".join(_number(one) for one in interval)
    cells = [row.get(key, "") for key in ("encoder", "task", "evaluator", "metric")]
    return f"| {' | '.join(map(str, cells))} | {_number(row.get('mean'))} | {span} | {_number(row.get('chance'))} |"


def _number(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, (int, float)) else ""


def _read(file: Path) -> Any:
    """Return the content of a JSON file; None where there is none that can be read."""
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
