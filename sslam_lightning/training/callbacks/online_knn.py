"""How well the encoder's clips are told apart by their neighbors, while it learns without labels."""

from __future__ import annotations

from typing import Any, Literal

import lightning.pytorch as pl
import torch
from torch import Tensor

from sslam_lightning.data.modules.base import AudioDataModule
from sslam_lightning.metrics import knn_accuracy
from sslam_lightning.training.run.progress import ends_step


class OnlineKNN(pl.Callback):
    """Logs ``knn_accuracy`` of the frozen student: whole clips of a small labeled set against those of its training part.

    It stands in the progress bar and may be monitored. All ranks compute the same, so that none waits in vain; choose a set
    of at most a few thousand short clips. A first look before the training shows that the set can be scored.

    Args:
        data: the labeled set, one class a clip; its training clips vote on its validation clips.
        k: how many neighbors vote.
        every_n_steps: how often.
        pooling: whether a clip is its CLS token or the mean of its tokens that are no padding.
    """

    def __init__(
        self,
        data: AudioDataModule,
        k: int = 10,
        every_n_steps: int = 5000,
        pooling: Literal["cls", "mean"] = "mean",
    ) -> None:
        if every_n_steps < 1:
            raise ValueError(f"every_n_steps must be at least 1, got {every_n_steps}")
        self.data, self.k, self.every_n_steps, self.pooling = data, k, every_n_steps, pooling

    def setup(self, trainer: Any, pl_module: Any, stage: str) -> None:
        """See that module and data fit each other, and that there are labels and clips.

        Raises:
            ValueError: if they do not, or there are no labels, or fewer clips than neighbors.
        """
        if stage != "fit":
            return
        if not hasattr(pl_module, "embed"):
            raise ValueError(f"OnlineKNN is of pre-training, got a {type(pl_module).__name__}: leave the callback out")
        if self.pooling == "cls" and pl_module.student.cls_token is None:
            raise ValueError("OnlineKNN's pooling is cls, but this encoder has no CLS token: set it to mean")
        trained_on = getattr(trainer, "datamodule", None)
        own, given = self.data.sample_rate_hz, getattr(trained_on, "sample_rate_hz", None)
        if given not in (None, own):
            raise ValueError(f"OnlineKNN's data comes at {own} Hz, that of the training at {given} Hz")
        try:
            pl_module.check_data(self.data)
        except ValueError as error:
            raise ValueError(f"OnlineKNN's data: {error}") from None
        sizes = [len(self.data.dataset(split) or ()) for split in ("train", "val")]
        if self.data.num_classes == 0 or min(sizes) == 0 or sizes[0] < self.k:
            raise ValueError(
                f"OnlineKNN needs labeled clips to vote (at least k = {self.k}) and to be judged; its data has "
                f"{self.data.num_classes} classes, {sizes[0]} training and {sizes[1]} validation clips"
            )

    def on_train_start(self, trainer: pl.Trainer, pl_module: Any) -> None:
        """What only the clips can tell is told now, not thousands of updates later."""
        self.score(pl_module)

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        updates = trainer.global_step
        if not ends_step(trainer) or updates % self.every_n_steps:
            return
        accuracy = self.score(pl_module)
        pl_module.log("val/knn_accuracy", accuracy, prog_bar=True, logger=False)
        for logger in trainer.loggers:  # Lightning's own rows are written every log_every_n_steps only
            logger.log_metrics({"val/knn_accuracy": float(accuracy)}, updates - 1)

    @torch.no_grad()
    def score(self, module: Any) -> Tensor:
        """The accuracy now; the module is left as it was."""
        modes = {part: part.training for part in module.modules()}
        devices = [module.device] if module.device.type == "cuda" else []
        with torch.random.fork_rng(devices):
            module.eval()
            voters, votes = self._embed(module, "train")
            clips, labels = self._embed(module, "val")
        for part, training in modes.items():
            part.training = training
        return knn_accuracy(voters, votes, clips, labels, self.k)

    def _embed(self, module: Any, split: Literal["train", "val"]) -> tuple[Tensor, Tensor]:
        embedded, labels, broken = list[Tensor](), list[Tensor](), list[str]()
        for batch in self.data.whole_split(split):
            broken += [reason for _, reason in batch.broken]
            if len(batch.clip_index) == 0:
                continue
            batch = module.transfer_batch_to_device(batch, module.device, 0)
            classes = batch.labels.sum(dim=1)
            if (classes != 1).any():
                row = int((classes != 1).int().argmax())
                told = f"{batch.names[row]} is of {float(classes[row]):g}"
                raise ValueError(f"OnlineKNN needs clips of exactly one class each, {told}")
            embedded.append(module.embed(batch, self.pooling).float())
            labels.append(batch.labels.argmax(dim=1))
        found, needed = sum(map(len, labels)), self.k if split == "train" else 1
        if found < needed:
            left_out = f"; {len(broken)} are left out ({broken[0]})" if broken else ""
            raise ValueError(f"OnlineKNN needs {needed} or more clips for {split}, its data has {found}{left_out}")
        return torch.cat(embedded), torch.cat(labels)
