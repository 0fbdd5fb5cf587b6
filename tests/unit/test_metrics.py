from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from sslam_lightning.losses import TeacherTargets
from sslam_lightning.metrics import (
    MeanLoss,
    ScoredMeanAveragePrecision,
    accuracy,
    knn_accuracy,
    mean_average_precision,
    token_std,
    variance_indicator,
)


def random_predictions(clips: int, classes: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(clips, classes, generator=generator), (torch.rand(clips, classes, generator=generator) < 0.2).float()


def test_map_by_hand_leaves_out_classes_without_positives() -> None:
    probabilities = torch.tensor([[0.9, 0.1, 0.5], [0.8, 0.2, 0.5], [0.7, 0.3, 0.5], [0.6, 0.4, 0.5]])
    labels = torch.tensor([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 0.0]])
    result = mean_average_precision(probabilities, labels)
    first, second = (1 / 1 + 2 / 3) / 2, 1 / 3
    assert result.value.item() == pytest.approx((first + second) / 2)
    assert (result.num_scored_classes, result.num_classes) == (2, 3)
    assert mean_average_precision(probabilities, labels.long()).value == result.value


def test_map_counts_equal_probabilities_together() -> None:
    """Two of four clips are positive, the model says the same of all: precision is one half at every recall."""
    labels = torch.tensor([[1.0, 0.0], [1.0, 1.0], [0.0, 0.0], [0.0, 1.0]])
    assert mean_average_precision(torch.full((4, 2), 0.5), labels).value.item() == pytest.approx(0.5)


def test_map_of_one_scored_class_and_of_none() -> None:
    probabilities = torch.tensor([[0.9, 0.1], [0.8, 0.2]])
    one = mean_average_precision(probabilities, torch.tensor([[0.0, 0.0], [1.0, 0.0]]))
    assert (one.value.item(), one.num_scored_classes, one.num_classes) == (0.5, 1, 2)
    none = mean_average_precision(probabilities, torch.zeros(2, 2))
    assert math.isnan(none.value.item())
    assert (none.num_scored_classes, none.num_classes) == (0, 2)


def test_map_over_batches_is_map_over_everything() -> None:
    probabilities, labels = random_predictions(50, 6)
    metric = ScoredMeanAveragePrecision(num_classes=6)
    for part, truth in zip(probabilities.split(16), labels.split(16), strict=True):
        metric.update(part.bfloat16().float(), truth)
    expected = mean_average_precision(probabilities.bfloat16().float(), labels)
    assert metric.compute() == expected
    metric.reset()
    metric.update(probabilities[:16], labels[:16])
    assert metric.compute() == mean_average_precision(probabilities[:16], labels[:16])


def test_map_errors() -> None:
    with pytest.raises(ValueError, match=r"expected probabilities in \[0, 1\], got values from -1 to 2"):
        mean_average_precision(torch.tensor([[-1.0, 2.0]]), torch.ones(1, 2))
    with pytest.raises(ValueError, match=r"expected probabilities in \[0, 1\], got values from nan to nan"):
        mean_average_precision(torch.tensor([[math.nan, 0.5]]), torch.ones(1, 2))
    with pytest.raises(ValueError, match=r"got \(2, 3\) and \(2, 4\)"):
        mean_average_precision(torch.zeros(2, 3), torch.zeros(2, 4))
    with pytest.raises(ValueError, match="expected 5 classes, got 3"):
        ScoredMeanAveragePrecision(num_classes=5).update(torch.zeros(2, 3), torch.zeros(2, 3))


def test_mean_loss_by_hand() -> None:
    """U9: nothing is no number, and no weight is no reason for an infinite one."""
    metric = MeanLoss()
    assert metric.compute() is None
    metric.update(torch.tensor(3.0), 0)
    assert metric.compute() == 3.0
    metric.update(torch.tensor(5.0), torch.tensor(4.0))
    assert metric.compute() == 2.0
    metric.update(torch.tensor(math.nan), 1)
    assert math.isnan(metric.compute())
    metric.reset()
    assert metric.compute() is None


def test_accuracy_by_hand() -> None:
    probabilities = torch.tensor([[0.7, 0.2, 0.1], [0.1, 0.2, 0.7], [0.2, 0.5, 0.3], [0.6, 0.4, 0.0]])
    labels = torch.tensor([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 1.0, 1.0], [0.0, 0.0, 1.0]])
    assert accuracy(probabilities, labels).item() == 0.5
    with pytest.raises(ValueError, match=r"at least one clip, got \(0, 3\) and \(0, 3\)"):
        accuracy(torch.zeros(0, 3), torch.zeros(0, 3))


