"""``sslam data``: prepare recordings once. Every command can be interrupted, and goes on when it is given again."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from sslam_lightning.data.recordings import Recordings
    from sslam_lightning.data.scan import Listing, Scanned


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
        folder: where the recordings are.
        out: the manifest, a new .tsv or .csv; paths in it are relative where the recordings lie beside or below it;
            default: FOLDER.tsv, beside the folder.
        labels: a .lbl with name<TAB>label,label rows.
        min_seconds: shorter recordings are rejected.
        silence_db: so are those whose highest peak is no louder than this, relative to full scale.
        workers: processes; default: one per core.
    """
    from sslam_lightning.data.labels import labels_as_written
    from sslam_lightning.data.recordings import PackedStrings
    from sslam_lightning.data.scan import list_folder

    listing, others = list_folder(folder)
    if others:
        told = ", ".join(f"{count} {extension}" for extension, count in sorted(others.items()))
        print(f"{others.total()} files are not audio and were not looked at: {told}")
    if labels is not None:
        listing = listing._replace(labels=PackedStrings(labels_as_written(labels, listing.names)))
    _inspect(listing, out or f"{_bare(folder)}.tsv", min_seconds, silence_db, workers, "scan")


def check(
    manifest: str,
    out: str | None = None,
    labels: str | None = None,
    min_seconds: float = 0.1,
    silence_db: float = -90.0,
    workers: int | None = None,
) -> None:
    """Look at every recording of a manifest again, and write a new manifest of those that are good.

    Args:
        manifest: of either form: a table with a header, or fairseq's .tsv.
        out: the new manifest; default: MANIFEST with .checked before its extension.
        labels: a .lbl; default: the manifest's own labels, or the .lbl beside it.
        min_seconds: shorter recordings are rejected.
        silence_db: so are those whose highest peak is no louder than this, relative to full scale.
        workers: processes; default: one per core.
    """
    from sslam_lightning.data.manifest import read_labelled
    from sslam_lightning.data.scan import listing_of

    stem, extension = os.path.splitext(manifest)
    listing = listing_of(read_labelled(manifest, labels))
    _inspect(listing, out or f"{stem}.checked{extension}", min_seconds, silence_db, workers, "check")


def import_fairseq(
    manifest: str,
    out: str | None = None,
    labels: str | None = None,
    min_seconds: float = 0.1,
    silence_db: float = -90.0,
    workers: int | None = None,
) -> None:
    """From fairseq's .tsv (and .lbl) to a manifest. (AudioSetDataModule reads them as they are, too.)

    Args:
        manifest: root folder, then path<TAB>samples rows.
        out: the manifest to write; default: MANIFEST with .imported before its extension.
        labels: the .lbl; default: the one beside the .tsv.
        min_seconds: shorter recordings are rejected.
        silence_db: so are those whose highest peak is no louder than this, relative to full scale.
        workers: processes; default: one per core.
    """
    check(manifest, out or f"{os.path.splitext(manifest)[0]}.imported.tsv", labels, min_seconds, silence_db, workers)


def import_ast(
    file: str,
    out: str | None = None,
    root: str | None = None,
    classes: str | None = None,
    min_seconds: float = 0.1,
    silence_db: float = -90.0,
    workers: int | None = None,
) -> None:
    """From the JSON of AST, SSAST and AudioMAE to a manifest. Their class CSV is a --data.label_descriptors as it is.

    Args:
        file: {"data": [{"wav": ..., "labels": "/m/..,/m/.."}, ...]}.
        out: the manifest to write; default: that of the JSON with .tsv.
        root: folder that relative paths start at; default: that of the JSON.
        classes: their CSV (index,mid,display_name), to check that it knows every label.
        min_seconds: shorter recordings are rejected.
        silence_db: so are those whose highest peak is no louder than this, relative to full scale.
        workers: processes; default: one per core.
    """
    from sslam_lightning.data.sources.ast_json import read_ast

    _import(read_ast(file, root), out or f"{_bare(file)}.tsv", classes, min_seconds, silence_db, workers)


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
    from sslam_lightning.data.scan import list_folder
    from sslam_lightning.data.sources.segments import read_segments

    recordings = read_segments(file, folder, list_folder(folder)[0].names)
    _import(recordings, out or f"{_bare(file)}.tsv", classes, min_seconds, silence_db, workers)


