"""How well the encoder's clips are told apart by their neighbours, while it learns without labels."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Literal

import lightning.pytorch as pl
import torch
from torch import Tensor

from sslam_lightning.data.module import AudioDataModule
from sslam_lightning.metrics import knn_accuracy
from sslam_lightning.types import Batch


class OnlineKNN(pl.Callback):
    """Logs ``knn_accuracy`` of the frozen student: whole clips of a small labelled set against those of its training part.

    It stands in the progress bar and may be monitored. All ranks compute the same, so that none waits in vain; choose a set
    of at most a few thousand short clips.

    Args:
        data: the labelled set, one class a clip; its training clips vote on its validation clips.
        k: how many neighbours vote.
        every_n_updates: how often.
        pooling: whether a clip is its clip token or the mean of its patches.
    """

    def __init__(
        self,
        data: AudioDataModule,
        k: int = 10,
        every_n_updates: int = 5000,
        pooling: Literal["clip_token", "mean"] = "mean",
    ) -> None:
        if every_n_updates < 1:
            raise ValueError(f"every_n_updates must be at least 1, got {every_n_updates}")
        self.data, self.k, self.every_n_updates, self.pooling = data, k, every_n_updates, pooling
        self._scored = -1

    def setup(self, trainer: pl.Trainer, pl_module: Any, stage: str) -> None:
        """See that there are labels and clips before the training.

        Raises:
            ValueError: if there are none, or fewer than neighbours.
        """
        if stage != "fit":
            return
        sizes = [len(self.data.dataset(split) or ()) for split in ("train", "val")]
        if self.data.num_classes == 0 or min(sizes) == 0 or sizes[0] < self.k:
            raise ValueError(
                f"OnlineKNN needs labelled clips to vote (at least k = {self.k}) and to be judged; its data has "
                f"{self.data.num_classes} classes, {sizes[0]} training and {sizes[1]} validation clips"
            )

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Score, if it is time."""
        updates = trainer.global_step
        if updates == self._scored or updates == 0 or updates % self.every_n_updates:
            return
        self._scored = updates
        accuracy = self.score(pl_module)
        pl_module.log("knn_accuracy", accuracy, prog_bar=True, logger=False)
        for logger in trainer.loggers:  # Lightning's own rows are written every log_every_n_steps only
            logger.log_metrics({"knn_accuracy": float(accuracy)}, updates - 1)

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
        loader = self._every_clip_in_order(split)
        embedded, labels = [], []
        for batch in loader:
            if len(batch.waveforms) == 0:
                continue
            if (batch.labels.sum(dim=1) != 1).any():
                raise ValueError("OnlineKNN needs clips of exactly one class each")
            waveforms, num_samples = batch.waveforms.to(module.device), batch.num_samples.to(module.device)
            encoded = module.student(*module.read(batch._replace(waveforms=waveforms, num_samples=num_samples)))
            embedded.append((encoded.clip if self.pooling == "clip_token" else encoded.tokens.mean(dim=1)).float())
            labels.append(batch.labels.argmax(dim=1).to(module.device))
        return torch.cat(embedded), torch.cat(labels)

    def _every_clip_in_order(self, split: Literal["train", "val"]) -> Iterable[Batch]:
        """On every rank: the data module's own loaders would share them out."""
        from torch.utils.data import DataLoader

        from sslam_lightning.data.collate import collate

        dataset = self.data.dataset(split)
        assert dataset is not None, "checked in setup"
        return DataLoader(dataset, batch_size=self.data.batch_size, collate_fn=collate, num_workers=self.data.num_workers)
