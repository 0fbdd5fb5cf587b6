"""The names of MAE-AST's public checkpoints."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from sslam_lightning.checkpoints.config_keys import Purpose, check_keys
from sslam_lightning.checkpoints.fairseq import TRAINING_STATE
from sslam_lightning.checkpoints.key_tables import MAE_AST_KEYS, MAE_AST_LOSS_KEYS, MAE_AST_TASK_KEYS
from sslam_lightning.checkpoints.pickle_scan import printable
from sslam_lightning.checkpoints.settings import as_kind, read_state
from sslam_lightning.checkpoints.stand_ins import opened, section
from sslam_lightning.checkpoints.verify import count_stack
from sslam_lightning.checkpoints.weights import State, Weights
from sslam_lightning.features import MAE_AST_LOG_MELS, LogMels
from sslam_lightning.layers.block import NormOrder
from sslam_lightning.models import EncoderConfig, SpectrogramTokensConfig, TransformerDecoderConfig

_BLOCK = {
    "self_attn.out_proj": "attn.proj",
    "self_attn_layer_norm": "norm1",
    "fc1": "mlp.fc1",
    "fc2": "mlp.fc2",
    "final_layer_norm": "norm2",
}
MAE_AST_MARK = "decoder_mask_emb"  # a weight that no other model has
# Values, other than those that are computed here, that the public code takes where a configuration says none.
_UNSAID = {"enc_sine_pos": False, "dec_sine_pos": False}
_UNSAID_TASK = {"feature_type": "wav", "deltas": True}
# (their name, our part, our name): the first pattern that matches the whole key wins. {norm}: of the input or the output.
_RENAMES = [
    (r"post_extract_proj\.(.*)", "encoder", r"front_end.proj.\1"),
    (r"batch_norm\.(.*)", "encoder", r"front_end.norm.\1"),
    (r"decoder_mask_emb", "decoder", "mask_token"),
    (r"final_proj_reconstruction\.(.*)", "reconstruction", r"\1"),
    (r"final_proj_classification\.(.*)", "contrast", r"\1"),
    # Tables that are formulas, and parameters that the public model holds but never uses.
    (r"(?:enc|dec)_sine_pos_embed\.pe|encoder_mask_emb|layer_norm\..*", "nothing", "nothing"),
]


def rename(state: Mapping[str, Tensor], pre_norm: bool) -> tuple[dict[str, State], tuple[str, ...]]:
    """Sort a state with MAE-AST's names into our parts; also the keys that no rule knows."""
    norm = "output_norm" if pre_norm else "input_norm"
    parts: dict[str, State] = defaultdict(dict)
    unknown = []
    for key, value in state.items():
        if match := re.fullmatch(r"(encoder|decoder)\.layer_norm\.(.*)", key):
            parts[match[1]][f"{norm}.{match[2]}"] = value
        elif match := re.fullmatch(r"(encoder|decoder)\.layers\.(\d+)\.self_attn\.([qkv])_proj\.(weight|bias)", key):
            parts[match[1]].setdefault(f"blocks.{match[2]}.attn.qkv.{match[4]}", torch.empty(0))  # see below
        elif match := re.fullmatch(r"(encoder|decoder)\.layers\.(\d+)\.(.*)\.(weight|bias)", key):
            parts[match[1]][f"blocks.{match[2]}.{_BLOCK.get(match[3], match[3])}.{match[4]}"] = value
        else:
            for pattern, part, ours in _RENAMES:
                if match := re.fullmatch(pattern, key):
                    parts[part][match.expand(ours)] = value
                    break
            else:
                unknown.append(key)
    for part in ("encoder", "decoder"):  # queries, keys and values are one layer of ours
        for name in [name for name in parts[part] if ".attn.qkv." in name]:
            _, block, _, _, kind = name.split(".")
            theirs = (f"{part}.layers.{block}.self_attn.{each}_proj.{kind}" for each in "qkv")
            parts[part][name] = torch.cat([state[each] for each in theirs])
    return parts, tuple(unknown)


def from_mae_ast_file(
    content: Mapping[str, Any], source: str, max_bytes: int | None = None, purpose: Purpose = "training"
) -> Weights:
    """The model of a file of MAE-AST's trainer, which is fairseq's.

    Args:
        content: the file's: ``model``, and its configuration in ``cfg``.
        source: what to call this checkpoint in messages.
        max_bytes: of weights that the file can hold.
        purpose: what the file is opened for.

    Raises:
        ValueError: if a part of the model is missing, or is not what it has to be; or the configuration has a key or a
            value that is not known here.
    """
    state = read_state(opened(content["model"]), f"{source}: model", max_bytes)
    model, task, criterion = (section(content, "cfg", name) for name in ("model", "task", "criterion"))
    if not isinstance(model, Mapping):
        raise ValueError(f"{source}: its configuration has no cfg.model")
    check_keys(criterion, MAE_AST_LOSS_KEYS, f"{source}: cfg.criterion", purpose)
    weights = from_mae_ast(state, model, source, task, purpose)
    known = {"model", "cfg", "task_state", *TRAINING_STATE}
    return weights._replace(unused=(*weights.unused, *(printable(str(key)) for key in content if key not in known)))


