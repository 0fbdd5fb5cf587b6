"""What the commands of ``sslam data`` share: they run a step and say what came of it."""

from __future__ import annotations

import os
import sys
from typing import Any

from sslam_lightning.data.loading.parallel import default_workers
from sslam_lightning.data.manifests.class_map import read_class_table
from sslam_lightning.data.manifests.inspection import Standards
from sslam_lightning.data.manifests.manifest import read_labeled
from sslam_lightning.data.manifests.recordings import Recordings
from sslam_lightning.data.manifests.scan import write_manifest
from sslam_lightning.data.manifests.tables import write_table
from sslam_lightning.data.shards.pack import Packing, pack
from sslam_lightning.data.shards.read import is_shard_folder, read_labeled_shards


def bare(path: str) -> str:
    """Without extension; of a folder without a slash behind it, and by its name where it is called . or .. ."""
    if not os.path.isdir(path):
        return os.path.splitext(path.rstrip("/"))[0]
    unnamed = os.path.basename(path.rstrip("/")) in (os.curdir, os.pardir)
    return os.path.realpath(path) if unnamed else path.rstrip("/")


def first_free(path: str) -> str:
    """The path, or with _2, _3 and so on before its extension where there is something already."""
    stem, extension = os.path.splitext(path)
    number, free = 1, path
    while os.path.lexists(free):
        number += 1
        free = f"{stem}_{number}{extension}"
    return free


def processes(workers: int | None) -> int:
    return default_workers() if workers is None else workers


def open_labeled(path: str) -> Recordings:
    return read_labeled_shards(path) if is_shard_folder(path) else read_labeled(path)


def import_listed(
    recordings: Recordings, out: str, classes: str | None, min_seconds: float, silence_db: float, workers: int | None
) -> None:
    """Write the manifest of recordings that another list named, whose labels the table of classes must know."""
    if classes is not None:
        known = read_class_table(classes).class_of
        unknown = [word for word in recordings.class_names if word not in known]
        if unknown:
            raise ValueError(f"{classes} does not know the label {unknown[0]!r}, and {len(unknown) - 1} others")
    inspect_recordings(recordings, out, min_seconds, silence_db, workers, "import")


def inspect_recordings(
    recordings: Recordings, out: str, min_seconds: float, silence_db: float, workers: int | None, what: str
) -> None:
    """Write the manifest of recordings, and tell what was found."""
    scanned = write_manifest(recordings, out, Standards(min_seconds, silence_db), processes(workers), what)
    if scanned.num_resumed:
        print(f"went on behind {scanned.num_resumed} files of an interrupted run")
    print(f"{scanned.num_good} good recordings, {scanned.num_seconds / 3600:.2f} hours: {scanned.manifest}")
    if scanned.reasons:
        told = ", ".join(f"{count} {reason}" for reason, count in scanned.reasons.most_common())
        print(f"{scanned.reasons.total()} rejected ({told}): {scanned.rejected}")


def pack_recordings(
    recordings: Recordings,
    out: str,
    codec: Any,
    clips_per_shard: int,
    resampler: Any,
    max_clip_seconds: float | None,
    workers: int | None,
    sample_rate_hz: int = 16000,
    with_classes: bool = False,
) -> None:
    """Write shards (and their table of classes beside them), and tell what became of the recordings."""
    packing = Packing(codec, clips_per_shard, sample_rate_hz, resampler, max_clip_seconds)
    packed = pack(recordings, out, packing, processes(workers))
    if packed.num_kept:
        print(f"went on behind {packed.num_kept} shards of an interrupted run")
    print(f"{packed.num_clips} clips in {packed.num_shards} shards: {out}")
    if with_classes and recordings.class_names:
        write_classes(os.path.join(out, "classes.csv"), recordings)
    leave_out(len(packed.rejected), len(recordings), os.path.join(out, "rejected.tsv"))


def leave_out(num_rejected: int, total: int, listed: str) -> None:
    """Where recordings are missing from what was made of them: say how many, and leave with exit code 1."""
    if num_rejected:
        print(f"sslam: {num_rejected} of {total} recordings could not be read and were left out: {listed}", file=sys.stderr)
        sys.exit(1)


def write_classes(path: str, recordings: Recordings) -> None:
    """Write the classes of recordings as a table for ``class_map``."""
    # three columns: of two, which is the class cannot be told where classes are called by numbers
    rows = ((number, name, name) for number, name in enumerate(recordings.class_names))
    write_table(path, ("index", "mid", "name"), rows)
    print(f"{len(recordings.class_names)} classes: {path}")
