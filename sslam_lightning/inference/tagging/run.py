"""``sslam_lightning.tag``: from recordings on disk to what is heard in them, in memory, files and pictures."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any, NamedTuple

from sslam_lightning.inference.loading import open_model
from sslam_lightning.inference.model import Padding
from sslam_lightning.inference.sources import STANDARD_INPUT, check_inputs, find_sources, progress_over
from sslam_lightning.inference.tagging.file import TagFile, check_target, settings_of_tags, write_each
from sslam_lightning.inference.tagging.tag import Tagged, tag_recordings

_OTHER_PICTURES = (".jpg", ".jpeg", ".pdf", ".svg", ".gif", ".webp", ".bmp", ".tif", ".tiff")


class TagResult(NamedTuple):
    """What a call of :func:`tag` has heard."""

    recordings: list[Tagged]  # those that this call has heard; empty where ``show`` took them
    broken: list[tuple[str, str]]  # names and reasons of what could not be read
    num_recordings: int  # that could be read
    num_resumed: int  # of all, those that an earlier call with the same ``out`` had done
    pictures: list[Path]


def tag(
    inputs: str | Path | Sequence[str | Path],
    model: str | Path,
    top: int = 5,
    out: str | Path | None = None,
    plot: str | Path | None = None,
    padding: Padding | None = None,
    window_seconds: float | None = None,
    overlap_seconds: float = 0.0,
    features: Mapping[str, Any] | None = None,
    batch_size: int = 8,
    workers: int = 2,
    device: str = "auto",
    bf16: bool = False,
    tokenizer: str | Path | None = None,
    image_size: int | None = None,
    show: Callable[[Tagged], Any] | None = None,
    progress_bar: bool = False,
) -> TagResult:
    """Tag recordings of any length, or images or texts where the model reads them; the function of ``sslam tag``.

    Args:
        inputs: files and folders; "-" is standard input.
        model: a fine-tuned checkpoint of any kind, or a Hub id.
        top: how many classes ``out`` and ``plot`` show. The returned recordings have the probabilities of all.
        out, plot, padding, window_seconds, overlap_seconds, features, batch_size, workers, device, bf16, tokenizer,
            image_size: see ``sslam tag --help``.
        show: called with each recording as soon as it is heard; recordings are then not returned.
        progress_bar: whether to draw one on a terminal.

    Raises:
        ValueError, OSError: in one line, if the model cannot be opened or has no head, no recording can be read, or
            something that would be written exists.
    """
    if top < 1:
        raise ValueError(f"top must be at least 1, got {top}")
    if out is not None:
        check_target(Path(out))
    if plot is not None:
        _check_plot(plot)
    names = check_inputs(inputs)
    recordings: list[Tagged] = []
    options = {"tokenizer": tokenizer, "image_size": image_size}
    audio_model = open_model(model, device, features, padding=padding, bf16=bf16, **options)
    windows = audio_model.windows(window_seconds, overlap_seconds if audio_model.tells_time else overlap_seconds or None)
    if plot is not None and getattr(audio_model, "features", None) is None:
        raise ValueError("pictures are drawn of log-mels, which this model does not read: leave --plot out")
    with find_sources(names, kind=audio_model.kind) as sources, ExitStack() as held:
        pictures = {} if plot is None else _pictures(Path(plot), [source.name for source in sources])
        file = None
        if out is not None:
            file = held.enter_context(closing(TagFile(Path(out), settings_of_tags(audio_model, windows, sources, top))))
        first = file.num_done if file else 0
        _check_free([pictures[source.name] for source in sources[first:] if pictures])
        with progress_over(len(sources), progress_bar) as progress:
            progress(first)
            tagged = tag_recordings(audio_model, sources, windows, batch_size, workers, first)
            broken = write_each(tagged, audio_model, top, show or recordings.append, file, pictures, progress)
        if len(broken) == len(sources):
            if file:
                file.remove()
            raise ValueError(f"none of {len(sources)} recordings can be read, for example {broken[0][0]}: {broken[0][1]}")
        if file:
            file.finish()
    return TagResult(recordings, broken, len(sources) - len(broken), first, list(pictures.values()))


def _check_plot(plot: str | Path) -> None:
    """Before anything is heard: a PNG or a folder, and no other form of picture or file."""
    target = Path(plot)
    is_file = target.suffix.lower() != ".png" and target.is_file()
    if not str(plot) or target.suffix.lower() in _OTHER_PICTURES or is_file:
        raise ValueError(f"plot must be a .png or a folder, got {str(plot) or repr(plot)}")


def _pictures(target: Path, names: list[str]) -> dict[str, Path]:
    """Which picture belongs to which recording: of all that are asked for, however many an earlier run has done."""
    if target.suffix.lower() == ".png":
        if len(names) > 1:
            raise ValueError(f"{len(names)} recordings do not fit into the one picture {target}: set --plot to a folder")
        return {names[0]: target}
    paths = {name: os.path.abspath(name) for name in names if name != STANDARD_INPUT}
    root = os.path.commonpath([os.path.dirname(path) for path in paths.values()]) if paths else ""
    inside = {name: os.path.relpath(path, root) for name, path in paths.items()}  # folders tell equal names apart
    return {name: target / f"{inside.get(name, 'standard_input')}.png" for name in names}


def _check_free(pictures: list[Path]) -> None:
    for picture in pictures:
        if picture.exists():
            raise FileExistsError(f"{picture} exists already: move it, or name another place with --plot")
