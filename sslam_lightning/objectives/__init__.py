"""What the student is asked to guess, and how wrong it was: one objective a file.

Objectives are settings with a ``__call__``; they keep no state. Each returns one number, already weighted.
"""

from sslam_lightning.objectives.dino import Dino
from sslam_lightning.objectives.info_nce import InfoNCE
from sslam_lightning.objectives.objective import Objective
from sslam_lightning.objectives.reconstruction import Reconstruction
from sslam_lightning.objectives.regression import Regression
from sslam_lightning.objectives.source_retention import SourceRetention
from sslam_lightning.objectives.targets import LayerTargets
from sslam_lightning.objectives.utterance import Utterance

__all__ = [
    "Dino",
    "InfoNCE",
    "LayerTargets",
    "Objective",
    "Reconstruction",
    "Regression",
    "SourceRetention",
    "Utterance",
]
