"""What the modules that pre-train have in common: named losses, signs of collapse, validation by the training step."""

from __future__ import annotations

from abc import abstractmethod
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any, Literal, cast

import torch
from jaxtyping import Bool, Float
from lightning.pytorch.callbacks import Callback
from torch import Tensor, nn

from sslam_lightning.masking import MaskSampler
from sslam_lightning.metrics import MeanLoss, token_std, variance_indicator
from sslam_lightning.models import Encoder, FrontEnd, HuggingFaceEncoder, WaveformInput
from sslam_lightning.models.encoder import mean_of_tokens
from sslam_lightning.training.callbacks import CollapseConfig, CollapseMonitor, EMAConfig, EMATeacher
from sslam_lightning.training.modules.base import AudioModule
from sslam_lightning.types import AnyBatch, Grid

_LONGEST = 10_000_000  # samples of a clip: ten minutes at 16 kHz

ClipPooling = Literal["cls", "mean"]


class SelfSupervisedModule(AudioModule):
    """Base of the modules that learn without labels.

    A subclass sets ``student``, ``named_losses`` and ``masking``, and writes the training step.
    """

    student: Encoder | HuggingFaceEncoder
    ema: EMAConfig | None
    collapse: CollapseConfig
    named_losses: nn.ModuleDict  # their running means over a validation
    masking: MaskSampler

    @abstractmethod
    def training_step(self, batch: AnyBatch, batch_idx: int) -> Float[Tensor, ""]:
        """The total loss of a batch, which `sum_and_log` makes."""

    @property
    def min_samples(self) -> int:
        """Of the shortest clip that can be learned from; to predict, of the shortest that makes one token."""
        return super().min_samples if self._trainer is not None and self.trainer.predicting else self._shortest

    @cached_property
    def _shortest(self) -> int:
        lengths = range(super().min_samples, _LONGEST)
        first = bisect_left(lengths, True, key=self._is_enough)
        # If none will do, what is wrong is not the clips' length: the mask says so when it is drawn.
        return lengths[first % len(lengths)]

    def _is_enough(self, num_samples: int) -> bool:
        grid = self._grid_of(num_samples)
        return grid is None or self.can_learn_from(grid)

    def _grid_of(self, num_samples: int) -> Grid | None:
        """The field of tokens of a clip that meets no longer one; None where nothing is known of it before it is read."""
        front_end, features = self.front_end, self.features
        if features and isinstance(front_end, FrontEnd):
            return front_end.grid(torch.empty(1, features.length(num_samples), features.num_mels, device="meta"))
        if not features and isinstance(front_end.takes, WaveformInput):
            return Grid(int(front_end.takes.num_tokens(torch.tensor(num_samples, device="cpu"))), 1)
        return None

    def can_learn_from(self, grid: Grid) -> bool:
        return self.masking.fits(grid)

    def takes_samples(self) -> str:
        if self.min_samples == super().min_samples:
            return super().takes_samples()
        return f"a clip of which some is hidden and some is seen takes {self.min_samples}"

    def validation_step(self, batch: AnyBatch, batch_idx: int) -> Float[Tensor, ""] | None:
        """The same losses on held-out clips, with the same masks at every epoch."""
        return None if self.is_empty(batch) else self.training_step(batch, batch_idx)

    def empty_step(self) -> Float[Tensor, ""]:
        """A step without clips: whatever the other ranks reduce, this one takes part in with nothing."""
        nothing = torch.zeros(0, self.student.dim, dtype=torch.float32, device=self.device)
        zero_loss = self.zero_loss()
        if self.ema:
            self.log_variances(nothing, nothing)
        return zero_loss

    def sum_and_log(
        self,
        losses: Mapping[str, Float[Tensor, ""]],
        rows: int,
        predictions: Float[Tensor, "*rows dim"] | None = None,
        masked_targets: Float[Tensor, "*rows dim"] | None = None,
    ) -> Float[Tensor, ""]:
        """The total. Training logs it with every loss by name; a validation takes in the losses of ``rows`` clips.

        Where there is a teacher, what is compared with it shows the signs of collapse.
        """
        total = torch.stack(list(losses.values())).sum()
        if self.training:
            self.log_losses({"loss": total, **{f"loss/{name}": loss for name, loss in losses.items()}}, rows)
        else:
            for name, loss in losses.items():
                self._mean_losses[name].update(loss.double() * rows, rows)
        if predictions is not None and masked_targets is not None:
            self.log_variances(predictions, masked_targets)
        return total

    def on_validation_epoch_end(self) -> None:
        """Log every loss as its mean over all clips of all ranks, and their sum; nothing without clips.

        The means are not left to ``log(..., sync_dist=True)``: over ranks Lightning rounds the mean number of clips down
        to a whole number. A NaN among the losses makes the mean NaN: that of the others would choose checkpoints.
        """
        means = {name: metric.compute() for name, metric in self._mean_losses.items()}
        known = {name: mean for name, mean in means.items() if mean is not None}
        for metric in self._mean_losses.values():
            metric.reset()
        for name, mean in known.items():
            self.log(f"val/loss/{name}", mean)
        if known:
            self.log("val/loss", torch.stack(list(known.values())).sum(), prog_bar=True)

    @property
    def _mean_losses(self) -> Mapping[str, MeanLoss]:
        return cast(Mapping[str, MeanLoss], self.named_losses)

    def configure_callbacks(self) -> list[Callback]:
        teacher = [EMATeacher(self.ema), CollapseMonitor(self.collapse)] if self.ema else []
        return [*super().configure_callbacks(), *teacher]

    def configure_optimizers(self) -> Any:
        return self.build_optimizers(self.student.depth)

    def predict_clips(self, batch: AnyBatch) -> tuple[tuple[str, ...], Float[Tensor, "batch dim"]]:
        """Names and what the student makes of whole clips: CLS tokens or, where there are none, means of tokens."""
        return batch.names, self.embed(batch, "mean" if self.student.cls_token is None else "cls")

    def embed(self, batch: AnyBatch, pooling: ClipPooling) -> Float[Tensor, "batch dim"]:
        """Whole clips as the student's CLS token, or as the mean of its tokens that are no padding."""
        clips, padding = self.read(batch)
        encoded = self.student(clips, padding)
        return encoded.cls if pooling == "cls" else mean_of_tokens(encoded.tokens, padding)

    @property
    def loss_names(self) -> Sequence[str]:
        return ("loss", *(f"loss/{name}" for name in self.named_losses))

    def log_variances(self, predictions: Float[Tensor, "*rows dim"], masked_targets: Float[Tensor, "*rows dim"]) -> None:
        """Log the two signs of collapse, when it is time; all ranks have to call this, one without clips with no rows."""
        if not self.training or not self.is_time_to_log():
            return
        for name, rows in (("pred_std", predictions), ("target_std", masked_targets)):
            if len(rows):
                self.log(f"train/{name}", variance_indicator(rows.flatten(0, -2)))
            elif self.world_size > 1:
                variance_indicator(rows)

    def log_token_std(
        self, tokens: Float[Tensor, "clips tokens dim"], padding: Bool[Tensor, "clips tokens"] | None = None
    ) -> None:
        """Log the sign of collapse that normalized targets hide, when it is time: of this rank's clips, in the teacher."""
        if self.training and self.is_time_to_log():
            self.log("train/token_std", token_std(tokens, padding))