def test_knn_by_hand() -> None:
    angles = torch.tensor([0.0, 10.0, 20.0, 60.0, 70.0]).deg2rad()
    train = torch.stack([angles.cos(), angles.sin()], dim=1) * torch.tensor([[1.0], [5.0], [0.1], [100.0], [1.0]])
    train_labels = torch.tensor([0, 0, 0, 7, 7])
    queries = torch.tensor([[1.0, 0.0], [math.cos(1.0), math.sin(1.0)]])  # 0 and 57.3 degrees
    assert knn_accuracy(train, train_labels, queries, torch.tensor([0, 7]), k=1) == 1.0
    assert knn_accuracy(train, train_labels, queries, torch.tensor([0, 7]), k=3) == 1.0
    assert knn_accuracy(train, train_labels, queries, torch.tensor([0, 0]), k=5) == 1.0  # three zeros of five
    assert knn_accuracy(train, train_labels, queries, torch.tensor([7, 9]), k=1) == 0.0
    # Two votes each among the four nearest of 57.3 degrees (60, 70, 20, 10): the closer pair wins.
    assert knn_accuracy(train, train_labels, queries[1:], torch.tensor([7]), k=4) == 1.0


def test_knn_errors() -> None:
    with pytest.raises(ValueError, match="k must lie between 1 and the 3 training rows, got 4"):
        knn_accuracy(torch.ones(3, 2), torch.zeros(3).long(), torch.ones(1, 2), torch.zeros(1).long(), k=4)


def test_variance_indicator_by_hand() -> None:
    x = torch.tensor([[[1.0, 5.0]], [[3.0, 5.0]]])  # variances 2 and 0
    expected = (math.sqrt(2 + 1e-6) + math.sqrt(1e-6)) / 2
    assert variance_indicator(x).item() == pytest.approx(expected)
    with pytest.raises(ValueError, match="a variance needs at least two rows, got 1"):
        variance_indicator(torch.ones(1, 4))


def test_token_std_by_hand() -> None:
    # Channels of a clip: 3 and 1 (variance 1, mean square 5), all the same, and nothing at all.
    x = torch.tensor([[[3.0, 7.0, 0.0], [1.0, 7.0, 0.0]]])
    assert token_std(x).item() == pytest.approx(math.sqrt(1 / 5) / 3)
    padded, padding = torch.cat([x, torch.full((1, 1, 3), 100.0)], dim=1), torch.tensor([[False, False, True]])
    assert token_std(padded, padding).item() == pytest.approx(token_std(x).item())
    assert token_std(1000 * x).item() == pytest.approx(token_std(x).item())  # relative


def test_token_std_sees_what_normalized_targets_hide() -> None:
    healthy = torch.randn(2, 50, 8, generator=torch.Generator().manual_seed(0))
    collapsed = 5.0 + 0.02 * healthy
    targets = [TeacherTargets(top_k_layers=1)([tokens]) for tokens in (healthy, collapsed)]
    torch.testing.assert_close(*[variance_indicator(rows) for rows in targets], rtol=0.05, atol=0.0)
    assert token_std(healthy) > 0.9
    assert token_std(collapsed) < 0.01


def _one_of_two_ranks(rank: int, folder: str) -> None:
    dist.init_process_group("gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=2)
    # Rank 0 has 7 rows with a large mean, rank 1 has 5.
    rows = torch.randn(12, 3, generator=torch.Generator().manual_seed(0)) + 1000.0
    own = rows[:7] if rank == 0 else rows[7:]
    everywhere, here = variance_indicator(own), variance_indicator(own, across_ranks=False)
    torch.testing.assert_close(everywhere, (rows.var(dim=0) + 1e-6).sqrt().mean(), atol=1e-4, rtol=0)
    torch.testing.assert_close(here, (own.var(dim=0) + 1e-6).sqrt().mean())

    probabilities, labels = random_predictions(20, 4)
    uneven, one_sided = ScoredMeanAveragePrecision(num_classes=4), ScoredMeanAveragePrecision(num_classes=4)
    mine = slice(0, 13) if rank == 0 else slice(13, 20)
    uneven.update(probabilities[mine], labels[mine])
    if rank == 0:  # the other rank got no clip at all
        one_sided.update(probabilities, labels)
    expected = mean_average_precision(probabilities, labels)
    assert uneven.compute() == expected
    assert one_sided.compute() == expected
    dist.destroy_process_group()


@pytest.mark.filterwarnings("ignore:The ``compute`` method")
def test_two_ranks_give_what_one_would(tmp_path: Path) -> None:
    mp.spawn(_one_of_two_ranks, args=(str(tmp_path),), nprocs=2)
