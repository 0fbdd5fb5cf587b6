from __future__ import annotations

import csv
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from wrong_headers import told_as

from sslam_lightning.data.audio.read import UnreadableAudio, container_hint, read_audio
from sslam_lightning.data.audio.wav import encode_wav
from sslam_lightning.data.manifests.inspection import Found, Rejected, Standards, inspect
from sslam_lightning.data.manifests.manifest import read_labeled, read_manifest
from sslam_lightning.data.manifests.recordings import make_recordings
from sslam_lightning.data.manifests.scan import _look, list_folder, write_manifest

Write = Callable[..., Path]


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8", errors="surrogateescape") as file:
        return list(csv.DictReader(file, delimiter="," if path.suffix == ".csv" else "\t"))


@pytest.fixture
def damaged(tmp_path: Path, write_sound: Write) -> Path:
    """A folder with two good files and one of every kind of bad one."""
    write_sound("in/good.wav", seconds=0.5)
    write_sound("in/deep/er/good.ogg", seconds=0.5, rate_hz=44100)
    folder = tmp_path / "in"
    (folder / "empty.wav").touch()
    (folder / "text.wav").write_text("no sound here\n")
    (folder / "notes.txt").write_text("not audio")
    (folder / "cut.wav").write_bytes((folder / "good.wav").read_bytes()[:4000])
    (folder / "cut.ogg").write_bytes((folder / "deep/er/good.ogg").read_bytes()[:-100])
    noise = np.random.default_rng(0).standard_normal(16000) / 10
    soundfile.write(folder / "whole.flac", noise, 16000)
    (folder / "cut.flac").write_bytes((folder / "whole.flac").read_bytes()[:9000])
    (folder / "whole.flac").unlink()
    soundfile.write(folder / "silent.wav", np.zeros(8000), 16000)
    soundfile.write(folder / "faint.wav", np.full(8000, 1e-5, dtype=np.float32), 16000, subtype="FLOAT")
    soundfile.write(folder / "nan.wav", np.array([0.1] * 8000 + [np.nan], dtype=np.float32), 16000, subtype="FLOAT")
    soundfile.write(folder / "one.wav", np.array([0.5]), 16000)
    soundfile.write(folder / "none.wav", np.zeros(0), 16000)
    return folder


def test_bad_files_are_listed_with_their_reasons_and_good_ones_measured(damaged: Path, tmp_path: Path) -> None:
    listing, others = list_folder(str(damaged))
    assert others == {".txt": 1}
    scanned = write_manifest(listing, str(tmp_path / "m.tsv"), Standards())
    assert rows(tmp_path / "m.tsv") == [
        {"path": "in/deep/er/good.ogg", "seconds": "0.5", "sample_rate_hz": "44100", "channels": "1", "frames": "22050"},
        {"path": "in/good.wav", "seconds": "0.5", "sample_rate_hz": "16000", "channels": "1", "frames": "8000"},
    ]
    reasons = {row["path"]: row["reason"] for row in rows(tmp_path / "m.rejected.tsv")}
    beginnings = {
        "in/empty.wav": "empty file",
        "in/text.wav": "not readable as audio (",
        "in/cut.wav": f"truncated: {44 + 16000 - 4000} bytes are missing",
        "in/cut.ogg": "truncated: 100 bytes are missing",
        "in/silent.wav": "silent: all samples are 0",
        "in/faint.wav": "silent: -100 dB at its peak",
        "in/nan.wav": "holds samples that are NaN or infinite",
        "in/one.wav": "too short: 6.3e-05 s, less than 0.1 s",
        "in/none.wav": "holds no samples",
    }
    assert reasons.keys() == beginnings.keys() | {"in/cut.flac"}
    for path, beginning in beginnings.items():
        assert reasons[path].startswith(beginning), path
    assert "truncated" in reasons["in/cut.flac"] or "not readable" in reasons["in/cut.flac"]
    assert (scanned.num_good, scanned.num_seconds, scanned.reasons.total()) == (2, 1.0, 10)
    assert len(read_manifest(tmp_path / "m.tsv")) == 2
    assert not list(tmp_path.glob("*.journal"))


@pytest.mark.parametrize("rate_hz", [0x40003E80, 2**31 - 1, 999])
def test_a_rate_that_no_recording_has_is_rejected(tmp_path: Path, rate_hz: int) -> None:
    (tmp_path / "a.wav").write_bytes(told_as(rate_hz, np.full(8000, 0.5, np.float32)))
    reason = f"implausible sample rate: {rate_hz} Hz, expected 1000 to 768000 Hz"
    assert inspect(str(tmp_path), "a.wav", "", Standards()) == Rejected("a.wav", reason)


