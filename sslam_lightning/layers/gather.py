"""Taking tokens out of rows and putting them back, for whole batches at once."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor


def gather_tokens(
    tokens: Float[Tensor, "clips tokens dim"], index: Int[Tensor, "rows kept"]
) -> Float[Tensor, "rows kept dim"]:
    """Take ``index``'s tokens out of each row, so that the encoder never pays for the others.

    There may be more rows in ``index`` than clips: then rows come clip by clip (rows = clips x copies), and a clip's
    tokens are shared by its copies without being copied first.

    Raises:
        ValueError: if the number of rows is not a multiple of the number of clips.
    """
    clips, num_tokens, dim = tokens.shape
    if index.shape[0] % clips:
        raise ValueError(f"{index.shape[0]} rows of indices do not share out evenly among {clips} clips")
    clip_of_row = torch.arange(clips, device=tokens.device).repeat_interleave(index.shape[0] // clips)
    flat_index = (clip_of_row * num_tokens).unsqueeze(1) + index
    return tokens.reshape(-1, dim).index_select(0, flat_index.reshape(-1)).view(*index.shape, dim)


def scatter_tokens(
    canvas: Float[Tensor, "rows tokens dim"], kept: Float[Tensor, "rows kept dim"], index: Int[Tensor, "rows kept"]
) -> Float[Tensor, "rows tokens dim"]:
    """A copy of ``canvas`` with ``kept`` at the places ``index``: the inverse of :func:`gather_tokens`."""
    return canvas.scatter(1, index.unsqueeze(-1).expand(-1, -1, canvas.shape[-1]), kept.to(canvas.dtype))
