"""Paths and URLs: everything that a data module reads may lie wherever fsspec reads."""

from __future__ import annotations

import errno
import os
import pickle
import resource
from collections.abc import Callable
from pathlib import Path

import fsspec
import pytest
import torch

from sslam_lightning.data import AudioSetDataModule
from sslam_lightning.data.audio.read import UnreadableAudio, read_audio
from sslam_lightning.data.filesystem import RangeReader, join, list_names, parent
from sslam_lightning.data.manifests.inspection import Standards
from sslam_lightning.data.manifests.manifest import read_labeled, read_manifest
from sslam_lightning.data.manifests.scan import list_folder, write_manifest
from sslam_lightning.data.shards.pack import Packing, pack
from sslam_lightning.runtime.atomic_write import new_file
from sslam_lightning.types import Batch

Write = Callable[..., Path]


@pytest.fixture
def memory() -> fsspec.AbstractFileSystem:
    """fsspec's file system in memory, empty."""
    system = fsspec.filesystem("memory")
    system.store.clear()
    system.pseudo_dirs[:] = [""]
    yield system
    system.store.clear()


def same(one: Batch, other: Batch) -> bool:
    tensors = ("waveforms", "num_samples", "labels", "clip_index")
    return all(torch.equal(getattr(one, name), getattr(other, name)) for name in tensors) and one.names == other.names


def test_manifests_and_shards_by_url_give_the_batches_of_local_ones(
    manifest: Path, memory: fsspec.AbstractFileSystem, monkeypatch: pytest.MonkeyPatch
) -> None:
    pack(read_labeled(manifest), str(manifest.with_name("shards")), Packing(clips_per_shard=4))
    memory.put(str(manifest.parent), "/bucket/data", recursive=True)
    batches = {}
    local, remote = str(manifest.parent), "memory://bucket/data"
    for where in (local, f"file://{local}", remote):
        for name in ("train.tsv", "shards"):
            data = AudioSetDataModule(f"{where}/{name}", class_map=f"{where}/classes.csv", batch_size=3, num_workers=0)
            data.setup("fit")
            batches[where, name] = list(data.train_dataloader())
    assert len(batches) == 6
    expected = batches[local, "train.tsv"]
    assert sum(len(batch.names) for batch in expected) == 6
    for found in batches.values():
        assert all(same(one, other) for one, other in zip(found, expected, strict=True))


def test_one_ranged_read_a_clip(manifest: Path, memory: fsspec.AbstractFileSystem, monkeypatch: pytest.MonkeyPatch) -> None:
    pack(read_labeled(manifest), str(manifest.with_name("shards")), Packing())
    memory.put(str(manifest.with_name("shards")), "/bucket/shards", recursive=True)
    data = AudioSetDataModule("memory://bucket/shards", num_workers=0)
    data.setup("fit")
    dataset = data.dataset("train")
    assert dataset is not None
    reads = []
    real = type(memory).cat_file
    monkeypatch.setattr(
        type(memory),
        "cat_file",
        lambda self, path, start, end: reads.append((path, end - start)) or real(self, path, start, end),
    )
    clips = [pickle.loads(pickle.dumps(dataset))[row] for row in (5, 0)]
    assert [path for path, _ in reads] == ["/bucket/shards/shard-000000.tar"] * 2
    assert [size for _, size in reads] == [58 + 2 * len(clip.waveform) for clip in clips]  # 16 bits a sample


def test_remote_trouble_is_told(manifest: Path, memory: fsspec.AbstractFileSystem) -> None:
    memory.put(str(manifest.parent), "/bucket/data", recursive=True)
    memory.rm("/bucket/data/audio/sounds/clip2.wav")
    with pytest.raises(FileNotFoundError, match=r"1 of 6 files do not exist, the first is memory://.*/sounds/clip2\.wav"):
        read_manifest("memory://bucket/data/train.tsv")
    assert len(read_manifest("memory://bucket/data/train.tsv", missing_files="skip")) == 5
    with pytest.raises(UnreadableAudio, match=r"^memory://bucket/data/none\.wav: no such file"):
        read_audio("memory://bucket/data/none.wav")
    with pytest.raises(FileNotFoundError, match=r"manifest memory://bucket/none\.tsv does not exist"):
        read_manifest("memory://bucket/none.tsv")
    with pytest.raises(ValueError, match=r"^nothing://x/m\.tsv: .*nothing"):
        read_manifest("nothing://x/m.tsv")


def test_paths_and_urls() -> None:
    assert join("s3://bucket/data/", "a/b.wav") == "s3://bucket/data/a/b.wav"
    assert join("s3://bucket/data", "http://host/b.wav") == "http://host/b.wav"
    assert join("/data", "a.wav") == "/data/a.wav"
    assert join("/data", "/other/a.wav") == "/other/a.wav"
    assert join("/data", "file:///other/a.wav") == "/other/a.wav"
    assert parent("s3://bucket/data/m.tsv") == "s3://bucket/data"
    assert list_names("http://host/folder") is None


