"""Nearest neighbors: nothing learns."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from sslam_lightning.evaluation.frozen import POOLINGS, check_poolings, poolings_of
from sslam_lightning.evaluation.protocols.base import Outcome, Protocol, Task
from sslam_lightning.evaluation.protocols.scoring import Score, check_metric, class_notes, score

_CHUNK = 1024  # clips whose similarities are in memory together


@dataclass
class KNN(Protocol):
    """Training clips vote on test clips, each with the weight exp(cosine similarity / temperature).

    Wu et al., 2018 (arXiv 1805.01978), section 3.4, as in DINO (Caron et al., 2021). With several labels a clip, the
    probability of a class is the share of the votes that have it.

    Args:
        neighbors: how many vote; chosen among these on validation clips.
        poolings: ``cls`` or ``mean`` of the tokens; chosen likewise.
        temperature: of the votes.
    """

    level = "pooled"
    neighbors: Sequence[int] = (1, 5, 10, 20, 50)
    poolings: Sequence[str] = POOLINGS
    temperature: float = 0.07

    def __post_init__(self) -> None:
        if not self.neighbors or min(self.neighbors) < 1:
            raise ValueError(f"knn: neighbors must be whole numbers from 1, got {list(self.neighbors)}")
        check_poolings(self.poolings, "knn")
        if not self.temperature > 0:
            raise ValueError(f"knn: temperature must be positive, got {self.temperature}")

    def run(self, task: Task) -> Outcome:
        """Choose on validation clips, then let all training clips vote on the test clips."""
        check_metric(task.metric, "knn")
        learn, judges, judged = task.for_choosing()
        train, test = task.train, task.test
        choices = [
            (pooling, k) for pooling in poolings_of(task.model, self.poolings) for k in self.neighbors if k <= len(learn)
        ]
        if not choices:
            raise ValueError(f"knn: {min(self.neighbors)} neighbors cannot be found among {len(learn)} training clips")

        def judge(choice: tuple[str, int], voters: Tensor, votes: Tensor, clips: Tensor, labels: Tensor) -> Score:
            place = POOLINGS.index(choice[0])
            voters, clips = voters[:, place].to(task.device), clips[:, place].to(task.device)
            found = knn_probabilities(voters, votes.to(task.device), clips, choice[1], self.temperature)
            return score(task.metric, found, labels.to(task.device))

        tried = [
            judge(choice, train.pooled[learn], train.labels[learn], judges.pooled[judged], judges.labels[judged]).value
            for choice in choices
        ]
        best = choices[max(range(len(tried)), key=tried.__getitem__)]
        final = judge(best, train.pooled, train.labels, test.pooled, test.labels)
        notes = {"validation": max(tried), **class_notes(task.metric, final.num_classes)}
        return Outcome([final.value], {"pooling": best[0], "neighbors": best[1]}, notes)


def knn_probabilities(
    train: Float[Tensor, "train dim"],
    labels: Float[Tensor, "train classes"],
    clips: Float[Tensor, "clips dim"],
    neighbors: int,
    temperature: float,
) -> Float[Tensor, "clips classes"]:
    """Labels of the nearest training clips by cosine similarity s, averaged with weights softmax(s / temperature)."""
    train, found = F.normalize(train, dim=1), []
    for chunk in F.normalize(clips, dim=1).split(_CHUNK):
        similarity, index = (chunk @ train.T).topk(neighbors, dim=1)
        weights = (similarity / temperature).softmax(dim=1)
        found.append(torch.einsum("cn,cnk->ck", weights, labels[index]))
    return torch.cat(found).clamp(0.0, 1.0)
