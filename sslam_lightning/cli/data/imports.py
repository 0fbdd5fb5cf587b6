"""``sslam data import``: lists of files become manifests, files that hold the sound become shards.

Heavy imports wait until a command runs.
"""

from __future__ import annotations

import os
from typing import Literal


def import_ast(
    file: str,
    out: str | None = None,
    root: str | None = None,
    classes: str | None = None,
    min_seconds: float = 0.1,
    silence_db: float = -90.0,
    workers: int | None = None,
) -> None:
    """From the JSON of AST, SSAST and AudioMAE to a manifest. Their class CSV is a --data.class_map as it is.

    Args:
        file: {"data": [{"wav": ..., "labels": "/m/..,/m/.."}, ...]}.
        out: the manifest to write; default: that of the JSON with .tsv.
        root: folder that relative paths start at; default: that of the JSON.
        classes: their CSV (index,mid,display_name), to check that it knows every label.
        min_seconds: shorter recordings are rejected.
        silence_db: so are those whose highest peak is no louder than this, relative to full scale.
        workers: processes; default: one per core.
    """
    from sslam_lightning.cli.data.steps import bare, import_listed
    from sslam_lightning.data.manifests.imports.ast_json import read_ast

    import_listed(read_ast(file, root), out or f"{bare(file)}.tsv", classes, min_seconds, silence_db, workers)


def import_segments(
    file: str,
    folder: str,
    out: str | None = None,
    classes: str | None = None,
    min_seconds: float = 0.1,
    silence_db: float = -90.0,
    workers: int | None = None,
) -> None:
    """From AudioSet's own lists of segments and a folder of files to a manifest.

    Files may be called YTID.wav, YYTID.wav, YTID_START.wav or YTID_START_END.wav, in any format and subfolder. Segments
    without a file are among the rejected ones.

    Args:
        file: for example balanced_train_segments.csv.
        folder: where the files are.
        out: the manifest to write; default: that of the list with .tsv.
        classes: class_labels_indices.csv, to check that it knows every label.
        min_seconds: shorter recordings are rejected.
        silence_db: so are those whose highest peak is no louder than this, relative to full scale.
        workers: processes; default: one per core.
    """
    from sslam_lightning.cli.data.steps import bare, import_listed
    from sslam_lightning.data.manifests.imports.segments import read_segments
    from sslam_lightning.data.manifests.scan import list_folder

    recordings = read_segments(file, folder, list_folder(folder)[0].names)
    import_listed(recordings, out or f"{bare(file)}.tsv", classes, min_seconds, silence_db, workers)


def import_folders(
    folder: str,
    out: str | None = None,
    min_seconds: float = 0.1,
    silence_db: float = -90.0,
    workers: int | None = None,
) -> None:
    """From a folder per class to a manifest, and OUT.classes.csv for --data.class_map.

    Args:
        folder: holds a folder of recordings for every class.
        out: the manifest to write; default: FOLDER.imported.tsv, beside the folder.
        min_seconds: shorter recordings are rejected.
        silence_db: so are those whose highest peak is no louder than this, relative to full scale.
        workers: processes; default: one per core.
    """
    from sslam_lightning.cli.data.steps import bare, import_listed, write_classes
    from sslam_lightning.data.manifests.imports.class_folders import read_class_folders
    from sslam_lightning.data.manifests.scan import list_folder
    from sslam_lightning.runtime.atomic_write import refuse_existing

    listing, _ = list_folder(folder)
    recordings = read_class_folders(folder, listing.names)
    if len(recordings.class_names) == 1:
        raise ValueError(
            f"{folder} holds one folder of recordings, {recordings.class_names[0]}: expected a folder per class"
        )
    out = out or f"{bare(folder)}.imported.tsv"
    classes = f"{os.path.splitext(out)[0]}.classes.csv"
    refuse_existing(out, classes)
    import_listed(recordings, out, None, min_seconds, silence_db, workers)
    write_classes(classes, recordings)


def import_hdf5(
    file: str,
    out: str | None = None,
    classes: str | None = None,
    sample_rate_hz: int | None = None,
    codec: Literal["lossless", "float32", "int16", "flac16", "flac24", "original"] = "lossless",
    clips_per_shard: int = 1000,
    resampler: Literal["torchaudio", "soxr"] = "torchaudio",
    max_clip_seconds: float | None = None,
    workers: int | None = None,
) -> None:
    """From an HDF5 file of waveforms (PANNs) or of mp3 bytes (PaSST) straight to shards.

    What cannot be read is left out, listed in OUT/rejected.tsv, and makes the exit code 1.

    Args:
        file: with audio_name, waveform or mp3, and target.
        out: the folder of shards to write; default: beside the source, with .shards.
        classes: the table of its targets (index,mid,name).
        sample_rate_hz: of its waveforms, where the file does not say so itself.
        codec: see sslam data pack.
        clips_per_shard: size of a shard.
        resampler: to 16 kHz.
        max_clip_seconds: keep only this much from the start of every clip.
        workers: processes; default: one per core.
    """
    from sslam_lightning.cli.data.steps import bare, pack_recordings
    from sslam_lightning.data.manifests.class_map import read_class_table
    from sslam_lightning.data.manifests.imports.hdf5 import read_hdf5

    recordings = read_hdf5(file, None if classes is None else read_class_table(classes), sample_rate_hz)
    pack_recordings(recordings, out or f"{bare(file)}.shards", codec, clips_per_shard, resampler, max_clip_seconds, workers)


def import_parquet(
    path: str,
    out: str | None = None,
    label_column: str | None = None,
    codec: Literal["lossless", "float32", "int16", "flac16", "flac24", "original"] = "lossless",
    clips_per_shard: int = 1000,
    resampler: Literal["torchaudio", "soxr"] = "torchaudio",
    max_clip_seconds: float | None = None,
    workers: int | None = None,
) -> None:
    """From Hugging Face's parquet with audio inside straight to shards, and OUT/classes.csv for --data.class_map.

    What cannot be read is left out, listed in OUT/rejected.tsv, and makes the exit code 1.

    Args:
        path: a parquet file, or a folder of them, with a column audio {bytes, path}.
        out: the folder of shards to write; default: beside the source, with .shards.
        label_column: lists of text; default: human_labels, or else labels.
        codec: see sslam data pack.
        clips_per_shard: size of a shard.
        resampler: to 16 kHz.
        max_clip_seconds: keep only this much from the start of every clip.
        workers: processes; default: one per core.
    """
    from sslam_lightning.cli.data.steps import bare, pack_recordings
    from sslam_lightning.data.manifests.imports.parquet import read_parquet

    recordings, out = read_parquet(path, label_column), out or f"{bare(path)}.shards"
    pack_recordings(recordings, out, codec, clips_per_shard, resampler, max_clip_seconds, workers, with_classes=True)
