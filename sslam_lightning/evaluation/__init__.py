"""Downstream evaluation: protocols that judge an encoder on labelled clips, and the table of what came out."""

from sslam_lightning.evaluation.attentive import AttentiveProbe
from sslam_lightning.evaluation.evaluate import Evaluation
from sslam_lightning.evaluation.finetune import Detection, FineTuning
from sslam_lightning.evaluation.knn import KNN
from sslam_lightning.evaluation.layer_probes import ConvexGatedProbe, LayerMixProbe
from sslam_lightning.evaluation.linear import LinearProbe
from sslam_lightning.evaluation.probe import Probe
from sslam_lightning.evaluation.protocol import Outcome, Protocol, Task
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
