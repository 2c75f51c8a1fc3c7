"""Checks of exported adapters on the points that HEAR's validator, X-ARES' encoder check and mteb look at."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn

from ssl_wb.errors import DataError, itemise

__all__ = ["hear_faults", "load_file", "maeb_faults", "refuse", "xares_faults"]

#: Sample rates that HEAR names.
HEAR_RATES = (16000, 22050, 32000, 44100, 48000)
#: Deviation of HEAR's timestamps from a regular grid, in ms, as its validator has it.
HEAR_REGULAR = 1e-3


def load_file(path: Path) -> ModuleType:
    """Run a file of Python as a module that stands nowhere in ``sys.modules``."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def refuse(faults: Sequence[str], what: str) -> None:
    """Raise an error where there are faults.

    Raises:
        DataError: with all of them.
    """
    if faults:
        raise DataError(
            itemise(f"the exported {what} does not conform:", list(faults)),
            hint="nothing was written; is the encoder's front end or backbone a plugin of yours?",
        )


def _tried(what: str, call: Callable[[], Any], faults: list[str]) -> Any:
    """Return what a call returns; note where it fails and return None."""
    try:
        return call()
    except Exception as error:  # adapters are anyone's code
        faults.append(f"{what} fails: {type(error).__name__}: {error}")
        return None


def _embedding_faults(what: str, values: Any, shape: tuple[int | None, ...]) -> list[str]:
    """Return what is wrong with an embedding: its type, shape (None for any size) or values."""
    if not isinstance(values, Tensor):
        return [f"{what} returns a {type(values).__name__}, not a tensor"]
    faults = []
    if values.dtype != torch.float32:
        faults.append(f"{what} returns {values.dtype}, not float32")
    fits = values.dim() == len(shape) and all(
        want is None or want == got for want, got in zip(shape, values.shape, strict=False)
    )
    if not fits:
        faults.append(f"{what} returns the shape {tuple(values.shape)}, expected {shape}")
    if not bool(values.isfinite().all()):
        faults.append(f"{what} returns values that are not finite")
    return faults


def _noise(clips: int, samples: int) -> Tensor:
    """Return uniform noise of full scale ``[clips, samples]``."""
    return torch.rand(clips, samples, generator=torch.Generator().manual_seed(0)) * 2 - 1


def hear_faults(module: Any, weights: str = "") -> list[str]:
    """Return what is wrong with a HEAR module, on the points of hear-validator 2021.0.2 and of HEAR's text.

    Args:
        module: has ``load_model``, ``get_scene_embeddings`` and ``get_timestamp_embeddings``.
        weights: argument of ``load_model``; none when empty.
    """
    functions = ("load_model", "get_scene_embeddings", "get_timestamp_embeddings")
    faults = [f"there is no function {name}" for name in functions if not callable(getattr(module, name, None))]
    if faults:
        return faults
    model = _tried("load_model", lambda: module.load_model(*([weights] if weights else [])), faults)
    if model is None:
        return faults or ["load_model returns nothing"]
    if not isinstance(model, nn.Module):
        return [f"load_model returns a {type(model).__name__}, no PyTorch module"]
    sizes = {name: getattr(model, name, None) for name in ("scene_embedding_size", "timestamp_embedding_size")}
    faults += [f"{name} is {size!r}, not an int" for name, size in sizes.items() if type(size) is not int]
    rate = getattr(model, "sample_rate", None)
    if rate not in HEAR_RATES:
        return [*faults, f"sample_rate is {rate!r}, none of {HEAR_RATES}"]
    audio = _noise(8, int(3.74 * rate))  # [8, S]
    scenes = _tried("get_scene_embeddings", lambda: module.get_scene_embeddings(audio, model), faults)
    if scenes is not None:
        faults += _embedding_faults("get_scene_embeddings", scenes, (8, sizes["scene_embedding_size"]))
    return faults + _timestamp_faults(module, model, rate, sizes["timestamp_embedding_size"])


