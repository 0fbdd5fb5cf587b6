from __future__ import annotations

import io
import json
import multiprocessing
import os
import pickle
import shutil
import signal
import sys
import tarfile
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pytest
import soundfile
import torch

from sslam_lightning.data import AudioSetDataModule
from sslam_lightning.data.audio.read import UnreadableAudio, read_audio
from sslam_lightning.data.audio.resample import resample
from sslam_lightning.data.audio.wav import decode_wav
from sslam_lightning.data.manifests.manifest import read_labeled
from sslam_lightning.data.shards.pack import Packing, encode, pack
from sslam_lightning.data.shards.read import METADATA, read_labeled_shards, read_shards
from sslam_lightning.runtime.lock import held_file

Write = Callable[..., Path]


@pytest.fixture
def sounds(tmp_path: Path, write_sound: Write) -> Path:
    """Seven recordings of several rates, formats and widths, with labels; 16-bit mono at 16 kHz among them."""
    rng = np.random.default_rng(0)
    rows = ["path\tlabels"]
    for number, (extension, rate_hz, channels) in enumerate(
        [("wav", 16000, 1), ("flac", 44100, 1), ("ogg", 32000, 2), ("wav", 8000, 8), ("wav", 48000, 2), ("mp3", 22050, 1)]
    ):
        samples = rng.standard_normal((rate_hz // 4 + 37 * number, channels)) / 10
        soundfile.write(tmp_path / f"{number}.{extension}", samples, rate_hz)
        rows.append(f"{number}.{extension}\t{';'.join('/m/' + 'cab'[i] for i in range(number % 3 + 1))}")
    soundfile.write(tmp_path / "ö 6.wav", rng.standard_normal(5000), 16000, subtype="FLOAT")
    rows.append("ö 6.wav\t/m/b")
    (tmp_path / "m.tsv").write_text("\n".join(rows) + "\n")
    (tmp_path / "classes.csv").write_text("0,/m/a,Ape\n1,/m/b,Bee\n2,/m/c,Cat\n")
    return tmp_path / "m.tsv"


def content(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


@pytest.mark.parametrize("max_clip_seconds", [None, 0.2])
@pytest.mark.parametrize("resampler", ["torchaudio", "soxr"])
def test_shards_and_manifest_give_the_same_batches(sounds: Path, resampler: str, max_clip_seconds: float | None) -> None:
    shards = sounds.with_name("shards")
    pack(
        read_labeled(sounds),
        str(shards),
        Packing(clips_per_shard=3, resampler=resampler, max_clip_seconds=max_clip_seconds),  # type: ignore[arg-type]
    )
    options = {
        "class_map": sounds.with_name("classes.csv"),
        "batch_size": 2,
        "num_workers": 0,
        "resampler": resampler,
        "max_clip_seconds": max_clip_seconds,
        "weighted_sampling": True,
        "samples_per_epoch": 6,
    }
    batches = []
    for source in (sounds, shards):
        data = AudioSetDataModule(source, **options)
        data.setup("fit")
        batches.append([*data.train_dataloader(), *data.predict_dataloader()])
    assert len(batches[0]) == len(batches[1]) == 3 + 4
    for ours, theirs in zip(*batches, strict=True):
        assert torch.equal(ours.waveforms, theirs.waveforms)
        assert torch.equal(ours.labels, theirs.labels)
        assert torch.equal(ours.clip_index, theirs.clip_index)
        assert torch.equal(ours.num_samples, theirs.num_samples)
        assert ours.names == theirs.names


def test_samples_keep_id_labels_and_origin_and_any_tar_reads_them(sounds: Path) -> None:
    folder = sounds.with_name("shards")
    pack(read_labeled(sounds), str(folder), Packing(clips_per_shard=4))
    names = []
    for path in sorted(folder.glob("*.tar")):
        with tarfile.open(path) as tar:
            names += tar.getnames()
            for member in tar.getmembers():
                if member.name.endswith(".json"):
                    about = json.load(tar.extractfile(member))
                    row = int(member.name[:9])
                    assert about["origin"] == read_labeled(sounds).path(row)
                    assert about["id"] == read_labeled(sounds).names[row]
                    assert about["labels"] == sorted("/m/" + "cab"[i] for i in range(row % 3 + 1)) or row == 6
    assert names == [f"{row:09d}.{kind}" for row in range(7) for kind in ("wav", "json")]
    packed = read_labeled_shards(str(folder))
    assert [packed.classes(row) for row in range(7)] == [read_labeled(sounds).classes(row) for row in range(7)]
    first, last = decode_wav(packed.packed_file(0)[0:]), soundfile.info(io.BytesIO(packed.packed_file(0)))
    assert first is not None
    assert last.subtype == "PCM_16"  # its samples are whole, so half the bytes hold them
    assert soundfile.info(io.BytesIO(packed.packed_file(1))).subtype == "FLOAT"
    assert pickle.loads(pickle.dumps(packed)).packed_file(3) == packed.packed_file(3)


@pytest.mark.parametrize(
    ("codec", "tolerance"), [("float32", 0.0), ("int16", 2**-16), ("flac16", 2**-16), ("flac24", 2**-24), ("lossless", 0.0)]
)
def test_codecs_are_as_exact_as_they_say(codec: str, tolerance: float) -> None:
    samples = np.random.default_rng(0).uniform(-0.99, 0.99, 3000).astype(np.float32)
    decoded, rate_hz = soundfile.read(io.BytesIO(encode(samples, 16000, codec)), dtype="float32")  # type: ignore[arg-type]
    assert rate_hz == 16000
    assert np.abs(decoded - samples).max() <= tolerance * 1.001
    loud = np.array([1.5, -1.5, 1.0, -1.0], dtype=np.float32)
    clipped, _ = soundfile.read(io.BytesIO(encode(loud, 16000, codec)), dtype="float32")  # type: ignore[arg-type]
    assert np.abs(clipped - (loud if tolerance == 0 else loud.clip(-1, 1))).max() <= 2**-15


def test_originals_are_packed_as_they_are(sounds: Path) -> None:
    folder = sounds.with_name("originals")
    pack(read_labeled(sounds), str(folder), Packing(codec="original"))
    packed = read_labeled_shards(str(folder))
    for row, name in enumerate(packed.names):
        assert packed.packed_file(row) == (sounds.parent / name).read_bytes()
        ours, rate_hz = packed.read(row)
        expected, expected_hz = read_audio(sounds.parent / name)
        assert rate_hz == expected_hz
        assert torch.equal(ours, expected)
    with pytest.raises(ValueError, match="holds shards already"):
        pack(packed, str(sounds.with_name("again")), Packing(codec="original"))


def test_unreadable_clips_are_listed_and_left_out(sounds: Path, tmp_path: Path) -> None:
    (tmp_path / "1.flac").write_bytes(b"nonsense")
    done = pack(read_labeled(sounds), str(tmp_path / "shards"), Packing(clips_per_shard=2))
    assert [rejected.path for rejected in done.rejected] == ["1.flac"]
    assert "1.flac: not readable as audio" in (tmp_path / "shards" / "rejected.tsv").read_text()
    assert list(read_shards(str(tmp_path / "shards")).names) == [
        "0.wav",
        *(f"{n}" for n in ("2.ogg", "3.wav", "4.wav", "5.mp3", "ö 6.wav")),
    ]
    for path in tmp_path.glob("[0-9ö]*.*"):
        path.write_bytes(b"nonsense")
    with pytest.raises(ValueError, match="none of the 7 recordings could be read; for example"):
        pack(read_labeled(sounds), str(tmp_path / "nothing"), Packing())


def test_an_interrupted_packing_gives_the_same_bytes(sounds: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recordings, packing = read_labeled(sounds), Packing(clips_per_shard=2)
    pack(recordings, str(tmp_path / "whole"), packing)
    calls = 0

    def stop_at_sixth(*arguments: object) -> torch.Tensor:
        nonlocal calls
        calls += 1
        if calls == 6:
            raise KeyboardInterrupt
        return resample(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr("sslam_lightning.data.loading.dataset.resample", stop_at_sixth)
    with pytest.raises(KeyboardInterrupt):
        pack(recordings, str(tmp_path / "shards"), packing)
    assert sorted(path.name for path in (tmp_path / "shards").glob("*.tar*")) == ["shard-000000.tar", "shard-000001.tar"]
    with pytest.raises(FileNotFoundError, match=r"holds no index\.arrow.*the same sslam data pack command continues it"):
        read_shards(str(tmp_path / "shards"))
    with pytest.raises(FileExistsError, match=r"pack\.journal is of other files or settings \(codec\)"):
        pack(recordings, str(tmp_path / "shards"), packing._replace(codec="flac16"))
    assert pack(recordings, str(tmp_path / "shards"), packing, workers=2).num_kept == 2
    assert content(tmp_path / "shards") == content(tmp_path / "whole")
    with pytest.raises(FileExistsError, match="is packed already"):
        pack(recordings, str(tmp_path / "shards"), packing)
    with pytest.raises(FileExistsError, match="is not empty and no interrupted packing"):
        pack(recordings, str(tmp_path), packing)


class StopsAfter:
    """Stands for the progress bar: tells of some shards, then waits to be killed."""

    def __init__(self, shards: int, told: Any) -> None:
        self.shards, self.told = shards, told

    def __call__(self, *_: Any, **__: Any) -> Any:
        return nullcontext(self)

    def update(self, clips: int) -> None:
        self.shards -= 1
        if self.shards == 0:
            self.told.set()
            signal.pause()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="processes are forked")
def test_a_killed_packing_gives_the_same_bytes(tmp_path: Path, write_sound: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    """kill -9, three times, while its worker process does whatever it does; that ends by itself."""
    monkeypatch.setattr("sslam_lightning.runtime.lock._PATIENCE_SECONDS", 300.0)
    fork = multiprocessing.get_context("fork")
    rows = "".join(f"{write_sound(f'in/{i}.wav', seconds=2.0, rate_hz=44100, hertz=50 + i).name}\t1\n" for i in range(40))
    (tmp_path / "m.tsv").write_text("in\n" + rows)
    recordings, packing, shards = (
        read_labeled(tmp_path / "m.tsv"),
        Packing("flac24", clips_per_shard=2),
        tmp_path / "shards",
    )
    for more in (1, 3, 4):
        told = fork.Event()
        with monkeypatch.context() as patch:
            patch.setattr("sslam_lightning.data.progress_log.progress", StopsAfter(more, told))
            process = fork.Process(target=pack, args=(recordings, str(shards), packing, 1))
            process.start()
        assert told.wait(300)
        process.kill()
        process.join()
        assert not (shards / "index.arrow").exists()
    assert pack(recordings, str(shards), packing).num_kept >= 8
    pack(recordings, str(tmp_path / "whole"), packing)
    assert content(shards) == content(tmp_path / "whole")


def test_two_runs_at_once(sounds: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sslam_lightning.runtime.lock._PATIENCE_SECONDS", 0.0)
    (tmp_path / "shards").mkdir()
    recordings, packing = read_labeled(sounds), Packing()
    with (
        held_file(str(tmp_path / "shards" / "pack.journal")),
        pytest.raises(OSError, match=r"another run is working on .*pack\.journal"),
    ):
        pack(recordings, str(tmp_path / "shards"), packing)


def test_an_index_must_not_lead_out_of_its_shards(sounds: Path, tmp_path: Path) -> None:
    folder = tmp_path / "shards"
    pack(read_labeled(sounds), str(folder), Packing(clips_per_shard=4))
    with pyarrow.memory_map(str(folder / "index.arrow")) as file:
        index = pyarrow.ipc.open_file(file).read_all()

    def forge(message: str, about: dict[str, object] | None = None, **columns: list[int]) -> None:
        forged = index
        for name, values in columns.items():
            place = forged.schema.get_field_index(name)
            forged = forged.set_column(
                place, forged.schema.field(place), [pyarrow.array(values, forged.schema.field(place).type)]
            )
        metadata = {**json.loads(index.schema.metadata[METADATA]), **(about or {})}
        forged = forged.replace_schema_metadata({METADATA: json.dumps(metadata)}).combine_chunks()
        shutil.rmtree(tmp_path / "forged", ignore_errors=True)
        shutil.copytree(folder, tmp_path / "forged")
        with pyarrow.ipc.new_file(str(tmp_path / "forged" / "index.arrow"), forged.schema) as writer:
            writer.write_table(forged)
        with pytest.raises(ValueError, match=message):
            read_shards(str(tmp_path / "forged"))

    shards = ["shard-000000.tar", "shard-000001.tar"]
    forge(
        r"names '\.\./shard-000000\.tar', which is not a file of this folder",
        {"shards": ["../shard-000000.tar", shards[1]]},
    )
    forge("names '/etc/passwd'", {"shards": [shards[0], "/etc/passwd"]})
    forge("names shards that it does not list", shard=[0, 0, 0, 0, 1, 1, 2])
    forge("places recording 1 at bytes -1 to", offset=[512, -1, 512, 512, 512, 512, 512])
    forge("places recording 2 at bytes", size=[10, 10, 1 << 62, 10, 10, 10, 10])
    forge("is no index of version 1", {"version": 2})
    (tmp_path / "forged" / "index.arrow").write_bytes(b"no arrow")
    with pytest.raises(ValueError, match=r"index\.arrow is no Arrow file"):
        read_shards(str(tmp_path / "forged"))


def test_shards_that_are_cut_off_or_gone(sounds: Path, tmp_path: Path) -> None:
    folder = tmp_path / "shards"
    pack(read_labeled(sounds), str(folder), Packing(clips_per_shard=4))
    os.truncate(folder / "shard-000000.tar", 2000)
    (folder / "shard-000001.tar").unlink()
    packed = read_shards(str(folder))
    with pytest.raises(UnreadableAudio, match=r"shard-000000\.tar#0\.wav: cannot be read \(ends before byte"):
        packed.read(0)
    with pytest.raises(UnreadableAudio, match=r"shard-000001\.tar#4\.wav: cannot be read .*No such file"):
        packed.read(4)


def test_settings_that_do_not_fit(sounds: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recordings = read_labeled(sounds)
    for packing, message in (
        (Packing(codec="mp3"), "codec must be one of lossless, .*, got 'mp3'"),  # type: ignore[arg-type]
        (Packing(clips_per_shard=0), "clips_per_shard must be positive, got 0"),
        (Packing(max_clip_seconds=0.0), "max_clip_seconds must leave at least one sample"),
    ):
        with pytest.raises(ValueError, match=message):
            pack(recordings, str(tmp_path / "shards"), packing)
    pack(recordings, str(tmp_path / "shards"), Packing(resampler="soxr"))
    data = AudioSetDataModule(tmp_path / "shards")
    with pytest.raises(ValueError, match=r"was resampled by soxr: set data\.resampler to soxr, or pack again"):
        data.setup("fit")
    pack(recordings, str(tmp_path / "short"), Packing(sample_rate_hz=8000, max_clip_seconds=0.2))
    with pytest.raises(ValueError, match=r"short holds 8000 Hz, data\.sample_rate_hz is 16000: pack again"):
        AudioSetDataModule(tmp_path / "short").setup("fit")
    for longer in (None, 0.5):
        data = AudioSetDataModule(tmp_path / "short", sample_rate_hz=8000, max_clip_seconds=longer)
        with pytest.raises(ValueError, match=rf"short was cut to 0\.2 s a clip, .* is {longer}: set it to 0\.2, or pack"):
            data.setup("fit")
    assert len(AudioSetDataModule(tmp_path / "short", sample_rate_hz=8000, max_clip_seconds=0.1).dataset("train")) == 7
    with pytest.raises(ValueError, match=r"holds shards, whose labels are inside; give no label file"):
        AudioSetDataModule(tmp_path / "shards", train_labels="x.lbl").setup("fit")
    (tmp_path / "few.csv").write_text("0,/m/a\n1,/m/b\n")
    with pytest.raises(ValueError, match="label '/m/c' is not among the label descriptors"):
        AudioSetDataModule(tmp_path / "shards", class_map=tmp_path / "few.csv", resampler="soxr").setup("fit")
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    monkeypatch.setitem(sys.modules, "pyarrow.ipc", None)
    with pytest.raises(ValueError, match=r"shards and parquet need pyarrow: pip install 'sslam-lightning\[data\]'"):
        read_shards(str(tmp_path / "shards"))
