"""The table of positions in other people's files: a formula that the model computes, so it is compared and left there."""

from __future__ import annotations

from torch import Tensor

from sslam_lightning.layers import sincos_positions

MAX_FRAMES = 768  # columns of patches in the released tables
_TOLERANCE = 2e-3  # half precision keeps three digits


def released_table(num_mel: int, dim: int, num_time: int) -> Tensor:
    """The table as released models hold it, (1, patches, dim), for at least ``num_time`` columns of patches."""
    return sincos_positions(max(num_time, MAX_FRAMES), num_mel, dim).unsqueeze(0)


def mel_patches_of(table: Tensor, dim: int, source: str) -> int:
    """How many patches lie above each other in the field that a table is for.

    Raises:
        ValueError: if it is not the fixed sine-cosine table, so that the computed one would mean something else.
    """
    complaint = ValueError(f"{source}: its positions are not the fixed sine-cosine table that the model computes")
    if dim % 4 or table.ndim < 2 or table.shape[-1] != dim or table.numel() == 0:
        raise complaint
    rows = table.reshape(-1, dim).float()
    same_mel = (rows[1:, : dim // 2] - rows[0, : dim // 2]).abs().amax(dim=1) < _TOLERANCE
    num_mel = int(same_mel.int().argmax()) + 1 if same_mel.any() else len(rows)
    if len(rows) % num_mel:
        raise complaint
    difference = rows - sincos_positions(len(rows) // num_mel, num_mel, dim)
    if not difference.abs().max() < _TOLERANCE:  # a NaN is not
        raise complaint
    return num_mel
