"""``sslam benchmark inference``."""

from __future__ import annotations

from typing import Literal


def benchmark_inference(
    size: Literal["tiny", "small", "base", "large"] = "base",
    batch_sizes: tuple[int, ...] = (1, 2, 4, 8),
    clip_seconds: float = 10.0,
    num_clips: int = 16,
    file_rate_hz: int = 32000,
    file_format: Literal["flac", "wav", "ogg"] = "flac",
    workers: int = 2,
    bf16: bool = False,
    repeats: int = 2,
    out: str | None = None,
) -> None:
    """Clips embedded per second from files on disk, decoding, resampling and log-mels included, by batch size.

    The share says how much of the machine's own matrix-product rate, measured in the same run in the same precision, the
    encoder's operations reach.

    Args:
        size: of the model; its weights are random.
        batch_sizes: of the runs.
        clip_seconds: length of a clip, at most two minutes: one window of the model.
        num_clips: clips of a run.
        file_rate_hz: sample rate of the files.
        file_format: their format.
        workers: threads that decode.
        bf16: compute in bfloat16.
        repeats: runs per batch size, of which the best counts.
        out: a new JSON file for the figures.
    """
    from sslam_lightning.benchmarks.inference import run_inference_benchmark

    run_inference_benchmark(
        size, batch_sizes, clip_seconds, num_clips, file_rate_hz, file_format, workers, bf16, repeats, out
    )
