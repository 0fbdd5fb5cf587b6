"""Embeddings of many recordings in one file: the same whatever the batches, the format, and what interrupts it."""

from __future__ import annotations

import json
import tracemalloc

import numpy as np
import pytest
import torch

from sslam_lightning.data.audio.read import read_audio
from sslam_lightning.data.audio.resample import resample
from sslam_lightning.inference import embed, tables
from sslam_lightning.inference.embed import digest_of_files, embed_recordings
from sslam_lightning.inference.sources import Source

SECONDS = [1.0, 0.3, 2.5, 0.05, 1.2]


@pytest.fixture
def sources(write_noise):
    found = [write_noise(f"{row}.wav", seconds, 22050, 1 + row % 2, seed=row) for row, seconds in enumerate(SECONDS)]
    broken = found[0].path.with_name("broken.wav")
    broken.write_text("no sound")
    return [*found[:2], Source("broken.wav", broken), *found[2:]]


def alone(model, source):
    waveform, rate_hz = read_audio(source.path)
    return model(resample(waveform, rate_hz, 16000), 16000)


def test_rows_are_those_of_each_recording_alone(make_model, sources, tmp_path) -> None:
    model, good = make_model(), [source for source in sources if source.name != "broken.wav"]
    done = embed_recordings(model, sources, tmp_path / "x.npz", "frame", batch_size=3)
    assert done.broken == [("broken.wav", "not readable as audio (Format not recognised.)")]
    assert (done.num_recordings, done.num_resumed) == (5, 0)
    with np.load(tmp_path / "x.npz") as found:
        assert found["file"].tolist() == [source.name for source in good]
        np.testing.assert_allclose(found["seconds"], SECONDS, atol=1e-4)
        stops = np.cumsum(found["num_frames"])
        assert done.shape == found["embedding"].shape == (stops[-1], 16)
        for number, (source, stop) in enumerate(zip(good, stops, strict=True)):
            expected = alone(model, source)
            rows = slice(stop - found["num_frames"][number], stop)
            np.testing.assert_allclose(found["embedding"][rows], expected.frames, atol=1e-5)
            np.testing.assert_allclose(found["time_seconds"][rows], expected.timestamps)
            assert (found["file_index"][rows] == number).all()
        assert json.loads(found["settings"].item())["layer"] == 2
    assert not (tmp_path / "x.npz.parts").exists()


def test_clips_that_are_longer_than_a_window_are_the_mean_over_windows(make_model, sources, tmp_path) -> None:
    model = make_model()
    windows = model.windows(0.64, 0.16)
    embed_recordings(model, sources[:1], tmp_path / "x.npz", "clip", windows)
    waveform = resample(*read_audio(sources[0].path), 16000)
    parts = [waveform[start * 160 :][: 400 + 63 * 160] for start in (0, 48)]
    clips = [model.encode(part[None], torch.tensor([len(part)])).clip[0] for part in parts]
    with np.load(tmp_path / "x.npz") as found:  # 98 frames, 4 and 4 patches
        np.testing.assert_allclose(found["embedding"][0], (clips[0] + clips[1]) / 2, atol=1e-5)


@pytest.mark.parametrize("layer", [-1, "all"])
@pytest.mark.parametrize("level", ["clip", "frame", "patch"])
def test_all_formats_hold_the_same(make_model, sources, tmp_path, level, layer) -> None:
    h5py, parquet = pytest.importorskip("h5py"), pytest.importorskip("pyarrow.parquet")
    model = make_model(layer=layer)
    for name in ("x.npz", "x.h5", "x.parquet"):
        embed_recordings(model, sources, tmp_path / name, level)
    npz, table = np.load(tmp_path / "x.npz"), parquet.read_table(tmp_path / "x.parquet")
    with h5py.File(tmp_path / "x.h5") as h5:
        assert set(h5) == set(npz.files) - {"settings"}
        for name in h5:
            theirs = h5[name].asstr()[:] if name == "file" else h5[name][:]
            np.testing.assert_array_equal(theirs, npz[name])
        assert h5.attrs["settings"] == npz["settings"].item()
    assert table.schema.metadata[b"sslam_settings"].decode() == npz["settings"].item()
    rows = npz["embedding"].reshape(-1, 16)
    np.testing.assert_array_equal(np.array(table["embedding"].to_pylist(), np.float32), rows)
    index = np.arange(5) if level == "clip" else npz["file_index"]
    repeats = len(rows) // len(index)
    np.testing.assert_array_equal(table["file"].to_pylist(), np.repeat(npz["file"][index], repeats))
    np.testing.assert_array_equal(table["seconds"].to_numpy(), np.repeat(npz["seconds"][index], repeats))
    extents = npz["embedding"].shape[1:-1]
    axes = np.indices(extents).reshape(len(extents), -1) if extents else []
    expected = dict(zip((["mel"] if level == "patch" else []) + (["layer"] if layer == "all" else []), axes, strict=True))
    for name, numbers in expected.items():
        np.testing.assert_array_equal(table[name].to_numpy(), np.tile(numbers + (name == "layer"), len(index)))
    assert set(table.column_names) == {"file", "seconds", "embedding", *expected} | (
        {"time_seconds"} - {level} if level != "clip" else set()
    )


