from __future__ import annotations

import pytest
import torch

from sslam_lightning.layers import sinusoidal_positions
from sslam_lightning.masking import mask_from_hidden
from sslam_lightning.models import ConvDecoder, ConvDecoderConfig, TransformerDecoder, TransformerDecoderConfig
from sslam_lightning.types import Grid

HIDDEN = torch.tensor([[True, False, False, True, True, False], [False, True, True, False, False, True]])
MASK = mask_from_hidden(HIDDEN, 3)


def config(**settings) -> TransformerDecoderConfig:
    return TransformerDecoderConfig(**{"dim": 8, "depth": 1, "num_heads": 2, **settings})


@pytest.mark.parametrize("order", ["post", "pre"])
def test_mask_tokens_stand_at_hidden_places(order) -> None:
    decoder, visible = TransformerDecoder(config(norm=order, output_projection=True), 8).eval(), torch.randn(2, 3, 8)
    everything = decoder.mask_token.expand(2, 6, 8).clone()
    everything[~HIDDEN] = visible.reshape(-1, 8)
    x = everything + sinusoidal_positions(6, 8)
    x = decoder.output_norm(decoder.blocks[0](decoder.input_norm(x)).tokens)
    predictions = decoder(visible, MASK, Grid(6, 1))
    torch.testing.assert_close(predictions, decoder.output_proj(x[HIDDEN].view(2, 3, 8)))
    torch.testing.assert_close(decoder.refine(everything), x)
    assert predictions.shape == (2, 3, 8)


def test_another_width_than_the_encoders() -> None:
    for back, width in ((False, 8), (True, 12)):
        decoder = TransformerDecoder(config(output_projection=back), 12)
        assert decoder.output_dim == width
        assert decoder(torch.randn(2, 3, 12), MASK, Grid(6, 1)).shape == (2, 3, width)


def test_the_encoders_width_by_default() -> None:
    for settings in (config(dim=None), ConvDecoderConfig(groups=4)):
        decoder = settings.build(12)
        assert (decoder.config.dim, decoder.output_dim) == (12, 12)


def test_learned_positions_end() -> None:
    decoder = TransformerDecoder(config(positions="learned", max_tokens=6), 8)
    decoder(torch.randn(2, 3, 8), MASK, Grid(6, 1)).sum().backward()
    assert decoder.positions.grad.any()
    with pytest.raises(ValueError, match=r"decoder.max_tokens is 6, the clips have 8 tokens"):
        decoder(torch.randn(2, 5, 8), mask_from_hidden(torch.arange(8).expand(2, -1) < 3, 3), Grid(8, 1))
    with pytest.raises(ValueError, match=r"decoder: depth must be at least 1, got 0"):
        config(depth=0)


def test_a_decoder_along_a_line_is_one_over_a_field_of_height_1() -> None:
    """The 2-D decoder's middle column does what a 1-D one does."""
    settings = {"dim": 8, "depth": 2, "kernel_size": 3, "groups": 2, "noise_std": 0.0}
    line, field = ConvDecoder(ConvDecoderConfig(**settings, dimensions=1), 8), ConvDecoder(ConvDecoderConfig(**settings), 8)
    for ours, theirs in zip(line.convs, field.convs, strict=True):
        ours.load_state_dict({"weight": theirs.weight[..., 1].detach(), "bias": theirs.bias.detach()})
    line.proj.load_state_dict(field.proj.state_dict())
    visible = torch.randn(2, 3, 8)
    torch.testing.assert_close(line(visible, MASK, Grid(6, 1)), field(visible, MASK, Grid(6, 1)))
    with pytest.raises(ValueError, match=r"decoder.dimensions 1 is for tokens in one line, the clips are 2 tokens high"):
        line(visible, MASK, Grid(3, 2))


def test_a_decoder_without_residuals_and_with_two_layers_behind() -> None:
    plain = ConvDecoderConfig(dim=8, depth=1, groups=2, dimensions=1, noise_std=0.0, residual=False, projection_depth=2)
    decoder = ConvDecoder(plain, 8)
    assert [layer.weight.shape for layer in (decoder.proj[0], decoder.proj[2])] == [(16, 8), (8, 16)]
    with torch.no_grad():
        decoder.convs[0].weight.zero_()
    assert not decoder(torch.randn(2, 3, 8), MASK, Grid(6, 1)).diff(dim=1).any()  # nothing of the input is left
