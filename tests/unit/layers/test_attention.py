from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F

from sslam_lightning.layers import Attention
from sslam_lightning.layers.attention import _attend_in_steps

PADDING = torch.tensor([[False, False, False, True, True], [False, False, False, False, False]])


def tokens(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(1))


def by_hand(attention: Attention, x: torch.Tensor) -> torch.Tensor:
    """Head by head, token by token, from the textbook's formula."""
    rows, num_tokens, dim = x.shape
    width = dim // attention.num_heads
    projected = x @ attention.qkv.weight.T + attention.qkv.bias
    q, k, v = projected[..., :dim], projected[..., dim : 2 * dim], projected[..., 2 * dim :]
    mixed = torch.zeros_like(x)
    for row in range(rows):
        for head in range(attention.num_heads):
            part = slice(head * width, (head + 1) * width)
            for token in range(num_tokens):
                scores = k[row, :, part] @ q[row, token, part] / math.sqrt(width)
                mixed[row, token, part] = scores.softmax(dim=0) @ v[row, :, part]
    return mixed @ attention.proj.weight.T + attention.proj.bias


def test_equals_the_textbook() -> None:
    attention, x = Attention(12, 3).eval(), tokens(2, 5, 12)
    torch.testing.assert_close(attention(x), by_hand(attention, x))


@pytest.mark.parametrize("mask", [None, ~PADDING[:, None, None, :]])
def test_the_steps_are_the_fused_kernel(mask: torch.Tensor | None) -> None:
    q, k, v = tokens(3, 2, 4, 5, 8)
    torch.testing.assert_close(
        _attend_in_steps(q, k, v, attn_mask=mask), F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
    )


@pytest.mark.parametrize("padding", [None, PADDING])
def test_bfloat16_on_the_cpu_stays_close_to_float32(padding: torch.Tensor | None) -> None:
    attention, x = Attention(16, 2).eval(), tokens(2, 5, 16)
    exact = attention(x, padding)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rough = attention(x, padding)
    assert rough.dtype == torch.bfloat16
    torch.testing.assert_close(rough.float(), exact, atol=0.02, rtol=0)  # 8 bits of mantissa


def test_padding_has_no_influence() -> None:
    attention, x = Attention(16, 4).eval(), tokens(2, 5, 16)
    mixed = attention(x, PADDING)
    other = torch.where(PADDING.unsqueeze(-1), 1000 * tokens(2, 5, 16) + 7, x)
    real = ~PADDING
    assert (attention(other, PADDING)[real] == mixed[real]).all()
    torch.testing.assert_close(mixed[0, :3], attention(x[:1, :3])[0])  # as if padding had never been there
    torch.testing.assert_close(mixed[1], attention(x[1:])[0])
    assert not torch.allclose(attention(x)[0, :3], mixed[0, :3])


def test_no_gradient_passes_through_padding() -> None:
    attention, x = Attention(16, 4), tokens(2, 5, 16).requires_grad_()
    attention(x, PADDING)[~PADDING].square().sum().backward()
    assert x.grad is not None
    assert (x.grad[PADDING] == 0).all()
    assert (x.grad[~PADDING].abs().sum(dim=-1) > 0).all()


@pytest.mark.parametrize("settings", [{"attention_dropout": 0.5}, {"dropout": 0.5}])
def test_dropout_acts_in_training_alone(settings: dict) -> None:
    attention, x = Attention(16, 2, **settings), tokens(2, 5, 16)
    assert not torch.equal(attention(x), attention(x))
    attention.eval()
    torch.testing.assert_close(attention(x), by_hand(attention, x))


def test_dropout_of_the_steps_keeps_the_mean() -> None:
    q, k, v = tokens(3, 1, 1, 4, 8)
    many = _attend_in_steps(*(x.expand(5000, -1, -1, -1) for x in (q, k, v)), dropout_p=0.5)
    assert many[:, 0, 0, 0].unique().numel() > 8  # dropped by row, not for all at once
    torch.testing.assert_close(many.mean(dim=0, keepdim=True), _attend_in_steps(q, k, v), atol=0.1, rtol=0)


def test_heads_must_share_the_width() -> None:
    with pytest.raises(ValueError, match="got dim 10 and 3 heads"):
        Attention(10, 3)
