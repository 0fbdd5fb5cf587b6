"""Probes that learn by gradients on a frozen encoder's features, and the simplest, a linear layer."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from sslam_lightning.evaluation.frozen import POOLINGS, FrozenBatch, FrozenClips, check_poolings, poolings_of
from sslam_lightning.evaluation.protocols.base import Outcome, Protocol, Task
from sslam_lightning.evaluation.protocols.scoring import Score, check_metric, class_notes, loss, probabilities, score
from sslam_lightning.schedules import warmup_cosine
from sslam_lightning.whole_numbers import check_whole_numbers


@dataclass
class Probe(Protocol):
    """AdamW with a cosine on the features of training clips, without augmentation.

    All choices of settings learn side by side from the same batches, a part of the training clips held out. The one whose
    last epoch is best on that part learns anew from all training clips, and is scored on the test clips after every epoch.

    Args:
        learning_rates: peak rates to choose from.
        epochs: over the training clips.
        batch_size: clips of an update.
        weight_decay: decoupled, of matrices.
    """

    learning_rates: Sequence[float] = (3e-4, 1e-3, 3e-3, 1e-2, 3e-2)
    epochs: int = 50
    batch_size: int = 64
    weight_decay: float = 0.0

    def __post_init__(self) -> None:
        name = type(self).__name__
        check_whole_numbers(self, name)
        if not self.learning_rates or min(self.learning_rates) <= 0:
            raise ValueError(f"{name}: learning_rates must be positive, got {list(self.learning_rates)}")
        if self.epochs < 1 or self.batch_size < 1 or self.weight_decay < 0:
            raise ValueError(
                f"{name}: epochs and batch_size must be at least 1 and weight_decay not negative, "
                f"got {self.epochs}, {self.batch_size} and {self.weight_decay}"
            )

    @abstractmethod
    def build(self, task: Task, **choice: Any) -> nn.Module:
        """What learns: a module from a `FrozenBatch` to class logits of every clip.

        Biases, norms and parameters that its ``no_weight_decay`` names do not decay. ``choice`` is one of `choices`.
        """

    def choices(self, task: Task) -> dict[str, Sequence[Any]]:
        """Settings to choose on validation clips, next to the learning rate: name -> what to try."""
        return {}

    def run(self, task: Task) -> Outcome:
        """Choose, then learn and be scored."""
        check_metric(task.metric, type(self).__name__)
        settings = {"learning_rate": self.learning_rates, **self.choices(task)}
        tried = [dict(zip(settings, values, strict=True)) for values in product(*settings.values())]
        chosen, notes = tried[0], dict[str, Any]()
        if len(tried) > 1:
            learn, judges, judged = task.for_choosing()
            scores = [curve[-1].value for curve in self._learn(task, tried, learn, judges, judged, last_only=True)]
            best = max(range(len(tried)), key=scores.__getitem__)
            chosen, notes = tried[best], {"validation": scores[best]}
        learned, tested = (torch.arange(len(clips), device="cpu") for clips in (task.train, task.test))
        (curve,) = self._learn(task, [chosen], learned, task.test, tested)
        notes |= class_notes(task.metric, curve[-1].num_classes)
        return Outcome([one.value for one in curve], chosen, notes)

    def _learn(
        self,
        task: Task,
        tried: Sequence[dict[str, Any]],
        learn: Int[Tensor, "learn"],
        judges: FrozenClips,
        judged: Int[Tensor, "judged"],
        last_only: bool = False,
    ) -> list[list[Score]]:
        """The scores of every choice after each epoch, or after the last one alone."""
        probes = [self._fresh(task, choice) for choice in tried]
        optimizers = [self._optimizer(probe, choice["learning_rate"]) for probe, choice in zip(probes, tried, strict=True)]
        order = torch.Generator().manual_seed(task.seed)
        curves: list[list[Score]] = [[] for _ in probes]
        num_updates = self.epochs * math.ceil(len(learn) / self.batch_size)
        update = 0
        for epoch in range(1, self.epochs + 1):
            shuffled = learn[torch.randperm(len(learn), generator=order, device="cpu")]
            for batch in task.train.batches(self.level or "pooled", shuffled, self.batch_size):
                for probe, optimizer, choice in zip(probes, optimizers, tried, strict=True):
                    rate = warmup_cosine(update, choice["learning_rate"], 0.0, 0, num_updates)
                    for group in optimizer.param_groups:
                        group["lr"] = rate
                    optimizer.zero_grad()
                    loss(task.metric, probe(batch), batch.labels).backward()
                    optimizer.step()
                update += 1
            if epoch == self.epochs or not last_only:
                for curve, one in zip(curves, self._judge(task, probes, judges, judged), strict=True):
                    curve.append(one)
        return curves

    def _fresh(self, task: Task, choice: dict[str, Any]) -> nn.Module:
        settings = {name: value for name, value in choice.items() if name != "learning_rate"}
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(task.seed)
            return self.build(task, **settings).to(task.device)

    def _optimizer(self, probe: nn.Module, rate: float) -> torch.optim.Optimizer:
        exempt = getattr(probe, "no_weight_decay", ())
        groups: list[dict[str, Any]] = [{"params": [], "weight_decay": decay} for decay in (self.weight_decay, 0.0)]
        for name, parameter in probe.named_parameters():
            groups[parameter.ndim <= 1 or name in exempt]["params"].append(parameter)
        return torch.optim.AdamW([group for group in groups if group["params"]], lr=rate)

    @torch.no_grad()
    def _judge(
        self, task: Task, probes: Sequence[nn.Module], clips: FrozenClips, chosen: Int[Tensor, "chosen"]
    ) -> list[Score]:
        found: list[list[Tensor]] = [[] for _ in probes]
        labels = []
        for batch in clips.batches(self.level or "pooled", chosen, self.batch_size):
            labels.append(batch.labels)
            for probe, predicted in zip(probes, found, strict=True):
                predicted.append(probabilities(task.metric, probe(batch)))
        return [score(task.metric, torch.cat(predicted), torch.cat(labels)) for predicted in found]


@dataclass
class LinearProbe(Probe):
    """A linear layer on standardized features of whole clips.

    Every channel is brought to mean 0 and variance 1 over the training clips first: what a batch norm without weights does
    for MAE's linear probing (He et al., 2022, arXiv 2111.06377, appendix A.1), here with the statistics of all clips.

    Args:
        poolings: ``cls`` or ``mean`` of the tokens; chosen on validation clips.
        learning_rates, epochs, batch_size, weight_decay: see `Probe`.
    """

    level = "pooled"
    epochs: int = 100
    poolings: Sequence[str] = POOLINGS

    def __post_init__(self) -> None:
        super().__post_init__()
        check_poolings(self.poolings, "linear")

    def choices(self, task: Task) -> dict[str, Sequence[Any]]:
        return {"pooling": poolings_of(task.model, self.poolings)}

    def build(self, task: Task, **choice: Any) -> nn.Module:
        place = POOLINGS.index(choice["pooling"])
        return StandardizedLinear(task.train.pooled[:, place], task.num_classes, place)


class StandardizedLinear(nn.Module):
    """A linear layer on one of the pooled features, standardized by what it was built with."""

    def __init__(self, features: Float[Tensor, "clips dim"], num_classes: int, place: int = 0) -> None:
        super().__init__()
        self.place = place
        self.mean: Tensor
        self.scale: Tensor
        self.register_buffer("mean", features.mean(dim=0))
        self.register_buffer("scale", 1.0 / (features.std(dim=0, correction=0) + 1e-6))
        self.linear = nn.Linear(features.shape[1], num_classes)
        nn.init.zeros_(self.linear.weight)
        nn.init.zeros_(self.linear.bias)

    def forward(self, batch: FrozenBatch) -> Float[Tensor, "clips classes"]:
        return self.linear((batch.features[:, self.place] - self.mean) * self.scale)
