from __future__ import annotations

import inspect
import re
from typing import Any

import pytest
from lightning.pytorch import Callback

from sslam_lightning import data, masking, mixing, objectives, training
from sslam_lightning.cli.unfit_settings import arguments_of, refuse_unfit_settings
from sslam_lightning.training import callbacks
from sslam_lightning.training.loggers import WandbRun

PRETRAIN = "sslam_lightning.training.PretrainModule"
SYNTHETIC = "sslam_lightning.data.SyntheticDataModule"


class Theirs(Callback):
    """What a class of somebody else takes is not known: its hints may be of another module, or false."""

    def __init__(self, every: NotThere = 3) -> None:  # type: ignore[name-defined]
        self.every = every


def make_theirs(every: int = 3) -> Theirs:
    return Theirs(every)


def _refuse(trainer: dict[str, Any] | None = None, model: dict[str, Any] | None = None, **of_data: Any) -> None:
    refuse_unfit_settings(
        {
            "trainer": trainer or {},
            "model": {"class_path": PRETRAIN, "init_args": model or {}},
            "data": {"class_path": SYNTHETIC, "init_args": of_data},
        }
    )


def test_the_types_of_every_class_are_known():
    families = (training, data, masking, mixing, objectives, callbacks)
    members = [WandbRun, *(getattr(family, name) for family in families for name in family.__all__)]
    classes = [kind for kind in members if isinstance(kind, type) and not issubclass(kind, (tuple, Exception))]
    assert len(classes) > 40
    for kind in classes:
        arguments = arguments_of(kind)
        assert arguments.keys() >= {name for name in inspect.signature(kind).parameters if name != "options"}, kind
        assert not any(isinstance(hint, str) for hint, _ in arguments.values()), kind


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"model": {"encoder": {"dim": None}}}, "model.encoder.dim cannot be null; it is 768 by default"),
        ({"model": {"encoder": None}}, "model.encoder cannot be null"),
        (
            {"model": {"utterance": {"reduction": None}}},
            "model.utterance.reduction cannot be null; it is 'mean'",
        ),
        ({"model": {"encoder": 3}}, "model.encoder has settings of its own (model.encoder.NAME), got 3"),
        ({"num_val": None}, "data.num_val cannot be null; it is 400 by default"),
        ({"batch_size": None}, "data.batch_size cannot be null"),
        ({"trainer": {"max_steps": None}}, "trainer.max_steps cannot be null; it is -1 by default"),
    ],
)
def test_what_a_class_does_not_take(settings, told):
    with pytest.raises(ValueError, match=f"^{re.escape(told)}"):
        _refuse(**settings)


@pytest.mark.parametrize("kind", [Theirs, make_theirs])
def test_what_may_be_null(kind):
    """Optional settings, and whatever other people's classes and functions are given."""
    theirs = {"class_path": f"{kind.__module__}.{kind.__name__}", "init_args": {"every": None}}
    _refuse({"callbacks": [theirs], "logger": None, "max_epochs": None})
    _refuse(model={"utterance": None, "mixing": None, "optimizer": {"max_updates": None}, "regression": {"scale": None}})
