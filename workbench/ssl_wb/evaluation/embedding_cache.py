"""Cache of embeddings, under a key that changes with everything an embedding depends on.

The key is a digest of:

- the encoder: every parameter and buffer, byte by byte (the data's statistics and the mel filter bank are buffers),
  the settings of front end and backbone, the length of a chunk, the kind of device;
- the code: the workbench's modules that decode and encode; the whole packages that the classes of front end and
  backbone come from (their modules, where they are in none) and the modules of their base classes; the versions of
  torch, torchaudio, soundfile and libsndfile. Other packages that these import are not in it;
- the clips: path, start, duration, and each file's size, times of change and inode (of a saved data set, the sizes and
  times of all its files). Labels and splits are not in it, so clips with new labels are not embedded again. The file
  system's own time of change and the inode tell a file that was replaced by one of equal size and date.
"""

from __future__ import annotations

import hashlib
import inspect
import json
import logging
import os
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict, is_dataclass
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import torch
from torch import nn

from ssl_wb.audio.clip import Clip, ClipSet
from ssl_wb.audio.decode import StoredAudio
from ssl_wb.evaluation.embeddings import Embedded
from ssl_wb.evaluation.frame_store import FrameStore
from ssl_wb.files import cache_folder, may_write, written_aside
from ssl_wb.plugin.evaluator import Encoder, Level

__all__ = ["EmbeddingCache", "clips_digest", "encoder_digest", "user_folder"]

log = logging.getLogger("ssl_wb")

#: Code of the workbench that an embedding depends on.
CODE = (
    *("audio/*.py", "encoder/**/*.py", "evaluation/embeddings.py", "evaluation/pooling.py", "layers/*.py"),
    *("plugin/backbone.py", "plugin/front_end.py"),
)
#: Attributes of every module, which are not its settings.
MODULE = frozenset(vars(nn.Module()))
#: Characters of each digest in a file's name: 80 bits.
DIGITS = 20


def user_folder() -> Path | None:
    """Return the folder of embeddings of encoders without a run folder; None where there is no home folder."""
    cache = cache_folder()
    return None if cache is None else cache / "embeddings"


