"""Spectrum: rank, alignment and uniformity of the embeddings, without labels."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from ssl_wb.api import (
    DataError,
    Evaluator,
    Field,
    MaskingEncoder,
    PluginOptions,
    ProbeTask,
    Result,
    hookimpl,
    pad_batches,
    read_waveforms,
    settings_of,
    uniformity,
)

#: RankMe's epsilon (for float32 embeddings, as published).
RANKME_EPS = 1e-7
#: A singular value below this fraction of the largest is rounding.
ZERO = 1e-12
#: Seeds of masks are multiples of a large odd number, so that (seed 0, clip 1) and (seed 1, clip 0) differ.
SEED_STRIDE = 1_000_003
#: Singular values kept for a plot.
PLOTTED = 512


class SpectrumOptions(PluginOptions):
    """Options of the spectrum."""

    clips: int = Field(
        2048,
        ge=2,
        description="Clips used, at most; of more, each seed draws its own. A rank is at most the number of clips, so "
        "compare encoders on equally many.",
    )
    pairs: int = Field(128, ge=1, description="Pairs that alignment is measured on, at most.")
    ratios: list[Annotated[float, Field(ge=0.0, lt=1.0)]] = Field(
        default_factory=lambda: [0.0, 0.5, 0.75],
        description="Fractions of patches that are masked at random when the clips are embedded again; 0 masks none "
        "and is what the others compare with. An empty list skips this.",
    )


def entropy_rank(values: NDArray[np.float64], eps: float = 0.0) -> float:
    """Return exp of the entropy of p = values / sum (+ eps), values ``[k]`` not negative; 0 where all are 0."""
    total = values.sum()
    if total <= 0:
        return 0.0
    p = values / total + eps  # [k]
    p = p[p > 0]
    return float(np.exp(-(p * np.log(p)).sum()))


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
        # Close to 1 if few directions explain all variance.
        "explained variance AUC": float(explained.mean()),
    }, centred


def alignment(first: Tensor, second: Tensor) -> float:
    """Mean squared distance of pairs of unit vectors, 0 (equal) to 4; both ``[n, D]``, normalised here."""
    difference = functional.normalize(first, dim=1) - functional.normalize(second, dim=1)  # [n, D]
    return float(difference.square().sum(dim=1).mean())


@dataclass(frozen=True)
class _Measured:
    """Figures of embeddings by name, and the singular values ``[min(n, D)]`` of the centred ones."""

    figures: dict[str, float]
    values: NDArray[np.float64]


def _measure(embeddings: NDArray[np.float64]) -> _Measured:
    """Measure ranks and uniformity of ``[n, D]``."""
    figures, values = ranks(embeddings)
    return _Measured({**figures, "uniformity": float(uniformity(torch.from_numpy(embeddings)))}, values)


class Spectrum(Evaluator):
    """Effective rank, RankMe, alignment and uniformity of the embeddings; no probe, no labels, nothing chosen.

    The headline is the effective rank exp(H(p)), p = s / sum(s), of the singular values s of the centred embeddings.
    The table adds RankMe (not centred, p + 1e-7); the area under the cumulative explained variance (rows of unit
    length, then centred); uniformity; and alignment, the mean squared distance of two unit embeddings that should be
    equal: of the two halves of a clip where encoder and audio are available, else of two clips of one class; its name
    says which. Embeddings are not standardised, which would change what is measured. All clips of the task count,
    whatever their part. There is no interval: repeated clips of a bootstrap would lower the rank.

    The same with masking at inference, as in AudioMosaic's figure 2: rows "..., 75 % hidden" are of clips embedded from
    a quarter of their patches, drawn at random for each clip by the first seed, as the mean over the visible patches.
    Compare them with "..., 0 % hidden" and not with the headline, whose embedding is wider where it concatenates the
    rows of the patch grid. The paper does not say how many clips its figure is of.
    """

    name = "spectrum"
    reference = "Roy, Vetterli 2007; RankMe, arXiv 2210.02885; Wang, Isola, arXiv 2005.10242; AudioMosaic, figure 2"
    Options = SpectrumOptions
    options: SpectrumOptions

    def fits(self, task: ProbeTask) -> str | None:
        """Return why there is no spectrum; None where there is one."""
        return "a spectrum needs two clips" if len(task.labels) < 2 else None

    @torch.no_grad()
    def __call__(self, task: ProbeTask, seeds: Sequence[int]) -> Result:
        """Measure ``task.embeddings`` ``[clips, D]``."""
        if len(task.embeddings) < 2:
            raise DataError(f"task {task.name!r}: a spectrum needs two clips", hint="Add clips to its manifest.")
        found: list[_Measured] = []
        for seed in seeds:
            rows = self._rows(task, seed)
            same = bool(found) and len(rows) == len(task.embeddings)  # without a draw all seeds have the same clips
            if same:
                found.append(found[0])
                continue
            one = _measure(task.embeddings[rows].astype(np.float64))
            found.append(_Measured({**one.figures, **self._alignment(task, rows)}, one.values))
        table = {name: float(np.mean([one.figures[name] for one in found])) for name in found[0].figures}
        mean = table.pop("effective rank")
        hidden = self._hidden(task, seeds[0])
        notes = self._notes(task, table, hidden=bool(hidden))
        for ratio, one in hidden.items():
            table |= {f"{name}, {100 * ratio:g} % hidden": value for name, value in one.figures.items()}
        return Result(
            task=task.name,
            evaluator=self.name,
            metric="effective rank",
            mean=mean,
            interval=(float("nan"), float("nan")),
            per_fold={"all clips": mean},
            per_seed=[one.figures["effective rank"] for one in found],
            settings=settings_of(self, seeds, width=task.embeddings.shape[1]),
            notes=(*task.notes, *notes),
            table=table,
            detail=_detail(found[0], hidden),
            percent=False,
        )

    def _hidden(self, task: ProbeTask, seed: int) -> dict[float, _Measured]:
        """Measure a seed's clips with patches masked, by masked fraction; empty if the encoder cannot mask patches."""
        encoder, ratios = task.encoder, sorted(set(self.options.ratios))
        if not ratios or task.read is None or not isinstance(encoder, MaskingEncoder):
            return {}
        rows = self._rows(task, seed)
        # A seed for each clip of the task, then one for each half of a clip.
        first = seed * SEED_STRIDE
        seeds = (first + rows).tolist()
        parts, done = [], 0
        for waveform, lengths in pad_batches(read_waveforms(task, rows)):
            batch = seeds[done : done + len(lengths)]
            parts.append(encoder.embed_masked(waveform, lengths, ratios=ratios, seeds=batch).double().cpu())
            done += len(lengths)
        whole = torch.cat(parts, dim=1)  # [R, n, D]

        def embed(waveform: Tensor, lengths: Tensor, done: int) -> Tensor:
            seeds = [first + len(task.embeddings) + done + row for row in range(len(lengths))]
            return encoder.embed_masked(waveform, lengths, ratios=ratios, seeds=seeds).transpose(0, 1)  # [B, R, D]

        halves = _halves(task, _spaced(rows, self.options.pairs), embed)
        found = {}
        for number, ratio in enumerate(ratios):
            found[ratio] = one = _measure(whole[number].numpy())
            if halves is not None:
                one.figures["alignment (halves)"] = alignment(halves[0][:, number], halves[1][:, number])
        return found

    def _rows(self, task: ProbeTask, seed: int) -> NDArray[np.int64]:
        """Draw the clips of a seed, in the order of the task."""
        count = len(task.embeddings)
        if count <= self.options.clips:
            return np.arange(count)
        return np.sort(np.random.default_rng(seed).choice(count, self.options.clips, replace=False))

    def _alignment(self, task: ProbeTask, rows: NDArray[np.int64]) -> dict[str, float]:
        """Measure alignment on evenly spaced ones of the clips ``rows``."""
        if task.encoder is not None and task.read is not None:
            encoder = task.encoder
            pairs = _halves(
                task,
                _spaced(rows, self.options.pairs),
                lambda waveform, lengths, _: encoder.embed_clip(waveform, lengths),
            )
            return {} if pairs is None else {"alignment (halves)": alignment(*pairs)}
        if task.multi_label or task.regression:
            return {}
        first, second = _same_class(task.labels, rows)
        if not len(first):
            return {}
        shown = _spaced(np.arange(len(first)), self.options.pairs)
        ends = (torch.from_numpy(task.embeddings[part[shown]].astype(np.float64)) for part in (first, second))
        return {"alignment (same class)": alignment(*ends)}

    def _notes(self, task: ProbeTask, table: dict[str, float], *, hidden: bool) -> list[str]:
        """Return notes on what bounds the rank, and on rows that are missing."""
        notes = []
        clips, width = min(len(task.embeddings), self.options.clips), task.embeddings.shape[1]
        if clips <= width:
            notes.append(f"the rank is bounded by {clips} clips (embeddings have {width} dimensions)")
        if not any(name.startswith("alignment") for name in table):
            notes.append("no alignment: neither halves of clips nor two clips of one class are at hand")
        if self.options.ratios and not hidden:
            notes.append("an encoder that cannot leave out patches has no rows with patches hidden")
        return notes


