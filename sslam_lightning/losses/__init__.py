"""What the student is asked to guess, and how wrong it was: one loss a file.

Objectives are settings with a ``__call__``; they keep no state. Each returns one number, already weighted.
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
