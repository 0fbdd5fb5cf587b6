"""Our weights under fairseq's names, with as much of its configuration as says what the model is."""

from __future__ import annotations

from typing import Any

from sslam_lightning.checkpoints.fairseq import POOLING, RULES, WRAPPER
from sslam_lightning.checkpoints.names import to_theirs
from sslam_lightning.checkpoints.own_section import OWN_SECTION, write_description
from sslam_lightning.checkpoints.position_table import released_table
from sslam_lightning.checkpoints.verify import num_classes, refuse_others
from sslam_lightning.checkpoints.weights import State, Weights
from sslam_lightning.models import DecoderConfig, TransformerDecoderConfig

_PREDICTION_MODES = {ours: theirs for theirs, ours in POOLING.items()}


def to_fairseq(weights: Weights) -> tuple[dict[str, Any], tuple[str, ...]]:
    """The content of a ``.pt`` file, plain data, and the parts that it cannot hold.

    A pre-trained model is written as the public trainer does, with its teacher under ``_ema``; one with a head as a
    fine-tuned model, which has an encoder and a head and nothing else.

    Raises:
        ValueError: if fairseq's models cannot be such an encoder.
    """
    if weights.encoder.norm_order == "pre":
        raise ValueError(f"{weights.source}: fairseq's models have no norm_order 'pre'")
    refuse_others(weights, "fairseq's EAT")
    frames = int((weights.features or {}).get("num_frames") or 1024)
    of_blocks = isinstance(weights.decoder_config, TransformerDecoderConfig)
    left_out = [name for name in ("decoder", "reconstruction", "contrast") if of_blocks and getattr(weights, name)]
    if weights.head:
        left_out = [name for name in ("teacher", "decoder", "reconstruction", "contrast") if getattr(weights, name)]
        state: dict[str, Any] = {**_encoder(weights, weights.student, frames, WRAPPER)}
        state |= to_theirs(weights.head, "head", RULES)
    else:
        state = {**_encoder(weights, weights.student, frames)}
        for part in ("decoder", "reconstruction"):
            if part in left_out:
                continue
            state |= to_theirs(getattr(weights, part) or {}, part, RULES)
        if weights.teacher:
            state["_ema"] = _encoder(weights, weights.teacher, frames)
    content = {
        "args": None,
        "cfg": _finetuned_cfg(weights, frames) if weights.head else _pretrained_cfg(weights, frames),
        "model": state,
        "task_state": {"labels": {name: str(number) for number, name in enumerate(weights.class_names)}},
        OWN_SECTION: write_description(weights),
    }
    return content, tuple(left_out)


def _encoder(weights: Weights, state: State, frames: int, prefix: str = "") -> State:
    config = weights.encoder
    table = released_table(config.num_mels // config.patch_size, config.dim, frames // config.patch_size)
    return to_theirs(state, "encoder", RULES, prefix) | to_theirs({"positions": table}, "positions", RULES, prefix)


def _pretrained_cfg(weights: Weights, frames: int) -> dict[str, Any]:
    config, decoder = weights.encoder, weights.decoder_config
    image: dict[str, Any] = {
        "type": "IMAGE",
        "prenet_depth": config.prenet_depth,
        "num_extra_tokens": 1,
        "in_chans": config.in_channels,
        "patch_size": config.patch_size,
        "embed_dim": config.dim,
        "fixed_positions": True,
        "target_length": frames,
    }
    if isinstance(decoder, DecoderConfig):
        image["mask_noise_std"] = decoder.noise_std
        image["decoder"] = {
            "decoder_dim": decoder.dim,
            "decoder_groups": decoder.groups,
            "decoder_kernel": decoder.kernel_size,
            "decoder_layers": decoder.depth,
            "decoder_residual": decoder.residual,
            "projection_layers": decoder.projection_depth,
            "input_dropout": decoder.input_dropout,
        }
    model = {
        "_name": "data2vec_multi",
        "depth": config.depth,
        "num_heads": config.num_heads,
        "norm_eps": config.norm_eps,
        "norm_affine": True,
        "embed_dim": config.dim,
        "mlp_ratio": config.mlp_ratio,
        "layer_norm_first": config.norm_order != "post",
        "start_drop_path_rate": config.drop_path_start,
        "end_drop_path_rate": config.drop_path_end,
        "encoder_dropout": config.dropout,
        "attention_dropout": config.attention_dropout,
        "activation_dropout": config.activation_dropout,
        "post_mlp_drop": config.post_mlp_dropout,
        "dropout_input": config.input_dropout,
        "layerdrop": config.layer_drop,
        "modalities": {"image": image},
        "supported_modality": "IMAGE",
    }
    return {"model": model, "task": {"_name": "mae_image_pretraining", "audio_mae": True, "target_length": frames}}


def _finetuned_cfg(weights: Weights, frames: int) -> dict[str, Any]:
    model = {
        "_name": "mae_image_classification",
        "num_classes": num_classes(weights),
        "prediction_mode": _PREDICTION_MODES[weights.pooling],
        "target_length": frames,
        "pretrained_model_args": _pretrained_cfg(weights, frames),
    }
    return {
        "model": model,
        "task": {"_name": "mae_image_classification", "audio_mae": True, "target_length": frames},
        "criterion": {"_name": "model", "log_keys": ["_predictions", "_targets"] if weights.multi_label else ["correct"]},
    }
