"""The released models' layout on the Hugging Face Hub: ``config.json`` of model type ``eat`` and ``model.safetensors``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from sslam_lightning.checkpoints.formats.eat import columns_of, public_mlp_ratio, refuse_others, released_table
from sslam_lightning.checkpoints.keys.config import check_keys
from sslam_lightning.checkpoints.keys.mapping import Rule, export_keys, import_keys
from sslam_lightning.checkpoints.keys.tables import EAT_HUGGING_FACE_KEYS
from sslam_lightning.checkpoints.metadata import OWN_SECTION, with_own_section, write_metadata
from sslam_lightning.checkpoints.settings import as_kind, front_end_of, read_class_names, read_dataclass
from sslam_lightning.checkpoints.weights import State, Weights
from sslam_lightning.models import EncoderConfig

_Variant = Literal["pretrain", "finetune"]

MODEL_TYPE = "eat"
RULES = (
    Rule("model.extra_tokens", "encoder", "cls_token"),
    Rule("model.local_encoder.proj.*", "encoder", "front_end.proj.*"),
    Rule("model.pre_norm.*", "encoder", "input_norm.*"),
    Rule("model.blocks.*", "encoder", "blocks.*"),
    Rule("model.fixed_positional_encoder.positions", "positions", "positions"),
    Rule("model.fc_norm.*", "head", "norm.*"),
    Rule("model.head.*", "head", "linear.*"),
)
_SIZES: dict[str, tuple[str, type]] = {  # of the encoder: our name and the kind of each
    "embed_dim": ("dim", int),
    "depth": ("depth", int),
    "num_heads": ("num_heads", int),
    "mlp_ratio": ("mlp_ratio", float),
    "patch_size": ("patch_size", int),
    "mel_bins": ("num_mels", int),
    "in_chans": ("in_channels", int),
    "norm_eps": ("norm_eps", float),
}
_NO_DEFAULT = ("model_variant", "embed_dim", "depth", "num_heads")
_SAME = {"qkv_bias": True, "layer_norm_first": False, "norm_affine": True, "fixed_positions": True}  # in every model
_HEAD_NORM_EPS = 1e-5  # of fc_norm, whatever norm_eps the other layer norms have
_NUM_FRAMES, _NUM_CLASSES = 1024, 527  # of the released models


def from_eat_hf(config: Mapping[str, Any], state: State, source: str) -> Weights:
    """Weights and configuration of a folder of this layout."""
    where = f"{source}: config.json"
    check_keys({"patch_size": 16, "stride": 16, **config}, EAT_HUGGING_FACE_KEYS, where, "training")
    if missing := [name for name in _NO_DEFAULT if config.get(name) is None]:
        raise ValueError(f"{source}: its config.json has no {missing[0]}")
    finetuned = as_kind(config["model_variant"], _Variant, f"{where}: model_variant") == "finetune"
    sizes = {
        ours: as_kind(config[theirs], kind, f"{where}: {theirs}")
        for theirs, (ours, kind) in _SIZES.items()
        if theirs in config
    }
    encoder = read_dataclass(EncoderConfig, sizes, where)
    parts, unused = import_keys(state, RULES)
    if (table := parts.get("positions", {}).get("positions")) is not None:
        columns_of(table, encoder.num_mels // encoder.patch_size, encoder.dim, f"{source}: its table of positions")
    if not finetuned and parts.pop("head", {}):
        unused = (*unused, *(key for key in state if key.startswith(("model.head.", "model.fc_norm."))))
    weights = Weights(source, encoder, parts["encoder"], head=parts.get("head"), unused=unused)
    classes = as_kind(config.get("num_classes", _NUM_CLASSES), int, f"{where}: num_classes")
    if finetuned and weights.num_classes != classes:
        raise ValueError(f"{where}: num_classes is {classes}, its head has {weights.num_classes}")
    if config.get(OWN_SECTION) is not None:
        return with_own_section(weights, config[OWN_SECTION], f"{where}: {OWN_SECTION}")
    return _described(weights, config, where)


def _described(weights: Weights, config: Mapping[str, Any], where: str) -> Weights:
    """Front-end and classes, from what the layout can say."""
    size, labels, features = config.get("img_size"), config.get("id2label"), None
    names: tuple[str, ...] = ()
    if isinstance(size, list) and len(size) == 2:
        features = front_end_of(size[0], weights.own_encoder, f"{where}: img_size")
    numbers = [str(number) for number in range(weights.num_classes if weights.head else 0)]
    if numbers and isinstance(labels, dict) and set(labels) == set(numbers):
        names = read_class_names([labels[number] for number in numbers], f"{where}: id2label")
    multi_label = config.get("problem_type") != "single_label_classification"
    return weights._replace(features=features, class_names=names, multi_label=multi_label, head_norm_eps=_HEAD_NORM_EPS)


def to_eat_hf(weights: Weights) -> tuple[dict[str, Any], State, tuple[str, ...]]:
    """``config.json``, the weights under this layout's names, and the parts that it cannot hold.

    The public code gives a head's norm an epsilon of 1e-5, which changes logits in the sixth digit where it was 1e-6."""
    config, head = weights.own_encoder, weights.head
    if config.norm != "post":
        raise ValueError(f"{weights.source}: the Hugging Face layout knows norm 'post', not {config.norm!r}")
    if config.prenet_depth:
        raise ValueError(f"{weights.source}: the Hugging Face layout has no prenet, the encoder has one")
    refuse_others(weights, "the Hugging Face layout")
    left_out = [name for name in ("teacher", "decoder", "reconstruction", "contrast") if getattr(weights, name)]
    if head and weights.pooling != "cls":
        left_out.append(f"head (it pools by {weights.pooling}; this layout's reads the CLS token)")
        head = None
    num_frames = (weights.features or {}).get("num_frames") or _NUM_FRAMES
    mel_patches = config.num_mels // config.patch_size
    table = released_table(mel_patches, config.dim, num_frames // config.patch_size)
    parts = {"encoder": weights.student, "positions": {"positions": table}, "head": head or {}}
    state = {name: value for part, own in parts.items() for name, value in export_keys(own, part, RULES).items()}
    described = weights if head else weights._replace(class_names=(), pooling="cls", multi_label=True)
    settings = {
        "model_type": MODEL_TYPE,
        "model_variant": "finetune" if head else "pretrain",
        **{theirs: getattr(config, ours) for theirs, (ours, _) in _SIZES.items()},
        "mlp_ratio": public_mlp_ratio(config),
        "stride": config.patch_size,
        "max_length": table.shape[1] // mel_patches,
        "num_classes": weights.num_classes if head else _NUM_CLASSES,
        **_SAME,
        "img_size": [num_frames, config.num_mels],
        OWN_SECTION: write_metadata(described),
    }
    if head:
        settings["problem_type"] = f"{'multi' if weights.multi_label else 'single'}_label_classification"
    if head and weights.class_names:
        settings["id2label"] = {str(number): name for number, name in enumerate(weights.class_names)}
        settings["label2id"] = {name: number for number, name in enumerate(weights.class_names)}
    return settings, state, tuple(left_out)
