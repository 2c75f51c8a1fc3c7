"""Saved data sets: clips whose encoded audio lies in Arrow files, mapped into memory instead of read.

The folder is what ``datasets.Dataset.save_to_disk`` (Hugging Face) or ``ssl-wb pack`` writes. A million clips are a few
hundred files, and a crop costs the pages of the file that libsndfile reads to decode it.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, BinaryIO, cast

from ssl_wb.api import AudioError, Clip, ClipSet, DataError, Source, hookimpl, listing_digest

#: Files that make a folder a saved data set, and one that makes it several of them.
STATE, INFO, SEVERAL = "state.json", "dataset_info.json", "dataset_dict.json"
WHOLE = "Is it whole? Copy or save it again; a folder of audio files must not hold state.json and dataset_info.json."
#: Types of columns that hold no labels.
NO_TEXT = frozenset({"dict", "list", "binary", "large_binary", "List", "LargeList"})
HINT = (
    "Wanted is a column 'audio' (or one column of type Audio) of structs {'bytes', 'path'} with encoded audio, and, "
    "where needed, label, split, fold, group, caption: text, numbers or lists of them. `ssl-wb pack` writes such a "
    "folder."
)


@dataclass(frozen=True)
class ArrowColumn:
    """The column of a saved data set that holds the audio.

    The files are mapped when a process first reads from them; a pickled column is its place, without the map.

    Attributes:
        folder: of the data set.
        column: name of the column.
        digest: of the data set's files when the clips were listed.
    """

    folder: Path
    column: str
    digest: str

    @cached_property
    def _values(self) -> Any:
        data = _opened(self.folder)
        if _digest(self.folder) != self.digest:
            raise DataError(f"{self.folder}: the data set was changed meanwhile", hint="Start again.")
        return data.data.column(self.column)

    def __getstate__(self) -> dict[str, Any]:
        return {"folder": self.folder, "column": self.column, "digest": self.digest}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)

    def field(self, row: int, name: str) -> Any:
        """Return a field of a row as an Arrow scalar, null where the row has none; no byte of it is copied."""
        value = self._values[row]
        if hasattr(value, "keys"):  # a struct
            return value[name] if value.is_valid and name in value else None
        return value if name == "bytes" else None


@dataclass(frozen=True, slots=True)
class ArrowRow:
    """Audio in one row of a saved data set: a :class:`ssl_wb.api.StoredAudio`.

    Attributes:
        source: the column.
        row: its index in the data set.
    """

    source: ArrowColumn
    row: int

    def __str__(self) -> str:
        return f"{self.source.folder}: {self.name}"

    @property
    def name(self) -> str:
        """Its row and, where the data set tells it, the name of the file that it came from."""
        return f"row {self.row} ({self.file})" if self.file else f"row {self.row}"

    @property
    def file(self) -> str | None:
        """Name of the file that it came from, where the data set tells it."""
        path = self.source.field(self.row, "path")
        return path.as_py() if path is not None else None

    @property
    def stamp(self) -> str:
        """Its place, and the digest of the data set's files."""
        return f"{self.source.folder.resolve()}\0{self.source.column}\0{self.row}\0{self.source.digest}"

    def open(self) -> BinaryIO:
        """Open the encoded bytes, where they are mapped.

        Raises:
            AudioError: the row has none.
            DataError: the data set cannot be opened any more, or was changed.
        """
        import pyarrow

        content = self.source.field(self.row, "bytes")
        if content is None or not content.is_valid:
            raise AudioError(
                f"{self}: has no bytes in {self.source.column!r}",
                hint="A path alone is not enough: save the data set with the audio inside, as `ssl-wb pack` does.",
            )
        return cast(BinaryIO, pyarrow.BufferReader(content.as_buffer()))


class ArrowSource(Source):
    """Lists the rows of a saved data set: a folder that ``save_to_disk`` (Hugging Face) or ``ssl-wb pack`` wrote.

    The audio is the column ``audio``, or the only one of type Audio or of structs with ``bytes``. Columns ``label``,
    ``split``, ``fold``, ``group``, ``caption`` and ``caption_embedding`` mean what they mean in a manifest; a list
    holds several labels or captions, and class labels are known by their names. Other columns are ignored. No audio is
    read before it is decoded.
    """

    name = "arrow"
    specificity = 1  # before any folder

    @classmethod
    def recognises(cls, path: Path) -> bool:
        """Whether it is what ``save_to_disk`` writes: a data set, or a dictionary of them."""
        return (path / SEVERAL).is_file() or ((path / STATE).is_file() and (path / INFO).is_file())

    def read(self, place: str, *, folder: Path | None, sample_rate: int) -> ClipSet:
        """List the rows, in their order."""
        del folder, sample_rate
        path = Path(place)
        if (path / SEVERAL).is_file():
            raise DataError(
                f"{path}: holds several data sets: {', '.join(_splits(path))}", hint="Name the folder of one of them."
            )
        data: Any = _opened(path) if _shards(path) else ()
        rows = len(data)
        if not rows:
            raise DataError(f"{path}: the data set has no rows", hint=HINT)
        source = ArrowColumn(path, _audio_column(path, data.features), _digest(path))
        labels = _texts(path, data, "label", ";")
        splits, folds = _texts(path, data, "split"), _texts(path, data, "fold")
        groups = _texts(path, data, "group")
        captions, embeddings = _texts(path, data, "caption", "|"), _texts(path, data, "caption_embedding")
        clips = tuple(
            Clip(
                ArrowRow(source, row),
                labels=labels[row],
                split=splits[row][0] if splits[row] else None,
                fold=folds[row][0] if folds[row] else None,
                id=row,
                captions=captions[row],
                caption_embedding=path / embeddings[row][0] if embeddings[row] else None,
                group=groups[row][0] if groups[row] else None,
            )
            for row in range(rows)
        )
        return ClipSet(clips, path, source.digest)


