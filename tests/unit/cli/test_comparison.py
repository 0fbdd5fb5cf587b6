from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from sslam_lightning import cli
from sslam_lightning.cli.compare import arguments, pretrain, read_comparison, source
from sslam_lightning.runtime.configs import config_folder

SHIPPED = sorted((config_folder() / "downstream" / "compare").glob("*.yaml"))
EAT = {"configs": ["pretrain/eat_base", "overlays/sizes/tiny"], "set": {"model.utterance.weight": 64}}
CONTENT = {
    "suites": ["synthetic"],
    "protocols": ["knn"],
    "set": {"trainer.max_steps": 4, "data.fold": None},
    "models": {
        "untrained": {"random": "overlays/sizes/tiny,overlays/tiny/bat"},
        "EAT": {**EAT, "judged": False},
        "SSL/AM": {"configs": ["pretrain/sslam_base"], "after": "EAT", "set": {"trainer.max_steps": 2}},
    },
}


@pytest.fixture
def write(tmp_path: Path):
    def it(**changes) -> Path:
        path = tmp_path / "some.yaml"
        path.write_text(yaml.safe_dump({**CONTENT, **changes}, sort_keys=False))
        return path

    return it


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_shipped_comparisons(path):
    comparison = read_comparison(path)
    assert comparison.protocols
    assert sum(model.judged for model in comparison.models.values()) > 10


def test_there_is_the_family():
    assert "esc10_family" in [path.stem for path in SHIPPED]


def test_what_a_pre_training_is_called_with(write):
    comparison = read_comparison(write())
    args = arguments(comparison, "SSL/AM", 3, Path("out"), {"root": "sounds", "fold": 2})
    assert args[:2] == ["fit", "--config"]
    assert args[2] == "pretrain/sslam_base"
    assert args[3:] == [
        "--trainer.max_steps=2",  # the model's own
        "--data.fold=2",  # the command line's
        "--data.root=sounds",
        "--model.init_from=out/pretrained/EAT_seed3/checkpoints/last.ckpt",
        "--seed_everything=3",
        "--trainer.default_root_dir=out/pretrained/SSL-AM_seed3",
        "--ckpt_path=last",
    ]
    assert "--model.init_from=null" in arguments(comparison, "EAT", 3, Path("out"), {})
    assert source(comparison, "SSL/AM", Path("out")) == "out/pretrained/SSL-AM_seed{seed}/checkpoints/last.ckpt"
    tiny, bat = source(comparison, "untrained", Path("out")).split(",")
    assert tiny.endswith("configs/overlays/sizes/tiny.yaml")
    assert bat.endswith("configs/overlays/tiny/bat.yaml")


def test_what_others_begin_with_comes_first_and_nothing_is_done_twice(write, tmp_path, monkeypatch):
    comparison, ran = read_comparison(write()), []

    def run(args):
        (folder,) = (word.split("=")[1] for word in args if word.startswith("--trainer.default_root_dir"))
        ran.append(Path(folder).name)
        if len(ran) == 3:
            raise KeyboardInterrupt
        Path(folder).mkdir(parents=True, exist_ok=True)

    monkeypatch.setattr(cli, "run_trainer", run)
    assert list(pretrain(comparison, "untrained", [0], tmp_path, {})) == []
    with pytest.raises(KeyboardInterrupt):
        list(pretrain(comparison, "SSL/AM", [0, 1], tmp_path, {}))
    assert ran == ["EAT_seed0", "EAT_seed1", "SSL-AM_seed0"]
    told = list(pretrain(comparison, "SSL/AM", [0, 1], tmp_path, {}))
    assert ran[3:] == ["SSL-AM_seed0", "SSL-AM_seed1"]
    assert [args[0] for args in told] == ["fit", "fit"]
    assert list(pretrain(comparison, "SSL/AM", [0, 1], tmp_path, {})) == []


def test_a_pre_training_of_other_settings_is_not_taken(write, tmp_path, monkeypatch):
    ran = []
    monkeypatch.setattr(cli, "run_trainer", ran.append)
    data = {"root": "sounds", "num_workers": 0}
    more = {**CONTENT["set"], "trainer.max_steps": 8}
    list(pretrain(read_comparison(write()), "SSL/AM", [0], tmp_path, data))
    assert len(ran) == 2
    same = {**data, "num_workers": 4}  # makes no other weights
    monkeypatch.chdir(tmp_path)  # nor does the place that the command is called from
    assert list(pretrain(read_comparison(write()), "SSL/AM", [0], Path(), same)) == []
    other_config = {"EAT": {**EAT, "configs": ["pretrain/eat_large"]}}
    for changes, other, told in (
        ({"set": more}, data, r"EAT_seed0 was pre-trained with other settings: trainer\.max_steps was 4, is 8\. Name"),
        ({}, {"root": "noise"}, r"data\.root was sounds, is noise"),
        ({"models": {**CONTENT["models"], **other_config}}, data, r"configs was .*eat_base.*, is \['pretrain/eat_large'\]"),
    ):
        with pytest.raises(ValueError, match=told):
            list(pretrain(read_comparison(write(**changes)), "SSL/AM", [0], tmp_path, other))
    done, settings = (tmp_path / "pretrained" / "EAT_seed0" / name for name in ("done", "settings.json"))
    done.unlink()
    assert len(list(pretrain(read_comparison(write(set=more)), "EAT", [0], tmp_path, data))) == 1  # it had no weights yet
    done.unlink()
    (done.parent / "checkpoints").mkdir()  # now it has, and is to go on
    with pytest.raises(ValueError, match=r"trainer\.max_steps was 8, is 4"):
        list(pretrain(read_comparison(write()), "EAT", [0], tmp_path, data))
    settings.unlink()
    with pytest.raises(ValueError, match="EAT_seed0 does not say with which settings it was pre-trained: move it away"):
        list(pretrain(read_comparison(write()), "EAT", [0], tmp_path, data))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model": {}}, "there is no setting model, only suites, protocols, models, set"),
        ({"models": {}}, "needs suites and models"),
        ({"models": {"EAT": {"config": []}}}, r"models\.EAT: there is no setting config, only configs, set, after, "),
        ({"models": {"EAT": []}}, r"models\.EAT: expected a table of configs, set, "),
        ({"models": {"EAT": {}}}, r"models\.EAT needs either configs or random"),
        ({"models": {"EAT": {**EAT, "after": "x"}}}, r"models\.EAT starts after x, which does not stand above it"),
        ({"models": {"EAT": {"configs": ["x/y"]}}}, r"models\.EAT names configs/x/y\.yaml, which does not exist"),
    ],
)
def test_what_is_wrong_in_the_file_is_named(changes, message, write):
    path = write(**changes)
    with pytest.raises((ValueError, FileNotFoundError), match=rf"{path}:? {message}"):
        read_comparison(path)


def test_no_file_and_no_yaml(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"there is no comparison at .*x\.yaml"):
        read_comparison(tmp_path / "x.yaml")
    (tmp_path / "x.yaml").write_text("a: [")
    with pytest.raises(ValueError, match=r"x\.yaml is no YAML file: "):
        read_comparison(tmp_path / "x.yaml")