def test_ranges_of_more_files_than_may_be_open(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(RangeReader, "_MAX_OPEN", 2)
    for number in range(4):
        (tmp_path / str(number)).write_bytes(bytes([number]) * 10)
    reader = RangeReader()
    for number in (0, 1, 2, 3, 0, 3):
        assert reader(str(tmp_path / str(number)), 2, 3) == bytes([number]) * 3
    assert len(reader._open) == 2
    assert pickle.loads(pickle.dumps(reader))(str(tmp_path / "1"), 0, 1) == b"\1"


def test_a_manifest_that_changes_while_it_is_read(manifest: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from sslam_lightning.data.manifests import manifest as module

    real = module._read_fairseq

    def growing(*arguments: object) -> object:
        rows = real(*arguments)  # type: ignore[arg-type]
        with manifest.open("a") as file:
            file.write("sounds/late.wav\t1\n")
        return rows

    monkeypatch.setattr(module, "_read_fairseq", growing)
    with pytest.raises(ValueError, match=r"train\.tsv changed while it was read"):
        read_manifest(manifest)


@pytest.fixture
def small_files_only() -> None:
    """No file may grow beyond 3000 bytes, as if the disk were full."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (3000, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_full_disk(manifest: Path, tmp_path: Path, small_files_only: None) -> None:
    recordings = read_labeled(manifest)
    with pytest.raises(OSError, match=r"cannot write .*shard-000000\.tar: File too large"):
        pack(recordings, str(tmp_path / "shards"), Packing())
    assert not list((tmp_path / "shards").glob("*.tar*"))
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    assert pack(recordings, str(tmp_path / "shards"), Packing()).num_clips == 6  # the disk has been cleared


def test_a_full_disk_while_scanning(manifest: Path, tmp_path: Path) -> None:
    listing = read_labeled(manifest)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (250, before[1]))
    try:
        with pytest.raises(OSError, match=r"cannot write .*m\.tsv\.journal: (File too large|No space left on device)"):
            write_manifest(listing, str(tmp_path / "m.tsv"), Standards(min_seconds=0.0))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    write_manifest(listing, str(tmp_path / "m.tsv"), Standards(min_seconds=0.0))
    assert len(read_manifest(tmp_path / "m.tsv")) == 6


@pytest.mark.skipif(os.geteuid() == 0, reason="nothing is read-only for root; the next test plays it")
def test_a_read_only_folder(manifest: Path, tmp_path: Path) -> None:
    (tmp_path / "locked").mkdir(mode=0o500)
    with pytest.raises(PermissionError, match="locked"):
        pack(read_labeled(manifest), str(tmp_path / "locked" / "shards"), Packing())


def test_a_folder_that_refuses(manifest: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.makedirs

    def refuse(path: str, *rest: object, **more: object) -> None:
        if "locked" in str(path):
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        real(path, *rest, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(os, "makedirs", refuse)
    listing = list_folder(str(manifest.parent / "audio"))[0]
    with pytest.raises(PermissionError, match=r"Permission denied: .*locked"):
        write_manifest(listing, str(tmp_path / "locked" / "m.tsv"), Standards())
    with pytest.raises(PermissionError, match=r"Permission denied: .*locked"):
        pack(read_labeled(manifest), str(tmp_path / "locked" / "shards"), Packing())
    with pytest.raises(PermissionError, match=r"Permission denied: .*locked"), new_file(str(tmp_path / "locked" / "x")):
        pass


class Unplugged(Exception):
    """As libraries of protocols raise them: no OSError."""


def test_a_server_that_does_not_answer_is_no_missing_file(
    manifest: Path, memory: fsspec.AbstractFileSystem, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unplugged(*arguments: object, **options: object) -> None:
        raise Unplugged("Could not connect\nto the endpoint")

    memory.put(str(manifest.parent), "/bucket/data", recursive=True)
    with monkeypatch.context() as patch:
        patch.setattr(type(memory), "info", unplugged)
        with pytest.raises(OSError, match=r"^memory://bucket/data/train\.tsv cannot be reached: Could not connect$"):
            read_manifest("memory://bucket/data/train.tsv")
    with monkeypatch.context() as patch:
        patch.setattr(type(memory), "cat_file", unplugged)
        with pytest.raises(OSError, match=r"^memory://a cannot be reached: Could not connect$"):
            RangeReader()("memory://a", 0, 1)
    monkeypatch.setattr(type(memory), "open", unplugged)
    with pytest.raises(UnreadableAudio, match=r"^memory://a\.wav: cannot be read \(Could not connect\)$"):
        read_audio("memory://a.wav")
