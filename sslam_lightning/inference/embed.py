"""Embeddings of many recordings in one file."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from sslam_lightning.inference.encoding import EncoderModel, Layer, Level, Pool
from sslam_lightning.inference.loading import open_model
from sslam_lightning.inference.model import Padding
from sslam_lightning.inference.pipeline import Broken, EncodedWindow, EncodingPipeline
from sslam_lightning.inference.row_store import RowStore
from sslam_lightning.inference.sources import STANDARD_INPUT, Source, check_inputs, find_sources, progress_over
from sslam_lightning.inference.tables import Embeddings, check_format, write_table
from sslam_lightning.inference.windowing import OverlapAdd, Windows


class Embedded(NamedTuple):
    """What a run has written."""

    num_recordings: int
    shape: tuple[int, ...]  # of all embeddings
    broken: list[tuple[str, str]]  # names and reasons of the recordings that could not be read
    num_resumed: int  # recordings that an earlier run had finished
    kind: str  # of the files: sound, an image or a text


def embed(
    inputs: str | Path | Sequence[str | Path],
    model: str | Path,
    out: str | Path,
    level: Level = "clip",
    pool: Pool | None = None,
    layer: Layer = -1,
    part: Literal["student", "teacher"] = "student",
    padding: Padding | None = None,
    window_seconds: float | None = None,
    overlap_seconds: float | None = None,
    features: Mapping[str, Any] | None = None,
    batch_size: int = 8,
    workers: int = 2,
    device: str = "auto",
    bf16: bool = False,
    tokenizer: str | Path | None = None,
    image_size: int | None = None,
    progress_bar: bool = False,
) -> Embedded:
    """Write embeddings of recordings, images or texts to one file; the function of ``sslam embed``.

    Args:
        inputs: files and folders; "-" is standard input.
        model: a checkpoint of any kind, or a Hub id.
        out: a file that ends in .npz, .parquet or .h5, and does not exist.
        level, pool, layer, part, padding, window_seconds, overlap_seconds, features, batch_size, workers, device, bf16,
            tokenizer, image_size: see ``sslam embed --help``.
        progress_bar: whether to draw one on a terminal.

    Raises:
        ValueError, OSError: in one line, if the model cannot be opened, no recording can be read, or the file exists.
    """
    target = Path(out)
    check_format(target)
    names = check_inputs(inputs)
    if target.exists():
        raise FileExistsError(f"{target} exists already: move it, or name another file with --out")
    if pool is not None and level != "clip":
        raise ValueError(f"pool makes one embedding per file: leave it out with level {level}, got {pool}")
    options = {"part": part, "padding": padding, "layer": layer, "bf16": bf16, "pool": pool}
    encoder = open_model(model, device, features, tokenizer=tokenizer, image_size=image_size, **options)
    if padding is None:
        encoder.mask_padding()
    encoder.check_level(level)
    windows = encoder.windows(window_seconds, overlap_seconds)
    with find_sources(names, kind=encoder.kind) as sources, progress_over(len(sources), progress_bar) as progress:
        return embed_recordings(encoder, sources, target, level, windows, batch_size, workers, str(model), progress)


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
    their last window is through, see :mod:`sslam_lightning.inference.row_store`.

    Args:
        model: what embeds, on its device; its ``layer``, ``pool`` and, for sound, ``padding`` count.
        sources: the recordings.
        target: a file that ends in .npz, .parquet or .h5, and does not exist, see :mod:`sslam_lightning.inference.tables`.
        level: one row per recording (as the model's ``pool`` says), per frame, or per frame with its patches.
        windows: how long recordings are cut; None: as the model says.
        batch_size, workers: see :class:`~sslam_lightning.inference.pipeline.EncodingPipeline`.
        model_name: what the file calls the model.
        progress: told the number of recordings whenever some are done.

    Raises:
        FileExistsError: the target exists.
        OSError: another process is making it.
        ValueError: an unfinished run had other settings, no recording can be read, or the model has no such level.
    """
    check_format(target)
    model.check_level(level)
    windows = windows or model.windows()
    settings = _settings(model, model_name, sources, level, windows)
    levels: tuple[Level, ...] = ("frame",) if level == "clip" and model.pool == "mean" else (level,)
    pipeline = EncodingPipeline(model, windows, levels, batch_size=batch_size, workers=workers)
    with closing(RowStore(target, settings)) as store:
        resumed = store.num_finished
        progress(resumed)
        _collect(pipeline, sources, level, store, progress)
        broken = [(source.name, done.reason) for source, done in zip(sources, store.finished(), strict=True) if done.reason]
        if len(broken) == len(sources):
            store.remove()
            raise ValueError(f"none of {len(sources)} recordings can be read, for example {broken[0][0]}: {broken[0][1]}")
        embeddings = _embeddings(model, sources, level, store, settings)
        write_table(embeddings, target)
        store.remove()
    return Embedded(len(embeddings.files), embeddings.shape, broken, resumed, model.kind)