def encoder_digest(encoder: Encoder) -> str | None:
    """Digest everything about an encoder that its embeddings depend on.

    Args:
        encoder: a torch module, or an object with ``settings``, a dictionary that identifies it.

    Returns:
        64 hex digits; None for an encoder that is neither, whose embeddings are not cached.
    """
    settings = getattr(encoder, "settings", None)
    if not isinstance(encoder, nn.Module) and not isinstance(settings, dict):
        return None
    kind: type = type(encoder)
    digest = hashlib.sha256(f"{kind.__module__}.{kind.__qualname__}\0{_versions()}\0".encode())
    for name in ("front_end", "backbone"):  # plugins, as a rule
        part: type = type(getattr(encoder, name, encoder))
        digest.update(_code(part).encode())
    digest.update(json.dumps(settings, sort_keys=True, default=str).encode())
    if isinstance(encoder, nn.Module):
        for name, module in encoder.named_modules():
            digest.update(f"{name}\0{type(module).__qualname__}\0{_plain_settings(module)}\0".encode())
        for name, tensor in [*encoder.named_parameters(), *encoder.named_buffers()]:
            digest.update(f"{name}\0{tensor.dtype}\0{tuple(tensor.shape)}\0{tensor.device.type}\0".encode())
            flat = tensor.detach().cpu().contiguous().reshape(-1)
            digest.update(flat.view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _plain_settings(module: nn.Module) -> str:
    """Return a module's attributes of plain type, options models and dataclasses included, as JSON."""
    plain: dict[str, Any] = {}
    for name, value in vars(module).items():
        if name in MODULE:
            continue
        if isinstance(value, (str, int, float, bool, tuple, list, type(None))):
            plain[name] = repr(value)
        elif hasattr(value, "model_dump"):
            plain[name] = value.model_dump()
        elif is_dataclass(value) and not isinstance(value, type):
            plain[name] = asdict(value)
    return json.dumps(plain, sort_keys=True, default=repr)


def _source(kind: type) -> str | None:
    """Return the file a class comes from, None where there is none."""
    try:
        return inspect.getsourcefile(kind)
    except TypeError:  # built in, or typed at a prompt
        return None


@cache
def _versions() -> str:
    """Return the versions of the libraries that decode, make spectrograms and compute."""
    found = [torch.__version__, soundfile.__libsndfile_version__]
    for name in ("torchaudio", "soundfile"):
        try:
            found.append(version(name))
        except PackageNotFoundError:  # built without metadata, as some distributors do
            found.append("unknown")
    return " ".join(found)


def _package(kind: type) -> list[Path]:
    """Return all modules of the package a class comes from; none of the workbench's own, which ``CODE`` lists."""
    top = kind.__module__.partition(".")[0]
    if top == __name__.partition(".")[0]:
        return []
    folders = getattr(sys.modules.get(top), "__path__", ())
    return [path for folder in folders for path in sorted(Path(folder).rglob("*.py"))]


@cache  # once per class: imported code does not change any more
def _code(kind: type) -> str:
    """Digest the workbench's code that decodes and encodes, and that of the class of a front end or backbone."""
    root = Path(__file__).parents[1]
    files = [path for pattern in CODE for path in sorted(root.glob(pattern))]
    files += _package(kind)
    files += [Path(source) for base in kind.__mro__ if (source := _source(base)) is not None]
    digest = hashlib.sha256()
    for path in dict.fromkeys(files):
        digest.update(f"{path.name}\0".encode())
        # An installation without sources has nothing to read; its version has to suffice.
        with suppress(OSError):
            digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()


def clips_digest(clips: ClipSet) -> str:
    """Digest the clips: path, start, duration, size, times of change and inode of every file."""
    digest = hashlib.sha256()
    stamps: dict[Path | StoredAudio, str] = {}
    for clip in clips:
        if clip.path not in stamps:
            stamps[clip.path] = _stamp(clip)
        line = f"{stamps[clip.path]}\0{clip.start!r}\0{clip.duration!r}\n"
        digest.update(line.encode("utf-8", "surrogateescape"))
    return digest.hexdigest()


def _stamp(clip: Clip) -> str:
    if not isinstance(clip.path, Path):
        return clip.path.stamp
    path = os.path.realpath(clip.path)
    try:
        status = os.stat(path)  # noqa: PTH116 - a Path per clip would double the time
    except OSError:
        return f"{path}\0missing"
    # The time of modification can be set, as `cp -p` and archives do; that of the last change of the inode cannot.
    changes = f"{status.st_mtime_ns}\0{status.st_ctime_ns}\0{status.st_ino}"
    return f"{path}\0{status.st_size}\0{changes}"


class EmbeddingCache:
    """Embeddings of one encoder in one folder: ``CLIPS-ENCODER-LEVEL.npy``, read memory-mapped.

    Frames are kept as ``[all frames, D]``, with ``CLIPS-ENCODER-LEVEL.index.npy`` beside them, int64 ``[2, clips]``:
    the first frame of each clip and how many it has.

    Args:
        folder: folder of the files; None for no cache.
        encoder: the encoder.
    """

    def __init__(self, folder: Path | None, encoder: Encoder) -> None:
        self._digest = encoder_digest(encoder) if folder is not None else None
        self._folder = folder if self._digest is not None else None

    def file(self, clips: ClipSet, level: Level, pools: Sequence[str] = ()) -> Path | None:
        """Return the file of the embeddings of some clips, whether it exists or not; None without a cache."""
        if self._folder is None or self._digest is None:
            return None
        return (
            self._folder
            / f"{clips_digest(clips)[:DIGITS]}-{self._digest[:DIGITS]}-{'_'.join([level, *pools]).replace(':', '')}.npy"
        )

    def get(
        self,
        clips: ClipSet,
        level: Level,
        compute: Callable[[], Embedded],
        pools: Sequence[str] = (),
    ) -> tuple[Embedded, bool]:
        """Return embeddings from the cache, or compute and cache them.

        Args:
            clips: the clips.
            level: of the embeddings.
            compute: called for embeddings that are not cached; returns float32 ``[clips, ...]``.
            pools: poolings of frames that the embeddings hold.

        Returns:
            The embeddings, and whether they came from the cache.
        """
        path = self.file(
            clips, level, pools
        )  # before computing: a file that changes meanwhile gets another key next time
        if path is not None and (cached := _load(path, len(clips), level)) is not None:
            return cached, True
        values = compute()
        if path is not None:
            _keep(path, values)
        return values, False


def _index_file(path: Path) -> Path:
    """Return the file that says where the frames of each clip are."""
    return path.with_suffix(".index.npy")


def _load(path: Path, clips: int, level: Level) -> Embedded | None:
    """Memory-map a file of embeddings; None if it does not exist, or holds anything else."""
    try:
        values = np.load(path, mmap_mode="r", allow_pickle=False)
        index = np.load(_index_file(path), allow_pickle=False) if level == "frames" else None
    except FileNotFoundError:
        return None
    except (OSError, ValueError, EOFError) as error:
        log.warning("%s: cannot be read (%s); embedding anew", path, error)
        return None
    if values.dtype != np.float32:
        return None
    if index is None:
        return values if len(values) == clips else None
    fits = values.ndim == 2 and index.shape == (2, clips) and index.dtype == np.int64
    return FrameStore(values, *index) if fits and index[1].sum() == len(values) else None


def _keep(path: Path, values: Embedded) -> None:
    """Write embeddings, whole or not at all. Only warn if that fails: they are computed again next time."""
    try:
        if may_write(path.parent):
            if isinstance(values, FrameStore):  # first: without the frames it is not looked at
                with written_aside(_index_file(path)) as aside, aside.open("wb") as file:
                    np.save(file, np.stack([values.first, values.counts]), allow_pickle=False)
                values = values.frames
            with written_aside(path) as aside, aside.open("wb") as file:
                np.save(file, values, allow_pickle=False)
    except OSError as error:
        log.warning("%s: embeddings could not be kept (%s)", path, error)
