"""Settings of fine-tuning that do not go together."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sslam_lightning.models import HuggingFaceClipEncoder, LogMelInput

if TYPE_CHECKING:
    from sslam_lightning.training.finetune import FinetuneModule


def check_settings(module: FinetuneModule) -> None:
    """Refuse features that a model of transformers does not read, and augmentations of what is not there.

    Raises:
        ValueError: naming the setting.
    """
    front_end, kind = module.front_end, type(module.front_end).__name__
    if isinstance(module.encoder, HuggingFaceClipEncoder):
        if isinstance(front_end.takes, LogMelInput):
            front_end.takes.check(module.features)
        elif module.features is not None:
            raise ValueError("this model of transformers reads no log-mels: set model.features to null")
    for name in ("noise_and_roll", "spec_augment"):
        if getattr(module, name) and module.features is None:
            raise ValueError(f"{name} changes log-mels, which the {kind} front-end does not read: leave it out")
    if module.mixup and module.features is None and not front_end.num_values:
        raise ValueError(f"mixup blends log-mels or images, the {kind} front-end reads neither: set mixup to null")
