from __future__ import annotations

import io
import json
from pathlib import Path

import torch
import yaml
from lightning.pytorch.loggers import CSVLogger
from tiny_modules import pretrain

from sslam_lightning.features import LogMels
from sslam_lightning.losses import TeacherTargets
from sslam_lightning.masking import UniformMask
from sslam_lightning.mixing import FullMixing, PartialMixing
from sslam_lightning.training.run.hparams import plain


def test_dataclasses_become_dictionaries() -> None:
    assert plain(TeacherTargets(3, normalize_layers=("batch", "layer"))) == {
        "top_k_layers": 3,
        "output": "ffn",
        "normalize_layers": ["batch", "layer"],
        "normalize_average": ["layer"],
        "eps": 1e-5,
    }


def test_members_of_a_family_keep_their_class() -> None:
    assert plain(UniformMask(0.5)) == {
        "class_path": "sslam_lightning.masking.uniform.UniformMask",
        "init_args": {"mask_ratio": 0.5},
    }
    assert plain({"mixing": FullMixing("neighbor")})["mixing"]["init_args"] == {
        "partner": "neighbor",
        "padding": "covers",
    }


def test_containers_and_plain_values() -> None:
    assert plain({"a": (1, [2.5, None]), 3: {"b": True}, "c": "d"}) == {"a": [1, [2.5, None]], "3": {"b": True}, "c": "d"}
    assert plain(TeacherTargets) is TeacherTargets  # a class is no object of it


def test_the_result_needs_no_pickle() -> None:
    settings = plain({"features": LogMels(), "masking": UniformMask(), "targets": TeacherTargets(), "mixing": None})
    assert json.loads(json.dumps(settings)) == settings
    saved = io.BytesIO()
    torch.save(settings, saved)
    saved.seek(0)
    assert torch.load(saved, weights_only=True) == settings


def test_a_logger_can_write_the_settings_of_a_module_built_in_python(tmp_path) -> None:
    module = pretrain(mixing=PartialMixing("neighbor"))
    logger = CSVLogger(tmp_path)
    logger.log_hyperparams(module.hparams_initial)
    logger.save()
    written = yaml.safe_load((Path(logger.log_dir) / "hparams.yaml").read_text())
    assert written["encoder"]["dim"] == 16
    assert written["mixing"]["init_args"] == {"partner": "neighbor", "padding": "covers", "regions": "per_clip"}
