"""``sslam data``: prepare recordings once. Every command can be interrupted, and goes on when it is given again.

Heavy imports wait until a command runs.
"""

from __future__ import annotations

import os
from typing import Literal


def scan(
    folder: str,
    out: str | None = None,
    labels: str | None = None,
    min_seconds: float = 0.1,
    silence_db: float = -90.0,
    workers: int | None = None,
) -> None:
    """Look at every audio file under a folder and write a manifest of the good ones.

    A manifest has the columns path, seconds, sample_rate_hz, channels, frames (and labels). Files that are broken, empty,
    cut off, silent, too short or not finite are listed with their reason in OUT.rejected.tsv.

    Args:
        folder: where the recordings are; links to folders are followed, hidden files and folders left out.
        out: the manifest, a new .tsv or .csv; paths in it are relative where the recordings lie beside or below it;
            default: FOLDER.tsv, beside the folder.
        labels: a .lbl with name<TAB>label,label rows.
        min_seconds: shorter recordings are rejected.
        silence_db: so are those whose highest peak is no louder than this, relative to full scale.
        workers: processes; default: one per core.
    """
    from sslam_lightning.cli.data.steps import bare, inspect_recordings
    from sslam_lightning.data.manifests.labels import with_labels
    from sslam_lightning.data.manifests.scan import list_folder

    recordings, others = list_folder(folder)
    if others:
        told = ", ".join(f"{count} {extension}" for extension, count in sorted(others.items()))
        print(f"{others.total()} files are not audio and were not looked at: {told}")
    if labels is not None:
        recordings = with_labels(recordings, labels)
    inspect_recordings(recordings, out or f"{bare(folder)}.tsv", min_seconds, silence_db, workers, "scan")


def check(
    manifest: str,
    out: str | None = None,
    labels: str | None = None,
    min_seconds: float = 0.1,
    silence_db: float = -90.0,
    workers: int | None = None,
) -> None:
    """Look at every recording of a manifest again, and write a new manifest of those that are good.

    The others are listed with their reason in OUT.rejected.tsv, as by scan.

    Args:
        manifest: of either form: a table with a header, or fairseq's .tsv.
        out: the new manifest; default: MANIFEST with .checked before its extension, then .checked_2 and so on.
        labels: a .lbl; default: the manifest's own labels, or the .lbl beside it.
        min_seconds: shorter recordings are rejected.
        silence_db: so are those whose highest peak is no louder than this, relative to full scale.
        workers: processes; default: one per core.
    """
    from sslam_lightning.cli.data.steps import first_free, inspect_recordings
    from sslam_lightning.data.manifests.manifest import read_labeled

    stem, extension = os.path.splitext(manifest)
    out = out or first_free(f"{stem}.checked{extension}")
    inspect_recordings(read_labeled(manifest, labels), out, min_seconds, silence_db, workers, "check")


def stats(
    path: str,
    out: str | None = None,
    sample_rate_hz: int = 16000,
    num_mels: int = 128,
    resampler: Literal["torchaudio", "soxr"] = "torchaudio",
    max_clip_seconds: float | None = None,
    workers: int | None = None,
) -> None:
    """Mean and deviation of the log-mels, class counts and sampling weights, in files that recipes name.

    OUT.yaml is an overlay: sslam fit --config RECIPE --config OUT.yaml sets the recipe's mean and std and names the
    weights, which data.weighted_sampling draws by. OUT.classes.csv counts the classes and is a --data.class_map.
    OUT.weights.tsv holds 1000 / (count + 0.01), summed over its classes, for every clip. Recordings that cannot be read
    count for nothing, are listed in OUT.rejected.tsv, and make the exit code 1.

    Args:
        path: a manifest, or a folder of shards.
        out: where the files go; default: MANIFEST.stats beside the manifest.
        sample_rate_hz: of the recipe.
        num_mels: of the recipe.
        resampler: of the recipe.
        max_clip_seconds: measure only this much from the start of every clip.
        workers: processes; default: one per core.
    """
    from sslam_lightning.cli.data.steps import bare, leave_out, open_labeled, processes
    from sslam_lightning.data.manifests.statistics import FrontEnd, measure, output_paths, write_statistics
    from sslam_lightning.runtime.atomic_write import refuse_existing

    out = out or f"{bare(path)}.stats"
    refuse_existing(*output_paths(out))
    front_end = FrontEnd(sample_rate_hz, num_mels, resampler, max_clip_seconds)
    found = measure(open_labeled(path), front_end, f"{out}.journal", processes(workers))
    paths = write_statistics(found, path, out, front_end)
    print(
        f"mean {found.log_mels.mean:.3f}, std {found.log_mels.std:.3f} over {found.log_mels.num_values // num_mels} frames"
    )
    print(f"wrote {', '.join(paths)}")
    leave_out(len(found.rejected), len(found.recordings), paths[-1])


def pack(
    manifest: str,
    out: str | None = None,
    labels: str | None = None,
    codec: Literal["lossless", "float32", "int16", "flac16", "flac24", "original"] = "lossless",
    clips_per_shard: int = 1000,
    sample_rate_hz: int = 16000,
    resampler: Literal["torchaudio", "soxr"] = "torchaudio",
    max_clip_seconds: float | None = None,
    workers: int | None = None,
) -> None:
    """Write the recordings of a manifest as shards: tar files of 16 kHz mono with an index, for --data.train_manifest=OUT.

    Training on the shards gives the same batches as training on the manifest, bit for bit, as long as every recording can
    be read; those that cannot are left out, listed in OUT/rejected.tsv, and make the exit code 1.

    Args:
        manifest: of either form; labels are kept as they are written.
        out: a new folder, or one whose packing was interrupted; default: beside the manifest, with .shards.
        labels: a .lbl; default: the manifest's own labels, or the .lbl beside it.
        codec: lossless keeps the resampled samples exactly (16-bit wav where it can, else float32 wav, 64 kB a second);
            float32, int16, flac16, flac24 take that format; original keeps the files as they are.
        clips_per_shard: size of a shard; 1000 clips of ten seconds are 640 MB in float32, about 150 MB as flac16.
        sample_rate_hz: of the shards.
        resampler: the one that the recipe names.
        max_clip_seconds: keep only this much from the start of every clip.
        workers: processes; default: one per core.
    """
    from sslam_lightning.cli.data.steps import bare, pack_recordings
    from sslam_lightning.data.manifests.manifest import read_labeled

    recordings = read_labeled(manifest, labels)
    out = out or f"{bare(manifest)}.shards"
    pack_recordings(recordings, out, codec, clips_per_shard, resampler, max_clip_seconds, workers, sample_rate_hz)
