"""Zero-shot classification: class names instead of training, for encoders trained beside captions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray

from ssl_wb.api import (
    CaptionMatchingEncoder,
    Evaluator,
    Field,
    PluginOptions,
    ProbedSplit,
    ProbeTask,
    Result,
    Split,
    captioned,
    field_validator,
    hookimpl,
    match_captions,
    probe_splits,
    require_labels,
    unfit_labels,
)

#: What it asks of labels.
NEEDS = "zero-shot needs classes"


class ZeroShotOptions(PluginOptions):
    """Options of zero-shot classification."""

    prompts: list[str] = Field(
        default_factory=lambda: ["{} can be heard"],
        min_length=1,
        description="Sentences made of a class name, which takes the place of {}; the similarities of several are "
        "averaged. Take those that the captions in training looked like.",
    )
    underscores: Literal["keep", "spaces"] = Field(
        "keep",
        description="Underscores and hyphens of class names: 'keep', as in captions made of labels, or 'spaces'.",
    )
    resamples: int = Field(1000, ge=100, description="Bootstrap resamples of the interval.")

    @field_validator("prompts")
    @classmethod
    def _has_place(cls, prompts: list[str]) -> list[str]:
        for prompt in prompts:
            if "{}" not in prompt:
                raise ValueError(f"prompt {prompt!r} has no {{}} for the class name")
        return prompts


class ZeroShot(Evaluator):
    """Labels a clip by the sentence it is most similar to; nothing is trained, no label is read but to score.

    Score of a class = mean over the prompts of the cosine of clip and sentence. It needs the run of an objective that
    shares a space with captions (``clap``). Nothing is random, so every seed has the same score.
    """

    name = "zero-shot"
    reference = "CLAP, arXiv 2211.06687; M2D-CLAP, arXiv 2406.02032"
    level = "audio"
    Options = ZeroShotOptions
    options: ZeroShotOptions

    def fits(self, task: ProbeTask) -> str | None:
        """Return why there is nothing to compare: classes and an encoder that knows captions are needed."""
        if task.encoder is not None and not isinstance(task.encoder, CaptionMatchingEncoder):
            return "this encoder was not trained beside captions"
        return unfit_labels(task, ("single", "several"), NEEDS)

    def __call__(self, task: ProbeTask, seeds: Sequence[int]) -> Result:
        """Compare the test clips of every split with the class names."""
        require_labels(task, ("single", "several"), NEEDS, "Use linear for a task of numbers.")
        encoder = captioned(task, self.name)
        names = list(task.classes)
        if self.options.underscores == "spaces":
            names = [name.replace("_", " ").replace("-", " ") for name in names]
        sentences = [prompt.replace("{}", name) for prompt in self.options.prompts for name in names]
        known: dict[int, NDArray[np.float64]] = {}  # cosines [C] by clip: folds share none, fixed splits have one

        def probe(split: Split) -> ProbedSplit:
            rows = [int(row) for row in split.test if int(row) not in known]
            if rows:
                cosines = match_captions(task, encoder, rows, sentences)  # [n, prompts * C]
                means = cosines.unflatten(1, (-1, len(names))).mean(dim=1)  # [n, C]
                known.update(zip(rows, means.numpy(), strict=True))
            scores = torch.from_numpy(np.stack([known[int(row)] for row in split.test]))  # [n, C]
            return ProbedSplit(scores.expand(len(seeds), -1, -1).numpy(), {})

        return probe_splits(self, task, seeds, probe)


@hookimpl
def ssl_wb_evaluators() -> list[type[Evaluator]]:
    """Register zero-shot classification."""
    return [ZeroShot]
