"""The released models' layout on the Hugging Face Hub: ``config.json`` of model type ``eat`` and ``model.safetensors``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from sslam_lightning.checkpoints.config_keys import check_keys
from sslam_lightning.checkpoints.key_tables import EAT_HUGGING_FACE_KEYS
from sslam_lightning.checkpoints.names import Rule, to_ours, to_theirs
from sslam_lightning.checkpoints.own_section import OWN_SECTION, Description, read_description, write_description
from sslam_lightning.checkpoints.position_table import mel_patches_of, released_table
from sslam_lightning.checkpoints.settings import as_kind, front_end_of, read_class_names, read_dataclass
from sslam_lightning.checkpoints.verify import num_classes, public_mlp_ratio, refuse_others
from sslam_lightning.checkpoints.weights import State, Weights
from sslam_lightning.models import EncoderConfig

_Variant = Literal["pretrain", "finetune"]

MODEL_TYPE = "eat"
RULES = (
    Rule("model.extra_tokens", "encoder", "clip_token"),
    Rule("model.local_encoder.proj.*", "encoder", "front_end.proj.*"),
    Rule("model.pre_norm.*", "encoder", "input_norm.*"),
    Rule("model.blocks.*", "encoder", "blocks.*"),
    Rule("model.fixed_positional_encoder.positions", "positions", "positions"),
    Rule("model.fc_norm.*", "head", "norm.*"),
    Rule("model.head.*", "head", "linear.*"),
)

_HEAD_NORM_EPS = 1e-5  # of fc_norm, whatever norm_eps the other layer norms have
_NUM_FRAMES = 1024  # of the released models


def from_hugging_face(config: Mapping[str, Any], state: State, source: str) -> Weights:
    """Weights and configuration of a folder of this layout.

    Raises:
        ValueError: if it is not one, or a setting is unknown or not computed here.
    """

    def take(name: str, hint: Any, default: Any = None) -> Any:
        value = config.get(name, default)
        if value is None:
            raise ValueError(f"{source}: its config.json has no {name}")
        return as_kind(value, hint, f"{source}: config.json: {name}")

    if take("model_type", str) != MODEL_TYPE:
        raise ValueError(f"{source}: config.json: model_type is {config['model_type'][:40]!r}, expected {MODEL_TYPE!r}")
    check_keys({"patch_size": 16, "stride": 16, **config}, EAT_HUGGING_FACE_KEYS, f"{source}: config.json", "training")
    patch_size = take("patch_size", int, 16)
    finetuned = take("model_variant", _Variant) == "finetune"
    sizes = {
        "dim": take("embed_dim", int),
        "depth": take("depth", int),
        "num_heads": take("num_heads", int),
        "mlp_ratio": take("mlp_ratio", float, 4.0),
        "patch_size": patch_size,
        "num_mels": take("mel_bins", int, 128),
        "in_channels": take("in_chans", int, 1),
        "norm_eps": take("norm_eps", float, 1e-6),
    }
    encoder = read_dataclass(EncoderConfig, sizes, f"{source}: config.json")
    parts, unused = to_ours(state, RULES)
    if (table := parts.get("positions", {}).get("positions")) is not None:
        num_mels = mel_patches_of(table, encoder.dim, source) * patch_size
        if num_mels != encoder.num_mels:
            raise ValueError(
                f"{source}: its table of positions is for {num_mels} mels, its mel_bins are {encoder.num_mels}"
            )
    head = parts.get("head")
    if not finetuned and head:
        unused, head = (*unused, *(key for key in state if key.startswith(("model.head.", "model.fc_norm.")))), None
    weights = Weights(source, encoder, parts["encoder"], head=head, unused=unused)
    classes = take("num_classes", int, 527)
    if finetuned and num_classes(weights) != classes:
        raise ValueError(f"{source}: config.json: num_classes is {classes}, its head has {num_classes(weights)}")
    return _described(weights, config, finetuned)


def _described(weights: Weights, settings: Mapping[str, Any], finetuned: bool) -> Weights:
    """Front-end and classes, from our section where we wrote the file, else from what the layout can say."""
    source = weights.source
    own, frames_and_mels = settings.get(OWN_SECTION), settings.get("img_size")
    labels, problem = settings.get("id2label"), settings.get("problem_type")
    if own is not None:
        return read_description(own, f"{source}: config.json: {OWN_SECTION}").applied_to(weights)
    features = None
    if isinstance(frames_and_mels, list) and len(frames_and_mels) == 2:
        features = front_end_of(frames_and_mels[0], weights.encoder, f"{source}: config.json: img_size")
    names: tuple[str, ...] = ()
    if finetuned and isinstance(labels, dict) and set(labels) == {str(number) for number in range(num_classes(weights))}:
        names = read_class_names([labels[str(number)] for number in range(len(labels))], f"{source}: config.json: id2label")
        if names == tuple(f"LABEL_{number}" for number in range(len(names))):  # what transformers makes up
            names = ()
    multi_label = problem != "single_label_classification"
    return Description(features, names, multi_label, head_norm_eps=_HEAD_NORM_EPS).applied_to(weights)


def to_hugging_face(weights: Weights) -> tuple[dict[str, Any], State, tuple[str, ...]]:
    """``config.json``, the weights under this layout's names, and the parts that it cannot hold.

    The public code gives a head's norm an epsilon of 1e-5, which changes logits in the sixth digit where it was 1e-6.

    Raises:
        ValueError: if it cannot hold the encoder itself.
    """
    config = weights.encoder
    if config.norm_order != "post":
        raise ValueError(f"{weights.source}: the Hugging Face layout knows norm_order 'post', not {config.norm_order!r}")
    if config.prenet_depth:
        raise ValueError(f"{weights.source}: the Hugging Face layout has no prenet, the encoder has one")
    refuse_others(weights, "the Hugging Face layout")
    left_out = [name for name in ("teacher", "decoder", "reconstruction", "contrast") if getattr(weights, name)]
    head = weights.head
    if head and weights.pooling != "clip_token":
        left_out.append(f"head (it pools by {weights.pooling}; this layout's reads the clip token)")
        head = None
    features = weights.features or {}
    num_frames = features.get("num_frames") or _NUM_FRAMES
    mel_patches = config.num_mels // config.patch_size
    table = released_table(mel_patches, config.dim, num_frames // config.patch_size)
    state = to_theirs(weights.student, "encoder", RULES)
    state |= to_theirs({"positions": table}, "positions", RULES)
    described = weights if head else weights._replace(class_names=(), pooling="clip_token", multi_label=True)
    settings = {
        "model_type": MODEL_TYPE,
        "model_variant": "finetune" if head else "pretrain",
        "embed_dim": config.dim,
        "depth": config.depth,
        "num_heads": config.num_heads,
        "patch_size": config.patch_size,
        "stride": config.patch_size,
        "in_chans": config.in_channels,
        "mel_bins": config.num_mels,
        "max_length": table.shape[1] // mel_patches,
        "num_classes": num_classes(weights) if head else 527,
        "mlp_ratio": public_mlp_ratio(weights),
        "qkv_bias": True,
        "layer_norm_first": False,
        "norm_eps": config.norm_eps,
        "norm_affine": True,
        "fixed_positions": True,
        "img_size": [num_frames, config.num_mels],
        OWN_SECTION: write_description(described),
    }
    if head:
        state |= to_theirs(head, "head", RULES)
        settings["problem_type"] = f"{'multi' if weights.multi_label else 'single'}_label_classification"
        if weights.class_names:
            settings["id2label"] = {str(number): name for number, name in enumerate(weights.class_names)}
            settings["label2id"] = {name: number for number, name in enumerate(weights.class_names)}
    return settings, state, tuple(left_out)
