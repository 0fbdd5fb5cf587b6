from __future__ import annotations

import csv
import json
import statistics
from dataclasses import replace

import pytest
from PIL import Image

from sslam_lightning.evaluation.overview import draw, markdown_rows, side_by_side
from sslam_lightning.evaluation.rows import Spread, rows_of, spread
from sslam_lightning.evaluation.runs import ClipCounts, Key, Run, RunStore
from sslam_lightning.evaluation.table import write_tables


def run(fold="1", seed=0, scores=(0.5, 0.4), model="EAT", protocol="knn", **settings) -> Run:
    return Run(
        model, "ESC-10", protocol, fold, seed, "accuracy", settings.pop("settings", {"a": 1}), list(scores), **settings
    )


RUNS = [
    run("1", 0, (0.9, 0.8), chosen={"lr": 0.1}, seconds=60.0, machine="a CPU", commit="abc", command="sslam evaluate --x"),
    run("1", 1, (0.7, 0.6), chosen={"lr": 0.1}, seconds=60.0, machine="a CPU", commit="abc", command="sslam evaluate --x"),
    run("2", 0, (0.4, 0.4), chosen={"lr": 0.3}, machine="a CPU", commit="abc", command="sslam evaluate --y"),
    run("2", 1, (0.2, 0.2), chosen={"lr": 0.1}, machine="a CPU", commit="abc"),
    run("1", 0, (), model="none", failed="no | sound", machine="a CPU"),
    run("1", 0, (0.25,), model="SSLAM", protocol="linear", machine="a GPU"),
]


def test_deviations_by_hand():
    found = spread(RUNS[:4], lambda one: one.last)
    assert found.mean == pytest.approx(0.5)
    assert found.of_runs == pytest.approx(statistics.stdev([0.8, 0.6, 0.4, 0.2]))
    assert found.of_folds == pytest.approx(statistics.stdev([0.7, 0.3]))
    assert found.of_seeds == pytest.approx(statistics.stdev([0.6, 0.4]))
    assert spread(RUNS[:1], lambda one: one.best) == Spread(0.9, None, None, None)


def test_rows():
    rows = {row.model: row for row in rows_of(RUNS)}
    eat = rows["EAT"]
    assert eat.best.mean == pytest.approx(0.55)
    assert (eat.num_runs, eat.num_failed, eat.chosen) == (4, 0, "lr 0.1 (3), 0.3 (1)")
    assert (rows["none"].best, rows["none"].last, rows["none"].num_runs, rows["none"].num_failed) == (None, None, 0, 1)