def test_an_interrupted_run_goes_on(make_model, sources, tmp_path, monkeypatch) -> None:
    """Cut off in the middle of a recording, with rows of it on disk, it ends as if nothing had been."""
    model = make_model()
    windows = model.windows(0.64, 0.16)
    embed_recordings(model, sources, tmp_path / "whole.npz", "frame", windows, batch_size=1)
    real, calls = model.encode, []

    def cut_off(*args):
        calls.append(args)
        if len(calls) > 8:
            raise KeyboardInterrupt
        return real(*args)

    model.encode = cut_off
    with pytest.raises(KeyboardInterrupt):
        embed_recordings(model, sources, tmp_path / "x.npz", "frame", windows, batch_size=1)
    assert not (tmp_path / "x.npz").exists()
    of_finished = [json.loads(line)[0] for line in (tmp_path / "x.npz.parts/progress.jsonl").read_text().splitlines()[1:]]
    assert (tmp_path / "x.npz.parts/rows.f4").stat().st_size > sum(of_finished) * 16 * 4
    calls.clear()
    model.encode = real
    told = []
    done = embed_recordings(model, sources, tmp_path / "x.npz", "frame", windows, batch_size=1, progress=told.append)
    assert done.num_resumed == 3  # the first two, and the broken one; the third was under way
    assert told == [3, 1, 1, 1]
    assert done.broken == [("broken.wav", "not readable as audio (Format not recognised.)")]
    with np.load(tmp_path / "x.npz") as found, np.load(tmp_path / "whole.npz") as whole:
        assert set(found.files) == set(whole.files)
        for name in whole.files:
            np.testing.assert_array_equal(found[name], whole[name])


def test_what_is_gone_since_it_was_listed_is_unreadable(make_model, sources, tmp_path) -> None:
    """A link that leads nowhere, and a file that was deleted; and the recordings are no longer the same."""
    names = [source.name for source in sources]
    before = digest_of_files(sources)
    sources[0].path.unlink()
    sources[1].path.unlink()
    sources[1].path.symlink_to(tmp_path / "nowhere.wav")
    done = embed_recordings(make_model(), sources[:2] + sources[3:], tmp_path / "x.npz")
    assert done.broken == [(names[0], "no such file"), (names[1], "no such file")]
    assert done.num_recordings == 3
    assert digest_of_files(sources) != before


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"batch_size": 0}, "batch_size must be at least 1, got 0"),
        ({"batch_size": 8.0}, "batch_size must be a whole number, got 8.0"),
        ({"workers": -1}, "workers must be at least 0, got -1"),
        ({"workers": True}, "workers must be a whole number, got True"),
    ],
)
def test_batches_and_threads_are_counted(make_model, sources, tmp_path, settings, told) -> None:
    """U3."""
    with pytest.raises(ValueError, match=f"^{told}$"):
        embed_recordings(make_model(), sources, tmp_path / "x.npz", **settings)
    assert not list(tmp_path.glob("x.npz*"))


def test_other_settings_do_not_mix(make_model, sources, tmp_path, monkeypatch) -> None:
    target = tmp_path / "x.npz"

    def stop(*args, **settings):
        raise KeyboardInterrupt

    monkeypatch.setattr(embed, "write_table", stop)
    with pytest.raises(KeyboardInterrupt):
        embed_recordings(make_model(), sources, target)
    monkeypatch.undo()
    for model, files, level, name in (
        (make_model(), sources, "frame", r"level \(clip, now frame\)"),
        (make_model(layer=1), sources, "clip", r"layer \(2, now 1\)"),
        (make_model(), sources[:-1], "clip", r"recordings \(6 files, \w+, now 5 files, \w+\)"),
    ):
        with pytest.raises(ValueError, match=f"x.npz.parts is of a run with another {name}: run it again as it was"):
            embed_recordings(model, files, target, level)
    changed = make_model()
    changed.encoder.cls_token.data += 1
    with pytest.raises(ValueError, match="of a run with another weights"):
        embed_recordings(changed, sources, target)
    assert embed_recordings(make_model(), sources, target).num_resumed == 6


def test_nothing_is_overwritten_and_nothing_written_in_vain(make_model, sources, tmp_path, monkeypatch) -> None:
    (tmp_path / "x.npz").write_text("mine")
    with pytest.raises(FileExistsError, match=r"x.npz exists already: move it"):
        embed_recordings(make_model(), sources, tmp_path / "x.npz")
    assert (tmp_path / "x.npz").read_text() == "mine"
    with pytest.raises(ValueError, match=r"must end in .npz, .parquet, .h5, got .*x.txt"):
        embed_recordings(make_model(), sources, tmp_path / "x.txt")
    with pytest.raises(
        ValueError, match=r"none of 1 recordings can be read, for example broken.wav: not readable as audio"
    ):
        embed_recordings(make_model(), sources[2:3], tmp_path / "y.npz")
    monkeypatch.setitem(__import__("sys").modules, "h5py", None)
    with pytest.raises(tables.MissingLibrary, match=r"\.h5 needs h5py: pip install 'sslam-lightning\[embed\]'"):
        embed_recordings(make_model(), sources, tmp_path / "y.h5")
    assert sorted(path.name for path in tmp_path.iterdir() if "y." in path.name) == []


