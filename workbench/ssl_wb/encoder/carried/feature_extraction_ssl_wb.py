"""Feature extractor of an encoder of ssl-wb for transformers: clips to one padded batch with a mask."""

from __future__ import annotations

from typing import Any

import numpy as np
from transformers import BatchFeature, SequenceFeatureExtractor

__all__ = ["SslWbFeatureExtractor"]


class SslWbFeatureExtractor(SequenceFeatureExtractor):
    """Pads waveforms; the model's own front end makes the spectrograms.

    Args:
        sampling_rate: samples per second.
        **more: settings of the base class.
    """

    model_input_names = ["input_values", "attention_mask"]

    def __init__(self, sampling_rate: int = 16000, **more: Any) -> None:
        for name in ("feature_size", "padding_value"):
            more.pop(name, None)
        super().__init__(feature_size=1, sampling_rate=sampling_rate, padding_value=0.0, **more)

    def __call__(
        self, raw_speech: Any, sampling_rate: int | None = None, return_tensors: str | None = None, **more: Any
    ) -> BatchFeature:
        """Pad clips.

        Args:
            raw_speech: one clip, or a list of clips, each ``[S]`` of full scale 1, one channel.
            sampling_rate: of the clips.
            return_tensors: ``pt`` or ``np``.
            **more: not used.

        Returns:
            ``input_values`` float32 ``[B, S]`` and ``attention_mask`` int64 ``[B, S]``.

        Raises:
            ValueError: the clips have another sample rate than the model, or more than one channel.
        """
        del more
        if sampling_rate is not None and sampling_rate != self.sampling_rate:
            raise ValueError(f"clips of {sampling_rate} Hz: resample them to {self.sampling_rate} Hz first")
        several = isinstance(raw_speech, (list, tuple)) and len(raw_speech) > 0 and not np.isscalar(raw_speech[0])
        clips = [np.asarray(clip, dtype=np.float32) for clip in (raw_speech if several else [raw_speech])]
        if not several and clips[0].ndim == 2:
            clips = list(clips[0])
        if any(clip.ndim != 1 or not len(clip) for clip in clips):
            raise ValueError("each clip has to be one channel of samples: average or pick the channels first")
        padded = np.zeros((len(clips), max(len(clip) for clip in clips)), dtype=np.float32)
        mask = np.zeros(padded.shape, dtype=np.int64)
        for row, clip in enumerate(clips):
            padded[row, : len(clip)], mask[row, : len(clip)] = clip, 1
        return BatchFeature({"input_values": padded, "attention_mask": mask}, tensor_type=return_tensors)
