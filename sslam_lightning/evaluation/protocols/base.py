"""What every protocol is: it learns from a fold's training clips and is scored on its test clips, again and again."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar, Literal, NamedTuple

import torch

from sslam_lightning.data.modules.base import AudioDataModule, Split
from sslam_lightning.evaluation.frozen import FeatureStore, FrozenClips, Level
from sslam_lightning.evaluation.identity import digest_of_clips, known_clips
from sslam_lightning.evaluation.model import OpenedModel
from sslam_lightning.evaluation.runs import ClipCounts


class Outcome(NamedTuple):
    """What a protocol has found.

    ``scores`` are those of the test clips, the last one last. ``chosen`` are the settings that were chosen on validation
    clips, ``notes`` what else is worth knowing; both are plain values. Where the metric is mAP, ``notes["scored_classes"]``
    is how many classes had a positive test clip. A protocol of ``level`` None notes its own `ClipCounts`.
    """

    scores: list[float]
    chosen: dict[str, Any] = {}  # noqa: RUF012  # never written to
    notes: dict[str, Any] = {}  # noqa: RUF012


@dataclass(frozen=True)
class Task:
    """One fold of a suite with one seed, for one model.

    Args:
        model: the encoder; frozen protocols see it through ``train`` and ``test`` alone.
        make_data: a new data module of this fold, with these settings over the suite's.
        metric: of the suite.
        validation: the share of the training clips, or ``val``, on which a probe's settings are chosen.
        fold: its name.
        seed: of everything random.
        device: where to compute.
        store: the frozen encoder's features of all clips.
    """

    model: OpenedModel
    make_data: Callable[..., AudioDataModule]
    metric: str
    validation: float | Literal["val"]
    fold: str
    seed: int
    device: torch.device
    store: FeatureStore

    @cached_property
    def data(self) -> AudioDataModule:
        return self.make_data()

    @property
    def num_classes(self) -> int:
        return self.data.num_classes

    @cached_property
    def train(self) -> FrozenClips:
        """The training clips as the frozen encoder sees them."""
        return self.store.split(self.data, "train", self.fold)

    @cached_property
    def test(self) -> FrozenClips:
        return self.store.split(self.data, "test", self.fold)

    @cached_property
    def clip_digests(self) -> dict[str, str]:
        """Which clips the scores depend on, and how they are labeled."""
        splits: tuple[Split, ...] = ("train", "test", "val") if self.validation == "val" else ("train", "test")
        datasets = {split: self.data.dataset(split) for split in splits}
        return {split: digest_of_clips(found) for split, found in datasets.items() if found is not None}

    def clip_counts(self) -> ClipCounts:
        """Of the clips that the frozen encoder sees."""
        broken = self.test.num_broken
        return ClipCounts(len(self.test) + broken, broken, self.train.num_broken)

    def for_choosing(self) -> tuple[torch.Tensor, FrozenClips, torch.Tensor]:
        """Training clips to learn from, and clips (with the split that they are of) to choose settings on.

        Raises:
            ValueError: if validation clips are test clips too, or there are too few.
        """
        if self.validation == "val":
            self._refuse_test_clips()
            held_out = self.store.split(self.data, "val", self.fold)
            return torch.arange(len(self.train), device="cpu"), held_out, torch.arange(len(held_out), device="cpu")
        order = torch.randperm(len(self.train), generator=torch.Generator().manual_seed(self.seed), device="cpu")
        num_held_out = max(1, round(float(self.validation) * len(order)))
        if num_held_out >= len(order):
            raise ValueError(f"{len(order)} training clips are too few to choose settings on {self.validation:g} of them")
        return order[num_held_out:], self.train, order[:num_held_out]

    def _refuse_test_clips(self) -> None:
        val, test = self.data.dataset("val"), self.data.dataset("test")
        if val is None or test is None:
            return  # the store says so
        if both := known_clips(val) & known_clips(test):
            raise ValueError(
                f"validation is val, but {len(both)} clips of {type(self.data).__name__}'s val split are test clips too: "
                "set the suite's validation to a share of the training clips, such as 0.2"
            )


class Protocol(ABC):
    """A way to judge an encoder. To add one, write a file with a subclass and name it in a suite (``class_path``).

    ``level`` says what it needs of a frozen encoder: clips ``pooled``, all ``layers``, or nothing.
    """

    level: ClassVar[Level | None] = None

    @abstractmethod
    def run(self, task: Task) -> Outcome:
        """Learn and be scored; ValueError if it cannot do that with this data or this metric."""
