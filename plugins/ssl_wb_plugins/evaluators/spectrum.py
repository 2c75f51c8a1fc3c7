"""Spectrum: how many directions the embeddings use, and how evenly they spread, without labels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from ssl_wb.api import DataError, Evaluator, Field, PluginOptions, ProbeTask, Result, hookimpl, uniformity

#: RankMe's epsilon (for float32 embeddings, as published).
RANKME_EPS = 1e-7
#: Below this share of the largest, a singular value is rounding.
ZERO = 1e-12
#: Halves of clips embedded in one pass.
HALVES = 32
#: Singular values kept for a plot.
PLOTTED = 512


class SpectrumOptions(PluginOptions):
    """Options of the spectrum."""

    clips: int = Field(
        2048,
        ge=2,
        description="Clips used, at most; of more, each seed draws its own. A rank is never above the clips it is "
        "measured on, so compare encoders on equally many.",
    )
    pairs: int = Field(128, ge=1, description="Pairs that alignment is measured on, at most.")


def entropy_rank(values: NDArray[np.float64], eps: float = 0.0) -> float:
    """Return exp of the entropy of p = values / sum (+ eps), values ``[k]`` not negative; 0 where all are 0."""
    total = values.sum()
    if total <= 0:
        return 0.0
    shares = values / total + eps
    shares = shares[shares > 0]
    return float(np.exp(-(shares * np.log(shares)).sum()))


def singular_values(embeddings: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the singular values of ``[n, D]``, largest first, ``[min(n, D)]``; rounding set to 0."""
    values = np.linalg.svd(embeddings, compute_uv=False)
    return np.where(values > ZERO * max(values[0], np.finfo(np.float64).tiny), values, 0.0)


def ranks(embeddings: NDArray[np.float64]) -> tuple[dict[str, float], NDArray[np.float64]]:
    """Measure embeddings ``[n, D]``.

    Returns:
        Figures by name, and the singular values of the centred embeddings ``[min(n, D)]``.
    """
    centred = singular_values(embeddings - embeddings.mean(axis=0))
    lengths = np.linalg.norm(embeddings, axis=1, keepdims=True)  # [n, 1]
    rows = embeddings / np.maximum(lengths, np.finfo(np.float64).tiny)
    variance = singular_values(rows - rows.mean(axis=0)) ** 2
    explained = variance.cumsum() / variance.sum() if variance.sum() > 0 else np.ones(len(variance))
    return {
        "effective rank": entropy_rank(centred),
        "RankMe": entropy_rank(singular_values(embeddings), RANKME_EPS),
        # The sooner few directions explain all variance, the nearer to 1.
        "explained variance AUC": float(explained.mean()),
    }, centred


def alignment(first: Tensor, second: Tensor) -> float:
    """Mean squared distance of pairs of unit vectors, 0 (equal) to 4; both ``[n, D]``, normalised here."""
    apart = functional.normalize(first, dim=1) - functional.normalize(second, dim=1)
    return float(apart.square().sum(dim=1).mean())


