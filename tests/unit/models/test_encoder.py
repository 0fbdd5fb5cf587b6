from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import nn

from sslam_lightning.layers import gather_tokens
from sslam_lightning.masking import UniformMask
from sslam_lightning.models import Encoder, EncoderConfig


def log_mels(batch: int = 2, frames: int = 16, mels: int = 16) -> torch.Tensor:
    return torch.randn(batch, frames, mels, generator=torch.Generator().manual_seed(1))


def tokens(rows: int = 2, count: int = 6, dim: int = 16) -> torch.Tensor:
    return torch.randn(rows, count, dim, generator=torch.Generator().manual_seed(2))


def lively(config: EncoderConfig, **switches: object) -> Encoder:
    """Every weight away from its initial value, so that none of them can be left out unseen."""
    encoder = Encoder(replace(config, **switches))
    for parameter in encoder.parameters():
        nn.init.normal_(parameter, std=0.3)
    return encoder


@pytest.mark.parametrize(("batch", "frames"), [(1, 4), (3, 8), (2, 64)])
@pytest.mark.parametrize(("dim", "heads"), [(8, 1), (16, 2), (20, 5)])
def test_any_length_batch_and_width(batch: int, frames: int, dim: int, heads: int) -> None:
    encoder = Encoder(EncoderConfig(dim=dim, depth=2, num_heads=heads, patch_size=4, num_mels=16))
    encoded = encoder(log_mels(batch, frames))
    assert encoded.cls.shape == (batch, dim)
    assert encoded.tokens.shape == (batch, frames, dim)  # 4 patches above each other in every 4 frames
    assert encoded.hidden_states == ()


@pytest.mark.parametrize("order", ["post", "pre", "pre_data2vec2"])
def test_the_whole_encoder_by_hand(encoder_config: EncoderConfig, order: str) -> None:
    encoder, x = lively(encoder_config, norm=order, prenet_depth=1), tokens()
    encoded = encoder.encode(x, keep_layers=2)
    h = torch.cat([encoder.cls_token.expand(2, 1, 16), x], dim=1)
    if order == "post":
        h = nn.functional.layer_norm(h, (16,), encoder.input_norm.weight, encoder.input_norm.bias, 1e-6)
    h = encoder.prenet[0](h).tokens
    layers = []
    for block in encoder.blocks:
        h, f = block(h)
        layers.append(f[:, 1:])
    if order != "post":
        h = nn.functional.layer_norm(h, (16,), encoder.output_norm.weight, encoder.output_norm.bias, 1e-6)
    torch.testing.assert_close(encoded.cls, h[:, 0])
    torch.testing.assert_close(encoded.tokens, h[:, 1:])
    torch.testing.assert_close(encoded.hidden_states, tuple(layers))  # the prenet's output is none of them


@pytest.mark.parametrize("order", ["post", "pre", "pre_data2vec2"])
def test_norms_where_the_order_needs_them(encoder_config: EncoderConfig, order: str) -> None:
    names = {name.split(".")[0] for name in Encoder(replace(encoder_config, norm=order)).state_dict()}
    assert names == {"front_end", "cls_token", "blocks", "input_norm" if order == "post" else "output_norm"}


def test_layers_are_the_last_ones_without_the_cls_token(encoder_config: EncoderConfig) -> None:
    encoder, x = lively(encoder_config, depth=3), tokens()
    every = encoder.encode(x, keep_layers=3, layer_output="block")
    two = encoder.encode(x, keep_layers=2, layer_output="block")
    torch.testing.assert_close(two.hidden_states, every.hidden_states[1:])
    torch.testing.assert_close(two.hidden_states[-1], two.tokens)  # post-norm: the last block's output is the encoder's
    feed_forward = encoder.encode(x, keep_layers=1).hidden_states
    assert len(feed_forward) == 1
    assert not torch.allclose(feed_forward[0], two.hidden_states[-1])


def test_hidden_patches_cannot_reach_the_student(encoder_config: EncoderConfig, keys: torch.Tensor) -> None:
    encoder = lively(encoder_config)
    x = log_mels(2).requires_grad_()
    grid = encoder.front_end.grid(x)
    mask = UniformMask(0.75)(keys[:2], grid)
    encoded = encoder.encode(gather_tokens(encoder.embed(x), mask.ids_keep))
    weights = torch.randn(2, 1 + 4, 16)
    (weights * torch.cat([encoded.cls.unsqueeze(1), encoded.tokens], dim=1)).sum().backward()
    assert x.grad is not None
    per_patch = encoder.front_end.patchify(x.grad).abs().amax(dim=-1)
    assert (per_patch[mask.hidden] == 0).all()
    assert (per_patch[~mask.hidden] > 0).all()


def test_the_order_of_tokens_does_not_matter(encoder_config: EncoderConfig) -> None:
    encoder, x = lively(encoder_config), tokens()
    order = torch.tensor([3, 0, 5, 1, 4, 2])
    shuffled, straight = encoder.encode(x[:, order]), encoder.encode(x)
    torch.testing.assert_close(shuffled.tokens, straight.tokens[:, order])
    torch.testing.assert_close(shuffled.cls, straight.cls)


