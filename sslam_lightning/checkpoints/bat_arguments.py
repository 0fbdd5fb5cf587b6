"""The arguments of BAT's public scripts that its importer reads."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sslam_lightning.checkpoints.config_keys import Purpose, check_keys
from sslam_lightning.checkpoints.key_tables import BAT_KEYS
from sslam_lightning.checkpoints.settings import read_dataclass
from sslam_lightning.checkpoints.stand_ins import opened
from sslam_lightning.features.decibels import fft_samples
from sslam_lightning.features.fbank import hop_samples
from sslam_lightning.models.heads import Pooling
from sslam_lightning.whole_numbers import check_whole_numbers

_SINGLE_LABEL = ("esc50", "scv2")


@dataclass(frozen=True)
class Arguments:
    """The honored keys of ``BAT_KEYS``; None: the file does not say. Sizes that weights tell as well are compared."""

    sr: int = 16000
    n_fft: int = 1024
    hop_length: int = 160
    n_mels: int = 128
    time_frame_size: int | None = None
    patch_size: int | None = None
    dim: int | None = None
    depth: int | None = None
    num_heads: int | None = None
    mlp_ratio: float | None = None
    decoder_dim: int | None = None
    decoder_depth: int | None = None
    decoder_heads: int | None = None
    decoder_mlp_ratio: float | None = None
    task: str | None = None
    use_cls_in_head: bool = True

    def __post_init__(self) -> None:
        check_whole_numbers(self, "args")

    @property
    def multi_label(self) -> bool:
        """Whether the task has several labels a clip."""
        return self.task not in _SINGLE_LABEL

    @property
    def pooling(self) -> Pooling:
        """What the linear head reads."""
        return "clip_token" if self.use_cls_in_head else "mean"

    def refuse_unless(self, name: str, found: float) -> None:
        """Raise ValueError if the argument ``name`` says something else than the weights do."""
        told = getattr(self, name)
        if told is not None and told != found:
            raise ValueError(f"args.{name} is {told}, its weights are those of {found:g}")


def read_arguments(args: Any, where: str, purpose: Purpose) -> Arguments:
    """The arguments of a file.

    Args:
        args: as a table, or None, which are the defaults.
        where: what to call them in messages.
        purpose: what the file is opened for.

    Raises:
        ValueError: naming the first that is unknown, of another type, or not computed here.
    """
    args = {} if args is None else opened(args)
    if not isinstance(args, Mapping):
        raise ValueError(f"{where} must be a table of settings, got {type(args).__name__}")
    check_keys(args, BAT_KEYS, where, purpose)
    arguments = read_dataclass(Arguments, {key: opened(value) for key, value in args.items()}, where)
    computed = {"n_fft": fft_samples(arguments.sr), "hop_length": hop_samples(arguments.sr)}
    for name, value in computed.items():
        if getattr(arguments, name) != value:
            raise ValueError(f"{where}.{name} is {getattr(arguments, name)}, only {value} is computed here")
    return arguments
