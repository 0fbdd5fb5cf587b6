"""``sslam tag``, ``embed`` and ``export`` as a user runs them, on checkpoints that training has written."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pyarrow.parquet as pq
import pytest
import soundfile
import torch
from prefork import interpreter
from tiny import finetune, pretrain, soundscapes, trainer

import sslam_lightning
from sslam_lightning.__main__ import main
from sslam_lightning.inference.export import TOLERANCE
from sslam_lightning.inference.plot import draw_timeline

_PACKAGE = Path(sslam_lightning.__file__).parents[1]
_CLASSES = ["dog", "rain", "sea", "clock"]


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("models")
    found = {}
    for name, module in {"pretrained": pretrain(), "finetuned": finetune(class_names=_CLASSES)}.items():
        run = trainer(folder, max_steps=1)
        run.fit(module, soundscapes(4))
        run.save_checkpoint(folder / f"{name}.ckpt")
        found[name] = str(folder / f"{name}.ckpt")
    return found


@pytest.fixture
def audio(tmp_path: Path) -> Path:
    folder = tmp_path / "audio"
    folder.mkdir()
    for number, (name, seconds, rate_hz) in enumerate(
        (("a.wav", 0.5, 16000), ("b.flac", 2.0, 44100), ("c.mp3", 1.0, 22050))
    ):
        wave = np.random.default_rng(number).normal(size=(round(seconds * rate_hz), 1 + number % 2)) * 0.1
        soundfile.write(folder / name, wave, rate_hz)
    return folder


def sslam(*args: object, code: int = 0) -> None:
    if code:
        with pytest.raises(SystemExit) as left:
            main([str(arg) for arg in args])
        assert left.value.code == code
    else:
        main([str(arg) for arg in args])


def test_tag_tells_the_classes_of_a_folder(models: dict[str, str], audio: Path, capsys: Any) -> None:
    sslam("tag", audio, "--model", models["finetuned"], "--json", "--top", 4)
    told = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [Path(line["file"]).name for line in told] == ["a.wav", "b.flac", "c.mp3"]
    model = sslam_lightning.from_pretrained(models["finetuned"])
    for line in told:
        assert {tag["class"] for tag in line["tags"]} == set(_CLASSES)
        waveform, rate_hz = soundfile.read(line["file"], dtype="float32", always_2d=True)
        if len(waveform) / rate_hz < 0.66:  # one window
            expected = model(torch.from_numpy(waveform.T)[None], rate_hz).probs[0]
            found = [next(tag["probability"] for tag in line["tags"] if tag["class"] == name) for name in _CLASSES]
            np.testing.assert_allclose(found, expected, atol=1e-5)
    assert ["timeline" in line for line in told] == [False, True, True]
    assert [round(line["seconds"], 1) for line in told] == [0.5, 2.0, 1.0]


def test_tag_goes_on_over_what_cannot_be_read(models: dict[str, str], audio: Path, tmp_path: Path, capsys: Any) -> None:
    (audio / "b.flac").write_text("no sound")
    pictures = tmp_path / "pictures"
    sslam("tag", audio, "--model", models["finetuned"], "--csv", "--top", 1, "--plot", pictures, code=1)
    told = capsys.readouterr()
    rows = list(csv.DictReader(told.out.splitlines()))
    assert {Path(row["file"]).name for row in rows} == {"a.wav", "c.mp3"}
    assert f"{audio / 'b.flac'}: not readable as audio" in told.err
    assert "1 of 3 recordings could not be read" in told.err
    assert len(list(pictures.glob("*.png"))) == 2
    assert f"pictures: {pictures}\n" in told.err
    sslam("tag", audio / "a.wav", "--model", models["finetuned"], "--plot", pictures, code=2)
    assert "a.wav.png exists already: move it" in capsys.readouterr().err
    sslam("tag", audio / "b.flac", "--model", models["finetuned"], code=2)
    assert "none of 1 recordings can be read, for example" in capsys.readouterr().err


@pytest.mark.parametrize("ending", ["csv", "jsonl"])
def test_tag_goes_on_where_it_stopped(models, audio, tmp_path, capsys, monkeypatch, ending) -> None:
    """Cut off in the middle of writing the second recording's line."""
    (audio / "c.mp3").write_text("no sound")
    command = ["tag", audio, "--model", models["finetuned"], "--out"]
    sslam(*command, tmp_path / f"whole.{ending}", code=1)
    out, partial = tmp_path / f"x.{ending}", tmp_path / f"x.{ending}.unfinished"
    with monkeypatch.context() as patch:
        patch.setattr("sslam_lightning.inference.tagging.file.TagFile.finish", lambda file: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            main([str(word) for word in [*command, out]])
    settings, first, second, _ = partial.read_bytes().splitlines(keepends=True)
    partial.write_bytes(settings + first + second[:20])
    capsys.readouterr()
    sslam(*command, out, "--top", 2, code=2)
    assert f"{partial} is of a run with another top (5, now 2)" in capsys.readouterr().err
    sslam(*command, out, code=1)
    told = capsys.readouterr()
    assert told.out == f"{out}: 2 recordings, 1 of them by an earlier run\n"
    assert f"{audio / 'c.mp3'}: not readable as audio" in told.err
    assert out.read_bytes() == (tmp_path / f"whole.{ending}").read_bytes()
    assert len(out.read_text().splitlines()) == (2 if ending == "jsonl" else 1 + 4 * (1 + 1 + 4))
    assert not partial.exists()
    sslam(*command, out, code=2)
    assert f"x.{ending} exists already: move it" in capsys.readouterr().err


def test_tags_of_nothing_leave_nothing(models, audio, tmp_path, capsys) -> None:
    """So the same command may be given again, when the recordings are mended."""
    broken, out = tmp_path / "broken.wav", tmp_path / "out/x.csv"
    broken.write_text("no sound")
    command = ["tag", broken, "--model", models["finetuned"], "--out", out]
    for _ in range(2):
        sslam(*command, code=2)
        assert "none of 1 recordings can be read, for example" in capsys.readouterr().err
        assert list(out.parent.iterdir()) == []
    broken.write_bytes((audio / "a.wav").read_bytes())
    sslam(*command)
    assert capsys.readouterr().out == f"{out}: 1 recordings\n"


def test_pictures_of_a_run_that_goes_on_lie_where_they_would_have(models, audio, tmp_path, capsys, monkeypatch) -> None:
    """Cut off before the second; the folders that tell equal names apart are those of all recordings."""
    (audio / "sub").mkdir()
    (audio / "c.mp3").rename(audio / "sub/a.wav")
    out, pictures = tmp_path / "x.csv", tmp_path / "pictures"
    names = [audio / "a.wav", audio / "sub/a.wav"]
    command = ["tag", *names, "--model", models["finetuned"], "--out", out, "--plot"]
    sslam(*command, tmp_path / "one.png", code=2)
    assert not out.with_name("x.csv.unfinished").exists()
    drawn = []

    def cut_off(tagged, *_: Any) -> None:
        drawn.append(tagged.name)
        if len(drawn) == 2:
            raise KeyboardInterrupt
        draw_timeline(tagged, *_)

    with monkeypatch.context() as patch:
        patch.setattr("sslam_lightning.inference.plot.draw_timeline", cut_off)
        with pytest.raises(KeyboardInterrupt):
            main([str(word) for word in [*command, pictures]])
    assert [path.relative_to(pictures) for path in pictures.rglob("*.png")] == [Path("a.wav.png")]
    capsys.readouterr()
    sslam(*command, tmp_path / "one.png", code=2)
    assert "2 recordings do not fit into the one picture" in capsys.readouterr().err
    sslam(*command, pictures)
    assert capsys.readouterr().out == f"{out}: 2 recordings, 1 of them by an earlier run\n"
    found = sorted(str(path.relative_to(pictures)) for path in pictures.rglob("*.png"))
    assert found == ["a.wav.png", "sub/a.wav.png"]
    assert not (tmp_path / "one.png").exists()


_TAG = """
import sys
from sslam_lightning.__main__ import main
for form in ("--json", "--csv"):
    main(["tag", sys.argv[1], "--model", sys.argv[2], form])
"""


def test_names_that_are_not_utf_8(models: dict[str, str], audio: Path, tmp_path: Path) -> None:
    """Whatever bytes a name has, it is tagged and embedded; and told: JSON escapes the bytes, text has them as they are."""
    odd = os.fsdecode(b"caf\xe9.wav")
    (audio / "a.wav").rename(audio / odd)
    done = subprocess.run(
        [sys.executable, "-c", _TAG, str(audio / odd), models["finetuned"]],
        capture_output=True,
        env={**os.environ, "PYTHONPATH": str(_PACKAGE), "PYTHONIOENCODING": "utf-8:strict"},
        check=False,
    )
    assert done.returncode == 0, done.stderr
    as_json, _, as_csv = done.stdout.partition(b"\n")
    assert json.loads(as_json.decode("utf-8"))["file"] == str(audio / odd)
    assert as_csv.count(os.fsencode(audio / odd)) == len(_CLASSES)
    out = tmp_path / "x.jsonl"
    sslam("tag", audio, "--model", models["finetuned"], "--out", out, "--plot", tmp_path / "pictures")
    assert str(audio / odd) in [json.loads(line)["file"] for line in out.read_text("utf-8").splitlines()]
    for ending in ("npz", "h5", "parquet"):
        sslam("embed", audio, "--model", models["pretrained"], "--out", tmp_path / f"x.{ending}")
    assert str(audio / odd) in np.load(tmp_path / "x.npz")["file"].tolist()
    with h5py.File(tmp_path / "x.h5") as archive:
        in_h5 = archive["file"].asstr()[:].tolist()
    in_parquet = pq.read_table(tmp_path / "x.parquet")["file"].to_pylist()
    assert rf"{audio}/caf\udce9.wav" in in_h5
    assert rf"{audio}/caf\udce9.wav" in in_parquet


def test_tag_reads_standard_input_and_prints_a_table(models: dict[str, str], audio: Path) -> None:
    done = subprocess.run(
        [*interpreter(), "-m", "sslam_lightning", "tag", "-", "--model", models["finetuned"], "--device", "cpu"],
        input=(audio / "a.wav").read_bytes(),
        env={**os.environ, "PYTHONPATH": str(_PACKAGE)},
        capture_output=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert not done.stderr  # no bar, no warnings, where nobody looks
    first, *lines = done.stdout.decode().splitlines()
    assert first == "-  (0:00.5)"
    assert sorted(line.split()[1] for line in lines) == sorted(_CLASSES)


def test_embed_writes_and_resumes_and_refuses(models: dict[str, str], audio: Path, tmp_path: Path, capsys: Any) -> None:
    out = tmp_path / "x.npz"
    command = ["embed", audio, "--model", models["pretrained"], "--level", "frame", "--out", out]
    sslam(*command, "--layer", "mean", "--part", "teacher")
    assert capsys.readouterr().out == f"{out}: {3 + 13 + 7} x 32 from 3 recordings\n"
    with np.load(out) as found:
        assert found["num_frames"].tolist() == [3, 13, 7]
        model = sslam_lightning.from_pretrained(models["pretrained"], part="teacher", layer="mean")
        waveform, rate_hz = soundfile.read(audio / "a.wav", dtype="float32")
        np.testing.assert_allclose(found["embedding"][:3], model(torch.from_numpy(waveform), rate_hz).frames, atol=1e-5)
    sslam(*command, code=2)
    assert "x.npz exists already: move it, or name another file with --out" in capsys.readouterr().err
    sslam("embed", audio, "--model", models["pretrained"], "--pool", "mean", "--out", tmp_path / "mean.npz")
    model = sslam_lightning.from_pretrained(models["pretrained"], pool="mean")
    model.mask_padding()
    expected = model(torch.from_numpy(waveform), float(rate_hz)).clip
    np.testing.assert_allclose(np.load(tmp_path / "mean.npz")["embedding"][0], expected, atol=1e-5)  # R33
    (audio / "c.mp3").write_text("no sound")
    sslam("embed", audio, "--model", models["pretrained"], "--out", tmp_path / "y.npz", code=1)
    told = capsys.readouterr()
    assert "2 x 32 from 2 recordings" in told.out
    assert f"{audio / 'c.mp3'}: not readable as audio" in told.err


@pytest.mark.parametrize(
    ("command", "message"),
    [
        (["tag", "AUDIO"], "no model is named: set --model to a checkpoint file, a folder or a Hugging Face Hub id"),
        (["tag", "AUDIO", "--model", ""], "no model is named: set --model to"),
        (["tag", "AUDIO", "--model", "none.pt"], "no checkpoint at none.pt"),
        (["tag", "none.wav", "--model", "FINETUNED"], "none.wav: no such file or folder"),
        (["tag", "AUDIO", "--model", "PRETRAINED"], "the model has no classification head, so it cannot tell classes"),
        (["tag", "AUDIO", "--model", "FINETUNED", "--json", "--csv"], "choose one of --json, --csv and --out"),
        (["tag", "AUDIO", "--model", "FINETUNED", "--top", "0"], "top must be at least 1, got 0"),
        (["tag", "AUDIO", "--model", "FINETUNED", "--batch_size", "0"], "batch_size must be at least 1, got 0"),
        (["tag", "AUDIO", "--model", "FINETUNED", "--plot", "x.png"], "3 recordings do not fit into the one picture x.png"),
        (
            ["tag", "AUDIO", "--model", "FINETUNED", "--window_seconds", "5"],
            "with padding as trained a window has at most 0.64 s",
        ),
        (
            ["tag", "AUDIO", "--model", "FINETUNED", "--features", "{blah: 1}"],
            "features: there is no setting blah; known are num_f",
        ),
        (
            ["tag", "AUDIO", "--model", "FINETUNED", "--features", "{num_frames: 64.0}"],
            "features.num_frames must be a whole number, got 64.0",
        ),
        (["tag", "AUDIO", "--model", "FINETUNED", "--features.mean", "x"], "features.mean must be a number, got 'x'"),
        (["tag", "AUDIO", "--model", "FINETUNED", "--features.std", "0"], "error: features: std must be positive, got 0.0"),
        (["tag", "AUDIO", "--model", "FINETUNED", "--device", "abacus"], "there is no device abacus here: try cpu"),
        (["tag", "AUDIO", "--model", "FINETUNED", "--device", "meta"], "there is no device meta here: try cpu"),
        (
            ["tag", "AUDIO", "--model", "FINETUNED", "--tokenizer", "x.json"],
            "reads no text: leave tokenizer out, got x",
        ),
        (["tag", "AUDIO", "--model", "FINETUNED", "--image_size", "8"], "reads no images: leave image_size out, got 8"),
        (["tag", "AUDIO", "--model", "FINETUNED", "--plot", "x.svg"], "plot must be a .png or a folder, got x.svg"),
        (["tag", "AUDIO", "--model", "FINETUNED", "--plot", ""], "plot must be a .png or a folder, got ''"),
        (["tag"], "the following arguments are required: inputs (see sslam tag --help)"),
        (["embed", "AUDIO", "--model", "PRETRAINED"], "no file to write is named: set --out"),
        (["embed", "AUDIO", "--model", "PRETRAINED", "--out", "x.csv"], "must end in .npz, .parquet, .h5, got x.csv"),
        (
            ["embed", "AUDIO", "--model", "PRETRAINED", "--out", "x.npz", "--level", "frame", "--pool", "mean"],
            "pool makes one embedding per file: leave it out with level frame, got mean",
        ),
        (
            ["embed", "AUDIO", "--out", "x.npz", "--pool", "max"],
            "Expected a typing.Literal['cls', 'mean']. Got value: max (see sslam embed",
        ),
        (
            ["embed", "AUDIO", "--out", "x.npz", "--layer", "last"],
            "Expected a typing.Literal['mean', 'all']. Got value: last (see sslam embed --help)",
        ),
        (
            ["embed", "AUDIO", "--out", "x.npz", "--model", "PRETRAINED", "--layer", "3"],
            "layer must be 1 to 2, -2 to -1, mean or all",
        ),
        (
            ["export", "x.onnx", "--model", "PRETRAINED", "--what", "classifier"],
            "no classification head: export its encoder",
        ),
        (
            ["export", "x.pt2", "--model", "PRETRAINED"],
            "has the ending of another format: --format onnx writes .onnx",
        ),
    ],
)
def test_what_is_wrong_is_told_in_one_line(models, audio, capsys, monkeypatch, tmp_path, command, message) -> None:
    monkeypatch.chdir(tmp_path)
    places = {"AUDIO": audio, "FINETUNED": models["finetuned"], "PRETRAINED": models["pretrained"]}
    sslam(*(places.get(word, word) for word in command), code=2)
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("sslam: error: ")
    assert message in line
    assert sorted(path.name for path in tmp_path.iterdir()) == ["audio"]


_EXPORT = """
import sys, json, torch, sslam_lightning
from sslam_lightning.__main__ import main
finetuned, pretrained, folder = sys.argv[1:]
main(["export", f"{folder}/classifier.onnx", "--model", finetuned])
main(["export", f"{folder}/encoder.pt2", "--model", pretrained, "--format", "torch-export"])
"""


@pytest.mark.slow
def test_exported_models_run_and_agree(models: dict[str, str], tmp_path: Path) -> None:
    """In a process of its own: the shape checks of this one cannot be traced."""
    onnxruntime = pytest.importorskip("onnxruntime")
    done = subprocess.run(
        [*interpreter(), "-c", _EXPORT, models["finetuned"], models["pretrained"], str(tmp_path)],
        env={**os.environ, "PYTHONPATH": str(_PACKAGE)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("largest difference from the original") == 10
    waveforms = torch.randn(2, 9000, generator=torch.Generator().manual_seed(0)) * 0.1
    session = onnxruntime.InferenceSession(tmp_path / "classifier.onnx")
    (found,) = session.run(["probabilities"], {"waveforms": waveforms.numpy()})
    np.testing.assert_allclose(
        found, sslam_lightning.from_pretrained(models["finetuned"])(waveforms, 16000).probs, atol=TOLERANCE
    )
    program = torch.export.load(tmp_path / "encoder.pt2").module()
    expected = sslam_lightning.from_pretrained(models["pretrained"])(waveforms, 16000)
    clip, patches = program(waveforms)
    np.testing.assert_allclose(clip.detach(), expected.clip, atol=TOLERANCE)
    np.testing.assert_allclose(patches.detach(), expected.patches, atol=TOLERANCE)
