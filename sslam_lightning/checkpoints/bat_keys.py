"""The arguments of BAT's public scripts: honored, without effect on what a file is opened for, or refused by name."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from sslam_lightning.checkpoints.pickle_scan import printable
from sslam_lightning.checkpoints.settings import read_dataclass
from sslam_lightning.checkpoints.stand_ins import opened
from sslam_lightning.features.decibels import fft_samples
from sslam_lightning.features.fbank import hop_samples
from sslam_lightning.models.heads import Pooling


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


# How the public scripts trained, where here the recipe decides, and where their files were.
NO_EFFECT = _words(
    """
    config device compile num_workers train_num_workers val_num_workers test_num_workers save_interval state_save_path
    save_model dataset_dir pretrained_path vit_size num_time_patches num_freq_patches num_temporal_patches patch_stride_ms
    batch_size train_batch_size val_batch_size test_batch_size val_frequency test_frequency optimization_steps
    grad_accumulation_steps clip_norm grad_clip_norm lr min_lr lr_warmup_steps lr_layer_decay weight_decay adam_beta1
    adam_beta2 ema_warmup_steps ema_decay_start ema_decay_end mask_ratio num_views finetune use_asymmetric_loss
    label_smoothing lasso_weight dropout path_dropout_rate head_dropout augment use_mixup mixup_chance mixup_beta
    mixup_hard_label use_random_gain use_color_noise color_noise_chance use_time_roll use_tf_mask freq_mask_param
    time_mask_param tf_mask_repeats num_prototypes num_vqt frame_length frame_shift num_classes
    """
)
_SINGLE_LABEL = ("esc50", "scv2")


@dataclass(frozen=True)
class Arguments:
    """What an importer needs of them; None: the file does not say. Sizes that weights tell as well are compared."""

    sr: int = 16000
    n_fft: int = 1024
    hop_length: int = 160
    n_mels: int = 128
    f_min: int = 0
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
    model_name: str = "BAT"
    task: str | None = None
    head: str = "linear"
    head_norm: bool = True
    use_cls_in_head: bool = True
    frame_wise_task: bool = False

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


HONORED = tuple(field.name for field in fields(Arguments))


def check_arguments(args: Any, where: str, has_head: bool) -> Arguments:
    """The arguments of a file.

    Args:
        args: as a table or None, which are the defaults.
        where: what to call them in messages.
        has_head: whether the file is of a model with a head.

    Raises:
        ValueError: naming the first that is unknown, of another type, or not computed here.
    """
    args = {} if args is None else opened(args)
    if not isinstance(args, Mapping):
        raise ValueError(f"{where} must be a table of settings, got {type(args).__name__}")
    known = (*HONORED, *NO_EFFECT)
    for key in args:
        if key not in known:
            close = difflib.get_close_matches(str(key)[:200], known, 1)
            hint = f", did you mean {close[0]}?" if close else ""
            raise ValueError(f"{where}.{printable(str(key))} is no argument of BAT's public code{hint}")
    arguments = read_dataclass(Arguments, {key: opened(args[key]) for key in HONORED if key in args}, where)
    only: dict[str, Any] = {
        "n_fft": fft_samples(arguments.sr),
        "hop_length": hop_samples(arguments.sr),
        "f_min": 0,
        "model_name": "BAT",
    }
    if has_head:
        only |= {"head": "linear", "head_norm": True, "frame_wise_task": False}
    for name, value in only.items():
        if getattr(arguments, name) != value:
            raise ValueError(f"{where}.{name} is {getattr(arguments, name)!r}, only {value!r} is computed here")
    return arguments
