"""``sslam benchmark``: measure speed. Heavy imports wait until a command runs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal


def benchmark_pretrain(
    size: Literal["tiny", "small", "base", "large"] = "base",
    batch_size: int = 2,
    masks_per_clip: int = 8,
    num_frames: int = 1024,
    stage: Literal[1, 2] = 1,
    precision: Literal["32-true", "bf16-mixed", "16-mixed"] = "32-true",
    steps: int = 5,
    warmup_steps: int = 4,
    compile: bool = False,
    out: str | None = None,
) -> None:
    """Seconds of a pre-training step by part, through Trainer.fit, and as a ratio to the machine's own limit.

    The floor is the step's floating-point operations over the rate of the machine's own matrix products, measured in the
    same run in the same precision.

    Args:
        size: of the model.
        batch_size: clips in a step.
        masks_per_clip: masked copies of every clip.
        num_frames: length of a clip in frames of 10 ms.
        stage: 1 (EAT) or 2 (SSLAM).
        precision: of the trainer.
        steps: how many steps to measure.
        warmup_steps: steps before that; on CPUs the first ones also wait for memory that later ones find at hand.
        compile: compile the blocks with torch.compile.
        out: a new JSON file for the figures.
    """
    from sslam_lightning.benchmarks.pretrain import run_benchmark

    run_benchmark(size, batch_size, masks_per_clip, num_frames, stage, precision, steps, warmup_steps, compile, out)


def benchmark_data(
    manifest: str = "",
    workers: int = 0,
    clips: int = 200,
    repeats: int = 3,
    batch_size: int = 12,
    num_frames: int = 1024,
    masks_per_clip: int = 16,
    recipe: str | None = None,
    step_seconds: float | None = None,
    out: str | None = None,
) -> None:
    """Clips per second of reading, decoding, resampling and log-mels, beside the public pipeline on the same clips.

    Everything is measured on one core, alternating with the public pipeline (soundfile, torchaudio's resampler with its
    kernel built for every clip, Kaldi log-mels clip by clip, masks row by row); then the loader with its workers.

    Args:
        manifest: a manifest, or a folder of shards.
        workers: of the loader; 0: leave that part out.
        clips: how many to measure on.
        repeats: how often; the fastest counts, as whatever else the machine does only makes things slower.
        batch_size: clips that the log-mels are computed of together.
        num_frames: length of the log-mels in frames of 10 ms.
        masks_per_clip: masked copies of every clip.
        recipe: a recipe, to say how many clips its devices take.
        step_seconds: that a step of this recipe lasts, as sslam benchmark pretrain measures it.
        out: a new JSON file for the figures.
    """
    from sslam_lightning.benchmarks.data import run_data_benchmark

    if not manifest:
        raise ValueError("say what to measure on: --manifest, a manifest or a folder of shards")
    run_data_benchmark(manifest, workers, clips, repeats, batch_size, num_frames, masks_per_clip, recipe, step_seconds, out)


def benchmark_inference(
    size: Literal["tiny", "small", "base", "large"] = "base",
    batch_sizes: Sequence[int] = (1, 2, 4, 8),
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
