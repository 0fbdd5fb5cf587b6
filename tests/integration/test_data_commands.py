"""``sslam data`` and ``sslam benchmark data`` as a user types them, and what they write as a recipe reads it."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import soundfile
import yaml

from sslam_lightning.__main__ import main
from sslam_lightning.cli.fit.trainer import SSLAMCLI
from sslam_lightning.data import AudioSetDataModule
from sslam_lightning.data.manifests.manifest import read_labeled
from sslam_lightning.runtime.configs import config_folder

CLASSES = 'index,mid,name\n0,"Bee, buzzing","Bee, buzzing"\n1,dog,dog\n'


@pytest.fixture
def dogs_and_bees(tmp_path: Path) -> Path:
    """Twelve clips in two folders, and a broken one; names that need care."""
    rng = np.random.default_rng(0)
    for number in range(12):
        folder = tmp_path / "my sounds" / ("dog" if number % 3 else "Bee, buzzing")
        folder.mkdir(parents=True, exist_ok=True)
        soundfile.write(folder / f"clip 'ö' {number}.wav", rng.standard_normal(8000 + 100 * number) / 10, 16000)
    (tmp_path / "my sounds" / "dog" / "broken.wav").write_bytes(b"nonsense")
    return tmp_path / "my sounds"


def failing(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    with pytest.raises(SystemExit) as left:
        main(arguments)
    assert left.value.code == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert line.startswith("sslam: error: ")
    return line


def test_from_a_folder_to_a_training_run(
    dogs_and_bees: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """import, check, stats, pack; then fit on the shards with the overlay behind the recipe."""
    monkeypatch.chdir(dogs_and_bees.parent)
    main(["data", "import", "folders", "my sounds", "--out=m.tsv", "--workers=0"])
    assert "12 good recordings" in (printed := capsys.readouterr().out)
    assert "1 rejected (1 not readable as audio): m.rejected.tsv" in printed
    with open("m.rejected.tsv", newline="") as file:
        assert [row["path"] for row in csv.DictReader(file, delimiter="\t")] == ["my sounds/dog/broken.wav"]
    assert Path("m.classes.csv").read_text() == CLASSES
    Path("one/audio").mkdir(parents=True)
    Path("one/audio/a.wav").write_bytes(b"")
    told = failing(["data", "import", "folders", "one", "--out=one.tsv"], capsys)
    assert "one holds one folder of recordings, audio: expected a folder per class" in told
    assert "m.tsv exists already" in failing(["data", "import", "folders", "my sounds", "--out=m.tsv"], capsys)

    main(["data", "check", "m.tsv", "--workers=0", "--min_seconds=0.52"])
    assert "8 good recordings" in capsys.readouterr().out
    main(["data", "pack", "m.checked.tsv", "--out=shards", "--workers=0", "--clips_per_shard=5"])
    assert "8 clips in 2 shards: shards" in capsys.readouterr().out
    assert "shards is packed already" in failing(["data", "pack", "m.checked.tsv", "--out=shards"], capsys)
    main(["data", "stats", "shards", "--workers=0"])
    settings = yaml.safe_load(Path("shards.stats.yaml").read_text())
    features = settings["model"]["init_args"]["features"]
    assert f"mean {features['mean']:.3f}, std {features['std']:.3f}" in capsys.readouterr().out
    assert settings["data"]["init_args"]["sampling_weights"] == "shards.stats.weights.tsv"
    assert "shards.stats.yaml exists already" in failing(["data", "stats", "shards"], capsys)

    configs = config_folder()
    recipe = [
        "pretrain/eat_base",
        "overlays/sizes/tiny",
        "overlays/data/audioset",
        "overlays/trainer/cpu",
    ]
    arguments = [part for name in recipe for part in ("--config", str(configs / f"{name}.yaml"))]
    arguments += ["--config=shards.stats.yaml", "--data.train_manifest=shards", "--data.weighted_sampling=true"]
    arguments += ["--data.class_map=shards.stats.classes.csv", "--data.samples_per_epoch=4", "--data.num_workers=0"]
    arguments += ["--data.batch_size=4", "--model.features.num_frames=48", "--trainer.default_root_dir=run"]
    monkeypatch.setattr("sys.argv", ["sslam"])
    cli = SSLAMCLI(args=["fit", *arguments, "--trainer.max_steps=2", "--trainer.enable_progress_bar=false"])
    assert cli.trainer.global_step == 2
    assert (cli.model.features.mean, cli.model.features.std) == (features["mean"], features["std"])
    written = yaml.safe_load(Path("run/config.yaml").read_text())
    assert written["data"]["init_args"]["sampling_weights"] == "shards.stats.weights.tsv"


def test_scan_with_labels_and_pack_by_default_names(dogs_and_bees: Path, capsys: pytest.CaptureFixture[str]) -> None:
    names = [path.relative_to(dogs_and_bees) for path in sorted(dogs_and_bees.rglob("*.wav"))]
    (dogs_and_bees.parent / "all.lbl").write_text("".join(f"{name}\t/m/a,/m/b\n" for name in names))
    (dogs_and_bees / "notes.txt").touch()
    main(["data", "scan", str(dogs_and_bees), f"--labels={dogs_and_bees.parent / 'all.lbl'}", "--workers=0"])
    assert "1 files are not audio and were not looked at: 1 .txt" in capsys.readouterr().out
    manifest = dogs_and_bees.parent / "my sounds.tsv"
    main(["data", "pack", str(manifest), "--workers=0", "--codec=flac16"])
    (dogs_and_bees.parent / "classes.csv").write_text("0,/m/a\n1,/m/b\n")
    data = AudioSetDataModule(
        dogs_and_bees.parent / "my sounds.shards", class_map=dogs_and_bees.parent / "classes.csv", num_workers=0
    )
    (batch,) = data.train_dataloader()
    assert batch.labels.tolist() == [[1, 1]] * 12


def test_recordings_that_are_left_out_make_the_exit_code_1(
    dogs_and_bees: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of stats and pack, which are to use them all, as of tag and embed; scan and check are there to find them."""
    monkeypatch.chdir(dogs_and_bees.parent)
    names = sorted(str(path.relative_to(dogs_and_bees.parent)) for path in dogs_and_bees.rglob("*.wav"))
    Path("m.tsv").write_text(".\n" + "".join(f"{name}\t1\n" for name in names))
    for command, listed in (("stats", "m.stats.rejected.tsv"), ("pack", "m.shards/rejected.tsv")):
        with pytest.raises(SystemExit) as left:
            main(["data", command, "m.tsv", "--workers=0"])
        assert left.value.code == 1
        told = f"sslam: 1 of 13 recordings could not be read and were left out: {listed}"
        assert capsys.readouterr().err.splitlines() == [told]
        with open(listed, newline="") as file:
            assert [row["path"] for row in csv.DictReader(file, delimiter="\t")] == ["my sounds/dog/broken.wav"]


