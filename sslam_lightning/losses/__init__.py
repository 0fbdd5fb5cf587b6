"""What the student has to predict, and how wrong it was: one loss a file.

Each is a dataclass of settings that is called with a :class:`sslam_lightning.types.PretrainOutput` and returns one number,
already weighted; DINO's is built into a module, which keeps its center.
"""

from sslam_lightning.losses.dino import DINOLoss
from sslam_lightning.losses.extra_loss import ExtraLoss
from sslam_lightning.losses.info_nce import InfoNCE
from sslam_lightning.losses.reconstruction import ReconstructionLoss
from sslam_lightning.losses.regression import RegressionLoss
from sslam_lightning.losses.source_retention import SourceRetentionLoss
from sslam_lightning.losses.targets import TeacherTargets
from sslam_lightning.losses.utterance import UtteranceLoss

__all__ = [
    "DINOLoss",
    "ExtraLoss",
    "InfoNCE",
    "ReconstructionLoss",
    "RegressionLoss",
    "SourceRetentionLoss",
    "TeacherTargets",
    "UtteranceLoss",
]
