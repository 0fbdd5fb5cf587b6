"""What a clip-level protocol learns by and is judged by."""

from __future__ import annotations

from typing import NamedTuple

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from sslam_lightning.metrics import accuracy, mean_average_precision


class Score(NamedTuple):
    """In [0, 1], and the number of classes that it is over: mAP leaves out those without a positive clip."""

    value: float
    num_classes: int


def loss(metric: str, logits: Float[Tensor, "clips classes"], labels: Float[Tensor, "clips classes"]) -> Float[Tensor, ""]:
    """Cross entropy where one class is right, binary cross entropy summed over classes where several are."""
    if metric == "accuracy":
        return F.cross_entropy(logits, labels)
    return F.binary_cross_entropy_with_logits(logits, labels, reduction="sum") / len(labels)


def probabilities(metric: str, logits: Float[Tensor, "clips classes"]) -> Float[Tensor, "clips classes"]:
    """Of the classes, by the metric's idea of them."""
    return logits.softmax(dim=1) if metric == "accuracy" else logits.sigmoid()


def score(metric: str, predicted: Float[Tensor, "clips classes"], labels: Float[Tensor, "clips classes"]) -> Score:
    """How good probabilities are; ValueError if nothing can be scored."""
    if metric == "accuracy":
        return Score(float(accuracy(predicted, labels)), labels.shape[1])
    found = mean_average_precision(predicted, labels)
    if found.num_scored_classes == 0:
        raise ValueError(f"mAP has nothing to score: none of {len(labels)} clips has a label")
    return Score(float(found.value), found.num_scored_classes)


def class_notes(metric: str, num_scored_classes: int) -> dict[str, int]:
    """What an `Outcome` notes beside an mAP: over how many classes it is."""
    return {"scored_classes": num_scored_classes} if metric == "mAP" else {}


def check_metric(metric: str, protocol: str) -> None:
    """Raise ValueError, naming the protocol, for a metric that is not about whole clips."""
    if metric not in ("accuracy", "mAP"):
        raise ValueError(
            f"{protocol} scores clips by accuracy or mAP, not by {metric}: name it in the suite's `exclude_protocols`"
        )
