from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from sslam_lightning.data import AudioDataModule, SyntheticDataModule
from sslam_lightning.evaluation import ConvexGatedProbe, FineTuning, read_suite
from sslam_lightning.evaluation.settings import build
from sslam_lightning.evaluation.suite import PROTOCOLS

SUITE = {
    "name": "sounds",
    "metric": "mAP",
    "data": {
        "class_path": "sslam_lightning.data.SyntheticDataModule",
        "init_args": {"num_train": 8, "num_val": 4, "num_workers": 0},
    },
}


def write(folder: Path, **settings) -> Path:
    path = folder / "sounds.yaml"
    content = {name: value for name, value in {**SUITE, **settings}.items() if value is not None}
    path.write_text(yaml.safe_dump(content))
    return path


def test_what_a_suite_leaves_out(tmp_path):
    write(tmp_path)
    suite = read_suite("sounds", tmp_path)
    assert (suite.name, list(suite.folds), suite.validation, suite.share_clips) == ("sounds", ["all"], 0.2, False)
    assert suite.protocol_names == list(PROTOCOLS)
    assert read_suite(str(tmp_path / "sounds.yaml"), Path("nowhere")) == suite


def test_a_fold_lies_over_the_data_and_the_command_line_over_both(tmp_path):
    suite = read_suite(str(write(tmp_path, folds={1: {"num_val": 5}, 2: None})), tmp_path)
    under = {"num_train": 7, "resampler": "soxr"}
    assert list(suite.folds) == ["1", "2"]
    data = build(AudioDataModule, "data", suite.data_settings("1", {"batch_size": 3}, under))
    assert isinstance(data, SyntheticDataModule)
    assert (data.num_train, data.num_val, data.batch_size, data.resampler) == (8, 5, 3, "soxr")
    assert build(AudioDataModule, "data", suite.data_settings("1", {"num_val": 6}, under)).num_val == 6
    assert build(AudioDataModule, "data", suite.data_settings("2", {}, {})).num_val == 4


def test_protocols_of_a_suite_lie_over_the_shipped_ones(tmp_path):
    protocols = {
        "convex_gated": {"init_args": {"num_prototypes": 64}},
        "linear_published": {"init_args": {"updates": 7, "evaluations": 2, "model": {"pooling": "mean"}}},
        "deep": {"class_path": "sslam_lightning.evaluation.FineTuning", "init_args": {"updates": 3, "evaluations": 1}},
    }
    suite = read_suite(str(write(tmp_path, protocols=protocols, exclude_protocols=["knn"])), tmp_path)
    assert suite.protocol_names == [*(name for name in PROTOCOLS if name != "knn"), "deep"]
    built = {name: suite.build_protocol(name) for name in suite.protocol_names}
    assert isinstance(built["convex_gated"], ConvexGatedProbe)
    assert built["convex_gated"].num_prototypes == 64
    assert isinstance(built["deep"], FineTuning)
    published = built["linear_published"]
    assert (published.updates, published.model["pooling"], published.model["frozen_drop_path"]) == (7, "mean", True)
    assert published.model["optimizer"]["lr"] == 1e-3
    with pytest.raises(
        ValueError, match=r"the suite sounds has no protocol knn on purpose \(`exclude_protocols`\), only linear, "
    ):
        suite.protocol_settings("knn")
    with pytest.raises(ValueError, match="the suite sounds has no protocol bees, only linear"):
        suite.protocol_settings("bees")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"metrics": "mAP"}, "there is no setting metrics: did you mean metric?"),
        ({"metric": None}, "metric is missing"),
        ({"data": {"init_args": {}}}, r"data\.class_path is missing: it names the data module"),
        ({"folds": []}, "folds must be a table, got list"),
        ({"folds": {}}, "folds is empty: leave it out where there is one split"),
        ({"validation": 1}, "validation must be a share of the training clips between 0 and 1, or val, got 1"),
        ({"protocols": {"bees": {}}}, "bees is no protocol, and brings no class_path; known are linear, "),
        ({"exclude_protocols": ["bees"]}, "bees is no protocol"),
    ],
)
def test_what_is_wrong_is_said_with_the_file(settings, message, tmp_path):
    path = write(tmp_path, **settings)
    with pytest.raises(ValueError, match=rf"{path}: .*{message}"):
        read_suite(str(path), tmp_path)


def test_no_suite_and_no_yaml(tmp_path):
    write(tmp_path)
    with pytest.raises(
        FileNotFoundError, match=r"there is no suite bees: name a \.yaml file, or one of sounds \(in configs/"
    ):
        read_suite("bees", tmp_path)
    path = tmp_path / "sounds.yaml"
    for content, message in (("a: [", "is no YAML file: "), ("- a", "a suite is a table with name, metric and data")):
        path.write_text(content)
        with pytest.raises(ValueError, match=f"{path}.*{message}"):
            read_suite("sounds", tmp_path)


def test_settings_that_no_class_takes_are_named(tmp_path):
    suite = read_suite(str(write(tmp_path, protocols={"knn": {"init_args": {"votes": [1]}}})), tmp_path)
    with pytest.raises(ValueError, match=r"^protocols\.knn: .* Option 'votes' is not accepted$"):
        suite.build_protocol("knn")
    for check_only in (False, True):
        with pytest.raises(ValueError, match=r"^data: .* Option 'num_clips' is not accepted$"):
            build(AudioDataModule, "data", suite.data_settings("all", {"num_clips": 3}, {}), check_only)


def test_settings_are_checked_without_the_files():
    settings = {"class_path": "sslam_lightning.data.ESC50DataModule", "init_args": {"root": "nowhere", "fold": 1}}
    build(AudioDataModule, "data", settings, check_only=True)
    for wrong, message in (
        ({"batch_size": "many"}, "\"batch_size\": Expected a <class 'int'>. Got value: many"),
        ({"resampler": "mine"}, "\"resampler\": Expected a typing.Literal['torchaudio', 'soxr']. Got value: mine"),
        ({"fold": "first"}, "Given value: first"),
        ({"folds": 1}, "Option 'folds' is not accepted"),
    ):
        described = {**settings, "init_args": {**settings["init_args"], **wrong}}
        with pytest.raises(ValueError, match=rf"^data: .*ESC50DataModule.*{re.escape(message)}$"):
            build(AudioDataModule, "data", described, check_only=True)