def test_memory_does_not_grow_with_the_number_of_recordings_or_their_length(
    make_model, write_noise, tmp_path, monkeypatch
) -> None:
    """Python's and NumPy's memory, at its highest, written in blocks of 100 kB: rows of 1 MB go through it."""
    monkeypatch.setattr(tables, "_BLOCK_BYTES", 100_000)
    model = make_model()
    windows = model.windows(2.56, 0.0)
    short, long = write_noise("short.wav", 0.2), write_noise("long.wav", 300.0, 8000)

    def peak(sources: list[Source], name: str) -> int:
        tracemalloc.start()
        embed_recordings(model, sources, tmp_path / name, "patch", windows, batch_size=4, workers=1)
        high = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return high

    peak([short] * 8, "warm.npz")
    few, many = peak([short] * 50, "few.npz"), peak([short] * 1000, "many.npz")
    assert (tmp_path / "many.npz").stat().st_size > 1_000_000
    assert many < few + 700_000  # names, lengths and numbers
    assert peak([long], "long.npz") < 1_500_000  # its embeddings are 960 kB, its samples 19 MB


def pooled(found) -> np.ndarray:
    """The mean of every recording's patches, of a file at level patch."""
    of_each = np.split(found["embedding"], np.cumsum(found["num_frames"])[:-1])
    return np.stack([patches.mean(axis=(0, 1), dtype=np.float64) for patches in of_each])


@pytest.mark.parametrize("padding", ["masked", "trained"])
@pytest.mark.parametrize("layer", [-1, 1, "mean", "all"])
@pytest.mark.parametrize("seconds", [(0.64, 0.16), (0.32, 0.0)])
def test_the_mean_is_that_of_the_patches(make_model, sources, tmp_path, padding, layer, seconds) -> None:
    """R33: of short recordings and of those of several windows, in every layer, and padding is not averaged in."""
    model = make_model(layer=layer, padding=padding, pool="mean")
    windows = model.windows(*seconds)
    for level in ("clip", "patch"):
        embed_recordings(model, sources, tmp_path / f"{level}.npz", level, windows, batch_size=3)
    clips, patches = np.load(tmp_path / "clip.npz"), np.load(tmp_path / "patch.npz")
    np.testing.assert_allclose(clips["embedding"], pooled(patches), rtol=1e-5, atol=1e-6)
    assert clips["embedding"].dtype == np.float32
    settings = [json.loads(found["settings"].item()) for found in (clips, patches)]
    assert settings[0]["pool"] == "mean"
    assert "pool" not in settings[1]  # which makes no difference there
    embed_recordings(make_model(layer=layer, padding=padding), sources, tmp_path / "cls.npz", "clip", windows)
    with np.load(tmp_path / "cls.npz") as cls:
        assert json.loads(cls["settings"].item())["pool"] == "cls"
        assert np.abs(cls["embedding"] - clips["embedding"]).max() > 0.1


@pytest.mark.parametrize("ending", ["npz", "h5", "parquet"])
def test_every_format_says_how_clips_are_pooled(make_model, sources, tmp_path, ending) -> None:
    """R33."""
    h5py, parquet = pytest.importorskip("h5py"), pytest.importorskip("pyarrow.parquet")
    target = tmp_path / f"x.{ending}"
    embed_recordings(make_model(pool="mean"), sources, target)
    if ending == "npz":
        settings = np.load(target)["settings"].item()
    elif ending == "h5":
        with h5py.File(target) as archive:
            settings = archive.attrs["settings"]
    else:
        settings = parquet.read_schema(target).metadata[b"sslam_settings"]
    assert json.loads(settings)["pool"] == "mean"


def test_an_interrupted_run_goes_on_with_its_own_pooling(make_model, sources, tmp_path, monkeypatch) -> None:
    """R33."""

    def stop(*args, **settings):
        raise KeyboardInterrupt

    monkeypatch.setattr(embed, "write_table", stop)
    with pytest.raises(KeyboardInterrupt):
        embed_recordings(make_model(pool="mean"), sources, tmp_path / "x.npz")
    monkeypatch.undo()
    with pytest.raises(ValueError, match=r"x.npz.parts is of a run with another pool \(mean, now cls\): run it again"):
        embed_recordings(make_model(), sources, tmp_path / "x.npz")
    assert embed_recordings(make_model(pool="mean"), sources, tmp_path / "x.npz").num_resumed == 6
