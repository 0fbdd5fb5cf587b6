"""Which checkpoint of a run a command takes: ``--ckpt_path`` takes a file, or the word ``last`` or ``best``."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.utilities import rank_zero_only

from sslam_lightning.checkpoints import BEST, LAST, newest_whole_checkpoint
from sslam_lightning.training.callbacks import RunCheckpoint

CKPT_PATH_HELP = (
    f"A checkpoint of the run: a file; 'last', which is checkpoints/{LAST} in trainer.default_root_dir, the newest state "
    f"(another file where it is damaged); or 'best', which is checkpoints/{BEST}, that with the best monitored score on "
    "validation clips."
)
_SCORES_OF_CLIPS = {"val/mAP", "val/accuracy"}  # of several classes, or of exactly one; the higher the better
_DOING = {"fit": "resuming from", "validate": "validating", "test": "testing", "predict": "predicting with"}


def as_run_checkpoints(callbacks: Any) -> None:
    """Read Lightning's own `ModelCheckpoint` in a configuration as a `RunCheckpoint`, whose ``last.ckpt`` is the last."""
    for callback in _listed(callbacks):
        module, _, name = getattr(callback, "class_path", "").rpartition(".")
        if module and getattr(import_module(module), name) is ModelCheckpoint:
            callback.class_path = f"sslam_lightning.training.callbacks.{RunCheckpoint.__name__}"


def monitor_score_of(model: Any, callbacks: list[Any]) -> None:
    """Monitor mAP for multi-label clips and accuracy for others, whichever of them the recipe names."""
    score = f"val/{getattr(model, 'score_name', None)}"
    for callback in callbacks:
        monitored = getattr(callback, "monitor", None)
        if isinstance(callback, ModelCheckpoint) and {monitored, score} == _SCORES_OF_CLIPS:
            callback.monitor = score
            _say(f"monitoring {score} in place of {monitored}, which these clips do not have (data.multi_label)")


def find_checkpoint(word: str, trainer: Mapping[str, Any], starts: bool) -> str | None:
    """The file that ``last`` or ``best`` stands for; None where a run without a checkpoint may start from the beginning.

    Raises:
        FileNotFoundError: if there is none.
        ValueError: if all that there are are damaged.
    """
    folder = _folder(trainer)
    if word == "best":
        if not (folder / BEST).is_file():
            raise FileNotFoundError(
                f"no {BEST} in {folder}: it is kept by a RunCheckpoint with a monitored score, from the first validation "
                "on. Take --ckpt_path=last, or name a file"
            )
        return str(folder / BEST)
    newest = newest_whole_checkpoint(folder)
    if newest.path is None and newest.passed_over:
        raise ValueError(f"none of the checkpoints in {folder} can be opened; {newest.passed_over[0]}")
    if newest.path is None and not starts:
        raise FileNotFoundError(f"no checkpoint in {folder}: train first (sslam fit), or name a file with --ckpt_path")
    _say(*newest.passed_over)
    if newest.path is None:
        _say(f"no checkpoint in {folder} yet, starting from the beginning")
    return str(newest.path) if newest.path else None


def tell_checkpoint(command: str, path: str | Path, step: int) -> None:
    _say(f"{_DOING[command]} {path} (update {step})")


def _folder(trainer: Mapping[str, Any]) -> Path:
    """That of the first configured callback with checkpoints, as `SaveOnSignal` has it."""
    callbacks = (getattr(callback, "init_args", {}) for callback in _listed(trainer["callbacks"]))
    folder = next((settings.get("dirpath") for settings in callbacks if "dirpath" in settings), None)
    return Path(folder or Path(trainer["default_root_dir"]) / "checkpoints")


def _listed(callbacks: Any) -> list[Any]:
    return callbacks if isinstance(callbacks, list) else [callbacks] if callbacks else []


def _say(*lines: str) -> None:
    if getattr(rank_zero_only, "rank", 0) == 0:
        for line in lines:
            print(f"sslam: {line}", file=sys.stderr)
