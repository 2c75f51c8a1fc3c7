"""Which encoders share a table: runs, their untrained selves, encoders from elsewhere and plain log-mel statistics."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import torch

from ssl_wb.encoder.external import check_external, is_external, load_external
from ssl_wb.errors import UsageError
from ssl_wb.evaluation.baselines import baselines
from ssl_wb.evaluation.embedding_cache import encoder_digest, user_folder
from ssl_wb.evaluation.results import Role
from ssl_wb.plugin.evaluator import Encoder

__all__ = ["compared", "encoder_names"]

log = logging.getLogger("ssl_wb")

#: Folder of a run that holds its embeddings.
EMBEDDINGS = "embeddings"


def encoder_names(sources: Sequence[str | Path]) -> dict[str, str | Path]:
    """Name what is compared.

    Runs are named after their folders, with as many parents as it takes to tell them apart; encoders from elsewhere as
    they are given. What of the latter cannot be found is refused here, before hours go into others.

    Returns:
        Run folders as paths, encoders from elsewhere as text, by name and in the order given.

    Raises:
        UsageError: nothing is given, one is given twice, or there is no such module, file or kind.
    """
    if not sources:
        raise UsageError("no encoder to probe", hint="Name at least one run folder.")
    external = [is_external(source) for source in sources]
    for source, is_one in zip(sources, external, strict=True):
        if is_one:
            check_external(str(source))
    runs = [Path(source) for source, is_one in zip(sources, external, strict=True) if not is_one]
    others = [str(source) for source, is_one in zip(sources, external, strict=True) if is_one]
    paths = [run.resolve() for run in runs]
    if len(set(paths)) < len(paths) or len(set(others)) < len(others):
        what = "a run" if len(set(paths)) < len(paths) else "an encoder"
        raise UsageError(f"{what} is named twice", hint="Name each once.")
    names = iter(_short(paths))
    return {
        str(source) if is_one else next(names): str(source) if is_one else Path(source)
        for source, is_one in zip(sources, external, strict=True)
    }


def _short(paths: Sequence[Path]) -> list[str]:
    """Return the last parts of paths, as few as tell them apart."""
    names: list[str] = []
    for parts in range(1, max((len(path.parts) for path in paths), default=0) + 1):
        names = ["/".join(path.parts[-parts:]) for path in paths]
        if len(set(names)) == len(names):
            break
    return names


def compared(
    sources: Mapping[str, str | Path],
    checkpoint: str = "last",
    device: str | torch.device = "cpu",
    *,
    untrained: bool = True,
    plain: bool = True,
    wanted: str | None = None,
) -> Iterator[tuple[str, Encoder, Role, Path | None]]:
    """Yield the encoders to compare and where their embeddings are kept, one at a time: memory holds one.

    Args:
        sources: by name, from :func:`encoder_names`.
        checkpoint: of runs, ``last`` or ``best``.
        device: where encoders compute.
        untrained: whether the weights each run started from come after it. Of runs that started from the same, as
            those do that differ in masker or objective, the first alone has them.
        plain: whether log-mel statistics come last.
        wanted: name of a row that comes in any case.

    Raises:
        RunFolderError: a folder is no run, or has no checkpoint yet.
        UsageError: an encoder from elsewhere cannot be loaded.
        DataError: an encoder from elsewhere embeds a plain tone in a wrong shape.
    """
    from ssl_wb.encoder.load import load_encoder

    starts: dict[str, str] = {}
    for name, source in sources.items():
        if isinstance(source, str):
            yield name, load_external(source, device), "encoder", user_folder()
            continue
        yield name, load_encoder(source, checkpoint=checkpoint, device=device), "encoder", source / EMBEDDINGS
        if untrained:
            fresh, label = load_encoder(source, untrained=True, device=device), f"{name}, untrained"
            # An encoder without a digest cannot be told from another, so it stands for itself.
            first = starts.setdefault(encoder_digest(fresh) or name, name)
            if first != name and label != wanted:
                log.info("%s started from the same weights as %s: one row stands for both", name, first)
                continue
            yield label, fresh, "untrained", source / EMBEDDINGS
    if plain:
        for label, encoder in baselines().items():
            yield label, encoder, "baseline", user_folder()
