"""Two configurations of transformers describe the same model, or one line says where they differ.

Names and shapes of weights do not tell: heads, activations, norms and their epsilon leave no trace in them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from sslam_lightning.checkpoints.messages import first_line
from sslam_lightning.models.transformers.settings import make_config, plain_settings

# What a model computes in evaluation does not depend on these: how it is trained, and who wrote it.
_TRAINING = ("dropout", "drop_path", "drop_prob", "layerdrop", "apply_spec_augment", "mask_time_", "mask_feature_")
_BOOKKEEPING = {
    *("transformers_version", "_name_or_path", "name_or_path", "architectures", "dtype", "torch_dtype", "problem_type"),
    *("id2label", "label2id", "num_labels", "output_hidden_states", "output_attentions", "return_dict", "use_cache"),
    *("initializer_range", "initializer_factor", "bos_token_id", "eos_token_id", "sep_token_id", "tie_word_embeddings"),
}


def check_same_model(settings: Mapping[str, Any], own: Any, source: str) -> None:
    """Refuse weights of a model with other ``settings`` than those of the configuration ``own``."""
    with making_a_model(source):
        theirs = _that_matter(make_config(plain_settings(settings)))
    ours = _that_matter(own)
    # The type first: all else follows from it.
    for name in sorted({*theirs, *ours}, key=lambda name: (name != "model_type", name)):
        if theirs.get(name) != ours.get(name):
            raise ValueError(
                f"{source} has {name} = {theirs.get(name)}, the configured encoder {ours.get(name)}: it is another model"
            )


def check_waveforms(theirs: bool, ours: bool, source: str) -> None:
    """Refuse a configured encoder that normalizes waveforms where ``source`` does not, or the other way round."""
    if theirs != ours:
        raise ValueError(
            f"{source} has normalize_waveforms (do_normalize) = {theirs}, the configured encoder {ours}: set "
            f"normalize_waveforms of the encoder to {str(theirs).lower()}"
        )


@contextmanager
def making_a_model(source: str) -> Iterator[None]:
    """One line for what transformers says of a configuration in many."""
    try:
        yield
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RuntimeError, ArithmeticError) as error:
        reason = first_line(error)[:200]
        raise ValueError(f"{source}: transformers makes no model of its configuration ({reason})") from None


def _that_matter(config: Any) -> dict[str, Any]:
    return {
        name: value
        for name, value in config.to_dict().items()
        if name not in _BOOKKEEPING and not any(part in name for part in _TRAINING)
    }
