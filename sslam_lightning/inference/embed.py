"""Embeddings of many recordings in one file."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from sslam_lightning.inference.encoding import EncoderModel, Level
from sslam_lightning.inference.model import weighted_mean
from sslam_lightning.inference.parts import Parts
from sslam_lightning.inference.recordings import Broken, End, Work
from sslam_lightning.inference.sources import STANDARD_INPUT, Source
from sslam_lightning.inference.spans import Joiner, Windows
from sslam_lightning.inference.tables import Embeddings, check_format, write_table


class Embedded(NamedTuple):
    """What a run has written."""

    num_recordings: int
    shape: tuple[int, ...]  # of all embeddings
    broken: list[tuple[str, str]]  # names and reasons of the recordings that could not be read
    num_resumed: int  # recordings that an earlier run had finished


def embed_recordings(
    model: EncoderModel,
    sources: Sequence[Source],
    target: Path,
    level: Level = "clip",
    windows: Windows | None = None,
    batch_size: int = 8,
    workers: int = 2,
    model_name: str = "",
    progress: Callable[[int], Any] = lambda num_recordings: None,
) -> Embedded:
    """Write the embeddings of recordings to one file; go on where an interrupted run has stopped.

    Memory depends neither on the number of recordings (but for their names) nor on their length: rows go to disk as soon as
    their last window is through, see :mod:`sslam_lightning.inference.parts`.

    Args:
        model: what embeds, on its device; its ``layer``, ``pool`` and, for sound, ``padding`` count.
        sources: the recordings.
        target: a file that ends in .npz, .parquet or .h5, and does not exist, see :mod:`sslam_lightning.inference.tables`.
        level: one row per recording (as the model's ``pool`` says), per frame, or per frame with its patches.
        windows: how long recordings are cut; None: as the model says.
        batch_size, workers: see :class:`~sslam_lightning.inference.recordings.Work`.
        model_name: what the file calls the model.
        progress: told the number of recordings whenever some are done.

    Raises:
        FileExistsError: the target exists.
        OSError: another process is making it.
        ValueError: another run's parts are in the way, no recording can be read, or the model has no such level.
    """
    check_format(target)
    model.check_level(level)
    windows = windows or model.windows()
    settings = {
        "model": model_name,
        "weights": digest_of_weights(model),
        "level": level,
        **({"pool": model.pool} if level == "clip" else {}),
        "layer": model.layer,
        "window_frames": windows.window_frames,
        "overlap_frames": windows.overlap_frames,
        "bf16": model.bf16,
        **model.settings(),
        "recordings": digest_of_files(sources),
    }
    levels: tuple[Level, ...] = ("frame",) if level == "clip" and model.pool == "mean" else (level,)
    work = Work(model, windows, levels=levels, batch_size=batch_size, workers=workers)
    with closing(Parts(target, settings)) as parts:
        progress(parts.num_finished)
        resumed = parts.num_finished
        try:
            _collect(work, sources, level, parts, progress)
        finally:
            parts.flush()
        broken = [(sources[source].name, reason) for source, reason in parts.broken()]
        if len(broken) == len(sources):
            reason = "; ".join(f"{name}: {why}" for name, why in broken[:1])
            parts.remove()
            raise ValueError(f"none of {len(sources)} recordings can be read, for example {reason}")
        times = model.framing.times_seconds if model.tells_time and model.framing else None
        embeddings = Embeddings(parts, [source.name for source in sources], level, times, settings)
        write_table(embeddings, target)
        parts.remove()
    shape = (int(embeddings.num_rows.sum()), *embeddings.row_shape)
    return Embedded(len(embeddings.names), shape, broken, resumed)


def _collect(work: Work, sources: Sequence[Source], level: Level, parts: Parts, progress: Callable[[int], Any]) -> None:
    """Join every recording's windows and hand their rows on."""
    rows = _new_rows(level, work)
    for item in work.run(sources, parts.num_finished):
        if isinstance(item, Broken):
            parts.add_broken(item.source, item.reason)
        elif isinstance(item, End):
            first, last = rows.finish()
            parts.add(item.source, first, last.numpy(), item.seconds)
        else:
            first, done = rows.push(item)
            if len(done):
                parts.add(item.source, first, done.numpy())
        if isinstance(item, (Broken, End)):
            rows = _new_rows(level, work)
            progress(1)


def _new_rows(level: Level, work: Work) -> _FrameRows | _ClipRow | _MeanRow:
    if level != "clip":
        return _FrameRows(level, work.model.token_frames)
    return _ClipRow() if work.model.pool == "cls" else _MeanRow(work.model.token_frames)


class _FrameRows:
    """One recording's frames, or patches by frame."""

    def __init__(self, level: Level, token_frames: int) -> None:
        self._level, self._token_frames = level, token_frames
        self._joiner, self._num_rows = Joiner(), 0

    def push(self, window: Any) -> tuple[int, Tensor]:
        found = window.frames if self._level == "frame" else window.patches
        return self._numbered(self._joiner.push(window.start_frame // self._token_frames, found))

    def finish(self) -> tuple[int, Tensor]:
        return self._numbered(self._joiner.finish())

    def _numbered(self, rows: Tensor) -> tuple[int, Tensor]:
        first = self._num_rows
        self._num_rows += len(rows)
        return first, rows


class _MeanRow:
    """The mean of one recording's patches. All frames have the same number of them, so it is that of the frames."""

    def __init__(self, token_frames: int) -> None:
        self._frames = _FrameRows("frame", token_frames)
        self._total: Tensor | None = None
        self._num_frames = 0

    def push(self, window: Any) -> tuple[int, Tensor]:
        _, done = self._frames.push(window)
        self._add(done)
        return 0, done[:0]

    def finish(self) -> tuple[int, Tensor]:
        self._add(self._frames.finish()[1])
        assert self._total is not None, "a recording has at least one frame"
        return 0, (self._total / self._num_frames).float()[None]

    def _add(self, frames: Tensor) -> None:
        total = frames.sum(dim=0, dtype=torch.float64)
        self._total = total if self._total is None else self._total + total
        self._num_frames += len(frames)


class _ClipRow:
    """One recording's CLS token: the mean over its windows by their length."""

    def __init__(self) -> None:
        self._clips: list[Tensor] = []
        self._weights: list[float] = []

    def push(self, window: Any) -> tuple[int, Tensor]:
        self._clips.append(window.clip)
        self._weights.append(float(window.num_frames))
        return 0, window.clip[:0]

    def finish(self) -> tuple[int, Tensor]:
        return 0, weighted_mean(self._clips, self._weights)[None]


def digest_of_weights(model: nn.Module) -> str:
    """So that a resumed run does not mix two models of one name."""
    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        values = tensor.detach().cpu().contiguous()
        digest.update(name.encode())
        digest.update(np.ascontiguousarray(values.view(torch.uint8).numpy() if values.ndim else values.numpy()).data)
    return digest.hexdigest()[:16]


def digest_of_files(sources: Sequence[Source]) -> str:
    """Names, sizes and times: the same recordings, unchanged, in the same order."""
    digest = hashlib.sha256()
    for source in sources:
        try:
            told = os.stat(source.path)
            size, changed = told.st_size, told.st_mtime_ns
        except OSError:  # a link that leads nowhere: listed as unreadable when its turn comes
            size, changed = -1, 0
        if source.name == STANDARD_INPUT:  # which is kept anew in every run
            changed = 0
        digest.update(f"{source.name}\0{size}\0{changed}\0".encode(errors="surrogateescape"))
    return f"{len(sources)} files, {digest.hexdigest()[:16]}"
