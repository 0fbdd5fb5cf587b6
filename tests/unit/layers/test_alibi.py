from __future__ import annotations

import pytest
import torch

from sslam_lightning.layers import Alibi, Attention
from sslam_lightning.layers.alibi import _slopes
from sslam_lightning.types import Grid


def test_slopes_are_those_of_the_paper() -> None:
    assert _slopes(8) == [2.0**-n for n in range(1, 9)]
    assert _slopes(4) == [2.0 ** -(2 * n) for n in range(1, 5)]
    assert _slopes(12) == pytest.approx(_slopes(8) + [2.0 ** -(n + 0.5) for n in range(4)])


def test_bias_in_a_line_and_in_a_field_by_hand() -> None:
    alibi = Alibi(2)
    with torch.no_grad():
        alibi.scale.copy_(torch.tensor([2.0, -1.0]).view(1, 1, 2, 1, 1))
    slope = 2.0**-4
    line = alibi(Grid(3, 1))
    torch.testing.assert_close(line[0, 0], -2 * slope * torch.tensor([[0.0, 1, 2], [1, 0, 1], [2, 1, 0]]))
    assert not line[0, 1].any()  # a negative scale counts as zero
    field = alibi(Grid(2, 3))[0, 0]  # from (0, 0): (0, 1) is 1 away, (1, 2) is 3 away
    torch.testing.assert_close(field[0], -2 * slope * torch.tensor([0.0, 1, 2, 1, 2, 3]))


def test_chosen_tokens_keep_their_distances() -> None:
    alibi, index = Alibi(4), torch.tensor([[0, 5, 7], [1, 2, 11]])
    whole = alibi(Grid(4, 3))[0]
    for row, places in enumerate(index):
        torch.testing.assert_close(alibi(Grid(4, 3), index)[row], whole[:, places][:, :, places])


def test_attention_adds_the_bias_to_its_scores() -> None:
    attention, x = Attention(8, 2).eval(), torch.randn(2, 5, 8)
    far = torch.zeros(1, 2, 5, 5)
    far[..., 3:] = -1e9
    padding = torch.zeros(2, 5, dtype=torch.bool)
    padding[:, 3:] = True
    torch.testing.assert_close(attention(x, bias=far), attention(x, padding))
    padding[:, 3:] = False
    padding[:, 2] = True
    both = far.clone()
    both[..., 2] = -1e9
    torch.testing.assert_close(attention(x, padding, far), attention(x, bias=both))


def test_steps_in_bfloat16_add_the_bias_too() -> None:
    attention, x, bias = Attention(8, 2).eval(), torch.randn(2, 5, 8), torch.randn(2, 2, 5, 5)
    low = Attention(8, 2).eval()
    low.load_state_dict(attention.state_dict())
    torch.testing.assert_close(low.bfloat16()(x.bfloat16(), bias=bias).float(), attention(x, bias=bias), atol=2e-2, rtol=0)


def test_scales_learn_only_if_asked() -> None:
    assert Alibi(2).scale.requires_grad
    assert not Alibi(2, learned=False).scale.requires_grad


def test_a_gate_multiplies_what_was_attended_to() -> None:
    plain, gated = Attention(8, 2).eval(), Attention(8, 2, gated=True).eval()
    gated.load_state_dict({**gated.state_dict(), **plain.state_dict()})
    x = torch.randn(2, 5, 8)
    with torch.no_grad():
        gated.gate.weight.zero_()
        gated.gate.bias.fill_(100.0)
    torch.testing.assert_close(gated(x), plain(x))  # wide open
    with torch.no_grad():
        gated.gate.bias[:4] = -100.0  # the first head is shut
        plain.proj.weight[:, :4] = 0.0
    torch.testing.assert_close(gated(x), plain(x))