def _settings(
    model: EncoderModel, model_name: str, sources: Sequence[Source], level: Level, windows: Windows
) -> dict[str, Any]:
    """Everything that the embeddings of a run depend on."""
    return {
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


def _collect(
    pipeline: EncodingPipeline, sources: Sequence[Source], level: Level, store: RowStore, progress: Callable[[int], Any]
) -> None:
    """Join the windows of each recording and store its rows."""
    rows = _RecordingRows(level, pipeline.model)
    for item in pipeline.run(sources, store.num_finished):
        if isinstance(item, EncodedWindow):
            store.append(rows.push(item).numpy())
            continue
        if isinstance(item, Broken):
            store.drop(item.reason)
        else:
            store.append(rows.finish().numpy())
            store.finish(item.seconds)
        rows = _RecordingRows(level, pipeline.model)
        progress(1)


class _RecordingRows:
    """The rows of one recording: its frames or patches as windows come in, or their mean at the end."""

    def __init__(self, level: Level, model: EncoderModel) -> None:
        self._level, self._pool = level, model.pool if level == "clip" else None
        self._token_frames, self._overlap_add = model.token_frames, OverlapAdd()
        self._total, self._weight = torch.zeros((), dtype=torch.float64), 0

    def push(self, window: EncodedWindow) -> Tensor:
        if self._pool == "cls":
            assert window.clip is not None
            return self._average(window.clip[None], window.num_frames)
        rows = window.patches if self._level == "patch" else window.frames
        assert rows is not None
        return self._joined(self._overlap_add.push(window.start_frame // self._token_frames, rows))

    def finish(self) -> Tensor:
        if self._pool == "cls":
            return (self._total / self._weight).float()[None]
        rest = self._joined(self._overlap_add.finish())
        return rest if self._pool is None else (self._total / self._weight).float()[None]

    def _joined(self, rows: Tensor) -> Tensor:
        return rows if self._pool is None else self._average(rows)

    def _average(self, rows: Tensor, weight: int = 1) -> Tensor:
        """Take rows into the mean, and return none of them."""
        self._total = self._total + weight * rows.sum(dim=0, dtype=torch.float64)
        self._weight += weight * len(rows)
        return rows[:0]


def _embeddings(
    model: EncoderModel, sources: Sequence[Source], level: Level, store: RowStore, settings: dict[str, Any]
) -> Embeddings:
    names, seconds, num_rows = [], [], []
    for source, done in zip(sources, store.finished(), strict=True):
        if not done.reason:
            names.append(source.name)
            seconds.append(done.seconds)
            num_rows.append(done.num_rows)
    first_and_step = None
    if model.tells_time and model.framing:
        first, second = model.framing.timestamps(0, 2).tolist()
        first_and_step = first, second - first
    return Embeddings(
        level, names, np.array(seconds), np.array(num_rows), store.row_shape, store.path, first_and_step, settings
    )


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
            stat = os.stat(source.path)
            state = stat.st_size, 0 if source.name == STANDARD_INPUT else stat.st_mtime_ns  # of which each run makes a file
        except OSError:  # a link that leads nowhere: listed as unreadable when its turn comes
            state = -1, 0
        digest.update(f"{source.name}\0{state}\0".encode(errors="surrogateescape"))
    return f"{len(sources)} files, {digest.hexdigest()[:16]}"
