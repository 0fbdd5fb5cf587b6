"""`sslam evaluate` from a folder of recordings to the table; interrupted, resumed, and given wrong."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
import yaml
from tiny import pretrain, soundscapes, trainer

from sslam_lightning.__main__ import main
from sslam_lightning.evaluation import KNN, LinearProbe
from sslam_lightning.evaluation.frozen import FeatureStore
from sslam_lightning.evaluation.suite import PROTOCOLS

SIZE = {"dim": 32, "depth": 2, "num_heads": 2}
PROBE = {"epochs": 2, "learning_rates": [0.01, 0.1]}
TUNING = {"updates": 4, "evaluations": 2, "batch_size": 4, "trainer": {"enable_progress_bar": False}}
SETTINGS = {
    "linear": PROBE,
    "attentive": PROBE,
    "convex_gated": {**PROBE, "num_prototypes": 8},
    "knn": {"neighbors": [1, 3]},
    "linear_published": TUNING,
    "finetune": TUNING,
}


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pretrained")
    torch.manual_seed(0)
    runner = trainer(folder, max_steps=1)
    runner.fit(pretrain(), soundscapes(4))
    runner.save_checkpoint(folder / "model.ckpt")
    return folder / "model.ckpt"


@pytest.fixture
def sounds(tmp_path: Path) -> Path:
    """A folder in the form of ESC-50: low and high tones in noise, eight clips in each of two folds."""
    folder, rng = tmp_path / "sounds", np.random.default_rng(0)
    (folder / "audio").mkdir(parents=True)
    (folder / "meta").mkdir()
    rows = ["filename,fold,target,category,esc10"]
    for number in range(16):
        target, fold = number % 2, 1 + number // 8
        wave = np.sin(2 * np.pi * (300 + 2000 * target + 30 * number) * np.arange(10560) / 16000)
        soundfile.write(folder / "audio" / f"{number}.wav", 0.3 * wave + 0.05 * rng.normal(size=10560), 16000)
        rows.append(f"{number}.wav,{fold},{target},{('low', 'high')[target]},True")
    (folder / "meta" / "esc50.csv").write_text("\n".join(rows) + "\n")
    return folder


@pytest.fixture
def suite(tmp_path: Path) -> Path:
    path = tmp_path / "tones.yaml"
    data = {"class_path": "sslam_lightning.data.ESC50DataModule", "init_args": {"root": "nowhere", "num_workers": 0}}
    content = {
        "name": "tones",
        "metric": "accuracy",
        "data": data,
        "features": {"num_frames": 64},
        "folds": {1: {"fold": 1}, 2: {"fold": 2}},
        "share_clips": True,
        "validation": 0.5,
        "protocols": {name: {"init_args": settings} for name, settings in SETTINGS.items()},
    }
    path.write_text(yaml.safe_dump(content))
    return path


@pytest.fixture
def evaluate(suite: Path, sounds: Path, checkpoint: Path, tmp_path: Path, capsys: Any) -> Callable[..., str]:
    """Runs the command and returns what it prints; or, with a code, what it complains about."""

    def run(*options: Any, code: int = 0, model: Any = checkpoint, **others: Any) -> str:
        words = {"suite": suite, "model": model, "data.root": sounds, "out": tmp_path / "out", **others}
        argv = [f"--{name}={value}" for name, value in words.items() if name != "suite"]
        capsys.readouterr()
        left = 0
        try:
            main(["evaluate", "--suite", str(words["suite"]), *argv, *map(str, options)])
        except SystemExit as exit:
            left = exit.code
        told = capsys.readouterr()
        assert left == code, told.err
        assert "Traceback" not in told.err
        return told.err.strip().splitlines()[-1].removeprefix("sslam: error: ") if code else told.out + told.err

    return run


def rows(folder: Path) -> dict[tuple[str, str], dict[str, str]]:
    with (folder / "results.csv").open() as file:
        return {(row["model"], row["protocol"]): row for row in csv.DictReader(file)}


def test_all_protocols_make_one_table(evaluate, checkpoint, tmp_path, monkeypatch):
    encoded = []
    encode = FeatureStore.encode
    counted = lambda self, batch: (encoded.append(len(batch.names)), encode(self, batch))[1]  # noqa: E731
    monkeypatch.setattr(FeatureStore, "encode", counted)
    printed = evaluate("--name=pre-trained")
    assert f"sslam: judging {checkpoint}\n" in printed
    assert sum(encoded) == 16  # every clip once, for all protocols and both folds
    table = rows(tmp_path / "out")
    assert list(table) == [("pre-trained", name) for name in PROTOCOLS]
    for row in table.values():
        assert (row["suite"], row["metric"], row["runs"], row["failed"]) == ("tones", "accuracy", "2", "0")
        assert 0 <= float(row["last_mean"]) <= float(row["best_mean"]) <= 1
        assert row["last_std_folds"]
        assert not row["last_std_seeds"]
    assert float(table["pre-trained", "knn"]["last_mean"]) > 0.8  # low and high tones are easily told apart
    singles = json.loads((tmp_path / "out" / "results.json").read_text())
    assert len(singles) == 12
    for one in singles:
        assert len(one["scores"]) == (1 if one["protocol"] == "knn" else 2)
        assert (one["best"], one["last"]) == (max(one["scores"]), one["scores"][-1])
        assert one["settings"]["data"]["init_args"]["fold"] == int(one["fold"])
        assert one["settings"]["encoder"]["depth"] == 2
        assert one["settings"]["resampler"] == "torchaudio"
        assert one["command"].startswith("sslam evaluate --suite ")
    text = (tmp_path / "out" / "results.md").read_text()
    assert text in printed
    assert "sslam evaluate --suite " in text

    # Another model, with weights by chance, adds its rows; nothing of the first is done again.
    encoded.clear()
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(yaml.safe_dump({"model": {"init_args": {"encoder": SIZE}}}))
    options = ("--protocols", "knn,linear", "--seeds", 3, 4)
    evaluate(*options, model=recipe, name="scratch")
    assert sum(encoded) == 32  # another encoder for every seed
    table = rows(tmp_path / "out")
    assert len(table) == 8
    assert table["scratch", "knn"]["runs"] == "4"
    assert table["scratch", "knn"]["last_std_seeds"]
    assert len({one["settings"]["weights"] for one in json.loads((tmp_path / "out" / "results.json").read_text())}) == 3


def test_an_interrupted_evaluation_goes_on_where_it_stopped(evaluate, tmp_path, monkeypatch, capsys):
    done, run = [], LinearProbe.run

    def interrupted(self, task):
        done.append(task.fold)
        if len(done) == 2:
            raise KeyboardInterrupt
        return run(self, task)

    monkeypatch.setattr(LinearProbe, "run", interrupted)
    with pytest.raises(KeyboardInterrupt):
        evaluate("--protocols", "knn", "linear")
    told = capsys.readouterr()
    assert told.err.strip().endswith(f"sslam: 3 runs are in {tmp_path / 'out'}; the same command goes on")
    lines = [line for line in told.out.splitlines() if ", seed 0: " in line]
    assert len(lines) == 4  # the last one says what had begun
    assert lines[0].endswith(" s")
    assert {protocol: row["runs"] for (_, protocol), row in rows(tmp_path / "out").items()} == {"knn": "2", "linear": "1"}
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "out" / "runs").rglob("*.json")}
    assert len(before) == 3
    printed = evaluate("--protocols", "knn", "linear")
    assert printed.count("(done before)") == 3
    assert done == ["1", "2", "2"]
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert {row["runs"] for row in rows(tmp_path / "out").values()} == {"2"}
    tables = {"results.md", "results.csv", "results_by_fold.csv", "results.json"}
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"runs", *tables}


def test_a_failed_run_is_a_row_and_the_others_go_on(evaluate, tmp_path, monkeypatch):
    run = KNN.run

    def failing(self, task):
        if task.fold == "1":
            raise RuntimeError("the disk\nis on fire")
        return run(self, task)

    with monkeypatch.context() as patch:
        patch.setattr(KNN, "run", failing)
        assert evaluate("--protocols=knn,linear", code=1) == "sslam: 1 of 4 runs failed; the table says why"
    text = (tmp_path / "out" / "results.md").read_text()
    assert "| tones | knn | 1 | 0 | RuntimeError: the disk is on fire |" in text
    assert "| 1, 1 failed |" in text
    assert evaluate("--protocols=knn,linear").count("(done before)") == 3  # what failed is tried again
    assert {row["failed"] for row in rows(tmp_path / "out").values()} == {"0"}
    assert "Failed:" not in (tmp_path / "out" / "results.md").read_text()


def test_clips_that_cannot_be_used_are_counted_and_named(evaluate, sounds, tmp_path):
    """No sound, and too short a one, in the first fold: among its test clips, and the second's training clips."""
    (sounds / "audio" / "0.wav").write_text("no sound")
    soundfile.write(sounds / "audio" / "1.wav", np.zeros(10), 16000)
    command = ["--protocols=knn,finetune", "--data.max_unreadable_fraction=0.5"]
    printed = evaluate(*command)
    test, train = "without 2 of 8 test clips", "without 2 training clips"
    for protocol in ("knn", "finetune"):
        line, other = (next(row for row in printed.splitlines() if f"{protocol}, fold {fold}" in row) for fold in (1, 2))
        assert test in line
        assert train in other
    (table,) = (part for part in printed.split("\n\n") if part.startswith("| model"))
    assert table.count(f"| 2, {test} |") == 2
    assert {(row["test_clips"], row["broken_test_clips"]) for row in rows(tmp_path / "out").values()} == {("8", "2")}
    *_, unreadable, short, told = printed.splitlines()
    assert unreadable == f"sslam: {sounds / 'audio' / '0.wav'}: not readable as audio (Format not recognised.)"
    assert short.startswith("sslam: 1.wav: too short, 10 samples where the model needs ")
    assert told == "sslam: 2 clips could not be used; the table says how many of which scores"
    again = evaluate(*command)
    assert again.count("(done before)") == 4
    assert test in again