class Spectrum(Evaluator):
    """Effective rank, RankMe, alignment and uniformity of the embeddings; no probe, no labels, nothing chosen.

    The headline is the effective rank exp(H(p)), p = s / sum(s), of the singular values s of the centred embeddings.
    The table adds RankMe (not centred, p + 1e-7); the area under the cumulative explained variance (rows of unit
    length, then centred); uniformity; and alignment, the mean squared distance of two unit embeddings that ought to be
    alike: of the two halves of a clip where the host hands over the encoder and the audio, else of two clips of one
    class; its name says which. Embeddings are taken as they are: standardising would change what is measured. All clips
    of the task count, whatever their part. There is no interval: doubled clips lower the rank of a bootstrap's draws.
    """

    name = "spectrum"
    reference = "Roy, Vetterli 2007; RankMe, arXiv 2210.02885; Wang, Isola, arXiv 2005.10242"
    Options = SpectrumOptions
    options: SpectrumOptions

    @torch.no_grad()
    def __call__(self, task: ProbeTask, seeds: Sequence[int]) -> Result:
        """Measure ``task.embeddings`` ``[clips, D]``."""
        if len(task.embeddings) < 2:
            raise DataError(f"task {task.name!r}: a spectrum needs two clips", hint="Add clips to its manifest.")
        found: list[dict[str, float]] = []
        curve = np.zeros(0)
        for seed in seeds:
            rows = self._rows(task, seed)
            if found and len(rows) == len(task.embeddings):
                found.append(found[0])  # every clip counts: all seeds see the same
                continue
            embeddings = task.embeddings[rows].astype(np.float64)  # [n, D]
            figures, values = ranks(embeddings)
            figures["uniformity"] = float(uniformity(torch.from_numpy(embeddings)))
            found.append({**figures, **self._alignment(task, rows)})
            curve = curve if len(curve) else values
        table = {name: float(np.mean([one[name] for one in found])) for name in found[0]}
        mean = table.pop("effective rank")
        return Result(
            task=task.name,
            evaluator=self.name,
            metric="effective rank",
            mean=mean,
            interval=(float("nan"), float("nan")),
            per_fold={"all clips": mean},
            per_seed=[one["effective rank"] for one in found],
            settings={**self.options.model_dump(), "seeds": list(seeds), "width": task.embeddings.shape[1]},
            notes=(*task.notes, *self._notes(task, table)),
            table=table,
            detail=_detail(curve),
            percent=False,
        )

    def _rows(self, task: ProbeTask, seed: int) -> NDArray[np.int64]:
        """Draw the clips of a seed, in the order of the task."""
        count = len(task.embeddings)
        if count <= self.options.clips:
            return np.arange(count)
        return np.sort(np.random.default_rng(seed).choice(count, self.options.clips, replace=False))

    def _alignment(self, task: ProbeTask, rows: NDArray[np.int64]) -> dict[str, float]:
        """Measure alignment on evenly spaced ones of the clips ``rows``."""
        if task.encoder is not None and task.read is not None:
            pairs = _halves(task, _spaced(rows, self.options.pairs))
            return {} if pairs is None else {"alignment (halves)": alignment(*pairs)}
        if task.multi_label or task.regression:
            return {}
        first, second = _same_class(task.labels, rows)
        if not len(first):
            return {}
        shown = _spaced(np.arange(len(first)), self.options.pairs)
        ends = (torch.from_numpy(task.embeddings[part[shown]].astype(np.float64)) for part in (first, second))
        return {"alignment (same class)": alignment(*ends)}

    def _notes(self, task: ProbeTask, table: dict[str, float]) -> list[str]:
        """Say what bounds the rank, and why there is no alignment."""
        notes = []
        clips, width = min(len(task.embeddings), self.options.clips), task.embeddings.shape[1]
        if clips <= width:
            notes.append(f"the rank is bounded by {clips} clips (embeddings have {width} dimensions)")
        if not any(name.startswith("alignment") for name in table):
            notes.append("no alignment: neither halves of clips nor two clips of one class are at hand")
        return notes


def _detail(values: NDArray[np.float64]) -> dict[str, Any]:
    """Singular values over the largest, for a plot."""
    largest = float(values[0]) if len(values) and values[0] > 0 else 1.0
    return {"singular values": (values[:PLOTTED] / largest).tolist()}


def _spaced(rows: NDArray[np.int64], count: int) -> NDArray[np.int64]:
    """Take ``count`` rows, evenly spaced; all if there are fewer."""
    if len(rows) <= count:
        return rows
    return np.asarray(rows[np.linspace(0, len(rows) - 1, count).round().astype(np.int64)])


def _halves(task: ProbeTask, rows: NDArray[np.int64]) -> tuple[Tensor, Tensor] | None:
    """Embed both halves of clips, ``[n, D]`` each; None where no clip has two samples."""
    assert task.encoder is not None
    assert task.read is not None
    halves: list[Tensor] = []  # first, second, first, second, ...
    for row in rows:
        waveform = torch.from_numpy(np.array(task.read(int(row)), dtype=np.float32))  # [S]
        if len(waveform) > 1:
            halves += torch.split(waveform, len(waveform) // 2)[:2]  # of equal length, an odd last sample dropped
    found = []
    for start in range(0, len(halves), HALVES):
        lengths = torch.tensor([len(half) for half in halves[start : start + HALVES]])  # [B]
        padded = torch.nn.utils.rnn.pad_sequence(halves[start : start + HALVES], batch_first=True)  # [B, S]
        found.append(task.encoder.embed_clip(padded, lengths).double().cpu())
    embedded = torch.cat(found) if found else torch.zeros(0, 1)  # [2 n, D]
    return (embedded[0::2], embedded[1::2]) if found else None


def _same_class(labels: NDArray[np.int64], rows: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Pair each clip of ``rows`` with the next one of its class."""
    order = rows[np.argsort(labels[rows], kind="stable")]
    same = labels[order[:-1]] == labels[order[1:]]
    return order[:-1][same], order[1:][same]


@hookimpl
def ssl_wb_evaluators() -> list[type[Evaluator]]:
    """Register the spectrum."""
    return [Spectrum]
