"""From a checkpoint to a module that is ready to use."""

from __future__ import annotations

from pathlib import Path

import torch

from sslam_lightning.checkpoints.read import read_weights
from sslam_lightning.checkpoints.strictly import load_strictly
from sslam_lightning.checkpoints.verify import num_classes
from sslam_lightning.checkpoints.weights import Part, Weights
from sslam_lightning.models import ClassificationHead, Classifier, Encoder, TransformerDecoder, TransformerDecoderConfig


def load_encoder(source: str | Path, part: Part = "student") -> Encoder:
    """The encoder of a checkpoint, in evaluation mode; its sizes are in ``.config``.

    Args:
        source: a file, a folder or a Hub id, see :func:`sslam_lightning.checkpoints.read_weights`.
        part: which of the encoders of a pre-trained model.

    Raises:
        OSError: if there is no such checkpoint.
        ValueError: if it cannot be used, or holds no teacher where one is asked for.
    """
    weights = read_weights(source)
    return _encoder(weights, part).eval()


def load_classifier(source: str | Path) -> Classifier:
    """Encoder and head of a fine-tuned checkpoint, in evaluation mode.

    Args:
        source: a file, a folder or a Hub id, see :func:`sslam_lightning.checkpoints.read_weights`.

    Raises:
        OSError: if there is no such checkpoint.
        ValueError: if it cannot be used, or holds no head.
    """
    weights = read_weights(source)
    head, decoder = build_head(weights)
    return Classifier(_encoder(weights, "student"), head, decoder).eval()


def build_head(weights: Weights) -> tuple[ClassificationHead, TransformerDecoder | None]:
    """The head, and the decoder that it stands on where it does.

    Raises:
        ValueError: if there is no head.
    """
    classes, decoder = num_classes(weights), None
    width = weights.encoder.dim
    if weights.head_on == "decoder" and isinstance(weights.decoder_config, TransformerDecoderConfig):
        decoder, width = TransformerDecoder(weights.decoder_config, width), weights.decoder_config.dim
        load_strictly(decoder, weights.decoder or {}, "decoder", weights.source)
    head = ClassificationHead(width, classes, weights.pooling)
    load_strictly(head, weights.head or {}, "head", weights.source)
    return head, decoder


def _encoder(weights: Weights, part: Part) -> Encoder:
    state = weights.part(part)
    with torch.device("meta"):  # initial weights would be drawn only to be overwritten
        encoder = Encoder(weights.encoder)
    encoder = encoder._apply(lambda t: torch.empty_like(t, device="cpu") if t.is_meta else t)  # as to_empty, but no more
    load_strictly(encoder, state, part, weights.source)
    return encoder