def test_scores_of_other_labels_are_not_taken_for_these(evaluate, sounds, tmp_path):
    evaluate("--protocols=knn", "--name=x")
    before = rows(tmp_path / "out")
    assert evaluate("--protocols=knn", "--name=x").count("(done before)") == 2
    table = sounds / "meta" / "esc50.csv"
    table.write_text(table.read_text().replace("0.wav,1,0,low", "0.wav,1,1,high"))
    line = evaluate("--protocols=knn", "--name=x", code=2)
    assert "out holds a run of x, tones, knn, fold 1, seed 0 with other settings: clips.test was 8 clips, " in line
    assert rows(tmp_path / "out") == before
    assert "(done before)" not in evaluate("--protocols=knn", "--name=x with other labels")


def test_every_fold_and_seed_may_have_a_checkpoint_of_its_own(evaluate, checkpoint, tmp_path):
    for fold in (1, 2):
        (tmp_path / f"fold{fold}_seed7.ckpt").write_bytes(checkpoint.read_bytes())
    model = tmp_path / "fold{fold}_seed{seed}.ckpt"
    evaluate("--protocols=knn", "--seeds=7", model=model, name="own")
    assert rows(tmp_path / "out")["own", "knn"]["runs"] == "2"
    line = evaluate("--protocols=knn", "--seeds", 7, 8, code=2, model=model, name="own")
    assert line == f"no checkpoint at {tmp_path}/fold1_seed8.ckpt"
    (tmp_path / "fold2_seed7.ckpt").write_bytes(b"no checkpoint")
    told = evaluate("--protocols=knn", "--seeds=7", code=1, model=model, name="damaged")
    assert told == "sslam: 1 of 2 runs failed; the table says why"
    assert rows(tmp_path / "out")["damaged", "knn"]["failed"] == "1"
    told = evaluate("--protocols=knn", "--seeds=7", code=1, model=model, name="own")
    assert told == "sslam: 1 of 2 runs failed; the table says why"
    own = rows(tmp_path / "out")["own", "knn"]
    assert (own["runs"], own["failed"]) == ("2", "0")  # what was found before is not lost


