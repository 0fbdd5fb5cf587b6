from __future__ import annotations

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from sslam_lightning.masking import UniformMask
from sslam_lightning.models import ConvDecoder, ConvDecoderConfig
from sslam_lightning.types import Grid, Mask

GRID = Grid(5, 4)


@pytest.fixture
def mask(keys: torch.Tensor) -> Mask:
    return UniformMask(0.6)(keys[:3], GRID)


def visible_tokens(mask: Mask, dim: int = 16) -> torch.Tensor:
    return torch.randn(*mask.ids_keep.shape, dim, generator=torch.Generator().manual_seed(1))


def by_hand(decoder: ConvDecoder, visible: torch.Tensor, mask: Mask) -> torch.Tensor:
    """Noiseless, one row after the other, over the whole field."""
    predictions = []
    for row in range(len(visible)):
        field = torch.zeros(GRID.num_patches, visible.shape[-1])
        field[mask.ids_keep[row]] = visible[row]
        image = field.T.reshape(-1, *GRID)
        for conv in decoder.convs:
            padding = decoder.config.kernel_size // 2
            wide = F.conv2d(image[None], conv.weight, conv.bias, padding=padding, groups=decoder.config.groups)[0]
            normed = F.layer_norm(wide[:, : GRID.time, : GRID.freq].permute(1, 2, 0), (decoder.config.dim,))
            refined = F.gelu(normed).permute(2, 0, 1)
            image = refined + image if refined.shape == image.shape else refined
        predictions.append(decoder.proj(image.flatten(1).T)[mask.ids_masked[row]])
    return torch.stack(predictions)


@pytest.mark.parametrize("kernel", [1, 2, 3, 4, 5])
@pytest.mark.parametrize("depth", [1, 3])
def test_by_hand(decoder_config: ConvDecoderConfig, mask: Mask, kernel: int, depth: int) -> None:
    decoder = ConvDecoder(replace(decoder_config, kernel_size=kernel, depth=depth, noise_std=0.0), 16)
    visible = visible_tokens(mask)
    predictions = decoder(visible, mask, GRID)
    assert predictions.shape == (*mask.ids_masked.shape, 16)
    torch.testing.assert_close(predictions, by_hand(decoder, visible, mask))


@pytest.mark.parametrize("depth", [1, 2])
def test_a_layer_between_two_widths_has_no_residual(decoder_config: ConvDecoderConfig, mask: Mask, depth: int) -> None:
    decoder = ConvDecoder(replace(decoder_config, dim=24, depth=depth, noise_std=0.0), 16)
    visible = visible_tokens(mask)
    predictions = decoder(visible, mask, GRID)
    assert predictions.shape[-1] == 16
    torch.testing.assert_close(predictions, by_hand(decoder, visible, mask))


def test_predictions_come_in_the_order_of_the_ids_masked(decoder_config: ConvDecoderConfig, mask: Mask) -> None:
    decoder = ConvDecoder(replace(decoder_config, noise_std=0.0), 16)
    visible = visible_tokens(mask)
    backwards = mask._replace(ids_masked=mask.ids_masked.flip(1))
    torch.testing.assert_close(decoder(visible, backwards, GRID), decoder(visible, mask, GRID).flip(1))


def test_noise_stands_in_for_hidden_patches_alone(decoder_config: ConvDecoderConfig, keys: torch.Tensor) -> None:
    decoder = ConvDecoder(replace(decoder_config, noise_std=0.25), 16)
    mask = UniformMask(0.6)(keys, GRID)
    visible = visible_tokens(mask)
    seen: list[torch.Tensor] = []
    decoder.convs[0].register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].flatten(2).transpose(1, 2)))
    first, second = decoder(visible, mask, GRID), decoder(visible, mask, GRID)
    assert not torch.allclose(first, second)
    assert torch.equal(seen[0][~mask.hidden], visible.flatten(0, 1))
    noise = seen[0][mask.hidden]
    error = 0.25 / (2 * noise.numel()) ** 0.5
    assert noise.std().item() == pytest.approx(0.25, abs=5 * error)
    assert noise.mean().item() == pytest.approx(0.0, abs=5 * 0.25 / noise.numel() ** 0.5)
    assert not torch.equal(noise, seen[1][mask.hidden])


def test_every_parameter_learns(decoder_config: ConvDecoderConfig, mask: Mask) -> None:
    decoder = ConvDecoder(decoder_config, 16)
    decoder(visible_tokens(mask), mask, GRID).square().sum().backward()
    assert all(parameter.grad is not None and parameter.grad.any() for parameter in decoder.parameters())


def test_groups_must_share_out_the_encoders_width(decoder_config: ConvDecoderConfig) -> None:
    with pytest.raises(ValueError, match=r"dim must be a multiple of the decoder's groups, got 18 and 4"):
        ConvDecoder(decoder_config, 18)
