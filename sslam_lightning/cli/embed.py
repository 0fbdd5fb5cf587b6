"""``sslam embed``."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from sslam_lightning.cli.recordings import tell_broken


def run_embed(
    inputs: list[str],
    model: str | None = None,
    out: str | None = None,
    level: Literal["clip", "frame", "patch"] = "clip",
    pool: Literal["cls", "mean"] | None = None,
    layer: int | Literal["mean", "all"] = -1,
    part: Literal["student", "teacher"] = "student",
    padding: Literal["masked", "trained"] | None = None,
    window_seconds: float | None = None,
    overlap_seconds: float | None = None,
    features: dict[str, Any] | None = None,
    batch_size: int = 8,
    workers: int = 2,
    device: str = "auto",
    bf16: bool = False,
    tokenizer: str | None = None,
    image_size: int | None = None,
) -> None:
    """Write embeddings of recordings of any length, of images or of texts to one file: .npz, .parquet or .h5.

    An interrupted run goes on where it stopped when it is given again: what is done lies in OUT.parts until then.
    Files that cannot be read are left out, listed at the end, and make the exit code 1.

    Args:
        inputs: files, folders or -; of the kind that the model reads.
        model: a checkpoint file, a folder or a Hugging Face Hub id.
        out: the file to write, which must not exist.
        level: one embedding per file (see pool), per frame of 160 ms (the mean of its patches; of waveforms
            20 ms), or per patch; images and texts have no frames, their patches stand by row and column.
        pool: with level clip, the CLS token (cls) or the mean of the patches (mean), which never counts padding; cls by
            default, and mean where the model has no CLS token.
        layer: the block whose output is embedded, from 1 or backwards from -1; or the mean of all, or all of them.
        part: the student or the teacher of a pre-trained model.
        padding: masked (embeddings do not depend on padding), the default where the model can; or trained (as the model was
            trained, with padding up to its length and in windows of it).
        window_seconds: longer recordings are cut into windows of this length; two minutes, or the trained length.
        overlap_seconds: how much two windows share; their frames are blended there. 10.24 s, or a quarter of a window.
        features: log-mel settings that the checkpoint does not tell, such as '{num_frames: 512, mean: -6.627, std: 5.359}'.
        batch_size: clips of ten seconds in a batch, or their worth in shorter or longer ones.
        workers: threads that decode.
        device: cpu, cuda, cuda:1 ...; auto takes a GPU where there is one.
        bf16: compute in bfloat16.
        tokenizer: the tokenizer.json of a model of text.
        image_size: side of the squares that a model of images sees, in pixels; the only one it takes, or 224.
    """
    if out is None:
        raise ValueError("no file to write is named: set --out to one that ends in .npz, .parquet or .h5")
    from sslam_lightning.inference.embed import embed

    done = embed(
        inputs,
        model or "",
        out,
        level,
        pool,
        layer,
        part,
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
        progress_bar=True,
    )
    resumed = f", {done.num_resumed} of them by an earlier run" if done.num_resumed else ""
    files = "recordings" if done.kind == "sound" else "files"
    print(f"{Path(out)}: {' x '.join(map(str, done.shape))} from {done.num_recordings} {files}{resumed}")
    tell_broken(done.broken, done.num_recordings + len(done.broken))
