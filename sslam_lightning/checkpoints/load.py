"""From a checkpoint to a module that is ready to use."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from sslam_lightning.checkpoints.read import load_strictly, read_weights
from sslam_lightning.models import ClassificationHead, Classifier, Encoder


def load_encoder(source: str | Path, part: Literal["student", "teacher"] = "student") -> Encoder:
    """The encoder of a checkpoint, in evaluation mode; its sizes are in ``.config``.

    Args:
        source: a file, a folder or a Hub id, see :func:`sslam_lightning.checkpoints.read_weights`.
        part: which of the encoders of a pre-trained model.

    Raises:
        OSError: if there is no such checkpoint.
        ValueError: if it cannot be used, or holds no teacher where one is asked for.
    """
    weights = read_weights(source)
    state = weights.part(part)
    encoder = Encoder(weights.encoder)
    load_strictly(encoder, state, part, weights.source)
    return encoder.eval()


def load_classifier(source: str | Path) -> Classifier:
    """Encoder and head of a fine-tuned checkpoint, in evaluation mode.

    Args:
        source: a file, a folder or a Hub id, see :func:`sslam_lightning.checkpoints.read_weights`.

    Raises:
        OSError: if there is no such checkpoint.
        ValueError: if it cannot be used, or holds no head.
    """
    weights = read_weights(source)
    if weights.head is None:
        raise ValueError(f"{weights.source} holds no classification head: it is a pre-trained model, not a fine-tuned one")
    num_classes = len(weights.head["linear.weight"])
    encoder = Encoder(weights.encoder)
    head = ClassificationHead(weights.encoder.dim, num_classes, weights.pooling)
    load_strictly(encoder, weights.student, "student", weights.source)
    load_strictly(head, weights.head, "head", weights.source)
    return Classifier(encoder, head).eval()