def _timestamp_faults(module: Any, model: Any, rate: int, size: Any) -> list[str]:
    """Return what is wrong with timestamp embeddings of clips of 2, 0.05 and 25 seconds."""
    faults: list[str] = []
    embed = module.get_timestamp_embeddings
    for clips, seconds in ((16, 2.0), (1, 0.05), (1, 25.0)):
        what = f"get_timestamp_embeddings of {seconds:g} s"
        audio = _noise(clips, int(seconds * rate))  # [n, S]
        pair = _tried(what, partial(embed, audio, model), faults)
        if not isinstance(pair, (tuple, list)) or len(pair) != 2:
            faults += [] if pair is None else [f"{what} returns no pair of embeddings and timestamps"]
            continue
        frames, times = pair  # [n, T, D], [n, T]
        faults += _embedding_faults(what, frames, (clips, None, size))
        if not isinstance(times, Tensor) or times.shape != frames.shape[:2] or not times.shape[1]:
            faults.append(f"{what}: timestamps are not one for each frame")
            continue
        gaps = times.double().diff(dim=1)
        # float32 holds milliseconds of long clips no finer than this.
        allowed = max(HEAR_REGULAR, 2 * float(times.max()) * 2**-23)
        if gaps.numel() and not bool(((gaps - gaps.mean()).abs() < allowed).all() and (gaps > 0).all()):
            faults.append(f"{what}: timestamps are not at regular intervals")
        if float(times.min()) < 0 or float(times.max()) > 1000 * seconds:
            faults.append(f"{what}: timestamps from {float(times.min()):g} to {float(times.max()):g} ms, not all in it")
        elif float(times.max()) < 500 * seconds - 1:
            faults.append(f"{what}: timestamps end at {float(times.max()):g} ms: milliseconds are asked for")
    return faults


def xares_faults(encoder: Any) -> list[str]:
    """Return what is wrong with an X-ARES encoder, on the points of ``check_audio_encoder`` of xares 0.1.3.

    Args:
        encoder: an instance. Beyond the check, its hop has to fit the frames that it gives.
    """
    faults = []
    if not type(encoder).__name__.endswith("Encoder"):
        faults.append(f"the class is called {type(encoder).__name__}; its name has to end in 'Encoder'")
    if not isinstance(encoder, nn.Module):
        return [*faults, f"a {type(encoder).__name__} is no PyTorch module"]
    names = ("sampling_rate", "output_dim", "hop_size_in_ms")
    faults += [f"there is no attribute {name}" for name in names if not hasattr(encoder, name)]
    if faults:
        return faults
    counts: list[int] = []
    rate, width, told = (float(getattr(encoder, name)) for name in names)
    for samples in (50_000, 10 * int(rate), 30 * int(rate)):
        what = f"calling it with [2, {samples}]"
        frames = _tried(what, partial(encoder, _noise(2, samples)), faults)
        if frames is not None:
            faults += _embedding_faults(what, frames, (2, None, int(width)))
            counts.append(frames.shape[1])
    if not faults:
        hop = 20_000 / max(1, counts[2] - counts[1])  # ms, over the twenty seconds between the two lengths
        if abs(hop - told) > 0.05 * hop and counts[2] != counts[1]:
            faults.append(f"hop_size_in_ms is {told:g}, and frames come every {hop:.4g} ms")
    return faults


def maeb_faults(model: Any) -> list[str]:
    """Return what is wrong with a model for mteb's audio tasks: its ``encode`` on clips of unlike length and rate.

    Args:
        model: has ``encode(inputs, ...)`` and ``mteb_model_meta``.
    """
    from torch.utils.data import DataLoader

    meta = getattr(model, "mteb_model_meta", None)
    if meta is None or "audio" not in (meta.modalities or []):
        return ["mteb_model_meta does not name the modality audio"]
    rate = int(model.sampling_rate)
    rows = [
        {"audio": {"array": _noise(1, samples)[0].numpy(), "sampling_rate": rate}}
        for samples in (rate, rate // 2, 3 * rate, rate // 20)
    ]

    def encode(clips: list[Any], batch: int) -> Tensor:
        loader: Any = DataLoader(clips, batch_size=batch, collate_fn=list)  # type: ignore[arg-type]
        found = model.encode(loader, task_metadata=None, hf_split="test", hf_subset="default")
        return torch.as_tensor(found)

    faults: list[str] = []
    together = _tried("encode", lambda: encode([dict(row) for row in rows], 4), faults)
    alone = _tried("encode", lambda: encode([dict(row) for row in rows], 1), faults)
    if together is None or alone is None:
        return faults
    faults += _embedding_faults("encode", together, (len(rows), meta.embed_dim))
    if not faults and not torch.allclose(together, alone, rtol=1e-4, atol=1e-5):
        faults.append("encode: a clip's embedding depends on the rest of its batch")
    return faults
