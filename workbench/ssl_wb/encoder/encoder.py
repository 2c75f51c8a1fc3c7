"""The frozen encoder: waveforms of any length to embeddings that do not depend on padding or batch."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ssl_wb.encoder.clip_vectors import clip_tokens, clip_vectors, embedding_kind
from ssl_wb.encoder.reading import Chunk, ChunkPlan
from ssl_wb.encoder.waveforms import checked_waveform
from ssl_wb.errors import UsageError, did_you_mean
from ssl_wb.layers.patches import patchify
from ssl_wb.plugin.backbone import Backbone
from ssl_wb.plugin.evaluator import Assigned
from ssl_wb.plugin.front_end import FrontEnd
from ssl_wb.plugin.importer import ClipReading
from ssl_wb.plugin.masker import Grid, Mask, visible_count

__all__ = ["Assign", "FrozenEncoder"]

#: Takes the patches ``[n, N, P]`` of n chunks and their grid; returns class probabilities ``[n, N, K]`` by objective.
Assign = Callable[[Tensor, Grid], dict[str, Tensor]]

#: Patches encoded in one pass. Bounds the memory that long recordings and large batches take.
PATCHES_PER_PASS = 16_384


class FrozenEncoder(nn.Module):
    """Front end and backbone of a pre-trained encoder, without gradient.

    A spectrogram is padded to whole patches with the front end's ``pad_value`` (by default 0, the data's mean), then
    cut into chunks of at most ``chunk_frames`` frames; the last chunk of a clip may be shorter. Each chunk is encoded
    alone, because positions beyond a training crop were never trained. Only chunks of equal length share a pass, so
    that no padding enters attention and a clip's embedding does not depend on the rest of its batch.

    Frames of the front end (every 10 ms) and columns of the patch grid (every 160 ms for 16 frames per patch) both
    follow time: the frames of ``embed_frames`` are the columns.

    Args:
        front_end: makes spectrograms.
        backbone: encodes their patches.
        chunk_frames: most spectrogram frames encoded at once.
        reading: how clips are cut and padded, where that differs from the above; it has a ``chunk_frames`` of its own.
        pretext: returns the function behind :meth:`assign`; it is called at the first use, because it loads the whole
            pretext model. None without a run, or where no objective has classes.
        embedding: what the embedding of a clip is, one of the following: ``folded``, the mean over frames with the
            rows of the patch grid concatenated; ``frames``, the mean over frames with the rows averaged;
            ``clip-token``, the class token; ``pooled``, the backbone's own pooling, as in its training; or
            ``published``, the one of these that the authors' own code hands to a probe.
        published: which one that is.
        fine_tuned: what the system's authors put a head on in fine-tuning: ``folded`` frames, ``frames`` with their
            rows averaged, the ``clip-token``, or the backbone's own pooling (``pooled``).
        heads: modules of an imported checkpoint behind the encoder, by name.
        head_inputs: what each of them reads: "tokens", "clip-token" or "pooled".

    Attributes:
        sample_rate: samples per second that waveforms must have.
        hop_seconds: seconds between the frames of ``embed_frames``: the width of a patch.
        dim: width of a frame: rows of the patch grid x width of the backbone, or the latter where rows are averaged.
        kind: the embedding of a clip, ``published`` resolved.
    """

    def __init__(
        self,
        front_end: FrontEnd,
        backbone: Backbone,
        chunk_frames: int,
        pretext: Callable[[], Assign] | None = None,
        reading: ClipReading | None = None,
        *,
        embedding: str = "published",
        published: str = "folded",
        fine_tuned: str = "folded",
        heads: nn.ModuleDict | None = None,
        head_inputs: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__()
        # A callable, not a module: the pretext model must stay out of the state dict and the embedding cache's key.
        self._pretext = pretext
        self.front_end = front_end
        self.backbone = backbone
        self.published = published
        self.fine_tuned = fine_tuned
        self.kind = embedding_kind(embedding, published)
        self.heads = heads if heads is not None else nn.ModuleDict()
        self.head_inputs = dict(head_inputs or {})
        self.patch_width = backbone.patch[1]
        self.chunk_columns = max(1, chunk_frames // self.patch_width)
        self.reading = reading or ClipReading(self.chunk_columns * self.patch_width)
        self.plan = ChunkPlan(self.reading, self.patch_width)
        self.rows = backbone.grid_of(self.patch_width).freq
        self.dim = backbone.dim if self.kind == "frames" else self.rows * backbone.dim
        if self.kind == "clip-token" and not backbone.prefix_tokens:
            raise UsageError(
                f"embedding clip-token: the backbone {backbone.name!r} has no class token here",
                hint="take folded, frames or pooled",
            )
        self.sample_rate = front_end.sample_rate
        self.hop_seconds = front_end.hop_seconds * self.patch_width
        self.requires_grad_(False)
        self.eval()

    def columns_of(self, samples: int) -> int:
        """Return the number of frames that ``embed_frames`` gives for a clip of ``samples`` samples."""
        return self.plan.columns_of(self.front_end.frames_of(samples))

    def frame_times(self, samples: int) -> list[float]:
        """Return the centre, in seconds, of each frame of ``embed_frames`` for a clip of ``samples`` samples."""
        front_end = self.front_end
        offset = front_end.frame_samples / 2 - front_end.edge_samples  # of the first spectrogram frame, in samples
        centres = self.plan.centres_of(front_end.frames_of(samples))
        return [centre * front_end.hop_seconds + offset / self.sample_rate for centre in centres]

    @torch.no_grad()
    def embed_frames(self, waveform: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Embed waveforms frame by frame.

        Args:
            waveform: ``[B, S]`` or ``[S]`` at ``sample_rate``, full scale 1.
            lengths: int64 ``[B]``, samples of each clip; all of S when None.

        Returns:
            float32 ``[B, T, D]``, one embedding per ``hop_seconds``, 0 after a clip's end. The rows of the patch grid
            are concatenated in the feature axis, low frequencies first; they are averaged where ``embedding`` is
            ``frames``.

        Raises:
            UsageError: the waveform has another shape, is empty, or is not finite.
        """

        def encode(patches: Tensor, grid: Grid) -> list[Tensor]:
            latents = self.backbone(self.backbone.embed(patches, grid))  # [n, prefix + N, d]
            return [self._join_rows(latents, grid)]

        return self.by_chunk(waveform, lengths, encode)[0]

    @torch.no_grad()
    def embed_clip(self, waveform: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Embed whole clips: ``waveform`` ``[B, S]`` to ``[B, D]``.

        That is the mean over each clip's own frames, or the class token or pooled tokens where ``embedding`` says so.
        """
        waveform, lengths = self._checked(waveform, lengths)
        if self.kind in ("clip-token", "pooled"):
            return clip_vectors(self, waveform, lengths, self.kind)
        frames = self.embed_frames(waveform, lengths)  # [B, T, D]
        return frames.sum(dim=1) / self._column_counts(lengths)[:, None]  # frames after a clip's end are 0

    @property
    def clip_dim(self) -> int:
        """Width of the embedding of a clip."""
        return self.dim if self.kind == "folded" else self.backbone.dim

    @property
    def pooling(self) -> str:
        """How ``embed_clip`` makes one vector of a clip, as tables name it."""
        if self.kind == "frames" and self.rows > 1:
            return "mean of averaged rows"
        return "mean" if self.kind in ("folded", "frames") else self.kind

    @torch.no_grad()
    def apply_head(self, name: str, waveform: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Return the output ``[B, K]`` of a head that came with an imported checkpoint, such as ``clap-audio``.

        Args:
            name: of the head.
            waveform: ``[B, S]`` or ``[S]`` at ``sample_rate``, full scale 1.
            lengths: int64 ``[B]``, samples of each clip; all of S when None.

        Raises:
            UsageError: there is no such head, or the waveform cannot be embedded.
        """
        if name not in self.heads:
            known = ", ".join(self.heads) or "it has none"
            raise UsageError(
                f"the encoder has no head {name!r}{did_you_mean(name, self.heads)}", hint=f"heads: {known}"
            )
        waveform, lengths = self._checked(waveform, lengths)
        head, reads = self.heads[name], self.head_inputs[name]
        if reads == "tokens":
            return torch.cat([head(tokens[None]) for tokens in clip_tokens(self, waveform, lengths)])
        return head(clip_vectors(self, waveform, lengths, reads))

    @torch.no_grad()
    def layers(self, waveform: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Embed waveforms with every layer: ``waveform`` ``[B, S]`` to ``[B, layers, T, D]``, the last one normed."""

        def encode(patches: Tensor, grid: Grid) -> list[Tensor]:
            outputs = self.backbone.layers(self.backbone.embed(patches, grid))  # each [n, prefix + N, d]
            return [self._join_rows(latents, grid) for latents in outputs]

        return torch.stack(self.by_chunk(waveform, lengths, encode), dim=1)

    @torch.no_grad()
    def embed_masked(
        self, waveform: Tensor, lengths: Tensor | None = None, *, ratios: Sequence[float], seeds: Sequence[int]
    ) -> Tensor:
        """Embed whole clips from a share of their patches; the others are masked at random.

        An embedding is the mean latent of the visible patches. With ratio 0 that is ``embed_clip`` with the rows of the
        patch grid averaged instead of concatenated. The ratio holds in every chunk, with at least one visible patch.

        Args:
            waveform: ``[B, S]`` or ``[S]`` at ``sample_rate``, full scale 1.
            lengths: int64 ``[B]``, samples of each clip; all of S when None.
            ratios: shares of patches masked, each in [0, 1); what a smaller ratio masks, a larger one masks too.
            seeds: one for each clip; a clip's masks depend on its seed and length alone.

        Returns:
            float32 ``[R, B, D]``, one embedding for each of the R ratios; D is the width of the backbone.

        Raises:
            UsageError: a ratio outside [0, 1), seeds and clips of different number, or an unusable waveform.
        """
        waveform, lengths = self._checked(waveform, lengths)
        if not ratios or not all(0.0 <= ratio < 1.0 for ratio in ratios) or len(seeds) != len(waveform):
            raise UsageError(
                f"masking by ratios {list(ratios)} with {len(seeds)} seeds for {len(waveform)} clips is not possible",
                hint="give ratios from 0 to below 1 and one seed for each clip",
            )
        # One random score per patch, drawn on the CPU clip by clip: the masks are the same on any device and in any
        # batch. Each ratio keeps the patches of lowest score, hence the masks are nested.
        columns = [self.plan.encoded_of(self.front_end.frames_of(int(length))) for length in lengths]
        scores = [
            torch.rand(count, self.rows, generator=torch.Generator().manual_seed(seed))
            for count, seed in zip(columns, seeds, strict=True)
        ]  # each [T, F]
        sums = waveform.new_zeros(len(ratios), len(waveform), self.backbone.dim)  # [R, B, D], visible latents
        counts = waveform.new_zeros(len(ratios), len(waveform), 1)  # [R, B, 1], their number

        def encode(patches: Tensor, grid: Grid, chunks: list[Chunk]) -> list[Tensor]:
            own = torch.stack([scores[chunk.clip][chunk.place : chunk.place + chunk.encoded] for chunk in chunks])
            own = own.transpose(1, 2).flatten(1).to(patches.device)  # [n, t, f] to [n, N], frequency-major
            for number, ratio in enumerate(ratios):
                visible = Mask.from_scores(own, max(1, visible_count(grid.cells, ratio))).visible  # [n, Nv]
                latents = self.backbone(self.backbone.embed(patches, grid, visible))
                latents = latents[:, self.backbone.prefix_tokens :].float()  # [n, Nv, D]
                for chunk, total in zip(chunks, latents.sum(dim=1), strict=True):
                    sums[number, chunk.clip] += total
                    counts[number, chunk.clip] += visible.shape[1]
            return []

        self.run_chunks(waveform, lengths, encode)
        return sums / counts

    @torch.no_grad()
    def assign(self, waveform: Tensor, lengths: Tensor | None = None) -> dict[str, Assigned]:
        """Assign clips to the classes of the run's objectives, for objectives that have classes.

        Args:
            waveform: ``[B, S]`` or ``[S]`` at ``sample_rate``, full scale 1.
            lengths: int64 ``[B]``, samples of each clip; all of S when None.

        Returns:
            Assignments by the objective's label in the run; empty without a run or where no objective has classes.

        Raises:
            UsageError: the waveform has another shape, is empty, or is not finite.
            RunFolderError: the run's weights can no longer be read.
        """
        if self._pretext is None:
            return {}
        classify = self._pretext()
        labels: list[str] = []

        def encode(patches: Tensor, grid: Grid) -> list[Tensor]:
            by_label = classify(patches, grid)
            labels[:] = by_label
            outputs: list[Tensor] = []
            for probabilities in by_label.values():  # [n, N, K]
                tiles = probabilities.unflatten(1, grid)  # [n, f, t, K]
                # Classes counted from 1, because by_chunk leaves 0 after a clip's end.
                outputs += [tiles.mean(dim=1), tiles.argmax(dim=-1).transpose(1, 2) + 1]  # [n, t, K], [n, t, f]
            return outputs

        waveform, lengths = self._checked(waveform, lengths)
        outputs = self.by_chunk(waveform, lengths, encode)
        counts = self._column_counts(lengths)[:, None]  # [B, 1]
        return {
            label: Assigned(frames.sum(dim=1) / counts, classes.long() - 1)  # [B, K], [B, T, F]
            for label, frames, classes in zip(labels, outputs[0::2], outputs[1::2], strict=True)
        }

    def by_chunk(
        self, waveform: Tensor, lengths: Tensor | None, encode: Callable[[Tensor, Grid], list[Tensor]]
    ) -> list[Tensor]:
        """Cut clips into chunks, encode them, and put the results in place.

        Args:
            waveform: ``[B, S]`` or ``[S]`` at ``sample_rate``, full scale 1.
            lengths: int64 ``[B]``, samples of each clip; all of S when None.
            encode: called as ``encode(patches, grid)`` with ``[n, N, P]`` of n chunks of one length; returns one or
                several ``[n, grid.time, d]``.

        Returns:
            One float32 ``[B, T, d]`` for each tensor that ``encode`` returns; 0 after a clip's end.

        Raises:
            UsageError: the waveform has another shape, is empty, or is not finite.
        """
        waveform, lengths = self._checked(waveform, lengths)
        return self.run_chunks(waveform, lengths, lambda patches, grid, _: encode(patches, grid))

    def run_chunks(
        self, waveform: Tensor, lengths: Tensor, encode: Callable[[Tensor, Grid, list[Chunk]], list[Tensor]]
    ) -> list[Tensor]:
        """As :meth:`by_chunk`, for checked waveforms; ``encode`` also gets the chunks."""
        spectrogram, frames = self.front_end(waveform, lengths)  # [B, F, frames], [B]
        width, height = self.patch_width, self.rows
        chunks = [chunk for clip, count in enumerate(frames) for chunk in self.plan.chunks_of(int(count), clip)]
        ends = [chunk.frame + chunk.encoded * width for chunk in chunks]
        missing = max(0, max(ends) - spectrogram.shape[2])
        spectrogram = F.pad(spectrogram, (0, missing), value=float(self.front_end.pad_value))
        columns = max(chunk.first + chunk.columns for chunk in chunks)
        results: list[Tensor] = []
        for equal in self.plan.passes(chunks, height, PATCHES_PER_PASS):
            pieces = [
                spectrogram[chunk.clip, :, chunk.frame : chunk.frame + chunk.encoded * width] for chunk in equal
            ]  # each [F, frames of a chunk]
            patches = patchify(torch.stack(pieces), self.backbone.patch)  # [n, N, P]
            outputs = encode(patches, Grid(height, equal[0].encoded), equal)  # each [n, t, d]
            if not results:
                results = [values.new_zeros(len(frames), columns, values.shape[2]).float() for values in outputs]
            for result, values in zip(results, outputs, strict=True):
                for chunk, value in zip(equal, values.float(), strict=True):
                    result[chunk.clip, chunk.first : chunk.first + chunk.columns] = value[: chunk.columns]
        return results

    def _join_rows(self, latents: Tensor, grid: Grid) -> Tensor:
        """Turn latents ``[n, prefix + f * t, d]`` into frames ``[n, t, f * d]``, or ``[n, t, d]``, rows averaged."""
        tiles = latents[:, self.backbone.prefix_tokens :].unflatten(1, grid)  # [n, f, t, d]
        if self.kind == "frames":
            return tiles.mean(dim=1)
        return tiles.transpose(1, 2).flatten(2)  # [n, t, f * d]

    def _checked(self, waveform: Tensor, lengths: Tensor | None) -> tuple[Tensor, Tensor]:
        """Bring ``[S]`` or ``[B, S]`` and optional lengths to ``[B, S]`` and ``[B]`` on the encoder's device."""
        return checked_waveform(waveform, lengths, self.front_end.mean.device)

    def _column_counts(self, lengths: Tensor) -> Tensor:
        """Return the columns ``[B]`` of clips of ``lengths`` samples, on the encoder's device."""
        return torch.tensor([self.columns_of(int(length)) for length in lengths], device=lengths.device)
