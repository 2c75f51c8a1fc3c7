"""A run of a second, as the cases name it."""

from __future__ import annotations

#: Settings of such a run.
FAST = [
    word
    for setting in (
        *("train.steps=12", "train.batch_size=8", "evaluate=[]", "backbone.depth=1", "backbone.dim=32"),
        *("backbone.heads=2", "predictor.depth=1", "data.workers=0"),
    )
    for word in ("--set", setting)
]
#: The command that trains it, without its data.
TRAIN = ["train", "quickstart", "--cpu", "--quiet", *FAST]