def import_folders(
    folder: str,
    out: str | None = None,
    min_seconds: float = 0.1,
    silence_db: float = -90.0,
    workers: int | None = None,
) -> None:
    """From a folder per class to a manifest, and OUT.classes.csv for --data.label_descriptors.

    Args:
        folder: holds a folder of recordings for every class.
        out: the manifest to write; default: FOLDER.tsv, beside the folder.
        min_seconds: shorter recordings are rejected.
        silence_db: so are those whose highest peak is no louder than this, relative to full scale.
        workers: processes; default: one per core.
    """
    from sslam_lightning.data.durable import refuse_existing
    from sslam_lightning.data.scan import list_folder
    from sslam_lightning.data.sources.class_folders import read_class_folders

    listing, _ = list_folder(folder)
    recordings = read_class_folders(folder, listing.names)
    out = out or f"{_bare(folder)}.tsv"
    classes = f"{os.path.splitext(out)[0]}.classes.csv"
    refuse_existing(out, classes)
    _import(recordings, out, None, min_seconds, silence_db, workers)
    _write_classes(classes, recordings)


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
    from sslam_lightning.data.descriptors import read_class_table
    from sslam_lightning.data.sources.hdf5 import read_hdf5

    recordings = read_hdf5(file, None if classes is None else read_class_table(classes), sample_rate_hz)
    _pack(recordings, out or f"{_bare(file)}.shards", codec, clips_per_shard, resampler, max_clip_seconds, workers)


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
    """From Hugging Face's parquet with audio inside straight to shards, and OUT/classes.csv for --data.label_descriptors.

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
    from sslam_lightning.data.sources.parquet import read_parquet

    recordings = read_parquet(path, label_column)
    out = out or f"{_bare(path)}.shards"
    _pack(recordings, out, codec, clips_per_shard, resampler, max_clip_seconds, workers)
    if recordings.class_names:
        _write_classes(os.path.join(out, "classes.csv"), recordings)


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
    weights, which data.weighted_sampling draws by. OUT.classes.csv counts the classes and is a --data.label_descriptors.
    OUT.weights.tsv holds 1000 / (count + 0.01), summed over its classes, for every clip.

    Args:
        path: a manifest, or a folder of shards.
        out: where the files go; default: MANIFEST.stats beside the manifest.
        sample_rate_hz: of the recipe.
        num_mels: of the recipe.
        resampler: of the recipe.
        max_clip_seconds: measure only this much from the start of every clip.
        workers: processes; default: one per core.
    """
    from sslam_lightning.data.durable import refuse_existing
    from sslam_lightning.data.statistics import FrontEnd, measure, output_paths, write_statistics

    out = out or f"{_bare(path)}.stats"
    refuse_existing(*output_paths(out))
    front_end = FrontEnd(sample_rate_hz, num_mels, resampler, max_clip_seconds)
    found = measure(_labelled(path), front_end, f"{out}.journal", _workers(workers))
    paths = write_statistics(found, path, out, front_end)
    print(
        f"mean {found.log_mels.mean:.3f}, std {found.log_mels.std:.3f} over {found.log_mels.num_values // num_mels} frames"
    )
    for rejected in found.rejected:
        print(f"left out: {rejected.reason}")
    print(f"wrote {', '.join(paths)}")


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
    be read; those that cannot are listed in OUT/rejected.tsv.

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
    from sslam_lightning.data.manifest import read_labelled

    recordings = read_labelled(manifest, labels)
    out = out or f"{_bare(manifest)}.shards"
    _pack(recordings, out, codec, clips_per_shard, resampler, max_clip_seconds, workers, sample_rate_hz)


DATA_COMMANDS: dict[str, Any] = {
    "_help": "Prepare recordings: look at them, import them, measure them, pack them.",
    "scan": scan,
    "check": check,
    "import": {
        "_help": "Read what other projects use.",
        "fairseq": import_fairseq,
        "ast": import_ast,
        "segments": import_segments,
        "folders": import_folders,
        "hdf5": import_hdf5,
        "parquet": import_parquet,
    },
    "stats": stats,
    "pack": pack,
}


def _bare(path: str) -> str:
    """Without extension, and without a slash behind a folder."""
    return os.path.splitext(path.rstrip("/"))[0] if not os.path.isdir(path) else path.rstrip("/")


def _workers(workers: int | None) -> int:
    from sslam_lightning.data.parallel import default_workers

    return default_workers() if workers is None else workers


def _labelled(path: str) -> Recordings:
    from sslam_lightning.data.manifest import read_labelled
    from sslam_lightning.data.shards import is_shard_folder, read_labelled_shards

    return read_labelled_shards(path) if is_shard_folder(path) else read_labelled(path)


def _import(
    recordings: Recordings, out: str, classes: str | None, min_seconds: float, silence_db: float, workers: int | None
) -> None:
    from sslam_lightning.data.descriptors import read_class_table
    from sslam_lightning.data.scan import listing_of

    if classes is not None:
        known = read_class_table(classes).class_of
        unknown = [word for word in recordings.class_names if word not in known]
        if unknown:
            raise ValueError(f"{classes} does not know the label {unknown[0]!r}, and {len(unknown) - 1} others")
    _inspect(listing_of(recordings), out, min_seconds, silence_db, workers, "import")


def _inspect(listing: Listing, out: str, min_seconds: float, silence_db: float, workers: int | None, what: str) -> Scanned:
    from sslam_lightning.data.inspection import Standards
    from sslam_lightning.data.scan import write_manifest

    scanned = write_manifest(listing, out, Standards(min_seconds, silence_db), _workers(workers), what)
    if scanned.num_resumed:
        print(f"went on behind {scanned.num_resumed} files of an interrupted run")
    print(f"{scanned.num_good} good recordings, {scanned.num_seconds / 3600:.2f} hours: {scanned.manifest}")
    if scanned.reasons:
        told = ", ".join(f"{count} {reason}" for reason, count in scanned.reasons.most_common())
        print(f"{scanned.reasons.total()} rejected ({told}): {scanned.rejected}")
    return scanned


def _pack(
    recordings: Recordings,
    out: str,
    codec: Any,
    clips_per_shard: int,
    resampler: Any,
    max_clip_seconds: float | None,
    workers: int | None,
    sample_rate_hz: int = 16000,
) -> None:
    from sslam_lightning.data.pack import Packing, pack

    packing = Packing(codec, clips_per_shard, sample_rate_hz, resampler, max_clip_seconds)
    packed = pack(recordings, out, packing, _workers(workers))
    if packed.num_kept:
        print(f"went on behind {packed.num_kept} shards of an interrupted run")
    print(f"{packed.num_clips} clips in {packed.num_shards} shards: {out}")
    if packed.rejected:
        print(f"{len(packed.rejected)} could not be read: {os.path.join(out, 'rejected.tsv')}")


def _write_classes(path: str, recordings: Recordings) -> None:
    from sslam_lightning.data.tables import write_table

    write_table(path, ("index", "label"), enumerate(recordings.class_names))
    print(f"{len(recordings.class_names)} classes: {path}")
