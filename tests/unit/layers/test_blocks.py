from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch._dynamo.utils import counters

from sslam_lightning.layers import Block, DropPath
from sslam_lightning.layers.block import FeedForward, NormPlacement

DIM = 12


def tokens(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(1))


def block_with_lively_norms(order: NormPlacement, **settings: float) -> Block:
    """Norm weights away from 1 and 0, so that mixing up the two norms shows."""
    block = Block(DIM, 3, 2.0, order, **settings)
    for norm in (block.norm1, block.norm2):
        torch.nn.init.normal_(norm.weight)
        torch.nn.init.normal_(norm.bias)
    return block


def test_feed_forward_by_hand() -> None:
    layer, x = FeedForward(DIM, 20), tokens(2, 3, DIM)
    hidden = F.gelu(x @ layer.fc1.weight.T + layer.fc1.bias)
    torch.testing.assert_close(layer(x), hidden @ layer.fc2.weight.T + layer.fc2.bias)
    assert Block(DIM, 3, 2.5).mlp.fc1.out_features == 30


@pytest.mark.parametrize("order", ["post", "pre", "pre_data2vec2"])
def test_order_of_normalization(order: NormPlacement) -> None:
    block, x = block_with_lively_norms(order), tokens(2, 5, DIM)
    attention, feed_forward, norm1, norm2 = block.attn, block.mlp, block.norm1, block.norm2
    if order == "post":
        h = norm1(x + attention(x))
        f = feed_forward(h)
        expected = norm2(h + f)
    else:
        h = x + attention(norm1(x))
        f = feed_forward(norm2(h))
        expected = h + f if order == "pre" else 2 * f
    torch.testing.assert_close(block(x).tokens, expected)
    torch.testing.assert_close(block(x).feed_forward, f)


@pytest.mark.parametrize("order", ["post", "pre", "pre_data2vec2"])
def test_padding_reaches_the_attention(order: NormPlacement) -> None:
    block, x = block_with_lively_norms(order), tokens(1, 4, DIM)
    padding = torch.tensor([[False, False, False, True]])
    torch.testing.assert_close(block(x, padding).tokens[:, :3], block(x[:, :3]).tokens)


def test_dropout_behind_the_targets_does_not_touch_them() -> None:
    block, x = block_with_lively_norms("post", post_mlp_dropout=0.5), tokens(2, 5, DIM)
    once, twice = block(x), block(x)
    assert torch.equal(once.feed_forward, twice.feed_forward)
    assert not torch.equal(once.tokens, twice.tokens)


@pytest.mark.parametrize("name", ["attention_dropout", "dropout", "activation_dropout", "post_mlp_dropout", "drop_path"])
def test_evaluation_knows_no_dropout(name: str) -> None:
    with_dropout = block_with_lively_norms("post", **{name: 0.5})
    without = Block(DIM, 3, 2.0)
    without.load_state_dict(with_dropout.state_dict())
    x = tokens(4, 5, DIM)
    assert not torch.allclose(with_dropout(x).tokens, without(x).tokens)
    torch.testing.assert_close(with_dropout.eval()(x).tokens, without(x).tokens)


@pytest.mark.parametrize("order", ["pre", "post"])
def test_a_row_without_branches_is_the_residual(order: NormPlacement) -> None:
    block, x = block_with_lively_norms(order, drop_path=0.999999), tokens(2, 5, DIM)
    expected = x if order == "pre" else block.norm2(block.norm1(x))
    torch.testing.assert_close(block(x).tokens, expected)


def test_drop_path_drops_whole_rows_and_keeps_the_mean() -> None:
    drop = DropPath(0.3)
    rows = drop(torch.ones(20_000, 2, 3))
    per_row = rows.flatten(1)
    assert (per_row == per_row[:, :1]).all()
    torch.testing.assert_close(per_row[:, 0].unique(), torch.tensor([0.0, 1 / 0.7]))
    error = (0.3 / 0.7 / 20_000) ** 0.5
    assert rows.mean().item() == pytest.approx(1.0, abs=5 * error)


def test_blocks_with_rising_drop_path_share_their_compiled_code() -> None:
    """PyTorch stops compiling a function at its eighth variant; ViT has twelve blocks."""
    torch.compiler.reset()
    counters.clear()
    num_graphs = []
    for number in range(12):
        block = Block(DIM, 2, drop_path=0.01 * number)
        block.compile(backend="eager")
        block(tokens(2, 5, DIM)).tokens.sum().backward()
        num_graphs.append(counters["stats"]["unique_graphs"])
    assert 0 < num_graphs[0] < num_graphs[1] == num_graphs[-1]  # without drop path, and with it
    torch.compiler.reset()


def test_drop_path_in_evaluation_or_at_zero_does_nothing() -> None:
    x = tokens(3, 4)
    assert torch.equal(DropPath(0.9).eval()(x), x)
    assert torch.equal(DropPath(0.0)(x), x)


@pytest.mark.parametrize("probability", [1.0, -0.1])
def test_drop_path_must_leave_something(probability: float) -> None:
    with pytest.raises(ValueError, match=rf"drop path must lie in \[0, 1\), got {probability}"):
        DropPath(probability)
