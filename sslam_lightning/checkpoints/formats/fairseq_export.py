"""Our weights under fairseq's names, with as much of its configuration as says what the model is.

EAT's public code builds one model: log-mels of 128 bands in patches of 16 x 16, a CLS token, a decoder of convolutions in
two dimensions. What it cannot load, or would compute otherwise, is refused by the name of the setting.
"""

from __future__ import annotations

from typing import Any

from sslam_lightning.checkpoints.formats.eat import public_mlp_ratio, refuse_others, released_table
from sslam_lightning.checkpoints.formats.fairseq import AUDIOSET, NORMALIZATION, POOLING, RULES, WRAPPER
from sslam_lightning.checkpoints.formats.fairseq_config import NUM_MELS, PATCH_STRIDE
from sslam_lightning.checkpoints.keys.mapping import export_keys
from sslam_lightning.checkpoints.metadata import OWN_SECTION, write_metadata
from sslam_lightning.checkpoints.state_dict import with_prefix
from sslam_lightning.checkpoints.verify import teacher_parts
from sslam_lightning.checkpoints.weights import State, Weights
from sslam_lightning.features import LogMels
from sslam_lightning.models import ConvDecoderConfig, TransformerDecoderConfig

_PREDICTION_MODES = {ours: theirs for theirs, ours in POOLING.items()}


def to_fairseq(weights: Weights) -> tuple[dict[str, Any], tuple[str, ...]]:
    """The content of a ``.pt`` file, plain data, and the parts that it cannot hold.

    A pre-trained model is written as the public trainer does, with its teacher under ``_ema``; one with a head as a
    fine-tuned model, which has an encoder and a head and nothing else."""
    _refuse_what_it_cannot_be(weights)
    frames = int((weights.features or {}).get("num_frames") or 1024)
    left_out = _left_out(weights)
    nothing: dict[str, Any] = dict.fromkeys(left_out)
    kept = weights._replace(**nothing)
    state: dict[str, Any] = _encoder(kept, kept.student, frames, WRAPPER if kept.head else "")
    for part in ("decoder", "reconstruction", "head"):
        state |= export_keys(getattr(kept, part) or {}, part, RULES)
    if kept.teacher:
        of_blocks = teacher_parts(kept.teacher) == "blocks"  # then it is their list itself
        state["_ema"] = with_prefix(kept.teacher, "blocks.") if of_blocks else _encoder(kept, kept.teacher, frames)
    content = {
        "args": None,
        "cfg": _finetuned_cfg(kept, frames) if kept.head else _pretrained_cfg(kept, frames),
        "model": state,
        "task_state": {"labels": {name: str(number) for number, name in enumerate(weights.class_names)}},
        OWN_SECTION: write_metadata(weights),
    }
    return content, left_out


def _refuse_what_it_cannot_be(weights: Weights) -> None:
    source, config, decoder = weights.source, weights.own_encoder, weights.decoder_config
    if config.norm == "pre":
        raise ValueError(f"{source}: fairseq's models have no norm 'pre'")
    refuse_others(weights, "fairseq's EAT")
    fixed: list[tuple[str, Any, Any]] = [
        ("encoder.patch_size", config.patch_size, PATCH_STRIDE),
        ("encoder.num_mels", config.num_mels, NUM_MELS),
    ]
    if isinstance(decoder, ConvDecoderConfig) and weights.decoder and not weights.head:
        fixed += [("decoder.dimensions", decoder.dimensions, 2), ("decoder.projection_depth", decoder.projection_depth, 1)]
    for name, value in (weights.features or {}).items():
        if name not in ("num_frames", "mean", "std"):
            fixed.append((f"features.{name}", value, getattr(LogMels(), name)))
    for name, value, only in fixed:
        if value != only:
            raise ValueError(f"{source}: its {name} is {value}, fairseq's EAT has {only}: convert to safetensors")
    _normalization(weights)


def _normalization(weights: Weights) -> dict[str, bool]:
    """The switches of the public task that stand for the mean and standard deviation of the model's log-mels."""
    features, plain = weights.features or {}, LogMels()
    ours = (features.get("mean", plain.mean), features.get("std", plain.std))
    if ours not in (AUDIOSET, *NORMALIZATION.values()):
        pairs = ", ".join(f"{mean} and {std}" for mean, std in (AUDIOSET, *NORMALIZATION.values()))
        raise ValueError(
            f"{weights.source}: its features.mean and std are {ours[0]} and {ours[1]}, fairseq's EAT has {pairs}: "
            "convert to safetensors"
        )
    return {name: ours == of for name, of in NORMALIZATION.items()}