@pytest.mark.parametrize("told", [0x7FFFF000, 0x80000000, 0xFFFFFFFF])
def test_a_wav_from_a_pipe_is_whole(tmp_path: Path, told: int) -> None:
    """Who cannot go back to the header writes about the largest length that there is; sox the first of these."""
    whole = encode_wav(np.full(8000, 0.5, np.float32), 16000)
    place = whole.index(b"data") + 4
    (tmp_path / "a.wav").write_bytes(whole[:place] + told.to_bytes(4, "little") + whole[place + 4 :])
    assert inspect(str(tmp_path), "a.wav", "", Standards()) == Found("a.wav", 0.5, 16000, 1, 8000, "")
    assert len(read_audio(tmp_path / "a.wav")[0]) == 8000


def test_an_mp3_whose_length_is_a_guess_is_whole(tmp_path: Path) -> None:
    """Without its first frame, which counts the others, more of them are expected than silence and noise make."""
    samples = np.concatenate([np.zeros(16000), np.random.default_rng(0).standard_normal(16000) / 10])
    path = tmp_path / "a.mp3"
    with soundfile.SoundFile(path, "w", 16000, 1, bitrate_mode="VARIABLE", compression_level=0.5) as sound:
        sound.write(samples)
    frames = path.read_bytes().split(b"\xff\xf3")  # the mark that a frame of this rate begins with
    assert b"Xing" in frames[1]
    path.write_bytes(b"".join(b"\xff\xf3" + frame for frame in frames[2:]))
    found = inspect(str(tmp_path), "a.mp3", "", Standards())
    assert isinstance(found, Found)
    assert 32000 <= found.frames < soundfile.info(path).frames


def test_processes_give_the_same_manifest(damaged: Path, tmp_path: Path) -> None:
    listing, _ = list_folder(str(damaged))
    for workers in (0, 2):
        write_manifest(listing, str(tmp_path / f"{workers}.tsv"), Standards(), workers)
    for suffix in (".tsv", ".rejected.tsv"):
        assert (tmp_path / f"0{suffix}").read_bytes() == (tmp_path / f"2{suffix}").read_bytes()