def test_mistakes_are_told_in_one_line(evaluate, suite, tmp_path):
    for options, words, line in (
        ((), {"suite": "birds"}, r"there is no suite birds: name a .yaml file, or one of audioset_20k, "),
        ((), {"model": tmp_path / "x.ckpt"}, f"no checkpoint at {tmp_path}/x.ckpt"),
        ((), {"data.root": tmp_path / "empty"}, "meta/esc50.csv does not exist: ESC-50 is expected as "),
        (("--protocols=nearest",), {}, "the suite tones has no protocol nearest, only linear, "),
        (("--seeds", "1", "1"), {}, "seeds must be different numbers, at least one, got [1, 1]"),
        (("--seeds", "one"), {}, "seeds"),
        (("--data.foold=3",), {}, "foold"),
        (("--features.num_frames=60",), {}, "num_frames must be a positive multiple of patch_frames = 16"),
        (("--protocol=knn",), {}, "--protocol"),
        (("--seeds=-1",), {}, "seeds must lie between 0 and 4294967295, got -1"),
        (("--features.num_frame=64",), {}, "features: there is no setting num_frame; known are num_frames, "),
        (("--protocols=,",), {}, "protocols names none, got ,: leave it out for all"),
        (("--only=x",), {}, "only chooses among the models of --compare: leave it out, got x"),
        (("--name=",), {}, "name is that of --model in the table: give one, or leave it out, got ''"),
        (("--part=teacher",), {"model": "none"}, "random weights have no teacher: leave part out with the model none"),
        (("--cache_gib=-1",), {}, "cache_gib must not be negative, got -1"),
        (("--device=abacus",), {}, "there is no device abacus here: try cpu, or cuda where there is a GPU"),
    ):
        assert line in evaluate(*options, code=2, **words), line
    content = yaml.safe_load(suite.read_text())
    suite.write_text(yaml.safe_dump({**content, "metric": "mAP"}))
    assert "tones: the metric is mAP, but its clips are of one class" in evaluate("--protocols=knn", code=2)
    assert not (tmp_path / "out" / "results.md").exists()
    suite.write_text(yaml.safe_dump(content))
    evaluate("--protocols=knn", "--name=x")
    line = evaluate("--protocols=knn", "--name=x", "--features.mean=-1", code=2)
    assert (
        "out holds a run of x, tones, knn, fold 1, seed 0 with other settings: features.mean was -4.268, is -1.0. Name"
        in line
    )
    assert "holds something else than results of evaluate" in evaluate(code=2, out=tmp_path)