def _detail(plain: _Measured, hidden: dict[float, _Measured]) -> dict[str, Any]:
    """Return the first seed's singular values over the largest, and the rank by masked fraction, for a plot."""
    detail: dict[str, Any] = {"singular values": _relative(plain.values)}
    if hidden:
        detail["hidden"] = {
            "share": list(hidden),
            "effective rank": [one.figures["effective rank"] for one in hidden.values()],
            "singular values": [_relative(one.values) for one in hidden.values()],
        }
    return detail


def _relative(values: NDArray[np.float64]) -> list[float]:
    largest = float(values[0]) if len(values) and values[0] > 0 else 1.0
    return (values[:PLOTTED] / largest).tolist()


def _spaced(rows: NDArray[np.int64], count: int) -> NDArray[np.int64]:
    """Return ``count`` rows, evenly spaced; all if there are fewer."""
    if len(rows) <= count:
        return rows
    return np.asarray(rows[np.linspace(0, len(rows) - 1, count).round().astype(np.int64)])


def _halves(
    task: ProbeTask, rows: NDArray[np.int64], embed: Callable[[Tensor, Tensor, int], Tensor]
) -> tuple[Tensor, Tensor] | None:
    """Embed both halves of clips, ``[n, ...]`` each; None where no clip has two samples.

    ``embed(waveform, lengths, done)`` maps ``[B, S]`` and ``[B]`` to ``[B, ...]``, after ``done`` others.
    """

    def halves() -> Iterator[Tensor]:  # first, second, first, second, ...
        for waveform in read_waveforms(task, rows):
            if len(waveform) > 1:
                yield from torch.split(waveform, len(waveform) // 2)[:2]  # of equal length, an odd last sample dropped

    found: list[Tensor] = []
    for waveform, lengths in pad_batches(halves()):
        found.append(embed(waveform, lengths, sum(map(len, found))).double().cpu())
    if not found:
        return None
    embedded = torch.cat(found)  # [2 n, ...]
    return embedded[0::2], embedded[1::2]


def _same_class(labels: NDArray[np.int64], rows: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Pair each clip of ``rows`` with the next one of its class."""
    order = rows[np.argsort(labels[rows], kind="stable")]
    same = labels[order[:-1]] == labels[order[1:]]
    return order[:-1][same], order[1:][same]


@hookimpl
def ssl_wb_evaluators() -> list[type[Evaluator]]:
    """Register the spectrum."""
    return [Spectrum]
