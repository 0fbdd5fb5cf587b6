from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from sslam_lightning.data import AudioSetDataModule, class_balanced_weights
from sslam_lightning.data.manifests.manifest import read_labeled, read_manifest
from sslam_lightning.data.manifests.statistics import FrontEnd, Moments, measure, write_statistics
from sslam_lightning.data.manifests.weights import with_weights
from sslam_lightning.data.shards.pack import Packing, pack
from sslam_lightning.data.shards.read import read_labeled_shards
from sslam_lightning.features import LogMels

Write = Callable[..., Path]


@pytest.fixture
def noises(tmp_path: Path) -> Path:
    """Seventy clips of noise of several lengths and levels, more than two chunks."""
    rng = np.random.default_rng(0)
    rows = ["path\tlabels"]
    for number in range(70):
        samples = rng.standard_normal(800 + 37 * number) * 10.0 ** rng.uniform(-3, -1) + 0.01
        soundfile.write(tmp_path / f"{number}.wav", samples, 16000)
        rows.append(f"{number}.wav\t{'a' if number % 2 else 'a;b'}")
    (tmp_path / "m.tsv").write_text("\n".join(rows) + "\n")
    return tmp_path / "m.tsv"


def test_moments_are_those_of_all_valid_frames(noises: Path, tmp_path: Path) -> None:
    """Against the front-end itself, which pads: padding must not count."""
    recordings = read_labeled(noises)
    plain = LogMels(num_frames=None, mean=0.0, std=0.5, patch_frames=1)  # log-mels as they are
    clips = [recordings.read(row)[0] for row in range(len(recordings))]
    num_samples = torch.tensor([len(clip) for clip in clips])
    padded = plain(torch.nn.utils.rnn.pad_sequence(clips, batch_first=True), num_samples)
    valid = torch.cat([padded[row, :count] for row, count in enumerate(((num_samples - 400) // 160 + 1).tolist())]).double()
    found = measure(recordings, FrontEnd(), str(tmp_path / "j"))
    assert found.log_mels.num_values == valid.numel()
    assert found.log_mels.mean == pytest.approx(float(valid.mean()), rel=1e-6)
    assert found.log_mels.std == pytest.approx(float(valid.std(correction=0)), rel=1e-6)
    assert found.num_seconds == pytest.approx(sum(800 + 37 * n for n in range(70)) / 16000)


def test_moments_combine_exactly() -> None:
    values = np.random.default_rng(0).normal(5, 2, 1000)
    parts = [Moments(len(p), float(p.mean()), float(((p - p.mean()) ** 2).sum())) for p in np.split(values, [1, 10, 500])]
    whole = Moments()
    for part in parts:
        whole = whole.joined(part)
    assert whole.mean == pytest.approx(values.mean(), rel=1e-14)
    assert whole.std == pytest.approx(values.std(), rel=1e-14)
    assert Moments().joined(Moments()) == Moments()


def test_the_same_for_any_number_of_workers_for_shards_and_after_an_interruption(
    noises: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recordings = read_labeled(noises)
    alone = measure(recordings, FrontEnd(), str(tmp_path / "j"))
    assert not (tmp_path / "j").exists()
    # Workers compute with one thread, this process with as many as there are, whose sums differ in their last bits.
    by_two = measure(recordings, FrontEnd(), str(tmp_path / "j"), workers=2).log_mels
    assert by_two == pytest.approx(alone.log_mels, rel=1e-8)
    pack(recordings, str(tmp_path / "shards"), Packing())
    assert (
        measure(read_labeled_shards(str(tmp_path / "shards")), FrontEnd(), str(tmp_path / "j")).log_mels == alone.log_mels
    )
    from sslam_lightning.data.manifests import statistics

    real, calls = statistics.log_mel_moments, 0

    def stop_at_fortieth(*arguments: object) -> Moments:
        nonlocal calls
        calls += 1
        if calls == 40:
            raise KeyboardInterrupt
        return real(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(statistics, "log_mel_moments", stop_at_fortieth)
    with pytest.raises(KeyboardInterrupt):
        measure(recordings, FrontEnd(), str(tmp_path / "j"))
    with pytest.raises(FileExistsError, match="is of other files or settings"):
        measure(recordings, FrontEnd(num_mels=64), str(tmp_path / "j"))
    assert measure(recordings, FrontEnd(), str(tmp_path / "j")).log_mels == alone.log_mels
    assert calls == 40 + 70 - 32  # the first chunk was kept


def test_weights_and_counts_reach_the_sampler(noises: Path, tmp_path: Path) -> None:
    (tmp_path / "7.wav").write_bytes(b"nonsense")
    found = measure(read_labeled(noises), FrontEnd(), str(tmp_path / "j"))
    assert [rejected.path for rejected in found.rejected] == ["7.wav"]
    assert found.class_counts.tolist() == [69, 35]
    paths = write_statistics(found, "m.tsv", str(tmp_path / "s"), FrontEnd())
    overlay, classes, weights, rejected = (Path(path) for path in paths)
    assert rejected.read_text().startswith(f"path\treason\n7.wav\t{tmp_path}/7.wav: not readable as audio")
    assert classes.read_text() == (f"index,mid,name,count,weight\n0,a,a,69,{1000 / 69.01}\n1,b,b,35,{1000 / 35.01}\n")
    data = AudioSetDataModule(
        noises,
        class_map=classes,
        sampling_weights=weights,
        weighted_sampling=True,
        samples_per_epoch=5,
        num_workers=0,
    )
    sampler = data.train_dataloader().sampler
    assert sampler.weights[7] == 0  # cannot be read, so it is never drawn
    torch.testing.assert_close(sampler.weights[8], torch.tensor(1000 / 69.01 + 1000 / 35.01, dtype=torch.float64))
    torch.testing.assert_close(sampler.weights[9], torch.tensor(1000 / 69.01, dtype=torch.float64))
    with pytest.raises(FileExistsError, match=r"s\.yaml exists already"):
        write_statistics(found, "m.tsv", str(tmp_path / "s"), FrontEnd())
    assert "69 clips" in overlay.read_text()


def test_weights_of_other_recordings_are_refused(noises: Path, tmp_path: Path) -> None:
    recordings = read_manifest(noises)
    weights = tmp_path / "w.tsv"
    for text, message in (
        ("path,weight\n", "expected the header path<TAB>weight"),
        ("path\tweight\n1.wav\t2\n", r"line 2: expected the weight of 0\.wav.*run sslam data stats again"),
        ("path\tweight\n0.wav\tmany\n", r"line 2: 'many' is no number"),
        ("path\tweight\n0.wav\t2\n", "holds 1 weights for 70 recordings"),
        ("path\tweight\n" + "".join(f"{n}.wav\t1\n" for n in range(71)), "holds 71 weights for 70 recordings"),
    ):
        weights.write_text(text)
        with pytest.raises(ValueError, match=message):
            with_weights(recordings, str(weights))
    with pytest.raises(FileNotFoundError, match=r"sampling weights .*none\.tsv do not exist"):
        with_weights(recordings, str(tmp_path / "none.tsv"))
    weights.write_text("path\tweight\n" + "".join(f"{n}.wav\t{n / 7}\n" for n in range(70)))
    assert class_balanced_weights(with_weights(recordings, str(weights)))[13] == 13 / 7
