"""The classification head of a folder of transformers."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from sslam_lightning.checkpoints.settings import read_class_names
from sslam_lightning.checkpoints.transformers_weights import TransformersWeights
from sslam_lightning.checkpoints.weights import State

_AST_HEAD = {"classifier.layernorm.": "norm.", "classifier.dense.": "linear."}  # of ASTForAudioClassification


def with_head(weights: TransformersWeights, state: State, config: Any) -> TransformersWeights:
    """The weights with the classification head among those that its model has no place for.

    It is that of ``ASTForAudioClassification``: a layer norm and a linear layer on the mean of the model's two special
    tokens. Other heads stay in ``unused``.

    Args:
        weights: the model.
        state: all weights of the folder, by their names in its files.
        config: the model's configuration.

    Raises:
        ValueError: if the configuration does not have as many names as the head has classes.
    """
    if weights.config["model_type"] != "audio-spectrogram-transformer":
        return weights
    names = {name: _renamed(name) for name in weights.unused if _renamed(name)}
    if not names:
        return weights
    labels = config.id2label
    head = {ours: state[theirs] for theirs, ours in names.items()}
    classes = [labels[number] for number in sorted(labels)]
    if len(classes) != len(head.get("linear.weight", ())):
        count = len(head.get("linear.weight", ()))
        raise ValueError(f"{weights.source}: config.json: id2label has {len(classes)} names for {count} classes")
    unnamed = classes == [f"LABEL_{number}" for number in sorted(labels)]
    return replace(
        weights,
        head=head,
        unused=tuple(name for name in weights.unused if name not in names),
        class_names=() if unnamed else read_class_names(classes, f"{weights.source}: config.json: id2label"),
        # As the pipeline of transformers chooses between sigmoid and softmax.
        multi_label=getattr(config, "problem_type", None) == "multi_label_classification" or len(labels) == 1,
        pooling="clip_token",
        head_norm_eps=config.layer_norm_eps,
        cls_pooling=True,
    )


def _renamed(name: str) -> str:
    """Our name of a weight of the head; empty for any other."""
    return next((ours + name.removeprefix(theirs) for theirs, ours in _AST_HEAD.items() if name.startswith(theirs)), "")