@hookimpl
def ssl_wb_sources() -> list[type[Source]]:
    """Register the source of saved data sets."""
    return [ArrowSource]


def _opened(folder: Path) -> Any:
    """Map a saved data set into memory; DataError where it is not whole."""
    try:
        import datasets
    except ImportError as error:
        raise DataError(
            f"{folder}: a saved data set: needs {error.name or 'datasets'}, which is not installed",
            hint="pip install 'ssl-wb[datasets]'",
        ) from error
    try:
        return datasets.load_from_disk(str(folder), keep_in_memory=False)
    except (OSError, ValueError, KeyError, TypeError) as error:  # pyarrow's errors are among them
        raise DataError(
            f"{folder}: cannot be opened as a saved data set ({' '.join(str(error).split())})",
            hint=WHOLE,
        ) from error


def _digest(folder: Path) -> str:
    """Digest of names, sizes and times of the files that the data set consists of."""
    try:
        return listing_digest([(name, (folder / name).stat()) for name in (STATE, INFO, *_shards(folder))])
    except OSError as error:
        raise DataError(f"{folder}: cannot be opened as a saved data set ({error})", hint=WHOLE) from error


def _shards(folder: Path) -> list[str]:
    """Names of the data set's Arrow files."""
    try:
        return [str(one["filename"]) for one in json.loads((folder / STATE).read_text("utf-8"))["_data_files"]]
    except (OSError, ValueError, KeyError, TypeError) as error:
        fault = f"{folder}: cannot be opened as a saved data set ({STATE}: {error})"
        raise DataError(fault, hint=WHOLE) from error


def _splits(folder: Path) -> list[str]:
    try:
        return [str(name) for name in json.loads((folder / SEVERAL).read_text("utf-8"))["splits"]]
    except (OSError, ValueError, KeyError, TypeError):
        return sorted(path.parent.name for path in folder.glob(f"*/{STATE}"))


def _audio_column(folder: Path, features: Any) -> str:
    """Return the name of the column with the audio; DataError where none or several could be it."""
    from datasets import Audio, Value

    def holds_audio(feature: Any) -> bool:
        return isinstance(feature, Audio) or (isinstance(feature, dict) and "bytes" in feature)

    binary = [Value(kind) for kind in ("binary", "large_binary")]
    if "audio" in features and (holds_audio(features["audio"]) or features["audio"] in binary):
        return "audio"
    found = [str(name) for name, feature in features.items() if holds_audio(feature)]
    if len(found) == 1:
        return found[0]
    if found:
        raise DataError(f"{folder}: several columns could be the audio: {', '.join(map(repr, found))}", hint=HINT)
    shown = ", ".join(f"{name!r} ({_kind(feature)})" for name, feature in list(features.items())[:8])
    raise DataError(f"{folder}: no column with audio among {shown or 'none'}", hint=HINT)


def _kind(feature: Any) -> str:
    return str(getattr(feature, "dtype", None) or type(feature).__name__)


def _texts(folder: Path, data: Any, wanted: str, separator: str | None = None) -> Sequence[tuple[str, ...]]:
    """Return the texts of a column, each once in its row; empty rows where there is no such column.

    Args:
        folder: for messages.
        data: the data set.
        wanted: name of the column, in any case.
        separator: stands between several texts of one cell; None for a column of one text each.
    """
    named = {name.strip().lower(): name for name in reversed(data.column_names)}
    column = wanted if wanted in data.column_names else named.get(wanted)
    if column is None:
        return [()] * len(data)
    feature = data.features[column]
    several = hasattr(feature, "feature")  # a list of something
    inner = feature.feature if several else feature
    if (several and separator is None) or _kind(inner) in NO_TEXT or isinstance(inner, (dict, list)):
        raise DataError(
            f"{folder}: column {column!r} holds {_kind(feature)}, not text or numbers",
            hint=f"{HINT} Rename or remove a column that means something else.",
        )
    names = getattr(inner, "names", None)  # of class labels
    known: dict[Any, tuple[str, ...]] = {}  # one tuple per distinct cell: a million rows have few labels

    def texts(cell: Any) -> tuple[str, ...]:
        if several:
            parts = [_text(one, names) for one in cell or ()]
        else:
            text = _text(cell, names)
            parts = text.split(separator) if separator and names is None else [text]
        return tuple(dict.fromkeys(part.strip() for part in parts if part.strip()))

    rows = []
    for cell in data.data.column(column).to_pylist():
        key = tuple(cell) if isinstance(cell, list) else cell
        if key not in known:
            known[key] = texts(cell)
        rows.append(known[key])
    return rows


def _text(value: Any, names: Sequence[str] | None) -> str:
    """Write one label as text: a class label (-1 stands for none) by its name."""
    if value is None or (names is not None and value < 0):
        return ""
    return str(names[value]) if names is not None else str(value)
