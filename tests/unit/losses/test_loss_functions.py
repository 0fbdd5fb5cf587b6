from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F

from sslam_lightning.losses import DINOLoss, InfoNCE, ReconstructionLoss, RegressionLoss, SourceRetentionLoss, UtteranceLoss
from sslam_lightning.losses.reconstruction import normalize_patches
from sslam_lightning.losses.source_retention import retained_targets
from sslam_lightning.types import Mask, Predictions, PretrainOutput, Targets

# Two rows of one hidden patch of width four: squared errors 1 + 4 + 0 + 0 and 0 + 0 + 9 + 0, together 14.
GUESSES = torch.tensor([[[1.0, 2, 3, 4]], [[0.0, 0, 3, 0]]])
TARGETS = torch.tensor([[[2.0, 4, 3, 4]], [[0.0, 0, 0, 0]]])

NO_MASK = Mask(torch.zeros(1, 1, dtype=torch.bool), *[torch.zeros(1, 0, dtype=torch.long)] * 2)


def noise(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(
    ("objective", "loss"),
    [
        (RegressionLoss(), 14 / math.sqrt(4) / 2),  # two hidden patches
        (RegressionLoss(weight=3.0), 3 * 14 / 2 / 2),
        (RegressionLoss(scale=1.0), 14 / 2),
        (RegressionLoss(scale="mean"), 14 / 4 / 2),
        (RegressionLoss(beta=2.0), (1 / 4 + 4 / 4 + (3 - 1)) / 2 / 2),  # |3| lies on the line |d| - beta / 2
        (SourceRetentionLoss(), 14 / 2 / 2),  # weight 2, twice the divisor
        (SourceRetentionLoss(weight=1.0, scale=1.0), 14 / 4),
        (SourceRetentionLoss(weight=1.0, beta=2.0), (1 / 4 + 4 / 4 + (3 - 1)) / 2 / 4),
    ],
    ids=str,
)
def test_losses_of_patches_by_hand(objective: Callable, loss: float) -> None:
    assert objective.compare(GUESSES, TARGETS).item() == pytest.approx(loss)


@pytest.mark.parametrize(
    ("objective", "loss"),
    [
        (UtteranceLoss(), 14 / 2 / 2),
        (UtteranceLoss(reduction="sum"), 14 / 2),
        (UtteranceLoss(weight=0.5, scale=2.0), 0.5 * 2 * 14 / 2),
        (UtteranceLoss(beta=2.0, reduction="sum"), (1 / 4 + 4 / 4 + (3 - 1)) / 2),
    ],
    ids=str,
)
def test_utterance_by_hand(objective: UtteranceLoss, loss: float) -> None:
    assert objective.compare(GUESSES[:, 0], TARGETS[:, 0]).item() == pytest.approx(loss)


@pytest.mark.parametrize("objective", [RegressionLoss(), SourceRetentionLoss(), ReconstructionLoss()], ids=str)
def test_the_loss_of_a_batch_is_the_mean_of_its_halves(objective: Callable) -> None:
    predictions, targets = noise(6, 5, 8), noise(6, 5, 8, seed=1)
    halves = [objective.compare(predictions[part], targets[part]) for part in (slice(0, 3), slice(3, 6))]
    torch.testing.assert_close(objective.compare(predictions, targets), sum(halves) / 2)


def dino_with(reduction: str) -> Callable:
    return lambda x, y: DINOLoss(reduction=reduction).compare(x, y, noise(1, 8, seed=2))  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", ["utterance", "dino"])
def test_mean_does_not_depend_on_the_batch_and_sum_does(kind: str) -> None:
    x, y = noise(6, 8), noise(6, 8, seed=1)
    for reduction in ("mean", "sum"):
        loss = UtteranceLoss(reduction=reduction).compare if kind == "utterance" else dino_with(reduction)  # type: ignore[arg-type]
        halves = loss(x[:3], y[:3]) + loss(x[3:], y[3:])
        torch.testing.assert_close(loss(x, y), halves / 2 if reduction == "mean" else halves)
        doubled = loss(torch.cat([x, x]), torch.cat([y, y]))
        torch.testing.assert_close(doubled, loss(x, y) * (1 if reduction == "mean" else 2))


def test_losses_of_half_precision_are_computed_in_float32() -> None:
    x, y = (300 * noise(2, 3, 8)).half(), (300 * noise(2, 3, 8, seed=1)).half()  # squares overflow float16
    for objective in (RegressionLoss(), SourceRetentionLoss()):
        loss = objective.compare(x, y)
        assert loss.dtype == torch.float32
        torch.testing.assert_close(loss, objective.compare(x.float(), y.float()))


def test_patches_are_normalized_by_hand() -> None:
    patches = torch.tensor([[[1.0, 2.0, 3.0]], [[5.0, 5.0, 5.0]]])  # unbiased variance 1; no variance
    torch.testing.assert_close(normalize_patches(patches), torch.tensor([[[-1.0, 0, 1]], [[0.0, 0, 0]]]), atol=1e-5, rtol=0)


def test_reconstruction_by_hand() -> None:
    patches = torch.tensor([[[1.0, 2.0, 3.0], [5.0, 5.0, 5.0]]])
    predictions = torch.tensor([[[-1.0, 0.0, 2.0], [0.0, 2.0, 0.0]]])  # errors 1 and 4 over two patches
    assert ReconstructionLoss().compare(predictions, patches).item() == pytest.approx(5 / math.sqrt(3) / 2, rel=1e-5)
    assert ReconstructionLoss(weight=2.0, scale=1.0).compare(predictions, patches).item() == pytest.approx(5.0, rel=1e-5)


def test_dino_by_hand() -> None:
    dino = DINOLoss(student_temperature=1.0, teacher_temperature=2.0)
    # The centered target is (2 ln 3, 0), so that the teacher wants (3/4, 1/4); the student predicts (1/2, 1/2).
    targets, center = torch.tensor([[2 * math.log(3) + 1, -4.0]]), torch.tensor([[1.0, -4.0]])
    loss = dino.compare(torch.tensor([[0.3, 0.3]]), targets, center)
    assert loss.item() == pytest.approx(math.log(2))
    # A student that predicts (4/5, 1/5).
    loss = dino.compare(torch.tensor([[math.log(4), 0.0]]), targets, center)
    assert loss.item() == pytest.approx(-(0.75 * math.log(0.8) + 0.25 * math.log(0.2)))


def test_dino_is_pytorchs_cross_entropy() -> None:
    x, y, center = noise(5, 8), noise(5, 8, seed=1), noise(1, 8, seed=2)
    wanted = F.softmax((y - center) / 0.05, dim=1)
    torch.testing.assert_close(DINOLoss(weight=3.0).compare(x, y, center), 3 * F.cross_entropy(x / 0.1, wanted))


def test_dinos_center_moves_by_its_momentum_after_the_batches_of_a_step() -> None:
    dino, predictions = DINOLoss(center_momentum=0.75).build(2), Predictions(noise(1, 1, 2), noise(1, 2))
    dino.center.copy_(torch.tensor([[4.0, 0.0]]))
    batches = [Targets(clip.unsqueeze(1), clip) for clip in torch.tensor([[[1.0, 2.0]], [[3.0, 6.0]]])]
    for targets in batches:
        dino(PretrainOutput(predictions, NO_MASK, targets))
        assert dino.center.tolist() == [[4.0, 0.0]]
    dino.update_center()
    torch.testing.assert_close(dino.center, torch.tensor([[3.5, 1.0]]))  # 3/4 of the old center, 1/4 of the mean (2, 4)
    dino.update_center()  # after a step without clips
    torch.testing.assert_close(dino.center, torch.tensor([[3.5, 1.0]]))
    for _ in range(100):
        for targets in batches:
            dino(PretrainOutput(predictions, NO_MASK, targets))
        dino.update_center()
    torch.testing.assert_close(dino.center, torch.tensor([[2.0, 4.0]]))
    dino(PretrainOutput(predictions, NO_MASK, Targets(noise(1, 1, 2), torch.tensor([[math.nan, 0.0]]))))
    dino.update_center()
    torch.testing.assert_close(dino.center, torch.tensor([[2.0, 4.0]]))


def test_a_mixture_retains_both_sources() -> None:
    own = torch.tensor([[[1.0], [2.0], [3.0], [4.0]], [[10.0], [20.0], [30.0], [40.0]]])
    foreign = torch.tensor([[[5.0], [7.0]], [[0.0], [-10.0]]])
    shared = torch.tensor([[1, 3], [0, 2]])
    target = retained_targets(own, foreign, shared)
    assert target.squeeze(-1).tolist() == [[1.0, 3.5, 3.0, 5.5], [5.0, 20.0, 10.0, 40.0]]
    assert own[0, 1].item() == 2.0


@pytest.mark.parametrize("temperatures", [(0.0, 0.05), (0.1, -1.0)])
def test_dinos_temperatures_are_positive(temperatures: tuple[float, float]) -> None:
    with pytest.raises(ValueError, match=r"dino: temperatures must be positive, got "):
        DINOLoss(1.0, *temperatures)


def test_info_nce_by_hand() -> None:
    predictions, patches = torch.randn(2, 3, 5), torch.randn(2, 3, 5)
    expected = torch.zeros(())
    for row in range(2):
        for hidden in range(3):
            scores = torch.stack([predictions[row, hidden] @ patches[row, other] for other in range(3)])
            expected -= (scores[hidden].exp() / scores.exp().sum()).log() / 6
    torch.testing.assert_close(InfoNCE().compare(predictions, patches), expected)
    torch.testing.assert_close(InfoNCE(0.5).compare(predictions, patches), expected / 2)


def test_mae_ast_reconstructs_values_as_they_are() -> None:
    for values in (16, 96, 256):  # whatever the size of a token
        predictions, patches = torch.randn(2, 3, values), 3 + torch.randn(2, 3, values)
        ours = ReconstructionLoss(weight=10.0, scale="mean", normalize=False).compare(predictions, patches)
        torch.testing.assert_close(ours, 10 * (predictions - patches).square().mean())
        by_number = ReconstructionLoss(weight=10.0, scale=1 / values, normalize=False).compare(predictions, patches)
        assert ours == by_number