def _left_out(weights: Weights) -> tuple[str, ...]:
    """The parts of a model that the public one does not have."""
    if weights.head:
        lost = {"teacher", "decoder", "reconstruction", "contrast"}
    else:
        lost = {"contrast"}
        if isinstance(weights.decoder_config, TransformerDecoderConfig):
            lost |= {"decoder", "reconstruction"}
        # The public read-out is a third as wide as the encoder, and comes with a teacher.
        if weights.own_encoder.dim // 3 != weights.own_encoder.patch_size**2 or not weights.teacher:
            lost.add("reconstruction")
    order = ("teacher", "decoder", "reconstruction", "contrast")
    return tuple(name for name in order if name in lost and getattr(weights, name))


def _encoder(weights: Weights, state: State, frames: int, prefix: str = "") -> State:
    config = weights.own_encoder
    table = released_table(config.num_mels // config.patch_size, config.dim, frames // config.patch_size)
    return export_keys(state, "encoder", RULES, prefix) | export_keys({"positions": table}, "positions", RULES, prefix)


def _pretrained_cfg(weights: Weights, frames: int) -> dict[str, Any]:
    config, teacher = weights.own_encoder, teacher_parts(weights.teacher) if weights.teacher else "encoder"
    model = {
        "_name": "data2vec_multi",
        "depth": config.depth,
        "num_heads": config.num_heads,
        "norm_eps": config.norm_eps,
        "norm_affine": True,
        "embed_dim": config.dim,
        "mlp_ratio": public_mlp_ratio(config),
        "layer_norm_first": config.norm != "post",
        "start_drop_path_rate": config.drop_path_start,
        "end_drop_path_rate": config.drop_path_end,
        "encoder_dropout": config.dropout,
        "attention_dropout": config.attention_dropout,
        "activation_dropout": config.activation_dropout,
        "post_mlp_drop": config.post_mlp_dropout,
        "dropout_input": config.input_dropout,
        "layerdrop": config.layer_drop,
        "recon_loss": 1.0 if weights.reconstruction else 0.0,  # above 0 there is a read-out
        "ema_encoder_only": teacher == "blocks",
        "skip_ema": not weights.teacher,
        "modalities": {"image": {**_image(weights, frames), "ema_local_encoder": teacher == "encoder"}},
        "supported_modality": "IMAGE",
    }
    return {"model": model, "task": _task("mae_image_pretraining", weights, frames)}


def _image(weights: Weights, frames: int) -> dict[str, Any]:
    config, decoder = weights.own_encoder, weights.decoder_config
    image = {
        "type": "IMAGE",
        "prenet_depth": config.prenet_depth,
        "num_extra_tokens": 1,
        "init_extra_token_zero": config.zero_cls_token,
        "in_chans": config.in_channels,
        "patch_size": config.patch_size,
        "embed_dim": config.dim,
        "fixed_positions": True,
        "target_length": frames,
        "decoder": None,
    }
    if not isinstance(decoder, ConvDecoderConfig) or not weights.decoder:
        return image
    settings = {
        "decoder_dim": decoder.dim,
        "decoder_groups": decoder.groups,
        "decoder_kernel": decoder.kernel_size,
        "decoder_layers": decoder.depth,
        "decoder_residual": decoder.residual,
        "projection_layers": decoder.projection_depth,
        "input_dropout": decoder.input_dropout,
    }
    return {**image, "mask_noise_std": decoder.noise_std, "decoder": settings}


def _finetuned_cfg(weights: Weights, frames: int) -> dict[str, Any]:
    model = {
        "_name": "mae_image_classification",
        "num_classes": weights.num_classes,
        "prediction_mode": _PREDICTION_MODES[weights.pooling],
        "use_fc_norm": True,
        "audio_mae": weights.multi_label,  # False is one label a clip, of whatever data
        "target_length": frames,
        "pretrained_model_args": _pretrained_cfg(weights, frames),
    }
    return {
        "model": model,
        "task": _task("mae_image_classification", weights, frames),
        "criterion": {"_name": "model", "log_keys": ["_predictions", "_targets"] if weights.multi_label else ["correct"]},
    }


def _task(name: str, weights: Weights, frames: int) -> dict[str, Any]:
    return {"_name": name, "audio_mae": True, "downsr_16hz": True, "target_length": frames, **_normalization(weights)}