def test_an_interrupted_scan_goes_on(damaged: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    listing, _ = list_folder(str(damaged))
    write_manifest(listing, str(tmp_path / "whole.tsv"), Standards())
    looked: list[str] = []

    def stop_at_sixth(root: str, name: str, *rest: object) -> object:
        looked.append(name)
        if len(looked) == 6:
            raise KeyboardInterrupt
        return inspect(root, name, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr("sslam_lightning.data.manifests.scan.inspect", stop_at_sixth)
    with pytest.raises(KeyboardInterrupt):
        write_manifest(listing, str(tmp_path / "m.tsv"), Standards())
    assert not (tmp_path / "m.tsv").exists()
    with (tmp_path / "m.tsv.journal").open("a") as journal:
        journal.write('["good.wav", 0.')  # killed while it wrote
    with pytest.raises(FileExistsError, match=r"m\.tsv\.journal is of other files or settings"):
        write_manifest(listing, str(tmp_path / "m.tsv"), Standards(min_seconds=1.0))
    assert write_manifest(listing, str(tmp_path / "m.tsv"), Standards()).num_resumed == 5
    assert looked[6:] == list(listing.names)[5:]
    for suffix in (".tsv", ".rejected.tsv"):
        assert (tmp_path / f"m{suffix}").read_bytes() == (tmp_path / f"whole{suffix}").read_bytes()


def test_no_more_processes_than_files(damaged: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[int] = []

    def pool(workers: int, *rest: object) -> object:
        started.append(workers)
        raise KeyboardInterrupt

    monkeypatch.setattr("sslam_lightning.data.loading.parallel._pool", pool)
    listing, _ = list_folder(str(damaged))
    with pytest.raises(KeyboardInterrupt):
        write_manifest(listing, str(tmp_path / "m.tsv"), Standards(), workers=100_000)
    assert started == [len(listing.names)]


def test_nothing_is_overwritten(damaged: Path, tmp_path: Path) -> None:
    listing, _ = list_folder(str(damaged))
    (tmp_path / "m.tsv").write_text("mine")
    with pytest.raises(FileExistsError, match=r"m\.tsv exists already"):
        write_manifest(listing, str(tmp_path / "m.tsv"), Standards())
    assert (tmp_path / "m.tsv").read_text() == "mine"
    with pytest.raises(ValueError, match=r"a manifest is a \.tsv or a \.csv, got .*m\.json"):
        write_manifest(listing, str(tmp_path / "m.json"), Standards())


def test_nothing_good(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    with pytest.raises(FileNotFoundError, match="no audio files under"):
        list_folder(str(tmp_path / "in"))
    with pytest.raises(FileNotFoundError, match=r"folder .*nowhere does not exist"):
        list_folder(str(tmp_path / "nowhere"))
    (tmp_path / "in" / "a.wav").touch()
    with pytest.raises(ValueError, match=r"none of the 1 files is good.*m\.rejected\.tsv says why"):
        write_manifest(list_folder(str(tmp_path / "in"))[0], str(tmp_path / "m.tsv"), Standards())
    assert rows(tmp_path / "m.rejected.tsv") == [{"path": "in/a.wav", "reason": "empty file"}]


NAMES = [
    "a b.wav",
    'it\'s "quoted".wav',
    "Vögel/🐦.wav",
    "tab\there.wav",
    "new\nline.wav",
    "semi;colon, comma.wav",
    "\udcff.wav",
]


@pytest.mark.parametrize("extension", [".tsv", ".csv"])
def test_names_of_any_kind_come_back(tmp_path: Path, write_sound: Write, extension: str) -> None:
    write_sound("plain.wav", seconds=0.2)
    for name in NAMES:
        target = tmp_path / "in" / name
        target.parent.mkdir(parents=True, exist_ok=True)
        os.link(tmp_path / "plain.wav", target)
    listing = list_folder(str(tmp_path / "in"))[0]
    classes = [[0, 1]] * len(NAMES)
    labeled = make_recordings(listing.root, listing.names, classes, ["Bee, buzzing", 'The "other"'])
    manifest = tmp_path / f"m{extension}"
    write_manifest(labeled, str(manifest), Standards())
    recordings = read_labeled(manifest)
    assert sorted(recordings.names) == sorted(f"in/{name}" for name in NAMES)
    assert recordings.class_names == ("Bee, buzzing", 'The "other"')
    for index in range(len(NAMES)):
        assert recordings.read(index)[1] == 16000
        assert recordings.classes(index) == [0, 1]


def test_links_that_lead_in_circles(tmp_path: Path, write_sound: Write) -> None:
    write_sound("in/a/x.wav")
    (tmp_path / "in" / "a" / "up").symlink_to(tmp_path / "in")
    assert list(list_folder(str(tmp_path / "in"))[0].names) == ["a/x.wav"]


def test_a_manifest_elsewhere_names_files_in_full(tmp_path: Path, write_sound: Write) -> None:
    path = write_sound("in/x.wav", seconds=0.2)
    write_manifest(list_folder(str(tmp_path / "in"))[0], str(tmp_path / "else" / "m.csv"), Standards())
    assert rows(tmp_path / "else" / "m.csv")[0]["path"] == str(path)


def die(recordings: Any, standards: Any, row: int) -> object:
    if recordings.names[row] == "b.wav":
        os._exit(139)  # as a decoder that crashes ends its process
    return _look(recordings, standards, row)


def test_a_file_that_crashes_the_decoder_is_listed(
    tmp_path: Path, write_sound: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in "abc":
        write_sound(f"in/{name}.wav", seconds=0.2)
    monkeypatch.setattr("sslam_lightning.data.manifests.scan._look", die)
    write_manifest(list_folder(str(tmp_path / "in"))[0], str(tmp_path / "m.tsv"), Standards(), workers=1)
    assert [row["path"] for row in rows(tmp_path / "m.tsv")] == ["in/a.wav", "in/c.wav"]
    assert rows(tmp_path / "m.rejected.tsv") == [{"path": "in/b.wav", "reason": "crashed the decoder"}]


def test_absent_files_of_a_manifest(tmp_path: Path) -> None:
    assert inspect(str(tmp_path), "gone.wav", "", Standards()) == Rejected("gone.wav", "no such file")


@pytest.mark.parametrize("extension", [".m4a", ".MP4", ".aac", ".wma"])
def test_containers_are_rejected_with_a_hint(tmp_path: Path, extension: str) -> None:
    """U9: the words of tag and embed, and that training data has to be converted."""
    (tmp_path / f"a{extension}").write_bytes(b"\0\0\0\x20ftypM4A " + bytes(1000))
    assert list(list_folder(str(tmp_path))[0].names) == [f"a{extension}"]
    found = inspect(str(tmp_path), f"a{extension}", "", Standards())
    assert isinstance(found, Rejected)
    assert found.reason.startswith("not readable as audio (")
    hint = container_hint(f"a{extension}", for_data=True)
    assert found.reason.endswith(f"; {hint})")
    for words in ("needs FFmpeg and torchcodec: pip install 'sslam-lightning[m4a]'", "convert it to flac"):
        assert words in hint
        assert words in container_hint(f"a{extension}")
    with pytest.raises(UnreadableAudio, match="to train on it, convert it to flac"):
        read_audio(tmp_path / f"a{extension}")


def test_the_name_of_a_container_alone_is_no_reason(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", 0.1 * np.ones(8000), 16000)
    (tmp_path / "a.wav").rename(tmp_path / "a.m4a")
    assert isinstance(inspect(str(tmp_path), "a.m4a", "", Standards()), Found)