def from_mae_ast(
    state: Mapping[str, Tensor],
    cfg: Mapping[str, Any],
    source: str,
    task: Mapping[str, Any] | None = None,
    purpose: Purpose = "training",
) -> Weights:
    """Weights and configuration of a MAE-AST model.

    Args:
        state: the model's state.
        cfg: the model's configuration in its own words.
        source: what to call this checkpoint in messages.
        task: the configuration of its data, which says how log-mels are made; None: nothing does.
        purpose: what the model is for.

    Raises:
        ValueError: if a part of the model is missing, or a key of a configuration is not known or not computed here.
    """
    check_keys({**_UNSAID, **cfg}, MAE_AST_KEYS, f"{source}: cfg.model", purpose)
    order: NormOrder = "pre" if section(cfg, "layer_norm_first") else "post"
    try:
        parts, unknown = rename(state, order == "pre")
        encoder, decoder = parts["encoder"], parts["decoder"]
        dim, decoder_dim = len(encoder["front_end.proj.bias"]), len(decoder["mask_token"])
        hidden_dim = len(encoder["blocks.0.mlp.fc1.bias"])
        mlp_ratio, decoder_mlp_ratio = hidden_dim / dim, hidden_dim / decoder_dim
    except KeyError as error:
        raise ValueError(f"{source} is not a MAE-AST checkpoint: {error} is missing") from None
    except (RuntimeError, TypeError, ZeroDivisionError) as error:
        raise ValueError(f"{source} is not a MAE-AST checkpoint: {str(error).splitlines()[0][:200]}") from None
    features = None if task is None else _features(cfg, task, source, purpose)
    try:
        num_heads = _size(cfg, "model", "encoder_attention_heads")
        token = _size(cfg, "model", "ast_kernel_size_time"), _size(cfg, "model", "ast_kernel_size_chan")
        config = EncoderConfig(
            dim=dim,
            depth=count_stack(encoder, "blocks"),
            num_heads=num_heads,
            mlp_ratio=mlp_ratio,
            norm_order=order,
            norm_eps=1e-5,
            front_end=SpectrogramTokensConfig(*token, *([] if features is None else [features.num_mels])),
            clip_token=False,
        )
        decoder_config = TransformerDecoderConfig(
            dim=decoder_dim,
            depth=count_stack(decoder, "blocks"),
            num_heads=num_heads,
            mlp_ratio=decoder_mlp_ratio,
            norm_order=order,
        )
    except ValueError as error:
        raise ValueError(f"{source}: {error}") from None
    _check_sizes(cfg, config, decoder_config, source)
    return Weights(
        source,
        config,
        encoder,
        decoder_config=decoder_config,
        decoder=decoder,
        reconstruction=parts.get("reconstruction"),
        contrast=parts.get("contrast"),
        unused=unknown,
        features=None if features is None else vars(features),
    )


def _size(settings: Mapping[str, Any], part: str, name: str) -> int:
    return as_kind(section(settings, name), int, f"cfg.{part}.{name}")


def _features(cfg: Mapping[str, Any], task: Mapping[str, Any], source: str, purpose: Purpose) -> LogMels:
    """The log-mels of its data set."""
    check_keys({**_UNSAID_TASK, **task}, MAE_AST_TASK_KEYS, f"{source}: cfg.task", purpose)
    try:
        num_mels, token_mels = _size(task, "task", "feature_dim"), _size(cfg, "model", "ast_kernel_size_chan")
        if token_mels < 1 or num_mels % token_mels:
            raise ValueError(
                f"cfg.task.feature_dim must be a multiple of cfg.model.ast_kernel_size_chan {token_mels}, got {num_mels}"
            )
        return replace(
            MAE_AST_LOG_MELS,
            num_mels=num_mels,
            sample_rate_hz=_size(task, "task", "sample_rate"),
            patch_frames=_size(cfg, "model", "ast_kernel_size_time"),
        )
    except ValueError as error:
        raise ValueError(f"{source}: {error}") from None


def _check_sizes(cfg: Mapping[str, Any], encoder: EncoderConfig, decoder: TransformerDecoderConfig, source: str) -> None:
    """The sizes of the weights are those that the configuration says."""
    hidden_dim = round(encoder.dim * encoder.mlp_ratio)
    sizes = {"encoder_layers": encoder.depth, "encoder_embed_dim": encoder.dim, "encoder_ffn_embed_dim": hidden_dim}
    sizes |= {"decoder_layers": decoder.depth, "decoder_embed_dim": decoder.dim}
    for name, size in sizes.items():
        if name in cfg and section(cfg, name) != size:
            raise ValueError(f"{source}: cfg.model.{name} is {section(cfg, name)}, its weights are for {size}")
