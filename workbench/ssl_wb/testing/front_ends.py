"""The checks of a front end."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import torch
from torch import Tensor

from ssl_wb.plugin.contract_checks import refuse
from ssl_wb.plugin.front_end import FrontEnd
from ssl_wb.testing.checks import Checks, Subject
from ssl_wb.testing.devices import CUDA, on_cuda, to_cuda
from ssl_wb.testing.options_checks import common_checks

__all__ = ["CHECKS", "check_front_end"]

#: Statistics that the front end is built with: mean and deviation of log-mel values.
MEAN, STD = -7.0, 4.0
#: What two computations of one value may differ by.
TOLERANCE = 1e-3

CHECKS: Checks[_FrontEnd] = Checks("front-end", common_checks())


class _FrontEnd(Subject[FrontEnd]):
    """A front end under test."""

    def front_end(self) -> FrontEnd:
        """Build it with statistics."""
        return self.build(MEAN, STD)

    def waveforms(self, front_end: FrontEnd) -> tuple[Tensor, Tensor]:
        """Return noise of one second, float32 ``[B, S]``, and how much of it is audio, int64 ``[B]``."""
        rate = front_end.sample_rate
        waveform = 0.1 * torch.randn(3, rate, generator=torch.Generator().manual_seed(0))
        return waveform, torch.tensor([rate, rate // 2, front_end.frame_samples // 2])


def check_front_end(
    plugin: type[FrontEnd], options: Mapping[str, Any] | None = None, *, skip: Collection[str] = ()
) -> None:
    """Hold a front end to its contract.

    Args:
        plugin: the class.
        options: options that differ from their defaults.
        skip: names of checks to leave out.

    Raises:
        ContractError: the first check that fails.
    """
    CHECKS.run(_FrontEnd(plugin, options or {}), skip)


@CHECKS
def spectrogram(subject: _FrontEnd) -> None:
    """It returns float32 [B, F, T]: F = ``n_mels``, T = 1 + (S - frame_samples) // hop, which ``frames_of`` tells."""
    front_end = subject.front_end()
    waveform, lengths = subject.waveforms(front_end)
    made, frames = front_end(waveform, lengths)
    wanted = (len(waveform), int(front_end.options.n_mels), front_end.frames_of(waveform.shape[1]))
    if made.dtype != torch.float32 or tuple(made.shape) != wanted:
        refuse(front_end, f"return float32 [B, F, T] = {list(wanted)}", f"{made.dtype} {list(made.shape)}")
    told = [front_end.frames_of(int(length)) for length in lengths]
    if frames.tolist() != told:
        refuse(front_end, f"give clips the frames that frames_of tells, {told}", f"{frames.tolist()}")
    bare = front_end.spectrum(waveform)
    count = 1 + (waveform.shape[1] - front_end.frame_samples) // int(front_end.options.hop)
    if bare.shape[2] != count:
        seen = f"{bare.shape[2]} of {waveform.shape[1]} samples"
        refuse(front_end, f"return 1 + (S - frame_samples) // hop = {count} frames from spectrum", seen)


@CHECKS
def normalised(subject: _FrontEnd) -> None:
    """It normalises by the mean and deviation that it is given: (x - mean) / (std_factor * std)."""
    front_end = subject.front_end()
    if front_end.options.clip_statistics:
        return
    waveform, _ = subject.waveforms(front_end)
    log_mel, _ = front_end.log_mel(waveform)
    wanted = (log_mel - MEAN) / (float(front_end.options.std_factor) * STD)
    if not torch.allclose(front_end(waveform)[0], wanted, atol=TOLERANCE):
        refuse(front_end, "pass mean and std to its base class, which normalises", "other values")


@CHECKS
def clips_apart(subject: _FrontEnd) -> None:
    """A clip's frames do not depend on the rest of its batch, and what lies past its end is ``pad_value``."""
    front_end = subject.front_end()
    waveform, lengths = subject.waveforms(front_end)
    together, frames = front_end(waveform, lengths)
    for row, (length, count) in enumerate(zip(lengths.tolist(), frames.tolist(), strict=True)):
        alone = front_end(waveform[row : row + 1, :length])[0][0]  # [F, T]
        if not torch.allclose(together[row, :, :count], alone[:, :count], atol=TOLERANCE):
            refuse(front_end, "compute a clip alike, whatever the rest of its batch", f"others for {length} samples")
        past = together[row, :, count:]
        if past.numel() and not torch.allclose(past, front_end.pad_value.expand_as(past)):
            refuse(front_end, "fill frames past a clip's end with pad_value", "other values")


@CHECKS
def finite(subject: _FrontEnd) -> None:
    """Values are finite for silence, noise and a single sample."""
    front_end = subject.front_end()
    waveform, _ = subject.waveforms(front_end)
    for name, given in (("silence", torch.zeros_like(waveform)), ("noise", waveform), ("a sample", waveform[:, :1])):
        if not bool(front_end(given)[0].isfinite().all()):
            refuse(front_end, f"be finite for {name}", "values that are not")


@CHECKS
def autocast(subject: _FrontEnd) -> None:
    """Under bf16 autocast it computes in float32 all the same."""
    front_end = subject.front_end()
    waveform, lengths = subject.waveforms(front_end)
    exact = front_end(waveform, lengths)[0]
    with torch.autocast("cpu", torch.bfloat16):
        made = front_end(waveform, lengths)[0]
    if made.dtype != torch.float32 or not torch.allclose(made, exact, atol=TOLERANCE):
        refuse(front_end, "compute in float32, whatever the training step computes in", f"{made.dtype}, other values")


@CHECKS
def saved(subject: _FrontEnd) -> None:
    """It has no trained parameters, and its state loads into a new one."""
    front_end = subject.front_end()
    trained = [name for name, each in front_end.named_parameters() if each.requires_grad]
    if trained:
        refuse(front_end, "have no trained parameters: nothing trains them", ", ".join(trained))
    again = subject.build()
    again.load_state_dict(front_end.state_dict())
    waveform, lengths = subject.waveforms(front_end)
    if not torch.allclose(front_end(waveform, lengths)[0], again(waveform, lengths)[0]):
        refuse(front_end, "keep its statistics in buffers", "other values after loading")


@CHECKS
def device(subject: _FrontEnd) -> None:
    """It works on a GPU: what it keeps moves with it, and new tensors are on the device of its inputs."""
    front_end = subject.front_end()
    to_cuda(front_end)
    with on_cuda():
        waveform = torch.zeros(2, front_end.sample_rate, device=CUDA)
        for lengths in (None, torch.full((2,), front_end.sample_rate // 2, device=CUDA)):
            for part in front_end(waveform, lengths):
                if part.device.type != "cuda":
                    refuse(front_end, "compute on the device of the waveforms", f"a result on {part.device.type}")
