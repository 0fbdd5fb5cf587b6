from __future__ import annotations

import jaxtyping
import pytest
import torch

from sslam_lightning.layers import gather_tokens, scatter_tokens


def test_gather_tokens_by_hand() -> None:
    tokens = torch.arange(2 * 4 * 3).view(2, 4, 3).float()
    kept = gather_tokens(tokens, torch.tensor([[3, 0], [1, 1]]))
    assert kept.tolist() == [[[9, 10, 11], [0, 1, 2]], [[15, 16, 17], [15, 16, 17]]]


def test_copies_share_their_clip() -> None:
    tokens = torch.randn(2, 5, 3)
    index = torch.tensor([[0, 1], [2, 3], [4, 0], [1, 2], [0, 0], [3, 4]])
    copied = tokens.repeat_interleave(3, dim=0)
    expected = copied.take_along_dim(index.unsqueeze(-1), dim=1)
    assert torch.equal(gather_tokens(tokens, index), expected)


def test_scatter_tokens_is_the_inverse_of_gather_tokens() -> None:
    tokens = torch.randn(3, 7, 4)
    order = torch.stack([torch.randperm(7) for _ in range(3)])
    visible, hidden = order[:, :3], order[:, 3:]
    canvas = scatter_tokens(torch.zeros_like(tokens), gather_tokens(tokens, visible), visible)
    assert (gather_tokens(canvas, hidden) == 0).all()
    assert torch.equal(scatter_tokens(canvas, gather_tokens(tokens, hidden), hidden), tokens)
    assert torch.equal(gather_tokens(canvas, visible), gather_tokens(tokens, visible))


def test_scatter_tokens_leaves_its_canvas_alone_and_takes_its_type() -> None:
    canvas = torch.zeros(1, 3, 2, dtype=torch.bfloat16)
    filled = scatter_tokens(canvas, torch.ones(1, 1, 2), torch.tensor([[1]]))
    assert filled.dtype == torch.bfloat16
    assert filled.tolist() == [[[0, 0], [1, 1], [0, 0]]]
    assert (canvas == 0).all()


def test_gradients_arrive_where_the_values_came_from() -> None:
    tokens = torch.randn(1, 4, 2, requires_grad=True)
    gather_tokens(tokens, torch.tensor([[0, 2], [2, 2]])).sum().backward()
    assert tokens.grad is not None
    assert tokens.grad[0, :, 0].tolist() == [1, 0, 3, 0]
    canvas, kept = torch.randn(1, 4, 2, requires_grad=True), torch.randn(1, 2, 2, requires_grad=True)
    (scatter_tokens(canvas, kept, torch.tensor([[3, 1]])) * torch.tensor([1.0, 2, 3, 4]).view(1, 4, 1)).sum().backward()
    assert canvas.grad is not None
    assert kept.grad is not None
    assert canvas.grad[0, :, 0].tolist() == [1, 0, 3, 0]
    assert kept.grad[0, :, 0].tolist() == [4, 2]


def test_rows_must_share_out_evenly() -> None:
    with pytest.raises(ValueError, match="3 rows of indices do not share out evenly among 2 clips"):
        gather_tokens(torch.zeros(2, 4, 1), torch.zeros(3, 1, dtype=torch.long))


def test_shapes_in_signatures_are_checked() -> None:
    with pytest.raises(jaxtyping.TypeCheckError, match="tokens"):
        gather_tokens(torch.zeros(2, 4), torch.zeros(2, 1, dtype=torch.long))
    with pytest.raises(jaxtyping.TypeCheckError, match="index"):
        scatter_tokens(torch.zeros(2, 4, 1), torch.zeros(2, 2, 1), torch.zeros(2, 3, dtype=torch.long))
