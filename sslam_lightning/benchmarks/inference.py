"""Clips embedded per second, from files on disk to embeddings, against what the encoder's matrix products alone allow."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import soundfile
import torch

from sslam_lightning.benchmarks.figures import check_target, report, single_values
from sslam_lightning.benchmarks.machine import encoder_shapes, machine_name, matrix_rate, now, peak_memory_gib
from sslam_lightning.benchmarks.operations import embedding_operations, encoder_operations
from sslam_lightning.inference import AudioModel
from sslam_lightning.inference.pipeline import EncodedWindow, EncodingPipeline
from sslam_lightning.inference.sources import Source
from sslam_lightning.models import Encoder
from sslam_lightning.models.sizes import MODELS
from sslam_lightning.whole_numbers import check_at_least

_LEAST_SECONDS = 0.2  # one patch and its window


def run_inference_benchmark(
    size: str,
    batch_sizes: Sequence[int],
    clip_seconds: float,
    num_clips: int,
    file_rate_hz: int,
    file_format: str,
    workers: int,
    bf16: bool,
    repeats: int,
    out: str | None,
) -> dict[str, Any]:
    """Embed files at every batch size and print a table; see ``sslam benchmark inference --help``."""
    if not batch_sizes or min(batch_sizes) < 1:
        raise ValueError(f"batch_sizes must be at least 1, got {list(batch_sizes)}")
    if not clip_seconds >= _LEAST_SECONDS:
        raise ValueError(f"clip_seconds must be at least {_LEAST_SECONDS:g}, got {clip_seconds:g}")
    check_at_least(1, num_clips=num_clips, repeats=repeats)
    check_at_least(0, workers=workers)
    check_at_least(1000, file_rate_hz=file_rate_hz)
    check_target(out)
    torch.manual_seed(0)
    model = AudioModel(Encoder(MODELS[f"eat_{size}"].encoder), bf16=bf16).to("cuda" if torch.cuda.is_available() else "cpu")
    longest = model.windows().window_frames / model.framing.frames_per_second
    if clip_seconds > longest:  # the figures are of clips that go through the encoder in one piece
        raise ValueError(f"clip_seconds must be at most {longest:g}, one window of the model, got {clip_seconds:g}")
    with tempfile.TemporaryDirectory() as folder:
        sources = _write_clips(Path(folder), num_clips, clip_seconds, file_rate_hz, file_format)
        config, patches = model.encoder.config, _num_patches(model, sources[0])
        operations = encoder_operations(config, patches) + embedding_operations(config, patches)
        pipelines = [EncodingPipeline(model, levels=("clip",), batch_size=size, workers=workers) for size in batch_sizes]
        rows = [_measure(pipeline, sources, patches, operations, repeats) for pipeline in pipelines]
    result = {
        "machine": machine_name(),
        "torch": torch.__version__,
        "model": size,
        "clip": f"{clip_seconds:g} s, {file_format}, {file_rate_hz} Hz",
        "clips": num_clips,
        "workers": workers,
        "precision": "bf16" if bf16 else "float32",
        "operations per clip": operations,
        "peak memory GiB": peak_memory_gib(),
        "by batch size": rows,
    }
    return report(result, [*single_values(result, 22), *_table(rows)], out)


def _measure(
    pipeline: EncodingPipeline, sources: list[Source], patches: int, operations: float, repeats: int
) -> dict[str, Any]:
    precision = "bf16-mixed" if pipeline.model.bf16 else "32-true"
    shapes = encoder_shapes(pipeline.model.encoder.config, pipeline.batch_size * (patches + 1))
    rate = matrix_rate(precision, shapes)
    _embed(pipeline, sources[: pipeline.batch_size])  # first calls are slower
    # The best and not the mean, as with the rate: other work on the machine slows down and never speeds up.
    clips_per_second = len(sources) / min(_embed(pipeline, sources) for _ in range(repeats))
    rate = max(rate, matrix_rate(precision, shapes))
    return {
        "batch size": pipeline.batch_size,
        "clips per second": clips_per_second,
        "matrix rate": rate,
        "clips per second at that rate": rate / operations,
        "share of the matrix rate": clips_per_second * operations / rate,
    }


def _write_clips(folder: Path, num_clips: int, seconds: float, rate_hz: int, file_format: str) -> list[Source]:
    sources = []
    for number in range(num_clips):
        path = folder / f"{number}.{file_format}"
        soundfile.write(path, (0.1 * torch.randn(round(seconds * rate_hz))).numpy(), rate_hz)
        sources.append(Source(path.name, path))
    return sources


def _embed(pipeline: EncodingPipeline, sources: list[Source]) -> float:
    """Seconds from the first file's name to the last embedding."""
    start = now()
    assert sum(isinstance(item, EncodedWindow) for item in pipeline.run(sources)) == len(sources)
    return now() - start


def _num_patches(model: AudioModel, source: Source) -> int:
    (window,) = (
        item
        for item in EncodingPipeline(model, levels=("patch",), workers=0).run([source])
        if isinstance(item, EncodedWindow)
    )
    assert window.patches is not None
    return window.patches[..., 0].numel()


def _table(rows: list[dict[str, Any]]) -> Iterator[str]:
    yield "batch size  clips per second  matrix rate  share of the matrix rate"
    for row in rows:
        figures = f"{row['batch size']:>10}  {row['clips per second']:>16.3g}  {row['matrix rate']:>11.3g}"
        yield f"{figures}  {row['share of the matrix rate']:>24.1%}"
