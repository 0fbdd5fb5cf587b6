"""``sslam tag``."""

from __future__ import annotations

import os
import sys
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any, Literal

from sslam_lightning.cli.recordings import open_model, progress_bar, tell_broken

_OTHER_PICTURES = (".jpg", ".jpeg", ".pdf", ".svg", ".gif", ".webp", ".bmp", ".tif", ".tiff")


def tag(
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
    if top < 1:
        raise ValueError(f"top must be at least 1, got {top}")
    from sslam_lightning.cli.tag.file import TagFile, check_target, settings_of_tags, write_each
    from sslam_lightning.cli.tag.formats import Report
    from sslam_lightning.inference.sources import check_inputs, find_sources
    from sslam_lightning.inference.tag import tag_recordings

    if out is not None:
        check_target(Path(out))
    if plot is not None:
        _check_plot(plot)
    check_inputs(inputs)
    options = {"tokenizer": tokenizer, "image_size": image_size}
    audio_model = open_model(model, device, features, padding=padding, bf16=bf16, **options)
    windows = audio_model.windows(window_seconds, overlap_seconds if audio_model.tells_time else overlap_seconds or None)
    if plot is not None and getattr(audio_model, "features", None) is None:
        raise ValueError("pictures are drawn of log-mels, which this model does not read: leave --plot out")
    with find_sources(inputs, kind=audio_model.kind) as sources, ExitStack() as held:
        pictures = _pictures(plot, [source.name for source in sources])
        file = None
        if out is not None:
            file = held.enter_context(closing(TagFile(Path(out), settings_of_tags(audio_model, windows, sources, top))))
        first = file.num_done if file else 0
        _check_free([pictures[source.name] for source in sources[first:] if pictures])
        report = Report(sys.stdout, audio_model.class_names, top, "json" if json else "csv" if csv else "table")
        with progress_bar(len(sources)) as progress:
            progress(first)
            tagged = tag_recordings(audio_model, sources, windows, batch_size, workers, first)
            broken = write_each(tagged, audio_model, report, file, pictures, progress)
        if len(broken) == len(sources):
            if file:
                file.remove()
            raise ValueError(f"none of {len(sources)} recordings can be read, for example {broken[0][0]}: {broken[0][1]}")
        if file:
            file.finish()
    if file:
        print(f"{out}: {len(sources) - len(broken)} recordings" + (f", {first} of them by an earlier run" if first else ""))
    if pictures:  # not to standard output, which may hold a table or JSON
        print(f"pictures: {plot}" if len(pictures) > 1 else f"picture: {next(iter(pictures.values()))}", file=sys.stderr)
    tell_broken(broken, len(sources))


def _check_plot(plot: str) -> None:
    """Before anything is heard: a PNG or a folder, and no other form of picture or file."""
    target = Path(plot)
    if not plot or target.suffix.lower() in _OTHER_PICTURES or (target.suffix.lower() != ".png" and target.is_file()):
        raise ValueError(f"plot must be a .png or a folder, got {plot or repr(plot)}")


def _pictures(plot: str | None, names: list[str]) -> dict[str, Path]:
    """Which picture belongs to which recording: of all that are asked for, however many an earlier run has done."""
    if plot is None:
        return {}
    from sslam_lightning.inference.sources import STANDARD_INPUT

    target = Path(plot)
    if target.suffix.lower() == ".png":
        if len(names) > 1:
            raise ValueError(f"{len(names)} recordings do not fit into the one picture {plot}: set --plot to a folder")
        return {names[0]: target}
    paths = {name: os.path.abspath(name) for name in names if name != STANDARD_INPUT}
    root = os.path.commonpath([os.path.dirname(path) for path in paths.values()]) if paths else ""
    inside = {name: os.path.relpath(path, root) for name, path in paths.items()}  # folders tell equal names apart
    return {name: target / f"{inside.get(name, 'standard_input')}.png" for name in names}


def _check_free(pictures: list[Path]) -> None:
    for picture in pictures:
        if picture.exists():
            raise FileExistsError(f"{picture} exists already: move it, or name another place with --plot")
