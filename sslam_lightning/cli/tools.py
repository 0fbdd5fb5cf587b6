"""Commands that are not about one Lightning trainer. Their heavy imports wait until they run."""

from __future__ import annotations

from typing import Literal


def demo(folder: str = "runs/demo", seed: int = 0) -> None:
    """The whole method on synthetic soundscapes, in about three minutes on two CPU cores.

    Pre-trains a tiny SSLAM (stage 1, then stage 2), fine-tunes it, trains the same model from scratch on the same budget,
    evaluates linear probes, and writes a table and a picture. The same as the commands that it prints.

    Args:
        folder: where runs, table and picture go; must not exist yet.
        seed: of everything random.
    """
    from sslam_lightning.cli.demo import run_demo

    run_demo(folder, seed)


def benchmark_pretrain(
    size: Literal["tiny", "small", "base", "large"] = "base",
    batch_size: int = 2,
    masks_per_clip: int = 8,
    num_frames: int = 1024,
    stage: Literal[1, 2] = 1,
    precision: Literal["32-true", "bf16-mixed", "16-mixed"] = "32-true",
    steps: int = 5,
    warmup_steps: int = 2,
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
        warmup_steps: steps before that.
        compile: compile the blocks with torch.compile.
        out: a JSON file for the figures.
    """
    from sslam_lightning.benchmarks.pretrain import run_benchmark

    run_benchmark(size, batch_size, masks_per_clip, num_frames, stage, precision, steps, warmup_steps, compile, out)
