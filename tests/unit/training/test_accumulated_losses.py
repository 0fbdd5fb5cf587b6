from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import torch

from sslam_lightning.training.run.losses import UpdateLosses

CPU = torch.device("cpu")


def test_means_are_over_clips_of_all_batches() -> None:
    losses = UpdateLosses(["loss", "loss_regression"])
    losses.add({"loss_regression": torch.tensor(1.0), "loss": torch.tensor(2.0)}, 1, CPU)
    losses.add({"loss_regression": torch.tensor(15.0), "loss": torch.tensor(12.0)}, 3, CPU)
    losses.add({}, 0, CPU)
    assert losses.finish(None) == {"loss": torch.tensor(3.5), "loss_regression": torch.tensor(4.0)}
    twelve = {"loss_regression": torch.tensor(1.0), "loss": torch.tensor(0.1).double() * 12}
    losses.add(twelve, 12, CPU)  # nothing is left of the last
    assert losses.finish(None)["loss"] == torch.tensor(0.1)  # to the bit


def test_weights_may_be_labels_and_none_of_them() -> None:
    losses = UpdateLosses(["loss"])
    losses.add({"loss": torch.tensor(3.0)}, torch.tensor(0.0), CPU)
    assert losses.finish(None) == {"loss": torch.tensor(3.0)}
    losses.add({"loss": torch.tensor(3.0)}, torch.tensor(0.0), CPU)
    losses.add({"loss": torch.tensor(5.0)}, torch.tensor(4.0), CPU)
    assert losses.weights is not None
    assert losses.weights.tolist() == [0.0, 4.0]
    assert losses.finish(None) == {"loss": torch.tensor(2.0)}


def test_a_rank_without_clips_shows_nothing_of_its_own_but_what_the_others_have() -> None:
    losses = UpdateLosses(["loss"])
    losses.add({}, 0, CPU)
    assert losses.finish(None) == {}
    others = torch.tensor([6.0, 2.0], dtype=torch.float64)
    strategy: Any = SimpleNamespace(reduce=lambda sums, reduce_op: sums + others)
    losses.add({}, 0, CPU)
    assert losses.finish(strategy) == {"loss": torch.tensor(3.0)}