@pytest.mark.parametrize(
    ("kind", "settings", "what"),
    [
        ("TextConfig", {"vocabulary": 30, "max_tokens": 16, "padding_token": 1}, "text"),
        ("ImageConfig", {"patch_size": 8}, "images"),
    ],
)
def test_models_that_read_no_sound_are_refused_before_anything_is_computed(evaluate, tmp_path, kind, settings, what):
    front_end = {"class_path": f"sslam_lightning.models.{kind}", "init_args": settings}
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(yaml.safe_dump({"model": {"init_args": {"encoder": {**SIZE, "front_end": front_end}}}}))
    assert evaluate(code=2, model=recipe) == f"{recipe} reads {what}, not sound"
    assert not list((tmp_path / "out").rglob("*.json"))


def test_the_help_teaches(capsys):
    with pytest.raises(SystemExit) as left:
        main(["evaluate", "--help"])
    assert left.value.code == 0
    told = " ".join(capsys.readouterr().out.split())
    for words in (
        "one or several, by name (configs/downstream)",
        "of linear, linear_published, knn,",
        "a checkpoint of any kind, taken as it is (of a run name last.ckpt or best.ckpt)",
        'Scores are of the test clips: "last" when a protocol has ended its training',
        "--data.root PATH",
        "--seeds",
    ):
        assert words in told


def test_a_list_of_recipes_is_pre_trained_and_compared(suite, sounds, tmp_path, capsys):
    keys = {"trainer.max_steps": 1, "trainer.limit_val_batches": 0, "trainer.callbacks": None, "data.fold": None}
    keys |= {"data.batch_size": 4, "data.num_workers": 0, "trainer.enable_progress_bar": False, "masks_per_clip": 2}
    tiny = {
        "model.encoder.dim": 32,
        "model.encoder.depth": 2,
        "model.encoder.num_heads": 2,
        "model.features.num_frames": 64,
    }
    tiny |= {"model.decoder.dim": 32, "model.decoder.depth": 1, "model.decoder.groups": 4, "model.targets.top_k_layers": 2}
    configs = ["overlays/data/esc50", "overlays/trainer/cpu"]
    models = {
        "untrained": {"random": "overlays/sizes/tiny"},
        "stage 1": {"configs": ["pretrain/eat_base", *configs], "set": tiny, "judged": False},
        "SSLAM": {"configs": ["pretrain/sslam_base", *configs], "set": tiny, "after": "stage 1"},
    }
    keys["model.masks_per_clip"] = keys.pop("masks_per_clip")
    path = tmp_path / "family.yaml"
    other = tmp_path / "other.yaml"
    other.write_text(suite.read_text().replace("name: tones", "name: other tones"))
    path.write_text(
        yaml.safe_dump(
            {"suites": [str(suite), str(other)], "protocols": ["knn"], "set": keys, "models": models}, sort_keys=False
        )
    )
    command = ["evaluate", "--compare", str(path), f"--data.root={sounds}", f"--out={tmp_path / 'out'}"]
    main([*command, "--suite", str(suite)])  # one of the list's
    table = rows(tmp_path / "out")
    assert sorted(table) == [("SSLAM", "knn"), ("untrained", "knn")]
    assert {(row["suite"], row["runs"]) for row in table.values()} == {("tones", "2")}
    weights = {one["settings"]["weights"] for one in json.loads((tmp_path / "out" / "results.json").read_text())}
    assert len(weights) == 2
    capsys.readouterr()
    main([*command, "--only", "SSLAM"])
    printed = capsys.readouterr().out
    assert "sslam fit" not in printed  # nothing is pre-trained again
    assert printed.count("(done before)") == 2
    assert printed.count("SSLAM, other tones, knn") == 2
    for options, line in (
        (["--only", "EAT"], f"{path} has no model EAT, only untrained, SSLAM"),
        (["--suite", "synthetic"], f"{path} has no suite synthetic, only {suite}, {other}"),
        (
            ["--protocols", "knnn"],
            f"the suite tones has no protocol knnn, only {', '.join(PROTOCOLS)}",
        ),
        (["--model", "x.ckpt"], "give --suite and --model, or --compare without --model"),
    ):
        with pytest.raises(SystemExit) as left:
            main([*command, *options])
        assert left.value.code == 2
        assert capsys.readouterr().err.strip().endswith(f"sslam: error: {line}")
