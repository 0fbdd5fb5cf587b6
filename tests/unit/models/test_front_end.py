from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from sslam_lightning.layers import sincos_positions
from sslam_lightning.models import EncoderConfig, SpectrogramPatches
from sslam_lightning.types import Grid


def log_mels(batch: int, frames: int, mels: int = 16) -> torch.Tensor:
    return torch.randn(batch, frames, mels, generator=torch.Generator().manual_seed(1))


def test_patches_are_time_major_and_their_values_frame_major(encoder_config: EncoderConfig) -> None:
    frame, mel = torch.arange(8.0).view(-1, 1), torch.arange(16.0)
    patches = SpectrogramPatches(encoder_config).patchify((100 * frame + mel).unsqueeze(0))
    assert patches.shape == (1, 2 * 4, 16)
    assert patches[0, :, 0].tolist() == [0, 4, 8, 12, 400, 404, 408, 412]  # mel first, then time
    assert patches[0, 6].tolist() == [100 * f + m for f in range(4, 8) for m in range(8, 12)]


def test_embedding_is_the_convolution_whose_name_it_has(encoder_config: EncoderConfig) -> None:
    front_end, x = SpectrogramPatches(encoder_config), log_mels(3, 12)
    torch.nn.init.normal_(front_end.proj.bias)
    convolved = front_end.proj(x.unsqueeze(1)).flatten(2).transpose(1, 2)
    torch.testing.assert_close(front_end(x), convolved + sincos_positions(3, 4, 16))


def test_initial_projection_is_xavier_over_the_flat_kernel_and_its_bias_that_of_a_convolution() -> None:
    """D11."""
    front_end = SpectrogramPatches(EncoderConfig(dim=64, num_heads=2, patch_size=16, num_mels=32))
    bound = (6 / (64 + 16 * 16)) ** 0.5
    largest = front_end.proj.weight.abs().max().item()
    assert 0.99 * bound < largest <= bound
    assert 0.9 / 16 < front_end.proj.bias.abs().max().item() <= 1 / 16


@pytest.mark.parametrize(("frames", "mels"), [(10, 16), (0, 16), (8, 12), (8, 32)])
def test_a_clip_must_be_whole_patches(encoder_config: EncoderConfig, frames: int, mels: int) -> None:
    message = rf"expects frames in multiples of 4 and 16 mels, got {frames} frames and {mels} mels"
    with pytest.raises(ValueError, match=message):
        SpectrogramPatches(encoder_config)(torch.zeros(2, frames, mels))


def test_grid(encoder_config: EncoderConfig) -> None:
    assert SpectrogramPatches(encoder_config).grid(torch.zeros(2, 24, 16)) == Grid(6, 4)


def test_positions_grow_with_the_longest_clip_and_are_not_saved(encoder_config: EncoderConfig) -> None:
    front_end = SpectrogramPatches(encoder_config)
    for parameter in front_end.proj.parameters():
        torch.nn.init.zeros_(parameter)  # positions alone are left
    for num_time in (2, 7, 3):
        expected = sincos_positions(num_time, 4, 16).unsqueeze(0)
        torch.testing.assert_close(front_end(torch.zeros(1, 4 * num_time, 16)), expected)
    assert set(front_end.state_dict()) == {"proj.weight", "proj.bias"}


def test_positions_made_while_predicting_serve_training(encoder_config: EncoderConfig) -> None:
    front_end = SpectrogramPatches(encoder_config)
    with torch.inference_mode():
        front_end(log_mels(1, 8))
    front_end(log_mels(1, 8)).square().sum().backward()
    assert front_end.proj.weight.grad is not None


def test_clips_do_not_meet(encoder_config: EncoderConfig) -> None:
    front_end, x = SpectrogramPatches(encoder_config), log_mels(3, 8)
    torch.testing.assert_close(front_end(x)[1:2], front_end(x[1:2]))
    moved = F.pad(x, (0, 0, 0, 4))
    torch.testing.assert_close(front_end(moved)[:, : 2 * 4], front_end(x))
