"""Downstream evaluation: protocols that judge an encoder on labeled clips, and the table of what came out."""

from sslam_lightning.evaluation.evaluate import Evaluation
from sslam_lightning.evaluation.protocols.base import Outcome, Protocol, Task
from sslam_lightning.evaluation.protocols.finetune import Detection, FineTuning
from sslam_lightning.evaluation.protocols.knn import KNN
from sslam_lightning.evaluation.protocols.probe import LinearProbe, Probe
from sslam_lightning.evaluation.protocols.token_probes import AttentiveProbe, ConvexGatedProbe, LayerMixProbe
from sslam_lightning.evaluation.suite import Suite, read_suite

__all__ = [
    "KNN",
    "AttentiveProbe",
    "ConvexGatedProbe",
    "Detection",
    "Evaluation",
    "FineTuning",
    "LayerMixProbe",
    "LinearProbe",
    "Outcome",
    "Probe",
    "Protocol",
    "Suite",
    "Task",
    "read_suite",
]
