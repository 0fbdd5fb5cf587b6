"""What the commands do, from Python: one model from its name to tags, embeddings, another form and a score."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
import yaml

import sslam_lightning
from sslam_lightning.__main__ import main
from sslam_lightning.checkpoints import Weights
from sslam_lightning.checkpoints.write import write_weights
from sslam_lightning.models import ClassificationHead

CLASSES = ("dog", "rain", "sea", "clock")


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """The weights of a named model, with a head."""
    created = sslam_lightning.create_model("eat_tiny", depth=2)
    head = ClassificationHead(created.dim, len(CLASSES))
    head.linear.weight.data.normal_()
    assert created.features is not None
    weights = Weights(
        "a model",
        created.encoder.config,
        student=created.encoder.state_dict(),
        head=head.state_dict(),
        class_names=CLASSES,
        features=dict(vars(created.features)),
    )
    write_weights(weights, tmp_path / "model", "safetensors")
    waveform = torch.randn(12000) * 0.1
    opened = sslam_lightning.from_pretrained(tmp_path / "model", padding="masked")
    assert torch.equal(opened(waveform, 16000).frames, created(waveform, 16000).frames)
    return tmp_path / "model"


@pytest.fixture
def recordings(tmp_path: Path) -> list[Path]:
    paths = [tmp_path / "sounds" / name for name in ("a.wav", "b.flac")]
    paths[0].parent.mkdir()
    for number, (path, rate_hz) in enumerate(zip(paths, (16000, 22050), strict=True)):
        soundfile.write(path, np.random.default_rng(number).normal(size=(number + 1) * rate_hz) * 0.1, rate_hz)
    return paths


def read(path: Path) -> tuple[torch.Tensor, int]:
    waveform, rate_hz = soundfile.read(path, dtype="float32")
    return torch.from_numpy(waveform), rate_hz


def test_tag(model: Path, recordings: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    opened = sslam_lightning.from_pretrained(model)
    (recordings[0].parent / "c.wav").write_text("no sound")
    found = sslam_lightning.tag(recordings[0].parent, model, out=tmp_path / "tags.csv", plot=tmp_path / "pictures")
    assert capsys.readouterr() == ("", "")
    assert [tagged.path for tagged in found.recordings] == recordings
    assert [name for name, _ in found.broken] == [str(recordings[0].parent / "c.wav")]
    assert (found.num_recordings, found.num_resumed) == (2, 0)
    assert all(picture.is_file() for picture in found.pictures[:2])
    np.testing.assert_allclose(found.recordings[0].probs, opened(*read(recordings[0])).probs, atol=1e-5)
    best = found.recordings[0].best(top=2)
    number = int(found.recordings[0].probs.argmax())
    assert best[0] == (CLASSES[number], float(found.recordings[0].probs[number]))
    assert len(best) == 2
    main(["tag", str(recordings[0].parent / "a.wav"), "--model", str(model), "--csv"])
    written = (tmp_path / "tags.csv").read_text().splitlines()
    assert [line for line in written if "b.flac" not in line] == capsys.readouterr().out.splitlines()
    taken: list[str] = []
    again = sslam_lightning.tag(recordings, model, show=lambda tagged: taken.append(tagged.name))
    assert (again.recordings, taken) == ([], list(map(str, recordings)))


def test_embed(model: Path, recordings: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    done = sslam_lightning.embed(recordings, model, tmp_path / "x.npz", level="frame", layer=1)
    assert capsys.readouterr() == ("", "")
    assert (done.num_recordings, done.broken, done.shape[1]) == (2, [], 96)
    opened = sslam_lightning.from_pretrained(model, layer=1, padding="masked")
    expected = torch.cat([opened(*read(path)).frames for path in recordings])
    with np.load(tmp_path / "x.npz") as file:
        assert file["embedding"].shape == done.shape
        np.testing.assert_allclose(file["embedding"], expected, atol=1e-5)
    main(["embed", *map(str, recordings), f"--model={model}", "--level=frame", "--layer=1", f"--out={tmp_path / 'y.npz'}"])
    with np.load(tmp_path / "x.npz") as ours, np.load(tmp_path / "y.npz") as theirs:
        np.testing.assert_array_equal(ours["embedding"], theirs["embedding"])
    with pytest.raises(FileExistsError, match=r"x\.npz exists already"):
        sslam_lightning.embed(recordings[0], model, tmp_path / "x.npz")
    with pytest.raises(FileNotFoundError, match="none: no such file or folder"):
        sslam_lightning.embed("none", model, tmp_path / "z.npz")


def test_convert(model: Path, tmp_path: Path) -> None:
    done = sslam_lightning.convert(model, tmp_path / "other", to="eat_hf")
    assert done.target == tmp_path / "other"
    state = sslam_lightning.load_encoder(tmp_path / "other").state_dict()
    for name, weights in sslam_lightning.load_encoder(model).state_dict().items():
        assert torch.equal(state[name], weights), name


def test_evaluate(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    suite = {
        "name": "soundscapes",
        "metric": "mAP",
        "data": {
            "class_path": "sslam_lightning.data.SyntheticDataModule",
            "init_args": {"num_train": 12, "num_val": 6, "num_workers": 0},
        },
        "protocols": {"knn": {"init_args": {"neighbors": [1, 3]}}},
    }
    (tmp_path / "sounds.yaml").write_text(yaml.safe_dump(suite))
    call = {"name": "tiny", "protocols": ["knn"], "out": tmp_path / "out", "device": "cpu"}
    done = sslam_lightning.evaluate(str(tmp_path / "sounds.yaml"), str(model), **call)
    assert capsys.readouterr().out == ""
    (run,) = done.runs
    assert (run.model, run.suite, run.protocol, run.failed) == ("tiny", "soundscapes", "knn", None)
    assert 0 < run.best <= 1
    assert done.table == (tmp_path / "out" / "results.md").read_text()
    assert sslam_lightning.evaluate(str(tmp_path / "sounds.yaml"), str(model), **call).runs[0].seconds == run.seconds
    with pytest.raises(ValueError, match="random weights have no teacher"):
        sslam_lightning.evaluate(str(tmp_path / "sounds.yaml"), "none", part="teacher", out=tmp_path / "new")
    with pytest.raises(FileNotFoundError, match="there is no suite esc5"):
        sslam_lightning.evaluate("esc5", str(model), out=tmp_path / "new")
