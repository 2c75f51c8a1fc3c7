"""Encoders to compare: runs, their untrained weights, external encoders and plain log-mel statistics."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import torch

from ssl_wb.encoder.external import check_external, is_external, load_external
from ssl_wb.errors import UsageError
from ssl_wb.evaluation.baselines import baselines
from ssl_wb.evaluation.embedding_cache import encoder_digest, user_folder
from ssl_wb.evaluation.pooling import MEAN
from ssl_wb.evaluation.results import Role
from ssl_wb.plugin.evaluator import Encoder
from ssl_wb.runs.folder import RunFolder

__all__ = ["EncoderToProbe", "encoder_names", "encoders_to_compare"]

log = logging.getLogger("ssl_wb")

#: Folder of a run that holds its embeddings.
EMBEDDINGS = "embeddings"


def encoder_names(sources: Sequence[str | Path]) -> dict[str, str | Path]:
    """Name the encoders to compare.

    Runs are named after their folders, with as many parent folders as make the names differ; external encoders as they
    are given. An external encoder that cannot be found is refused here, before hours are spent on others.

    Args:
        sources: run folders and external encoders.

    Returns:
        Run folders as paths and external encoders as text, by name and in the order given.

    Raises:
        UsageError: nothing is given, one is given twice, or there is no such module, file or kind.
    """
    if not sources:
        raise UsageError("no encoder to probe", hint="Name at least one run folder.")
    external = [str(source) for source in sources if is_external(source)]
    for source in external:
        check_external(source)
    paths = [Path(source).resolve() for source in sources if not is_external(source)]
    for what, named in (("a run", paths), ("an encoder", external)):
        if len(set(named)) < len(named):
            raise UsageError(f"{what} is named twice", hint="Name each once.")
    names = iter(_short(paths))
    return dict(
        (str(source), str(source)) if is_external(source) else (next(names), Path(source)) for source in sources
    )


def _short(paths: Sequence[Path]) -> list[str]:
    """Return the last parts of paths, as few as make them differ."""
    names: list[str] = []
    for parts in range(1, max((len(path.parts) for path in paths), default=0) + 1):
        names = ["/".join(path.parts[-parts:]) for path in paths]
        if len(set(names)) == len(names):
            break
    return names


class EncoderToProbe(NamedTuple):
    """An encoder, its name and role in tables, and the folder of its cached embeddings; None for no cache."""

    name: str
    encoder: Encoder
    role: Role
    folder: Path | None


def encoders_to_compare(
    sources: Mapping[str, str | Path],
    checkpoint: str = "last",
    device: str | torch.device = "cpu",
    *,
    untrained: bool = True,
    log_mel: bool = True,
    pool: str = MEAN,
    embedding: str = "published",
    reference: str | None = None,
    failed: Callable[[str, Exception], None] | None = None,
) -> Iterator[EncoderToProbe]:
    """Yield the encoders to compare one by one, so that memory holds a single one.

    Args:
        sources: by name, from :func:`encoder_names`.
        checkpoint: of runs, ``last`` or ``best``.
        device: where encoders compute.
        untrained: whether each run is followed by an encoder with the weights it started from. Runs that started from
            equal weights, as those that differ in masker or objective only, share that of the first.
        log_mel: whether log-mel statistics come last.
        pool: how frames are pooled; it decides which log-mel baselines there are.
        embedding: of a clip, by runs and imported encoders; see :class:`ssl_wb.encoder.encoder.FrozenEncoder`.
        reference: name that is yielded even if it shares its weights with another.
        failed: called with the name and the error of an encoder that cannot be loaded, which is then left out; without
            it the error is raised.

    Raises:
        RunFolderError: a folder is no run, or has no checkpoint yet.
        UsageError: an external encoder cannot be loaded.
        DataError: an external encoder embeds a plain tone in a wrong shape.
    """
    from ssl_wb.encoder.load import load_encoder

    starts: dict[str, str] = {}
    for name, source in sources.items():
        try:
            if isinstance(source, str):
                external = EncoderToProbe(name, load_external(source, device, embedding), "encoder", user_folder())
            else:
                trained = load_encoder(source, checkpoint=checkpoint, embedding=embedding, device=device)
        except Exception as error:
            if failed is None:
                raise
            failed(name, error)
            continue
        if isinstance(source, str):
            yield external
            continue
        # Embeddings are kept in a run's own folder, not beside the files of others.
        folder = source / EMBEDDINGS if RunFolder(source).is_run() else user_folder()
        yield EncoderToProbe(name, trained, "encoder", folder)
        if untrained:
            fresh, label = (
                load_encoder(source, untrained=True, embedding=embedding, device=device),
                f"{name}, untrained",
            )
            # An encoder without a digest cannot be compared with others, so it is probed itself.
            first = starts.setdefault(encoder_digest(fresh) or name, name)
            if first != name and label != reference:
                log.info("%s started from the same weights as %s: one row stands for both", name, first)
                continue
            yield EncoderToProbe(label, fresh, "untrained", folder)
    if log_mel:
        for label, encoder in baselines(pool).items():
            yield EncoderToProbe(label, encoder, "baseline", user_folder())
