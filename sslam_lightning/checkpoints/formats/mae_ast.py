"""MAE-AST's public checkpoints."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from sslam_lightning.checkpoints.formats.fairseq import TRAINING_STATE
from sslam_lightning.checkpoints.keys.config import Purpose, check_keys
from sslam_lightning.checkpoints.keys.mapping import Rule, import_keys
from sslam_lightning.checkpoints.keys.tables import MAE_AST_KEYS, MAE_AST_LOSS_KEYS, MAE_AST_TASK_KEYS
from sslam_lightning.checkpoints.messages import naming, unknown_keys
from sslam_lightning.checkpoints.pickle_stubs import section
from sslam_lightning.checkpoints.settings import as_kind
from sslam_lightning.checkpoints.state_dict import count_stack, read_state
from sslam_lightning.checkpoints.weights import State, Weights
from sslam_lightning.features import MAE_AST_LOG_MELS, LogMels
from sslam_lightning.models import EncoderConfig, SpectrogramTokensConfig, TransformerDecoderConfig

MAE_AST_MARK = "decoder_mask_emb"  # a weight that no other model has
# Values, other than those that are computed here, that the public code takes where a configuration says none.
_UNSAID = {"enc_sine_pos": False, "dec_sine_pos": False}
_UNSAID_TASK = {"feature_type": "wav", "deltas": True}


def _of_blocks(part: str) -> tuple[Rule, ...]:
    theirs, ours = f"{part}.layers.#", "blocks.#"
    return (
        *(Rule(f"{theirs}.self_attn.{each}_proj.*", part, f"{ours}.attn.{each}.*") for each in "qkv"),
        Rule(f"{theirs}.self_attn.out_proj.*", part, f"{ours}.attn.proj.*"),
        Rule(f"{theirs}.self_attn_layer_norm.*", part, f"{ours}.norm1.*"),
        Rule(f"{theirs}.fc1.*", part, f"{ours}.mlp.fc1.*"),
        Rule(f"{theirs}.fc2.*", part, f"{ours}.mlp.fc2.*"),
        Rule(f"{theirs}.final_layer_norm.*", part, f"{ours}.norm2.*"),
    )


_RULES = (
    *_of_blocks("encoder"),
    *_of_blocks("decoder"),
    Rule("post_extract_proj.*", "encoder", "front_end.proj.*"),
    Rule("batch_norm.*", "encoder", "front_end.norm.*"),
    Rule(MAE_AST_MARK, "decoder", "mask_token"),
    Rule("final_proj_reconstruction.*", "reconstruction", "*"),
    Rule("final_proj_classification.*", "contrast", "*"),
    # Tables that are formulas, and parameters that the public model holds but never uses.
    *(Rule(name, "nothing", name) for name in ("enc_sine_pos_embed.pe", "dec_sine_pos_embed.pe", "encoder_mask_emb")),
    Rule("layer_norm.*", "nothing", "layer_norm.*"),
)


def rename(state: Mapping[str, Tensor], pre_norm: bool) -> tuple[dict[str, State], tuple[str, ...]]:
    """Sort a state with MAE-AST's names into our parts; also the keys that no rule knows."""
    norm = "output_norm" if pre_norm else "input_norm"
    norms = tuple(Rule(f"{part}.layer_norm.*", part, f"{norm}.*") for part in ("encoder", "decoder"))
    parts, unknown = import_keys(state, (*_RULES, *norms))
    for part in ("encoder", "decoder"):
        joined: State = {}
        for name, value in parts[part].items():
            start, attention, rest = name.partition(".attn.")
            if not attention or rest[:2] not in ("q.", "k.", "v."):
                joined[name] = value
            elif (ours := f"{start}.attn.qkv.{rest[2:]}") not in joined:  # queries, keys and values are one layer of ours
                theirs = f"{start}.self_attn.".replace("blocks", f"{part}.layers")
                joined[ours] = torch.cat([state[f"{theirs}{each}_proj.{rest[2:]}"] for each in "qkv"])
        parts[part] = joined
    return parts, unknown


def from_mae_ast_file(
    content: Mapping[str, Any], source: str, max_bytes: int | None = None, purpose: Purpose = "training"
) -> Weights:
    """The model of a file of MAE-AST's trainer, which is fairseq's; arguments and errors as :func:`from_fairseq_file`."""
    state = read_state(content["model"], f"{source}: model", max_bytes)
    model, task, criterion = (section(content, "cfg", name) for name in ("model", "task", "criterion"))
    if not isinstance(model, Mapping):
        raise ValueError(f"{source}: its configuration has no cfg.model")
    check_keys(criterion, MAE_AST_LOSS_KEYS, f"{source}: cfg.criterion", purpose)
    weights = from_mae_ast(state, model, source, task, purpose)
    known = {"model", "cfg", "task_state", *TRAINING_STATE}
    return weights._replace(unused=(*weights.unused, *unknown_keys(content, known)))


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
    if task is not None:
        check_keys({**_UNSAID_TASK, **task}, MAE_AST_TASK_KEYS, f"{source}: cfg.task", purpose)
    with naming(source, "a MAE-AST checkpoint"):
        parts, unknown = rename(state, bool(section(cfg, "layer_norm_first")))
        features = None if task is None else _features(cfg, task)
        encoder, decoder = _configs(cfg, parts, features)
    return Weights(
        source,
        encoder,
        parts["encoder"],
        decoder_config=decoder,
        decoder=parts["decoder"],
        reconstruction=parts.get("reconstruction"),
        contrast=parts.get("contrast"),
        unused=unknown,
        features=None if features is None else vars(features),
    )


def _configs(
    cfg: Mapping[str, Any], parts: Mapping[str, State], features: LogMels | None
) -> tuple[EncoderConfig, TransformerDecoderConfig]:
    """Encoder and decoder: what shapes tell is read from them, and has to be what the configuration says."""
    dim, decoder_dim = len(parts["encoder"]["front_end.proj.bias"]), len(parts["decoder"]["mask_token"])
    hidden_dim = len(parts["encoder"]["blocks.0.mlp.fc1.bias"])
    depth, decoder_depth = (count_stack(parts[part], "blocks") for part in ("encoder", "decoder"))
    sizes = {"encoder_layers": depth, "encoder_embed_dim": dim, "encoder_ffn_embed_dim": hidden_dim}
    sizes |= {"decoder_layers": decoder_depth, "decoder_embed_dim": decoder_dim}
    for name, size in sizes.items():
        if name in cfg and section(cfg, name) != size:
            raise ValueError(f"cfg.model.{name} is {section(cfg, name)}, its weights are for {size}")
    token = _size(cfg, "model", "ast_kernel_size_time"), _size(cfg, "model", "ast_kernel_size_chan")
    front_end = SpectrogramTokensConfig(*token, *([] if features is None else [features.num_mels]))
    shared: dict[str, Any] = {
        "num_heads": _size(cfg, "model", "encoder_attention_heads"),
        "norm": "pre" if section(cfg, "layer_norm_first") else "post",
        "norm_eps": 1e-5,
    }
    return (
        EncoderConfig(dim, depth, mlp_ratio=hidden_dim / dim, front_end=front_end, cls_token=False, **shared),
        TransformerDecoderConfig(decoder_dim, decoder_depth, mlp_ratio=hidden_dim / decoder_dim, **shared),
    )


def _size(settings: Mapping[str, Any], part: str, name: str) -> int:
    return as_kind(section(settings, name), int, f"cfg.{part}.{name}")


def _features(cfg: Mapping[str, Any], task: Mapping[str, Any]) -> LogMels:
    """The log-mels of its data set."""
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
