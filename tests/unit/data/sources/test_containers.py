"""Sources that hold the sound: HDF5 of PANNs and of PaSST, Hugging Face's parquet."""

from __future__ import annotations

import io
import pickle
from pathlib import Path

import h5py
import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
import soundfile
import torch

from sslam_lightning.data.audio.read import UnreadableAudio, decode_audio
from sslam_lightning.data.manifests.class_map import table_of_words
from sslam_lightning.data.manifests.imports.hdf5 import read_hdf5
from sslam_lightning.data.manifests.imports.parquet import read_parquet
from sslam_lightning.data.shards.pack import Packing, pack
from sslam_lightning.data.shards.read import read_labeled_shards

TABLE = table_of_words(f"class {i:02d}" for i in range(12))
TARGET = np.zeros((3, 12), dtype=bool)
TARGET[0, [1, 11]] = TARGET[1, 0] = TARGET[2, [3, 4, 5]] = True


def sound_file(number: int, kind: str = "MP3", rate_hz: int = 22050) -> bytes:
    file = io.BytesIO()
    noise = np.random.default_rng(number).standard_normal(rate_hz // 4) / 10
    soundfile.write(file, noise, rate_hz, format=kind)
    return file.getvalue()


def test_hdf5_with_waveforms(tmp_path: Path) -> None:
    """As PANNs writes it, at a rate that is not the usual one."""
    whole = np.random.default_rng(0).integers(-(2**15), 2**15, (3, 4410)).astype(np.int16)
    with h5py.File(tmp_path / "panns.h5", "w") as file:
        file["audio_name"] = np.array([b"Yaaaaaaaaaaa.wav", b"b.wav", "ö.wav".encode()])
        file["waveform"] = whole
        file["target"] = TARGET
        file.attrs["sample_rate"] = 44100
    recordings = read_hdf5(str(tmp_path / "panns.h5"), TABLE)
    assert list(recordings.names) == ["Yaaaaaaaaaaa.wav", "b.wav", "ö.wav"]
    assert [recordings.classes(i) for i in range(3)] == [[1, 11], [0], [3, 4, 5]]
    waveform, rate_hz = pickle.loads(pickle.dumps(recordings)).read(1)
    assert rate_hz == 44100
    assert torch.equal(waveform, torch.from_numpy(whole[1].astype(np.float32) / 32768))
    pack(recordings, str(tmp_path / "shards"), Packing(), workers=1)
    packed = read_labeled_shards(str(tmp_path / "shards"))
    assert packed.read(1)[0].shape == (1600,)
    assert [[packed.class_names[c] for c in packed.classes(i)] for i in (0, 1)] == [["class 01", "class 11"], ["class 00"]]
    with pytest.raises(ValueError, match="holds waveforms and no files: choose another codec than original"):
        recordings.file(0)


def test_hdf5_with_stereo_floats_and_its_rate_from_outside(tmp_path: Path) -> None:
    waves = np.random.default_rng(0).standard_normal((2, 2, 500)).astype(np.float32)
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file["audio_name"], file["waveform"] = np.array([b"a", b"b"]), waves
    with pytest.raises(ValueError, match=r"does not say the sample rate of its waveforms: give --sample_rate_hz"):
        read_hdf5(str(tmp_path / "x.h5"), None)
    waveform, rate_hz = read_hdf5(str(tmp_path / "x.h5"), None, 8000).read(0)
    assert rate_hz == 8000
    torch.testing.assert_close(waveform, torch.from_numpy(waves[0].mean(axis=0)))


def test_hdf5_takes_no_setting_that_it_has_no_use_for(tmp_path: Path) -> None:
    path = str(tmp_path / "x.h5")
    with h5py.File(path, "w") as file:
        file["audio_name"], file["waveform"] = np.array([b"a"]), np.zeros((1, 500), np.float32)
        file.attrs["sample_rate"] = 32000.0
    with pytest.raises(ValueError, match=r"its waveforms have 32000\.0 Hz: leave sample_rate_hz out, got 8000"):
        read_hdf5(path, None, 8000)
    with pytest.raises(ValueError, match="holds no targets: leave classes out"):
        read_hdf5(path, TABLE)
    assert read_hdf5(path, None, 32000).rate_hz == read_hdf5(path, None).rate_hz == 32000
    with h5py.File(path, "a") as file:
        file.attrs["sample_rate"] = 44100.5
    with pytest.raises(ValueError, match=r"sample_rate must be a whole number of Hz, got .*44100\.5"):
        read_hdf5(path, None)


def test_hdf5_with_mp3(tmp_path: Path) -> None:
    """As PaSST writes it: bytes of any length, the bits of the targets packed."""
    files = [sound_file(number) for number in range(3)]
    with h5py.File(tmp_path / "passt.hdf", "w") as file:
        file["audio_name"] = np.array([b"a.mp3", b"b.mp3", b"c.mp3"])
        mp3 = file.create_dataset("mp3", (3,), dtype=h5py.vlen_dtype(np.uint8))
        for number, content in enumerate(files):
            mp3[number] = np.frombuffer(content, dtype=np.uint8)
        file["target"] = np.packbits(TARGET, axis=-1)
    with pytest.raises(ValueError, match="holds mp3, which tells its own rate: leave sample_rate_hz out, got 32000"):
        read_hdf5(str(tmp_path / "passt.hdf"), TABLE, 32000)
    recordings = read_hdf5(str(tmp_path / "passt.hdf"), TABLE)
    assert [recordings.classes(i) for i in range(3)] == [[1, 11], [0], [3, 4, 5]]
    for number, content in enumerate(files):
        waveform, rate_hz = recordings.read(number)
        assert rate_hz == 22050
        assert torch.equal(waveform, decode_audio(content, "")[0])
        assert recordings.file(number) == (content, ".mp3")


def test_hdf5_of_another_form(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file["audio_name"], file["target"], file["waveform"] = np.array([b"a"]), TARGET[:1], np.zeros((1, 100))
        file["waveform"].attrs["sample_rate"] = 16000
    path = str(tmp_path / "x.h5")
    with pytest.raises(ValueError, match=r"holds targets 12 wide: give their --classes"):
        read_hdf5(path, None)
    with pytest.raises(ValueError, match="its targets are 12 wide, the table has 3 classes"):
        read_hdf5(path, table_of_words("abc"))
    with h5py.File(path, "a") as file:
        del file["waveform"]
    with pytest.raises(ValueError, match="expected audio_name, and waveform or mp3; it holds audio_name, target"):
        read_hdf5(path, TABLE)
    (tmp_path / "no.h5").write_text("text")
    with pytest.raises(ValueError, match=r"no\.h5 is no HDF5 file"):
        read_hdf5(str(tmp_path / "no.h5"), TABLE)
    with pytest.raises(FileNotFoundError, match=r"none\.h5 does not exist"):
        read_hdf5(str(tmp_path / "none.h5"), TABLE)


def parquet(path: Path, numbers: range, **columns: list[object]) -> None:
    audio = [{"bytes": sound_file(n, "FLAC", 48000), "path": f"clip{n}.flac"} for n in numbers]
    pyarrow.parquet.write_table(pyarrow.table({"audio": audio, **columns}), path, row_group_size=2)


def test_parquet_with_audio_inside(tmp_path: Path) -> None:
    parquet(
        *(tmp_path / "train-0.parquet", range(3)),
        video_id=["aaa", "bbb", "ccc"],
        human_labels=[["Speech", "Bee, wasp, etc."], ["Music"], []],
        labels=[["/m/1"], ["/m/2"], []],
    )
    parquet(tmp_path / "train-1.parquet", range(3, 5), video_id=["ddd", "eee"], human_labels=[["Music"], ["Speech"]])
    recordings = read_parquet(str(tmp_path))
    assert list(recordings.names) == ["aaa", "bbb", "ccc", "ddd", "eee"]
    assert recordings.class_names == ("Bee, wasp, etc.", "Music", "Speech")
    assert [recordings.classes(i) for i in range(5)] == [[0, 2], [1], [], [1], [2]]
    for number in (4, 0, 3, 2):
        assert recordings.file(number) == (sound_file(number, "FLAC", 48000), ".flac")
        assert torch.equal(recordings.read(number)[0], decode_audio(sound_file(number, "FLAC", 48000), "")[0])
    assert recordings.path(3) == f"{tmp_path}/train-1.parquet#ddd"
    pack(recordings, str(tmp_path / "shards"), Packing("original", clips_per_shard=2), workers=1)
    assert read_labeled_shards(str(tmp_path / "shards")).packed_file(3) == sound_file(3, "FLAC", 48000)


def test_parquet_without_ids_or_labels_and_of_another_form(tmp_path: Path) -> None:
    parquet(tmp_path / "a.parquet", range(2))
    recordings = read_parquet(str(tmp_path / "a.parquet"))
    assert list(recordings.names) == ["clip0.flac", "clip1.flac"]
    assert recordings.class_names == ()
    with pytest.raises(ValueError, match="expected the columns audio and genre, got audio"):
        read_parquet(str(tmp_path / "a.parquet"), "genre")
    parquet(tmp_path / "b.parquet", range(2), labels=[[1], [2]])
    with pytest.raises(ValueError, match=r"labels must hold lists of text, got \[1\]; name another with --label_column"):
        read_parquet(str(tmp_path / "b.parquet"))
    pyarrow.parquet.write_table(pyarrow.table({"audio": [{"bytes": None, "path": "x.wav"}]}), tmp_path / "c.parquet")
    with pytest.raises(UnreadableAudio, match=r"c\.parquet#x\.wav: no bytes of audio in it"):
        read_parquet(str(tmp_path / "c.parquet")).read(0)
    (tmp_path / "d.parquet").write_text("text")
    with pytest.raises(ValueError, match=r"d\.parquet is no parquet file"):
        read_parquet(str(tmp_path / "d.parquet"))
    with pytest.raises(FileNotFoundError, match="no such parquet file"):
        read_parquet(str(tmp_path / "none.parquet"))
