"""Retrieval between clips and captions, for encoders trained beside captions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray

from ssl_wb.api import (
    CaptionMatchingEncoder,
    DataError,
    Evaluator,
    Field,
    PluginOptions,
    ProbeTask,
    Result,
    Split,
    bootstrap,
    captioned,
    hookimpl,
    interval_of,
    match_captions,
    ranked_scores,
    settings_of,
    sorted_values,
)

Floats = NDArray[np.float64]


class CaptionRetrievalOptions(PluginOptions):
    """Options of retrieval between clips and captions."""

    k: list[Annotated[int, Field(ge=1)]] = Field(
        default_factory=lambda: [1, 5, 10], min_length=1, description="Ranks of R@k; the largest is that of mAP@k, too."
    )
    resamples: int = Field(1000, ge=100, description="Bootstrap resamples of the interval.")


def ranking_scores(cosines: Floats, relevant: NDArray[np.bool_], cuts: Sequence[int]) -> dict[str, Floats]:
    """Score the ranking of every query.

    ``R@k`` is 1 where one of the first k is relevant; ``mAP@k`` is the sum of the precisions at the relevant ranks up
    to k, over the smaller of k and the number of relevant ones. Of equally similar ones the first ranks higher.

    Args:
        cosines: ``[queries, candidates]``.
        relevant: the same shape; each row has at least one.
        cuts: values of k, ascending.

    Returns:
        ``[queries]`` by name.
    """
    order = np.argsort(-cosines.round(9), axis=1, kind="stable")
    hits = np.take_along_axis(relevant, order, axis=1)  # [queries, candidates], best first
    scores: dict[str, Floats] = {f"R@{k}": np.asarray(hits[:, :k].any(axis=1), np.float64) for k in cuts}
    headline = f"mAP@{cuts[-1]}"
    scores[headline] = ranked_scores(hits, cuts)[headline]
    return scores


class CaptionRetrieval(Evaluator):
    """Finds a caption's clip among the test clips (text to audio), and a clip's captions (audio to text).

    Candidates are the test clips of a split and their distinct captions; a clip is relevant to every caption it has.
    The headline is text-to-audio mAP@k with the largest k; the table has R@k and mAP@k of both directions. Folds are
    averaged. Nothing is trained and nothing random. The interval is a bootstrap over captions.
    """

    name = "caption-retrieval"
    reference = "M2D-CLAP, arXiv 2406.02032; LAION-CLAP, arXiv 2211.06687"
    level = "audio"
    Options = CaptionRetrievalOptions
    options: CaptionRetrievalOptions

    def fits(self, task: ProbeTask) -> str | None:
        """Return why there is nothing to rank: captions of all test clips and an encoder that knows them are needed."""
        if task.encoder is not None and not isinstance(task.encoder, CaptionMatchingEncoder):
            return "this encoder was not trained beside captions"
        tested = [int(row) for split in task.splits for row in split.test]
        without = sum(task.captions is None or not task.captions[row] for row in tested)
        return f"{without} of {len(tested)} test clips have no caption" if without else None

    def __call__(self, task: ProbeTask, seeds: Sequence[int]) -> Result:
        """Rank the test clips of every split by their captions, and the reverse."""
        encoder = captioned(task, self.name)
        cuts = sorted_values(self.options.k)
        found = [self._split(task, split, encoder, cuts) for split in task.splits]
        headline = f"text to audio mAP@{cuts[-1]}"
        table = {name: float(np.mean([one[name].mean() for one in found])) for name in found[0]}
        mean = table.pop(headline)
        return Result(
            task=task.name,
            evaluator=self.name,
            metric=headline,
            mean=mean,
            interval=self._interval([one[headline] for one in found]),
            per_fold={split.name: float(one[headline].mean()) for split, one in zip(task.splits, found, strict=True)},
            per_seed=[mean] * len(seeds),
            settings=settings_of(self, seeds),
            notes=tuple(task.notes),
            table=table,
        )

    def _split(
        self, task: ProbeTask, split: Split, encoder: CaptionMatchingEncoder, cuts: Sequence[int]
    ) -> dict[str, Floats]:
        """Score both directions of one split, ``[queries]`` by name."""
        captions = task.captions
        of_clips = [captions[int(row)] if captions is not None else () for row in split.test]
        without = sum(not one for one in of_clips)
        if without:
            raise DataError(
                f"task {task.name!r}, {split.name}: {without} of {len(of_clips)} test clips have no caption",
                hint="caption-retrieval needs a column 'caption' in the manifest",
            )
        texts = list(dict.fromkeys(text for one in of_clips for text in one))
        place = {text: number for number, text in enumerate(texts)}
        relevant = np.zeros((len(of_clips), len(texts)), dtype=bool)  # [clips, captions]
        for clip, own in enumerate(of_clips):
            relevant[clip, [place[text] for text in own]] = True
        cosines = match_captions(task, encoder, split.test, texts).numpy()  # [clips, captions]
        to_text = ranking_scores(cosines, relevant, cuts)
        to_audio = ranking_scores(cosines.T, relevant.T, cuts)
        return {f"text to audio {name}": value for name, value in to_audio.items()} | {
            f"audio to text {name}": value for name, value in to_text.items()
        }

    def _interval(self, values: Sequence[Floats]) -> tuple[float, float]:
        """Return the bootstrap interval of the mean over splits, of each split's values ``[captions]``."""

        def means(value: Floats) -> Callable[[Floats], Any]:
            return lambda weights: weights @ value / weights.sum(axis=1)

        draws = [bootstrap(means(one), len(one), self.options.resamples, number) for number, one in enumerate(values)]
        return interval_of(np.mean(draws, axis=0))


@hookimpl
def ssl_wb_evaluators() -> list[type[Evaluator]]:
    """Register retrieval between clips and captions."""
    return [CaptionRetrieval]
