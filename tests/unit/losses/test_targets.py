from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F

from sslam_lightning.losses import TeacherTargets
from sslam_lightning.losses.targets import normalize


def layers(count: int = 3, rows: int = 2, tokens: int = 5, dim: int = 4) -> list[torch.Tensor]:
    draw = torch.Generator().manual_seed(0)
    return [3 * torch.randn(rows, tokens, dim, generator=draw) + number for number in range(count)]


def test_normalizations_are_those_of_torch() -> None:
    x = layers()[2]
    instance = F.instance_norm(x.transpose(1, 2)).transpose(1, 2)
    batch = F.batch_norm(x.transpose(1, 2), None, None, training=True).transpose(1, 2)
    torch.testing.assert_close(normalize(x, "instance"), instance)
    torch.testing.assert_close(normalize(x, "batch"), batch)
    torch.testing.assert_close(normalize(x, "layer"), F.layer_norm(x, (4,)))


def test_instance_norm_by_hand() -> None:
    x = torch.tensor([[[1.0, 10.0], [3.0, 10.0]]])  # mean 2, variance 1; no variance at all
    torch.testing.assert_close(normalize(x, "instance"), torch.tensor([[[-1.0, 0.0], [1.0, 0.0]]]), atol=1e-5, rtol=0)


def test_the_default_is_eats_target() -> None:
    every = layers()
    average = sum(F.instance_norm(layer.transpose(1, 2)).transpose(1, 2) for layer in every[-2:]) / 2
    torch.testing.assert_close(TeacherTargets(top_k_layers=2)(every), F.layer_norm(average, (4,)))


def test_only_the_last_layers_count() -> None:
    every = layers()
    plain = TeacherTargets(2, normalize_layers=(), normalize_average=())
    torch.testing.assert_close(plain(every), (every[1] + every[2]) / 2)
    torch.testing.assert_close(plain(every, top_k_layers=1), every[2])
    torch.testing.assert_close(plain(every, top_k_layers=3), sum(every) / 3)


def test_order_of_normalizations() -> None:
    every = layers(1)
    one_way = TeacherTargets(1, normalize_layers=("batch", "layer"), normalize_average=("instance",))
    torch.testing.assert_close(one_way(every), normalize(normalize(normalize(every[0], "batch"), "layer"), "instance"))
    assert not torch.allclose(one_way(every), TeacherTargets(1, normalize_layers=("layer", "batch"))(every))


def test_layers_are_left_as_they_were_and_summed_in_float32() -> None:
    every = [layer.bfloat16() for layer in layers()]
    before = [layer.clone() for layer in every]
    target = TeacherTargets(3, normalize_layers=(), normalize_average=())(every)
    assert target.dtype == torch.float32
    torch.testing.assert_close(target, sum(layer.float() for layer in before) / 3)
    assert all(torch.equal(layer, copy) for layer, copy in zip(every, before, strict=True))


@pytest.mark.parametrize(
    ("kinds", "are_independent"),
    [
        ({"normalize_layers": ("instance", "layer")}, True),
        ({"normalize_average": ("layer", "instance")}, True),
        ({"normalize_layers": ("layer", "batch")}, False),
        ({"normalize_average": ("batch",)}, False),
    ],
)
def test_a_clips_target_depends_on_its_batch_with_batch_norm_alone(kinds: dict[str, Any], are_independent: bool) -> None:
    targets, every = TeacherTargets(3, **kinds), layers()
    assert targets.rows_are_independent == are_independent
    assert torch.allclose(targets(every)[1:], targets([layer[1:] for layer in every]), atol=1e-5) == are_independent
