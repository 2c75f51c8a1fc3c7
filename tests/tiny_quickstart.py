"""Settings that make the quickstart recipe train in a second."""

#: A model of one block of width 16, and two steps of four clips.
TINY_MODEL = (
    "backbone.dim=16",
    "backbone.depth=1",
    "backbone.heads=1",
    "predictor.dim=16",
    "predictor.depth=1",
    "predictor.heads=1",
    "train.steps=2",
    "train.batch_size=4",
    "data.workers=0",
)
#: The same on forty short scenes.
TINY = ("data.scenes.clips=40", "data.scenes.seconds=1.2", *TINY_MODEL)
