"""``sslam tag``."""

from __future__ import annotations

import sys
from typing import Any, Literal

from sslam_lightning.cli.recordings import tell_broken


def run_tag(
    inputs: list[str],
    model: str | None = None,
    top: int = 5,
    json: bool = False,
    csv: bool = False,
    out: str | None = None,
    plot: str | None = None,
    padding: Literal["trained", "masked"] | None = None,
    window_seconds: float | None = None,
    overlap_seconds: float = 0.0,
    features: dict[str, Any] | None = None,
    batch_size: int = 8,
    workers: int = 2,
    device: str = "auto",
    bf16: bool = False,
    tokenizer: str | None = None,
    image_size: int | None = None,
) -> None:
    """Tell what is heard in recordings: the most probable classes of each, and of long ones by window.

    Of images and texts, for models that read them, it tells the most probable classes too.

    Probabilities of a long recording are the means over its windows; the peak is its most probable window.
    Files that cannot be read are left out, listed at the end, and make the exit code 1.

    Args:
        inputs: files, folders or -.
        model: a fine-tuned checkpoint file, a folder or a Hugging Face Hub id.
        top: how many classes to tell.
        json: one JSON object per recording and line.
        csv: one row per class, of the whole recording and of every window.
        out: a .csv or .jsonl file to write instead, which must not exist; an interrupted run goes on when given again.
        plot: a PNG (for one recording) or a folder to draw spectrograms and class timelines to.
        padding: trained (padded to the trained length and cut into windows of it, as published results are made), which is
            the default where the model has such a length; or masked (padding is masked out, one pass up to two minutes).
        window_seconds: the windows of the timeline; the trained length by default, and at most.
        overlap_seconds: how much two windows share.
        features: log-mel settings that the checkpoint does not tell, such as '{num_frames: 512, mean: -6.627, std: 5.359}'.
        batch_size: clips of ten seconds in a batch, or their worth in shorter or longer ones.
        workers: threads that decode.
        device: cpu, cuda, cuda:1 ...; auto takes a GPU where there is one.
        bf16: compute in bfloat16.
        tokenizer: the tokenizer.json of a model of text.
        image_size: side of the squares that a model of images sees, in pixels; the only one it takes, or 224.
    """
    if json + csv + (out is not None) > 1:
        raise ValueError("choose one of --json, --csv and --out")
    from sslam_lightning.inference.tagging.formats import Report
    from sslam_lightning.inference.tagging.run import tag

    report = Report(sys.stdout, top, "json" if json else "csv" if csv else "table")
    done = tag(
        inputs,
        model or "",
        top,
        out,
        plot,
        padding,
        window_seconds,
        overlap_seconds,
        features,
        batch_size,
        workers,
        device,
        bf16,
        tokenizer,
        image_size,
        show=report.write if out is None else lambda tagged: None,
        progress_bar=True,
    )
    if out is not None:
        resumed = f", {done.num_resumed} of them by an earlier run" if done.num_resumed else ""
        print(f"{out}: {done.num_recordings} recordings{resumed}")
    if done.pictures:  # not to standard output, which may hold a table or JSON
        several = len(done.pictures) > 1
        print(f"pictures: {plot}" if several else f"picture: {done.pictures[0]}", file=sys.stderr)
    tell_broken(done.broken, done.num_recordings + len(done.broken))
