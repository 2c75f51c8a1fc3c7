"""The source contract: where clips come from."""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path
from typing import ClassVar

from ssl_wb.audio.clip import ClipSet
from ssl_wb.plugin.base import Kind, Plugin, PluginOptions

__all__ = ["Source"]


class Source(Plugin, ABC):
    """Lists the clips of a place: what ``data.train``, a task, ``embed`` and ``pack`` are given.

    A place is the path of a file or folder, or text of the form ``SCHEME:REST``. The source of a path is found by
    :meth:`recognises`, the source of a text by :attr:`scheme`. The table ``[data.NAME]`` of a recipe holds the options
    of the source called NAME.

    Args:
        options: the plugin's options.
    """

    kind: ClassVar[Kind] = "source"
    #: Places written ``SCHEME:REST`` belong to this source; None for a source of paths.
    scheme: ClassVar[str | None] = None
    #: What may follow the scheme; () for any text. Sources that share a scheme name all of theirs.
    rests: ClassVar[tuple[str, ...]] = ()
    #: Order in which sources are asked about a path: larger numbers first, equal ones by name. The bundled sources of
    #: any folder and of any table have 0, the one of data sets within a folder has 1.
    specificity: ClassVar[int] = 1
    #: Whether the clips are made for a run: :meth:`read` writes them, and before the run they are nowhere.
    generates: ClassVar[bool] = False
    #: Whether clips may have labels, and captions. A recipe that needs what they never have is refused early.
    has_labels: ClassVar[bool] = True
    has_captions: ClassVar[bool] = True

    def __init__(self, options: PluginOptions) -> None:
        self.options = options

    @classmethod
    def recognises(cls, path: Path) -> bool:
        """Whether this source reads a file or folder that exists; without opening more than it has to."""
        del path
        return False

    @abstractmethod
    def read(self, place: str, *, folder: Path | None, sample_rate: int) -> ClipSet:
        """List the clips, in an order that depends on the place alone. No audio need be read.

        Args:
            place: path, or ``SCHEME:REST`` in full.
            folder: where a source that generates its clips writes them, in the run's folder and this source's alone;
                it may be absent, or hold what an earlier call wrote. None for other sources.
            sample_rate: samples per second at which generated clips are wanted.

        Returns:
            The clips. ``digest`` changes whenever their audio may have.

        Raises:
            DataError: the place is not as it should be; all mistakes are in the message.
        """

    def planned_clips(self, place: str) -> int | None:
        """Return how many clips a source that generates them will write; None where only :meth:`read` tells."""
        del place
        return None

    def task_name(self, place: str) -> str:
        """Return what a task of these clips is called in tables."""
        return Path(place).stem if self.scheme is None else place.partition(":")[2]