@pytest.mark.parametrize("order", ["post", "pre", "pre_data2vec2"])
def test_padding_is_as_if_it_were_not_there(encoder_config: EncoderConfig, order: str) -> None:
    encoder, x = lively(encoder_config, norm=order, prenet_depth=1), tokens()
    padding = torch.tensor([[False, False, False, True, True, True], [False] * 6])
    once = encoder.encode(x, padding, keep_layers=2)
    other = x.clone()
    other[0, 3:] = 1e3 * torch.randn(3, 16)
    twice = encoder.encode(other, padding, keep_layers=2)
    alone = encoder.encode(x[:1, :3], keep_layers=2)
    torch.testing.assert_close(once.cls, twice.cls)
    torch.testing.assert_close(once.tokens[~padding], twice.tokens[~padding])
    torch.testing.assert_close(once.cls[:1], alone.cls)
    torch.testing.assert_close(once.tokens[:1, :3], alone.tokens)
    torch.testing.assert_close(once.hidden_states[0][:1, :3], alone.hidden_states[0])
    torch.testing.assert_close(once.cls[1:], encoder.encode(x[1:]).cls)


def test_clips_do_not_meet(encoder_config: EncoderConfig) -> None:
    encoder, x = lively(encoder_config), log_mels(3)
    torch.testing.assert_close(encoder(x).cls[1:2], encoder(x[1:2]).cls)


def test_skipping_every_block_leaves_the_normed_input(encoder_config: EncoderConfig) -> None:
    encoder, x = lively(encoder_config, layer_drop=1 - 1e-12), tokens()
    encoded = encoder.encode(x)
    torch.testing.assert_close(encoded.tokens, encoder.input_norm(x))
    assert not torch.allclose(encoder.eval().encode(x).tokens, encoded.tokens)  # evaluation skips nothing
    plain = Encoder(encoder_config)
    plain.load_state_dict(encoder.state_dict())
    torch.testing.assert_close(encoder.encode(x).tokens, plain.encode(x).tokens)


def test_skipped_blocks_still_take_part_in_the_step(encoder_config: EncoderConfig) -> None:
    encoder = lively(encoder_config, layer_drop=0.9999999)
    (torch.randn(2, 16) * encoder(log_mels()).cls).sum().backward()
    assert all(parameter.grad is not None for parameter in encoder.parameters())
    assert all(not parameter.grad.any() for parameter in encoder.blocks.parameters())  # type: ignore[union-attr]
    assert encoder.cls_token.grad is not None
    assert encoder.cls_token.grad.any()


def test_blocks_are_skipped_as_often_as_asked(encoder_config: EncoderConfig) -> None:
    encoder, x = lively(encoder_config, depth=1, layer_drop=0.3), tokens(1, 1)
    skipped = encoder.input_norm(x)
    with torch.no_grad():
        count = sum(bool(torch.equal(encoder.encode(x).tokens, skipped)) for _ in range(400))
    assert abs(count / 400 - 0.3) < 5 * (0.3 * 0.7 / 400) ** 0.5


def test_drop_path_rises_in_a_straight_line(encoder_config: EncoderConfig) -> None:
    encoder = Encoder(replace(encoder_config, depth=5, prenet_depth=1, drop_path_start=0.1, drop_path_end=0.3))
    rates = [block.drop_path.probability for block in encoder.blocks]
    assert rates == pytest.approx([0.1, 0.15, 0.2, 0.25, 0.3])
    assert encoder.prenet[0].drop_path.probability == 0.0
    assert Encoder(replace(encoder_config, depth=1, drop_path_end=0.3)).blocks[0].drop_path.probability == 0.0


@pytest.mark.parametrize(
    "name", ["attention_dropout", "dropout", "activation_dropout", "post_mlp_dropout", "input_dropout"]
)
def test_every_dropout_is_connected(encoder_config: EncoderConfig, name: str) -> None:
    encoder, x = lively(encoder_config, **{name: 0.5}), tokens()
    assert not torch.allclose(encoder.encode(x).tokens, encoder.encode(x).tokens)
    encoder.eval()
    assert torch.equal(encoder.encode(x).tokens, encoder.encode(x).tokens)


def test_initial_weights() -> None:
    encoder = Encoder(EncoderConfig(dim=64, depth=2, num_heads=2, prenet_depth=1, patch_size=4, num_mels=16))
    for block in (*encoder.blocks, *encoder.prenet):
        for module in block.modules():
            if isinstance(module, nn.Linear):
                error = 0.02 / (2 * module.weight.numel()) ** 0.5  # standard error of a standard deviation
                assert module.weight.std().item() == pytest.approx(0.02, abs=6 * error)
                assert not module.bias.any()
    assert encoder.cls_token.std().item() == pytest.approx(1.0, abs=6 / (2 * 64) ** 0.5)
    assert not Encoder(replace(encoder.config, zero_cls_token=True)).cls_token.any()  # D11
