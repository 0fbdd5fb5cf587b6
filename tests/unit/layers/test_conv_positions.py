from __future__ import annotations

import pytest
import torch

from sslam_lightning.layers import ConvPositions, sinusoidal_positions


def test_each_layer_looks_at_its_share_of_the_width() -> None:
    positions = ConvPositions(8, depth=2, width=10, groups=2)
    assert [conv.weight.shape for conv in positions.convs] == [(8, 4, 5)] * 2
    x = torch.randn(1, 40, 8, requires_grad=True)
    positions(x)[0, 20].sum().backward()
    seen = x.grad[0].abs().sum(dim=1).nonzero().flatten()
    assert (seen.min().item(), seen.max().item()) == (16, 24)  # 2 x 2 tokens to either side


def test_an_even_kernel_keeps_the_number_of_tokens() -> None:
    assert ConvPositions(8, depth=1, width=4, groups=2)(torch.randn(3, 7, 8)).shape == (3, 7, 8)


def test_groups_that_do_not_divide_the_width() -> None:
    with pytest.raises(ValueError, match=r"dim must be a multiple of groups, got 8 and 3"):
        ConvPositions(8, groups=3)


def test_sinusoidal_positions_by_hand() -> None:
    table = sinusoidal_positions(5, 4)
    for place in range(5):
        at = torch.tensor(float(place))
        expected = torch.stack([at.sin(), at.cos(), (at / 100).sin(), (at / 100).cos()])
        torch.testing.assert_close(table[place], expected)
    assert torch.equal(sinusoidal_positions(3, 4), table[:3])
    with pytest.raises(ValueError, match=r"need an even width, got 3"):
        sinusoidal_positions(2, 3)
