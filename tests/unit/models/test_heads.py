from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F

from sslam_lightning.models import ClassificationHead
from sslam_lightning.models.heads import Pooling, linear_softmax
from sslam_lightning.types import EncoderOutput


def encoded(rows: int = 2, tokens: int = 5, dim: int = 8) -> EncoderOutput:
    draw = torch.Generator().manual_seed(1)
    return EncoderOutput(torch.randn(rows, dim, generator=draw), torch.randn(rows, tokens, dim, generator=draw), ())


def lively(pooling: Pooling) -> ClassificationHead:
    head = ClassificationHead(8, 3, pooling)
    for parameter in head.parameters():
        torch.nn.init.normal_(parameter)
    return head


def naive(tokens: torch.Tensor) -> torch.Tensor:
    p = tokens.double().sigmoid()
    return (p.square().sum(dim=1) / (p.sum(dim=1) * math.exp(1e-6))).logit().float()


@pytest.mark.parametrize("pooling", ["cls", "mean", "linear_softmax"])
def test_features_are_pooled_then_normalized_and_projected(pooling: Pooling) -> None:
    """D3: linear softmax pools the features like the others, not the logits behind the head."""
    head, x = lively(pooling), encoded()
    pooled = {"cls": x.cls, "mean": x.tokens.sum(dim=1) / 5, "linear_softmax": naive(x.tokens)}[pooling]
    normed = F.layer_norm(pooled, (8,), head.norm.weight, head.norm.bias, 1e-6)
    torch.testing.assert_close(head(x), normed @ head.linear.weight.T + head.linear.bias, rtol=1e-4, atol=1e-4)


def test_linear_softmax_by_hand() -> None:
    p = torch.tensor([0.5, 0.25])
    pooled = (0.25 + 0.0625) / 0.75
    expected = torch.tensor([[pooled]]).logit()
    torch.testing.assert_close(linear_softmax(p.logit().view(1, 2, 1)), expected, rtol=1e-4, atol=1e-5)


def test_linear_softmax_of_equal_patches_is_theirs() -> None:
    tokens = torch.tensor([-80.0, -3.0, 0.0, 2.0, 6.0]).expand(1, 4, 5)
    torch.testing.assert_close(linear_softmax(tokens), tokens[:, 0], rtol=1e-4, atol=1e-5)


def test_linear_softmax_ignores_padding() -> None:
    tokens = torch.randn(1, 5, 8, generator=torch.Generator().manual_seed(3))
    padding = torch.tensor([[False, False, False, True, True]])
    torch.testing.assert_close(linear_softmax(tokens, padding), linear_softmax(tokens[:, :3]))


@pytest.mark.parametrize("size", [8.0, 30.0, 1e4, 1e30])
def test_linear_softmax_is_finite_and_saturates_as_published(size: float) -> None:
    signs = torch.tensor([[[-1.0, 1.0, 1.0, 0.0], [-1.0, 1.0, -1.0, 0.0]]])
    tokens = (size * signs).requires_grad_()
    pooled = linear_softmax(tokens)
    if size < 30:
        torch.testing.assert_close(pooled, naive(tokens.detach()), rtol=1e-5, atol=1e-5)
    else:
        assert pooled[0, 0] < -29
        assert pooled[0, 1:3].tolist() == pytest.approx([13.8155, 13.8155], abs=1e-3)  # -log(exp(1e-6) - 1)
    pooled.sum().backward()
    assert tokens.grad is not None
    assert torch.isfinite(tokens.grad).all()


def test_initial_weights() -> None:
    head = ClassificationHead(64, 50)
    assert head.linear.weight.std().item() == pytest.approx(0.02, rel=0.06)
    assert not head.linear.bias.any()
    assert head.norm.eps == 1e-6


def test_a_head_needs_classes() -> None:
    with pytest.raises(ValueError, match=r"needs at least one class, got 0"):
        ClassificationHead(8, 0)
