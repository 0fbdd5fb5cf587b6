"""Clips longer than the table of positions (D10)."""

from __future__ import annotations

import pytest
import torch

from sslam_lightning.layers import mel_major_positions, sincos_positions
from sslam_lightning.models import Encoder, EncoderConfig

SIZE = {"dim": 16, "depth": 2, "num_heads": 2, "patch_size": 4, "num_mels": 8}


def encoder(**settings) -> Encoder:
    torch.manual_seed(0)
    return Encoder(EncoderConfig(**SIZE, max_time_patches=3, **settings)).eval()


@torch.no_grad()
def test_a_piece_is_encoded_by_itself_from_the_first_position_on() -> None:
    model, clips = encoder(), torch.randn(2, 4 * 8, 8)  # three, three and two columns of two patches
    found = model(clips)
    alone = [model(part) for part in clips.split(12, dim=1)]
    torch.testing.assert_close(found.tokens, torch.cat([each.tokens for each in alone], dim=1))
    torch.testing.assert_close(found.cls, torch.stack([each.cls for each in alone]).mean(dim=0))
    for number, layer in enumerate(model.layer_outputs(clips)):
        parts = [list(model.layer_outputs(part))[number] for part in clips.split(12, dim=1)]
        torch.testing.assert_close(layer[:, 1:], torch.cat([part[:, 1:] for part in parts], dim=1))
        torch.testing.assert_close(layer[:, 0], torch.stack([part[:, 0] for part in parts]).mean(dim=0))


@torch.no_grad()
def test_a_clip_does_not_depend_on_longer_ones_of_its_batch() -> None:
    model, clips = encoder(), torch.randn(3, 4 * 8, 8)
    columns = torch.tensor([8, 5, 3])
    padding = (torch.arange(8) >= columns[:, None]).repeat_interleave(2, dim=1)
    found, layers = model(clips, padding), list(model.layer_outputs(clips, padding))
    for row, count in enumerate(columns.tolist()):
        alone = model(clips[row : row + 1, : 4 * count])
        torch.testing.assert_close(found.cls[row], alone.cls[0])
        torch.testing.assert_close(found.tokens[row, : 2 * count], alone.tokens[0])
        torch.testing.assert_close(layers[-1][row, 0], alone.cls[0])


def test_positions_run_along_time_while_patches_run_along_the_mels() -> None:
    table = mel_major_positions(3, 2, 16)
    torch.testing.assert_close(table, sincos_positions(2, 3, 16), atol=0, rtol=0)
    model = encoder()
    positions = model.embed(torch.zeros(1, 4 * 5, 8))[0] - model.front_end.proj.bias
    torch.testing.assert_close(positions, torch.cat([table, table[:4]]))
    torch.testing.assert_close(model.embed(torch.zeros(1, 4, 8))[0] - model.front_end.proj.bias, table[:2])


def test_masks_are_of_one_piece() -> None:
    model, clips = encoder(), torch.randn(1, 4 * 4, 8)
    with pytest.raises(ValueError, match=r"at most encoder\.max_time_patches 3 patches in time, got clips of 4: lower"):
        model.select_tokens(model.embed(clips), model.front_end.grid(clips), torch.tensor([[0, 1]]))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"max_time_patches": 0}, "max_time_patches must be at least 1, or null, got 0"),
        ({"max_time_patches": 3, "alibi": "fixed"}, "max_time_patches is for .*: set alibi to null"),
        ({"max_time_patches": 3, "cls_token": False}, "max_time_patches needs a CLS token"),
    ],
)
def test_wrong_settings(settings: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        EncoderConfig(**{**SIZE, **settings})
