"""``sslam embed``."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from sslam_lightning.cli.recordings import open_model, progress_bar, tell_broken


def embed(
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
    from sslam_lightning.inference.embed import embed_recordings
    from sslam_lightning.inference.sources import check_inputs, find_sources
    from sslam_lightning.inference.tables import check_format

    target = Path(out)
    check_format(target)
    check_inputs(inputs)
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
    with find_sources(inputs, kind=encoder.kind) as sources, progress_bar(len(sources)) as progress:
        done = embed_recordings(encoder, sources, target, level, windows, batch_size, workers, str(model), progress)
    resumed = f", {done.num_resumed} of them by an earlier run" if done.num_resumed else ""
    files = "recordings" if encoder.tells_time else "files"
    print(f"{target}: {' x '.join(map(str, done.shape))} from {done.num_recordings} {files}{resumed}")
    tell_broken(done.broken, len(sources))
