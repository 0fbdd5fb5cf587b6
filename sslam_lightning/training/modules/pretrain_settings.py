"""Which settings of pre-training go together."""

from __future__ import annotations

from typing import Protocol

from torch import nn

from sslam_lightning.features import LogMels
from sslam_lightning.losses import SourceRetentionLoss, TeacherTargets, UtteranceLoss
from sslam_lightning.losses.dino import DINO
from sslam_lightning.mixing import Mixer
from sslam_lightning.models import Encoder, FrontEnd
from sslam_lightning.models.front_ends.inputs import ImageInput, TextInput
from sslam_lightning.training.callbacks import EMAConfig

LOSSES_TO_TARGETS = ("regression", "utterance", "dino", "source_retention", "extra_loss")  # which need a teacher


class PretrainSettings(Protocol):
    """What is looked at of a `PretrainModule`."""

    student: Encoder
    features: LogMels | None
    mixing: Mixer | None
    masks_per_clip: int
    targets: TeacherTargets
    utterance: UtteranceLoss | None
    dino: DINO | None
    source_retention: SourceRetentionLoss | None
    ema: EMAConfig | None
    named_losses: nn.ModuleDict
    crop_to_shortest: bool
    roll: bool

    @property
    def front_end(self) -> FrontEnd: ...


def check_settings(module: PretrainSettings) -> None:
    """Refuse losses that lack what they are about, and layers that no encoder has.

    Raises:
        ValueError: naming the setting, and what it needs.
    """
    encoder, front_end = module.student.config, module.front_end
    if not len(module.named_losses):
        raise ValueError("there is nothing to learn: configure at least one loss, such as regression or reconstruction")
    if module.ema is None and (needy := [name for name in LOSSES_TO_TARGETS if getattr(module, name)]):
        raise ValueError(f"{', '.join(needy)} compare with a teacher, and ema is null: set them to null, or configure ema")
    if module.source_retention and not module.mixing:
        raise ValueError("source_retention needs mixing: there are no sources to retain in clean clips")
    if module.utterance and module.dino:
        raise ValueError("dino takes the place of utterance: set one of them to null")
    if module.masks_per_clip < 1:
        raise ValueError(f"masks_per_clip must be at least 1, got {module.masks_per_clip}")
    if module.ema:
        check_layers("targets", module.targets.top_k_layers, encoder.depth)
    if module.utterance:
        check_layers("utterance", module.utterance.top_k_layers, module.targets.top_k_layers or encoder.depth)
    if module.mixing and encoder.front_end:
        raise ValueError("mixing is made for log-mel patches: it needs encoder.front_end null")
    fixed = module.features is not None and module.features.num_frames is not None
    if module.crop_to_shortest and (fixed or isinstance(front_end.takes, (ImageInput, TextInput))):
        raise ValueError(
            "crop_to_shortest cuts waveforms, but this model reads something else, or log-mels of a fixed length: set it "
            "to false, or features.num_frames to null"
        )
    if module.roll and isinstance(front_end.takes, (ImageInput, TextInput)):
        raise ValueError("roll shifts waveforms, but this model reads something else: set it to false")
    for name in ("reconstruction", "info_nce"):
        if getattr(module, name) and not front_end.num_values:
            kind = type(front_end).__name__
            raise ValueError(f"the {kind} front-end has no patches that could be reconstructed: set {name} to null")


def check_layers(name: str, layers: int | None, most: int) -> None:
    """Raise ValueError unless ``layers`` is None or a number of blocks that there are."""
    if layers is not None and not 1 <= layers <= most:
        raise ValueError(f"{name}.top_k_layers must lie between 1 and {most}, got {layers}")