def test_what_the_tables_say(tmp_path):
    text = write_tables(RUNS, tmp_path)
    assert text == (tmp_path / "results.md").read_text()
    side_by_side, lines = text.partition("| model | suite |")[::2]
    assert side_by_side.splitlines() == [
        "ESC-10: accuracy in %, *last* ± of seeds",
        "",
        "| model | linear | knn |",
        "|---|---|---|",
        "| SSLAM | 25.0 |  |",
        "| EAT |  | 50.0 ± 14.1 |",
        "| none |  | failed |",
        "",
    ]
    lines = [line for line in ("| model | suite |" + lines).splitlines() if line.startswith("| ")]
    assert lines[0] == "| model | suite | protocol | metric | best | last | ± of folds | ± of seeds | runs | chosen |"
    assert lines[1] == "| SSLAM | ESC-10 | linear | accuracy | 25.0 | 25.0 |  |  | 1 |  |"  # in the order of the protocols
    assert (
        lines[2] == "| EAT | ESC-10 | knn | accuracy | 55.0 ± 31.1 | 50.0 ± 25.8 | 28.3 | 14.1 | 4 | lr 0.1 (3), 0.3 (1) |"
    )
    assert lines[3] == "| none | ESC-10 | knn | accuracy | failed | failed |  |  | 0, 1 failed |  |"
    assert lines[5] == "| none | ESC-10 | knn | 1 | 0 | no \\| sound |"
    assert "Seeds: 0, 1. Commit: unknown; abc." in text
    assert "Hardware: a GPU; a CPU. Run time: 2.0 min." in text
    assert text.endswith("```\nsslam evaluate --x\nsslam evaluate --y\n```\n")
    with (tmp_path / "results.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["model"] for row in rows] == ["SSLAM", "EAT", "none"]
    assert float(rows[1]["last_mean"]) == pytest.approx(0.5)
    assert float(rows[1]["last_std_folds"]) == pytest.approx(statistics.stdev([0.7, 0.3]))
    assert (rows[2]["last_mean"], rows[2]["failed"]) == ("", "1")
    with (tmp_path / "results_by_fold.csv").open() as file:
        by_fold = list(csv.DictReader(file))
    assert [(row["model"], row["fold"], row["runs"]) for row in by_fold] == [
        ("SSLAM", "1", "1"),
        ("EAT", "1", "2"),
        ("EAT", "2", "2"),
        ("none", "1", "0"),
    ]
    assert [float(row["last_mean"]) for row in by_fold[:3]] == pytest.approx([0.25, 0.7, 0.3])
    assert float(by_fold[1]["last_std_seeds"]) == pytest.approx(statistics.stdev([0.8, 0.6]))
    singles = json.loads((tmp_path / "results.json").read_text())
    assert len(singles) == len(RUNS)
    assert {(one["model"], one["best"], one["last"]) for one in singles if not one["failed"]} >= {("EAT", 0.9, 0.8)}
    assert [one["failed"] for one in singles if one["failed"]] == ["no | sound"]


def test_classes_that_no_test_clip_has_are_told(tmp_path):
    """Of the fold that leaves out the most; nothing is made up for runs of an older version, nor for other metrics."""

    def noted(fold, protocol, metric="mAP", **notes):
        return replace(run(fold, protocol=protocol, notes=notes), metric=metric)

    runs = [
        noted("1", "linear", scored_classes=9, classes=12),
        noted("2", "linear", scored_classes=8, classes=8),  # folds may be data of their own kind
        noted("1", "knn", scored_classes=12, classes=12),
        noted("1", "finetune"),
        noted("2", "finetune", scored_classes=3, classes=12),
        noted("1", "convex_gated", "accuracy", scored_classes=2, classes=12),
    ]
    found = {row.protocol: row.classes for row in rows_of(runs)}
    nothing = (None, None)
    assert found == {"linear": (9, 12), "knn": (12, 12), "finetune": nothing, "convex_gated": nothing}
    text = write_tables(runs, tmp_path)
    assert "| linear | mAP | 50.0 ± 0.0 | 40.0 ± 0.0 | 0.0 |  | 2, 9 of 12 classes |  |" in text
    assert "mAP is the mean over the classes that a test clip has; *runs* says where those are not all." in text
    assert "of 12 classes" not in text.replace("9 of 12 classes", "")
    with (tmp_path / "results.csv").open() as file:
        rows = {row["protocol"]: row for row in csv.DictReader(file)}
    assert [(row["runs"], row["scored_classes"], row["classes"]) for row in rows.values()] == [
        ("2", "9", "12"),
        ("1", "12", "12"),
        ("1", "", ""),
        ("2", "", ""),
    ]
    with (tmp_path / "results_by_fold.csv").open() as file:
        by_fold = {(row["protocol"], row["fold"]): (row["scored_classes"], row["classes"]) for row in csv.DictReader(file)}
    assert by_fold["linear", "2"] == ("8", "8")
    assert by_fold["finetune", "2"] == ("3", "12")
    assert "mAP is the mean" not in write_tables(runs[2:4], tmp_path)


def test_clips_that_were_left_out_are_told(tmp_path):
    """Of the fold with the most; nothing is made up for runs of an older version."""

    def noted(fold, protocol, *counts):
        return run(fold, protocol=protocol, notes=dict(zip(ClipCounts._fields, counts, strict=False)))

    runs = [noted("1", "linear", 80, 0, 7), noted("2", "linear", 80, 2, 3), noted("1", "knn", 80, 0, 0), noted("1", "old")]
    runs += [noted("1", "finetune", 80, 0, 5)]
    assert {row.protocol: row.clips for row in rows_of(runs)} == {
        "linear": (80, 2, 3),
        "knn": (80, 0, 0),
        "old": None,
        "finetune": (80, 0, 5),
    }
    assert runs[0].told == "accuracy last 40.0, best 50.0, without 7 training clips, in 0 s"
    assert runs[2].told == runs[3].told == "accuracy last 40.0, best 50.0, in 0 s"
    text = write_tables(runs, tmp_path)
    assert "| 2, without 2 of 80 test clips and 3 training clips |" in text
    assert "| 1, without 5 training clips |" in text
    assert text.count("without") == 2
    told = "Clips that cannot be read or are too short are left out: *runs* says how many, of the run with the most."
    assert told in text
    assert told not in write_tables(runs[2:4], tmp_path)
    write_tables(runs, tmp_path)
    with (tmp_path / "results_by_fold.csv").open() as file:
        rows = {(row["protocol"], row["fold"]): [row[name] for name in ClipCounts._fields] for row in csv.DictReader(file)}
    assert rows["linear", "1"] == ["80", "0", "7"]
    assert rows["old", "1"] == ["", "", ""]


def test_models_side_by_side(tmp_path):
    """By hand; a suite with one model has nothing beside it."""
    runs = [
        run("1", 0, (0.4,), "EAT"),
        run("2", 0, (0.6,), "EAT"),
        run("1", 1, (0.8,), "EAT"),
        run("1", 0, (0.3,), "SSLAM"),
        run("2", 0, (0.9,), "SSLAM"),
        run("1", 1, (0.7,), "SSLAM"),
        run("1", 0, (0.99,), "lucky"),
        run("2", 0, (), "lucky", failed="no sound"),
    ]
    (found,) = side_by_side(runs)
    assert found.cells["EAT", "knn"].of_each_seed == pytest.approx([0.5, 0.8])
    assert markdown_rows(found) == [
        ["model", "knn"],
        ["EAT", f"60.0 ± {100 * statistics.stdev([0.5, 0.8]):.1f}"],
        ["SSLAM", f"**63.3** ± {100 * statistics.stdev([0.6, 0.7]):.1f}"],
        ["lucky", "99.0 (1 of 3 runs, 1 failed)"],  # on the easiest fold alone
    ]
    assert side_by_side(runs[:3]) == []
    write_tables(runs[:3], tmp_path)
    assert not (tmp_path / "results.png").exists()
    write_tables(runs, tmp_path)
    with Image.open(tmp_path / "results.png") as picture:
        assert len(picture.convert("L").getcolors()) > 10


def test_runs_made_otherwise_are_not_compared():
    """What a model reads is its own affair; the data with their labels and the protocol are not."""

    def of(model, epochs, features="own", labels="1b"):
        settings = {"data": {"fold": 1}, "clips": labels, "protocol": {"epochs": epochs}, "features": features}
        return run(scores=(epochs / 100,), model=model, settings=settings)

    (found,) = side_by_side([of("a", 10, "decibel"), of("b", 10), of("c", 50), of("d", 10, labels="2c")])
    exception = "(other settings)"
    assert [row[1] for row in markdown_rows(found)[1:]] == [
        "**10.0**",
        "**10.0**",
        f"50.0 {exception}",
        f"10.0 {exception}",
    ]


@pytest.mark.filterwarnings("error")
def test_long_names_and_dollars_are_drawn_as_they_are(tmp_path):
    names = [f"/data/runs/{stage}_of_a_long_experiment_{{seed}}/checkpoints/last.ckpt" for stage in ("first", "second")]
    draw(side_by_side([run(model=name) for name in (*names, "$x_{$ 5$", "short")]), tmp_path / "a.png")
    with Image.open(tmp_path / "a.png") as picture:
        assert picture.width > 700


def test_what_is_done_is_not_done_again_and_nothing_is_mixed_up(tmp_path):
    store = RunStore(tmp_path / "out")
    assert store.all() == []
    key = RUNS[0].key
    assert key == Key("EAT", "ESC-10", "knn", "1", 0)
    assert store.done(key, {"a": 1}) is None
    store.add(RUNS[0])
    store.add(run(model="../a/b c", scores=()))
    store.add(RUNS[4])
    again = RunStore(tmp_path / "out")
    assert again.done(key, {"a": 1}) == RUNS[0]
    assert len(again.all()) == 3
    assert {path.parent.parent.parent.parent for path in tmp_path.rglob("*.json")} == {tmp_path / "out" / "runs"}
    assert again.done(RUNS[4].key, {"a": 2}) is None  # it failed, so it may be tried again, otherwise too
    with pytest.raises(
        ValueError, match=r"holds a run of EAT, ESC-10, knn, fold 1, seed 0 with other settings: a was 1, is 2\. Name"
    ):
        again.done(key, {"a": 2})
    store.add(run(seed=5, settings={"a": {"b": 1, "c": 2}}))
    with pytest.raises(ValueError, match=r"other settings: a\.c was 2, is 3"):
        again.done(key._replace(seed=5), {"a": {"b": 1, "c": 3}})


def test_one_row_is_of_one_kind_of_runs(tmp_path):
    def settings(epochs=10, fold=1, root="sounds", weights="ab", labels="1b"):
        data = {"class_path": "ESC50DataModule", "init_args": {"root": root, "fold": fold}}
        clips = {"test": f"fold {fold}, {labels}"}
        return {"weights": weights, "data": data, "clips": clips, "protocol": {"epochs": epochs}}

    store = RunStore(tmp_path / "out")
    store.add(run("1", 0, settings=settings()))
    store.add(run("3", 0, (), settings=settings(epochs=1), failed="no sound"))  # is in no mean
    other_seed, other_fold = RUNS[0].key._replace(seed=1), RUNS[0].key._replace(fold="2")
    assert store.done(other_seed, settings(weights="cd"), ["fold"]) is None
    assert store.done(other_fold, settings(fold=2), ["fold"]) is None
    assert store.done(other_fold._replace(protocol="linear"), settings(epochs=3)) is None
    for key, asked, told in (
        (other_seed, settings(epochs=20), r"protocol\.epochs was 10, is 20"),
        (other_seed, settings(fold=2), r"data\.init_args\.fold was 1, is 2"),
        (other_seed, settings(labels="2c"), r"clips\.test was fold 1, 1b, is fold 1, 2c"),
        (RUNS[0].key, settings(labels="2c"), r"clips\.test was fold 1, 1b, is fold 1, 2c"),
        (other_fold, settings(epochs=20, fold=2), r"protocol\.epochs was 10, is 20"),
        (other_fold, settings(fold=2, root="noise"), r"data\.init_args\.root was sounds, is noise"),
    ):
        with pytest.raises(
            ValueError, match=rf"run of EAT, ESC-10, knn, fold 1, seed 0 with other settings: {told}\. Name"
        ):
            store.done(key, asked, ["fold"])
    old_version = {name: value for name, value in settings().items() if name != "clips"}
    store.add(run("5", 0, settings=old_version))
    with pytest.raises(ValueError, match=r"fold 5, seed 0 with other settings: clips was None, is \{"):
        store.done(RUNS[0].key._replace(fold="5"), settings(), ["fold"])


def test_a_failure_does_not_take_the_place_of_scores(tmp_path):
    store = RunStore(tmp_path / "out")
    failure = run("1", 0, (), failed="no checkpoint")
    store.add(failure)
    store.add(RUNS[0])
    store.add(failure)
    assert store.all() == [RUNS[0]]


def test_other_peoples_folders_are_left_alone(tmp_path):
    (tmp_path / "photo.jpg").touch()
    with pytest.raises(
        FileExistsError, match="holds something else than results of evaluate: name another folder with --out"
    ):
        RunStore(tmp_path)
    with pytest.raises(FileExistsError, match="holds something else"):
        RunStore(tmp_path / "photo.jpg")
    store = RunStore(tmp_path / "out")
    store.add(RUNS[0])
    (path,) = (tmp_path / "out").rglob("*.json")
    path.write_text('{"model": 1')
    with pytest.raises(
        ValueError, match=r"fold_1_seed_0\.json is no run of evaluate .*: move it away, and it is made again"
    ):
        store.all()


def test_a_claimed_folder_is_known_before_it_has_results(tmp_path):
    """Pre-training comes first: an interrupted one is to go on, and another process may already judge."""
    RunStore(tmp_path / "out").claim()
    (tmp_path / "out" / "pretrained").mkdir()
    assert RunStore(tmp_path / "out").all() == []
