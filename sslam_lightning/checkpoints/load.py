"""From a checkpoint to a module that is ready to use."""

from __future__ import annotations

from pathlib import Path

import torch

from sslam_lightning.checkpoints.formats.transformers_settings import making_a_model
from sslam_lightning.checkpoints.read import read_model
from sslam_lightning.checkpoints.state_dict import check_names_and_shapes, load_state_dict_strict
from sslam_lightning.checkpoints.weights import Part, Weights
from sslam_lightning.default_dtype import float32_by_default
from sslam_lightning.models import (
    ClassificationHead,
    Classifier,
    ClipEncoder,
    Encoder,
    HuggingFaceClipEncoder,
    HuggingFaceConfig,
    TransformerDecoder,
    TransformerDecoderConfig,
)


def load_encoder(source: str | Path, part: Part = "student") -> ClipEncoder:
    """The encoder of a checkpoint, in evaluation mode; its sizes are in ``.config``.

    Args:
        source: a file, a folder or a Hub id, see :func:`sslam_lightning.checkpoints.read_model`.
        part: which of the encoders of a pre-trained model.

    Raises:
        OSError: if there is no such checkpoint.
        ValueError: if it cannot be used, or holds no teacher where one is asked for.
    """
    return open_encoder(read_model(source), part).eval()


def load_classifier(source: str | Path) -> Classifier:
    """Encoder and head of a fine-tuned checkpoint, in evaluation mode.

    Args:
        source: a file, a folder or a Hub id, see :func:`sslam_lightning.checkpoints.read_model`.

    Raises:
        OSError: if there is no such checkpoint.
        ValueError: if it cannot be used, or holds no head.
    """
    weights = read_model(source)
    _ = weights.num_classes  # what has no head is refused before anything is built
    encoder = open_encoder(weights)
    return Classifier(encoder, *build_head(weights, encoder)).eval()


@float32_by_default()
def build_head(weights: Weights, encoder: ClipEncoder) -> tuple[ClassificationHead, TransformerDecoder | None]:
    """The head, and the decoder that it stands on where it does."""
    decoder, width = None, encoder.dim
    if weights.head_on == "decoder" and isinstance(weights.decoder_config, TransformerDecoderConfig):
        decoder = weights.decoder_config.build(width)
        width = decoder.dim
        load_state_dict_strict(decoder, weights.decoder or {}, "decoder", weights.source)
    head = ClassificationHead(width, weights.num_classes, weights.pooling, weights.head_norm_eps)
    load_state_dict_strict(head, weights.head or {}, "head", weights.source)
    return head, decoder


@float32_by_default()
def open_encoder(weights: Weights, part: Part = "student") -> ClipEncoder:
    """One of the encoders of a checkpoint that has been read.

    Raises:
        ImportError: transformers is missing, and the encoder is one of its models.
        ValueError: if it holds no teacher where one is asked for, or not what its configuration says.
    """
    state, config = weights.part(part), weights.encoder
    encoder: ClipEncoder
    if isinstance(config, HuggingFaceConfig):
        with making_a_model(weights.source), torch.device("meta"):  # where shapes cost nothing, however large they are
            claimed = HuggingFaceClipEncoder(config).state_dict()
        check_names_and_shapes(claimed, state, f"{weights.source}: {part}.")
        encoder = HuggingFaceClipEncoder(config)
    else:
        with torch.device("meta"):  # initial weights would be drawn only to be overwritten
            encoder = Encoder(config)
        # As `to_empty`, but no more than has to be.
        encoder._apply(lambda t: torch.empty_like(t, device="cpu") if t.is_meta else t)
    load_state_dict_strict(encoder, state, part, weights.source)
    return encoder
