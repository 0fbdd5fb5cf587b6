"""Numbers that judge a model: on labeled clips, and on representations alone."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
import torch.distributed as dist
from jaxtyping import Bool, Float, Int, Real
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.functional.classification import binary_average_precision, multilabel_average_precision

from sslam_lightning.default_dtype import float32_by_default


class MeanAveragePrecision(NamedTuple):
    """The mean over the classes that could be scored, and how many those were."""

    value: Float[Tensor, ""]  # in [0, 1]; not a number if no class had a positive
    num_scored_classes: int
    num_classes: int


@float32_by_default()  # torchmetrics makes numbers of the default type
def mean_average_precision(
    probabilities: Float[Tensor, "clips classes"], labels: Real[Tensor, "clips classes"]
) -> MeanAveragePrecision:
    """Exact mAP over classes with at least one positive clip (a class without one has no precision to average).

    Raises:
        ValueError: if the shapes differ, or if something is not a probability (torchmetrics would silently apply a
            sigmoid to such a batch).
    """
    _check_predictions(probabilities, labels)
    present = labels > 0.5
    scored = present.any(dim=0)
    num_scored, num_classes = int(scored.sum()), labels.shape[1]
    predictions, truth = probabilities.float()[:, scored], present[:, scored].long()
    if num_scored == 0:
        value = torch.full((), torch.nan, dtype=torch.float32, device=probabilities.device)
    elif num_scored == 1:  # torchmetrics takes one class for a binary task only
        value = binary_average_precision(predictions[:, 0], truth[:, 0], thresholds=None)
    else:
        value = multilabel_average_precision(predictions, truth, num_scored, average="none", thresholds=None).mean()
    return MeanAveragePrecision(value, num_scored, num_classes)


class ScoredMeanAveragePrecision(Metric):
    """:func:`mean_average_precision` over all batches and ranks, for use in a Lightning module.

    ``compute()`` returns a :class:`MeanAveragePrecision`, so log its ``value``.
    """

    full_state_update = False
    higher_is_better = True
    probabilities: list[Tensor]
    labels: list[Tensor]

    def __init__(self, num_classes: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.num_classes = num_classes
        self.add_state("probabilities", [], dist_reduce_fx="cat")
        self.add_state("labels", [], dist_reduce_fx="cat")

    def update(
        self,
        probabilities: Float[Tensor, "clips classes"],
        labels: Real[Tensor, "clips classes"],
    ) -> None:
        _check_predictions(probabilities, labels)
        if labels.shape[1] != self.num_classes:
            raise ValueError(f"expected {self.num_classes} classes, got {labels.shape[1]}")
        self.probabilities.append(probabilities.detach().float())
        self.labels.append((labels > 0.5).to(torch.uint8))

    def compute(self) -> MeanAveragePrecision:
        # After a synchronization over ranks torchmetrics leaves one tensor where a list was.
        probabilities, labels = (state if isinstance(state, Tensor) else torch.cat(state) for state in self._never_empty())
        return mean_average_precision(probabilities, labels)

    def sync(self, *args: Any, **kwargs: Any) -> None:
        # A rank without a single clip takes part with an empty table of the right width.
        self.probabilities, self.labels = self._never_empty()
        super().sync(*args, **kwargs)

    def _never_empty(self) -> tuple[list[Tensor], list[Tensor]]:
        if len(self.probabilities) > 0:
            return self.probabilities, self.labels
        nothing = torch.zeros(0, self.num_classes, dtype=torch.float32, device=self.device)
        return [nothing], [nothing.to(torch.uint8)]


class MeanLoss(Metric):
    """A loss over all batches and ranks: the sum of its terms divided by the sum of their weights, clips or labels.

    ``compute()`` returns None where there was no batch. Terms without any weight are divided by 1.
    """

    full_state_update = False
    higher_is_better = False
    total: Tensor
    weight: Tensor
    batches: Tensor

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        for name in ("total", "weight", "batches"):
            self.add_state(name, torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum")

    def update(self, total: Float[Tensor, ""], weight: float | Float[Tensor, ""]) -> None:
        self.total += total.detach()
        self.weight += weight
        self.batches += 1

    def compute(self) -> Float[Tensor, ""] | None:
        return (self.total / self.weight.clamp(min=1.0)).float() if self.batches else None


def accuracy(probabilities: Float[Tensor, "clips classes"], labels: Real[Tensor, "clips classes"]) -> Float[Tensor, ""]:
    """Share of clips whose most probable class is among their labels.

    Raises:
        ValueError: if the shapes differ or there is no clip.
    """
    if probabilities.shape != labels.shape or probabilities.shape[0] == 0:
        raise ValueError(
            f"expected probabilities and labels of one shape (clips, classes) with at least one clip, "
            f"got {tuple(probabilities.shape)} and {tuple(labels.shape)}"
        )
    best = probabilities.argmax(dim=1, keepdim=True)
    return (labels.gather(1, best) > 0.5).float().mean()


def knn_accuracy(
    train_x: Float[Tensor, "train dim"],
    train_labels: Int[Tensor, "train"],
    x: Float[Tensor, "rows dim"],
    labels: Int[Tensor, "rows"],
    k: int,
) -> Float[Tensor, ""]:
    """Share of rows whose class is that of most of their ``k`` nearest training rows by cosine similarity.

    Between classes with equally many neighbors the one with the greater summed similarity wins. Holds the whole table
    of similarities, rows x train, in float32.

    Raises:
        ValueError: if ``k`` is not between 1 and the number of training rows.
    """
    if not 1 <= k <= train_x.shape[0]:
        raise ValueError(f"k must lie between 1 and the {train_x.shape[0]} training rows, got {k}")
    with torch.autocast(x.device.type, enabled=False):
        unit_train, unit = (torch.nn.functional.normalize(rows.float(), dim=1) for rows in (train_x, x))
        similarity, neighbors = (unit @ unit_train.T).topk(k, dim=1)
    # One vote each, plus less than one in total for closeness, which can only decide between equal numbers of votes.
    votes = 1.0 + (similarity.clamp(-1.0, 1.0) + 1.0) / (2.0 * (k + 1))
    num_classes = int(train_labels.max()) + 1
    ballot = torch.zeros(x.shape[0], num_classes, dtype=torch.float32, device=x.device)
    return (ballot.scatter_add_(1, train_labels[neighbors], votes).argmax(dim=1) == labels).float().mean()


def variance_indicator(x: Float[Tensor, "*rows dim"], across_ranks: bool = True) -> Float[Tensor, ""]:
    """Standard deviation over rows, averaged over channels: near 0 when a representation has collapsed.

    ``mean over channels of sqrt(unbiased variance over rows + 1e-6)``, the watch of data2vec 2.0 (Baevski et al., 2022;
    ``compute_var`` in its code).

    Args:
        x: representations, rows first.
        across_ranks: count the rows of all ranks when torch.distributed is initialized (a collective call: all ranks
            have to make it).

    Raises:
        ValueError: if one process has fewer than two rows, so that nothing can vary.
    """
    rows = x.detach().float().flatten(0, -2)
    distributed = across_ranks and dist.is_available() and dist.is_initialized()
    if rows.shape[0] < 2 and not distributed:
        raise ValueError(f"a variance needs at least two rows, got {rows.shape[0]}")
    mean = rows.mean(dim=0)
    squares = (rows - mean).square_().sum(dim=0)  # on CPUs four times faster than `var` over the first dimension
    if not distributed:
        return (squares / (len(rows) - 1) + 1e-6).sqrt().mean()
    # zss / (n - 1) - zs^2 / (n (n - 1)) over all ranks. The sums are put together in float64 from each rank's mean and
    # squares around it: in float32 the difference would drown as soon as the mean is large.
    count, mean = torch.full((1,), len(rows), dtype=torch.float64, device=rows.device), mean.double()
    totals = torch.cat([count, count * mean, squares.double() + count * mean.square()])
    totals = totals.nan_to_num(nan=0.0) if len(rows) == 0 else totals  # a rank without rows only takes part
    dist.all_reduce(totals)
    n, zs, zss = totals.split([1, rows.shape[1], rows.shape[1]])
    variance = zss / (n - 1.0) - zs.square() / (n * (n - 1.0))
    return (variance.clamp(min=0.0) + 1e-6).sqrt().mean().float()


def token_std(
    tokens: Float[Tensor, "clips tokens dim"], padding: Bool[Tensor, "clips tokens"] | None = None
) -> Float[Tensor, ""]:
    """How much the tokens of a clip differ: near 0 when an encoder makes the same of all of them.

    Each channel's standard deviation over a clip's tokens, as a share of its root mean square over them; the mean over
    channels and clips, between 0 and 1. Relative and by channel, as encoders learn channels that are large and nearly
    constant. Ours; data2vec 2.0 watches variances alone, which its normalized targets keep.

    Args:
        tokens: as a layer puts them out, before any normalization.
        padding: True at tokens that are none.
    """
    x = tokens.detach().float()
    kept = torch.ones_like(x[..., :1]) if padding is None else (~padding).unsqueeze(-1).float()
    count = kept.sum(dim=1, keepdim=True).clamp(min=1.0)
    mean = (x * kept).sum(dim=1, keepdim=True) / count
    variance = ((x - mean) * kept).square().sum(dim=1) / count.squeeze(1)
    return (variance / (variance + mean.squeeze(1).square()).clamp(min=1e-12)).sqrt().mean()


def _check_predictions(probabilities: Tensor, labels: Tensor) -> None:
    if probabilities.ndim != 2 or probabilities.shape != labels.shape:
        raise ValueError(
            f"expected probabilities and labels of one shape (clips, classes), "
            f"got {tuple(probabilities.shape)} and {tuple(labels.shape)}"
        )
    if not bool(((probabilities >= 0.0) & (probabilities <= 1.0)).all()):
        lowest, highest = (float(bound) for bound in probabilities.aminmax())
        raise ValueError(f"expected probabilities in [0, 1], got values from {lowest:g} to {highest:g}")
