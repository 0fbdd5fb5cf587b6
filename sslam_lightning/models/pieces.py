"""Clips longer than an encoder's table of positions, in pieces that are encoded by themselves (BAT's public code)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from sslam_lightning.types import Seen


def cut_into_pieces(seen: Seen, max_patches: int | None) -> list[Seen]:
    """Cut embedded clips every ``max_patches`` tokens; the last piece may be shorter. None: one piece."""
    if max_patches is None or seen.tokens.shape[1] <= max_patches:
        return [seen]
    tokens = seen.tokens.split(max_patches, dim=1)
    padding = [None] * len(tokens) if seen.padding is None else seen.padding.split(max_patches, dim=1)
    return [Seen(*piece) for piece in zip(tokens, padding, strict=True)]


def join_pieces(
    outputs: Sequence[Float[Tensor, "rows _ dim"]], pieces: Sequence[Seen]
) -> Float[Tensor, "rows clip_and_all_tokens dim"]:
    """The mean of the clip tokens of all pieces that are not padding throughout, then the tokens of all pieces."""
    if len(outputs) == 1:
        return outputs[0]
    clip, tokens = torch.stack([x[:, :1] for x in outputs]), [x[:, 1:] for x in outputs]
    held = [torch.ones_like(clip[0, :, 0, 0]) if p.padding is None else 1.0 - p.padding.all(dim=1).float() for p in pieces]
    share = torch.stack(held)[..., None, None]
    return torch.cat([((clip * share).sum(dim=0) / share.sum(dim=0)).to(clip.dtype), *tokens], dim=1)