@pytest.mark.parametrize("folder", [".", "dog/..", "./"])
def test_the_folder_that_one_is_in(folder: str, dogs_and_bees: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is written lies beside it, under its name."""
    monkeypatch.chdir(dogs_and_bees)
    before = sorted(dogs_and_bees.iterdir())
    main(["data", "scan", folder, "--workers=0"])
    main(["data", "import", "folders", folder, "--workers=0"])
    assert sorted(dogs_and_bees.iterdir()) == before
    beside = {path.name for path in dogs_and_bees.parent.iterdir()}
    written = ("tsv", "rejected.tsv", "imported.tsv", "imported.rejected.tsv", "imported.classes.csv")
    assert beside == {"my sounds", *(f"my sounds.{ending}" for ending in written)}
    assert read_labeled(dogs_and_bees.parent / "my sounds.imported.tsv").read(0)[1] == 16000


def test_commands_that_are_given_again(
    dogs_and_bees: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """scan and import stand in nobody's way, check may come any number of times, nothing is overwritten."""
    monkeypatch.chdir(dogs_and_bees.parent)
    main(["data", "scan", "my sounds", "--workers=0"])
    main(["data", "import", "folders", "my sounds", "--workers=0"])
    assert Path("my sounds.imported.classes.csv").read_text() == CLASSES
    first = Path("my sounds.tsv").read_bytes()
    line = failing(["data", "scan", "my sounds", "--workers=0"], capsys)
    assert line.endswith("my sounds.tsv exists already: move it, or name another with --out")
    for number, name in enumerate(("my sounds.checked.tsv", "my sounds.checked_2.tsv", "my sounds.checked_3.tsv")):
        main(["data", "check", "my sounds.tsv", "--workers=0"])
        assert f"{12 - number} good recordings, 0.00 hours: {name}" in capsys.readouterr().out
        assert len(Path(name).read_text().splitlines()) == 13 - number
        (dogs_and_bees / "dog" / f"clip 'ö' {(1, 2, 4)[number]}.wav").unlink()
    assert Path("my sounds.tsv").read_bytes() == first


def test_classes_that_are_called_by_numbers(tmp_path: Path) -> None:
    for name in ("01", "7", "60"):
        (tmp_path / "digits" / name).mkdir(parents=True)
        soundfile.write(tmp_path / "digits" / name / "a.wav", np.full(8000, 0.1), 16000)
    main(["data", "import", "folders", str(tmp_path / "digits"), "--workers=0"])
    stem = str(tmp_path / "digits.imported")
    data = AudioSetDataModule(f"{stem}.tsv", class_map=f"{stem}.classes.csv", num_workers=0)
    assert data.class_names == ("01", "60", "7")
    (batch,) = data.predict_dataloader()
    assert batch.labels.tolist() == [[1, 0, 0], [0, 1, 0], [0, 0, 1]]


def test_folders_of_classes_train_with_cross_entropy(
    dogs_and_bees: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """U4: what ``import folders`` writes needs one setting of the data, and no class of one's own."""
    monkeypatch.chdir(dogs_and_bees.parent)
    main(["data", "import", "folders", dogs_and_bees.name, "--workers=0"])
    stem = f"{dogs_and_bees.name}.imported"
    model = {"encoder": {"dim": 16, "depth": 1, "num_heads": 2}, "features": {"num_frames": 48}}
    data = {"train_manifest": f"{stem}.tsv", "val_manifest": f"{stem}.tsv", "class_map": f"{stem}.classes.csv"}
    data |= {"multi_label": False, "num_workers": 0, "batch_size": 6}
    trainer = {"max_steps": 2, "accelerator": "cpu", "logger": False, "enable_progress_bar": False}
    keep = {"monitor": "val/mAP", "mode": "max"}  # as in recipes for clips of several classes
    keeps = [{"class_path": "sslam_lightning.training.callbacks.RunCheckpoint", "init_args": keep}]
    settings = {
        "trainer": {**trainer, "default_root_dir": "run", "callbacks": keeps},
        "model": {"class_path": "sslam_lightning.FinetuneModule", "init_args": model},
        "data": {"class_path": "sslam_lightning.data.AudioSetDataModule", "init_args": data},
    }
    Path("run.yaml").write_text(yaml.safe_dump(settings))
    cli = SSLAMCLI(args=["fit", "--config=run.yaml"])
    assert (cli.model.criterion, cli.model.num_classes, cli.model.multi_label) == ("cross_entropy", 2, False)
    assert cli.trainer.global_step == 2
    assert 0 <= cli.trainer.callback_metrics["val/accuracy"] <= 1
    assert "val/mAP" not in cli.trainer.callback_metrics
    assert {"best.ckpt", "last.ckpt"} == {path.name for path in Path("run/checkpoints").iterdir()}
    told = "monitoring val/accuracy in place of val/mAP, which these clips do not have (data.multi_label)"
    assert told in capsys.readouterr().err
    rows = Path(f"{stem}.tsv").read_text().splitlines()
    Path(f"{stem}.tsv").write_text("\n".join([*rows[:-1], f"{rows[-1]};{rows[1].split(chr(9))[-1]}"]) + "\n")
    with pytest.raises(ValueError, match=r"^the train clip .* has 2 labels"):
        SSLAMCLI(args=["fit", "--config=run.yaml", "--trainer.default_root_dir=other"])


def test_lists_of_others(dogs_and_bees: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    wavs = sorted(str(path) for path in dogs_and_bees.rglob("*.wav"))
    (tmp_path / "ast.json").write_text(json.dumps({"data": [{"wav": wav, "labels": "/m/a"} for wav in wavs]}))
    (tmp_path / "classes.csv").write_text("index,mid,display_name\n0,/m/b,Bee\n")
    line = failing(["data", "import", "ast", str(tmp_path / "ast.json"), f"--classes={tmp_path / 'classes.csv'}"], capsys)
    assert "does not know the label '/m/a', and 0 others" in line
    main(["data", "import", "ast", str(tmp_path / "ast.json"), "--workers=0"])
    assert "12 good recordings" in capsys.readouterr().out
    assert (tmp_path / "ast.tsv").read_text().count("\t/m/a\n") == 12

    (tmp_path / "fairseq.tsv").write_text(
        "my sounds\n" + "".join(f"{Path(wav).relative_to(dogs_and_bees)}\t1\n" for wav in wavs)
    )
    main(["data", "check", str(tmp_path / "fairseq.tsv"), "--workers=0"])
    assert len((tmp_path / "fairseq.checked.tsv").read_text().splitlines()) == 13

    soundfile.write(dogs_and_bees / "Yabcdefghijk.flac", np.full(8000, 0.1), 16000)
    (tmp_path / "seg.csv").write_text('abcdefghijk, 1.0, 2.0, "/m/b"\nABCDEFGHIJK, 1.0, 2.0, "/m/b"\n')
    arguments = ["data", "import", "segments", str(tmp_path / "seg.csv"), str(dogs_and_bees)]
    main([*arguments, f"--classes={tmp_path / 'classes.csv'}", "--workers=0"])
    assert "1 rejected (1 no such file)" in capsys.readouterr().out
    assert "ABCDEFGHIJK\tno such file" in (tmp_path / "seg.rejected.tsv").read_text()


def test_errors_are_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "folder nowhere does not exist" in failing(["data", "scan", "nowhere"], capsys)
    (sounds := tmp_path / "sounds").mkdir()
    (sounds / "one.wav").touch()
    assert "one.wav is a file: recordings are looked" in failing(["data", "scan", str(sounds / "one.wav")], capsys)
    line = failing(["data", "pack", str(sounds)], capsys)
    assert f"{sounds} is a folder, not a manifest: `sslam data scan {sounds}` writes one of it" in line
    line = failing(["data", "stats", str(sounds)], capsys)
    assert f"{sounds} holds no index.arrow: of a folder of recordings `sslam data scan {sounds}` writes a manifest" in line
    (sounds / "dogs;cats").mkdir()
    (sounds / "one.wav").rename(sounds / "dogs;cats" / "one.wav")
    (sounds / "bees").mkdir()
    (sounds / "bees" / "two.wav").touch()
    line = failing(["data", "import", "folders", str(sounds)], capsys)
    assert line.endswith(f"{sounds}: the label 'dogs;cats' holds a ;, which separates labels; rename it")
    assert not list(tmp_path.glob("sounds.*"))
    assert "manifest nowhere.tsv does not exist" in failing(["data", "check", "nowhere.tsv"], capsys)
    assert "nowhere.h5 does not exist" in failing(["data", "import", "hdf5", "nowhere.h5"], capsys)
    assert "no such parquet file" in failing(["data", "import", "parquet", "nowhere"], capsys)
    assert "say what to measure on: --manifest" in failing(["benchmark", "data"], capsys)
    (tmp_path / "bad.wav").write_bytes(b"nonsense")
    (tmp_path / "bad.tsv").write_text(".\nbad.wav\t1\n")
    line = failing(["benchmark", "data", f"--manifest={tmp_path / 'bad.tsv'}", "--clips=1"], capsys)
    assert "bad.wav: not readable as audio" in line
    line = failing(["benchmark", "data", "--manifest=x.tsv", "--recipe=y.yaml"], capsys)
    assert "takes both --recipe and --step_seconds" in line


def test_the_benchmark_writes_its_figures(dogs_and_bees: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["data", "scan", str(dogs_and_bees), "--workers=0"])
    manifest, shards = tmp_path / "my sounds.tsv", tmp_path / "shards"
    main(["data", "pack", str(manifest), f"--out={shards}", "--workers=0"])
    recipe = config_folder() / "pretrain/eat_base.yaml"
    for source in (manifest, shards):
        out = tmp_path / f"figures of {source.name}.json"
        arguments = ["benchmark", "data", f"--manifest={source}", "--workers=1", "--clips=6", "--repeats=1"]
        arguments += ["--num_frames=48", "--batch_size=3", "--masks_per_clip=2", f"--out={out}"]
        main([*arguments, f"--recipe={recipe}", "--step_seconds=0.5"])
        figures = json.loads(out.read_text())
        assert figures["clips"] == 6
        ours, public = figures["ours"], figures["public"]
        stages = {"read", "decode", "resample", "log-mels", "masks", "in a worker", "everything on this core"}
        assert ours.keys() == stages
        parts = [ours[stage]["milliseconds"] for stage in ("in a worker", "log-mels", "masks")]
        assert sum(parts) == pytest.approx(ours["everything on this core"]["milliseconds"])
        ratio = ours["in a worker"]["clips per second"] / public["in a worker"]["clips per second"]
        assert figures["times the public pipeline"]["in a worker"] == pytest.approx(ratio)
        assert figures["recipe"]["clips per second"] == 4 * 12 / 0.5
        per_device = 12 / 0.5 / ours["in a worker"]["clips per second"]
        assert figures["recipe"]["workers per device"] == pytest.approx(per_device)
        assert figures["loader"]["clips per second"] > 0
    assert "4 x 12 clips in 0.5 s take 96.0 clips per second" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["scan", "sounds", "--min_seconds=-1"], "min_seconds must not be negative, got -1"),
        (["scan", "sounds", "--silence_db=10"], "silence_db is relative to full scale, so at most 0, got 10"),
        (["check", "m.tsv", "--labels=none.lbl"], "label file none.lbl does not exist"),
        (["pack", "m.tsv", "--labels=none.lbl"], "label file none.lbl does not exist"),
        (["stats", "m.tsv", "--sample_rate_hz=1"], "sample_rate_hz must be at least 1000 Hz, got 1"),
        (["stats", "m.tsv", "--num_mels=100000"], "num_mels must be at most 1024, got 100000"),
        (["stats", "m.tsv", "--max_clip_seconds=-1"], "max_clip_seconds must leave at least one sample, got -1"),
        (["pack", "m.tsv", "--clips_per_shard=0"], "clips_per_shard must be positive, got 0"),
        (["pack", "m.tsv", "--sample_rate_hz=1"], "sample_rate_hz must be at least 1000 Hz, got 1"),
        (["pack", "m.tsv", "--codec=original", "--sample_rate_hz=8000"], "leave sample_rate_hz out, got 8000"),
        (["pack", "m.tsv", "--codec=original", "--max_clip_seconds=1"], "leave max_clip_seconds out, got 1"),
        (["pack", "m.tsv", "--codec=original", "--resampler=soxr"], "resamples nothing: leave resampler out, got soxr"),
        (["import", "ast", "b.json", "--root=sounds"], "b.json: all its paths are absolute: leave root out, got sounds"),
        (["import", "ast", "a.json", "--classes=sounds/a.wav"], "sounds/a.wav: not a table in UTF-8 ("),
        (["import", "segments", "sounds/a.wav", "sounds"], "sounds/a.wav, line 1: expected YTID, start_seconds"),
        (["scan", "sounds", "--out=m.tsv/x.tsv"], "a folder is expected at m.tsv, which is a file"),
        (["pack", "m.tsv", "--out=m.tsv/shards"], "a folder is expected at m.tsv, which is a file"),
    ],
)
def test_what_cannot_be_meant(arguments, told, tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "sounds").mkdir()
    soundfile.write("sounds/a.wav", np.sin(np.arange(8000.0)), 16000)
    (tmp_path / "m.tsv").write_text("sounds\na.wav\t8000\n")
    (tmp_path / "a.json").write_text('{"data": [{"wav": "a.wav", "labels": "x"}]}')
    (tmp_path / "b.json").write_text(json.dumps({"data": [{"wav": str(tmp_path / "sounds/a.wav"), "labels": "x"}]}))
    before = sorted(tmp_path.rglob("*"))
    assert told in failing(["data", *arguments], capsys)
    assert sorted(tmp_path.rglob("*")) == before
