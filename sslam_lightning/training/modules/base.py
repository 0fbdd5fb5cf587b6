"""What pre-training and fine-tuning share: features, reading a batch, starting weights, the optimizer, logged losses."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
from jaxtyping import Float, Int
from lightning.fabric.utilities.data import AttributeDict
from lightning.pytorch.callbacks import Callback
from torch import Tensor, nn
from torch.optim import Optimizer

from sslam_lightning.data.modules.base import AudioDataModule
from sslam_lightning.features import LogMels
from sslam_lightning.models import EncoderInput, TextInput, TokenReader
from sslam_lightning.rng import clip_keys
from sslam_lightning.runtime.malloc import keep_freed_memory
from sslam_lightning.training.callbacks import PredictionWriter
from sslam_lightning.training.callbacks.defaults import default_callbacks
from sslam_lightning.training.run.hparams import check_same_parts, own_settings, plain
from sslam_lightning.training.run.losses import UpdateLosses
from sslam_lightning.training.run.optimizers import OptimizerConfig, build_optimizer, build_schedule
from sslam_lightning.training.run.progress import ends_step
from sslam_lightning.training.run.sharding import ShardedStrategy, shard
from sslam_lightning.types import AnyBatch, Batch

_PRECISIONS = ("32-true", "bf16-mixed", "16-mixed")  # the teacher's small steps and the log-mels need float32


class AudioModule(pl.LightningModule, ABC):
    """Base of all modules.

    Everything random is a function of the seed and of where training stands: draws for a clip depend on (seed, epoch,
    clip), the rest (noise, dropout) on (seed, epoch, device's batch). So a run resumed between any two batches equals one
    that was never stopped, and four devices draw what one device draws in four batches.
    """

    def __init__(self, features: LogMels | None, optimizer: OptimizerConfig, seed: int, compile: bool) -> None:
        super().__init__()
        if torch.get_default_dtype() != torch.float32:
            raise ValueError(
                f"modules are trained in float32, but torch's default type is {torch.get_default_dtype()}: call "
                "torch.set_default_dtype(torch.float32) first"
            )
        self.features = features
        self.optimizer_config = optimizer
        self.seed = seed
        self.compile_blocks = compile
        self.init_from: str | None = None
        self._losses: UpdateLosses | None = None
        self._moved = False  # the optimizer has moved weights since the schedule advanced
        self._has_weights = False  # a fit or a checkpoint has set them: nothing else may
        self._shared_out = False  # among devices

    @property
    def hparams_initial(self) -> AttributeDict:
        """The settings as plain data: a logger writes them to a file, and objects would stop it."""
        return AttributeDict(plain(dict(super().hparams_initial)))

    def log_mels(self, batch: Batch) -> Float[Tensor, "batch frames mels"]:
        """Normalized log-mels of a batch, in float32 on the batch's device."""
        assert self.features is not None, "a front-end that reads the batch itself has no log-mels"
        return self.features(batch.waveforms, batch.num_samples)

    @property
    @abstractmethod
    def front_end(self) -> TokenReader:
        """That of the encoder that learns."""

    @property
    def min_samples(self) -> int:
        return self.features.min_samples if self.features else self.front_end.min_samples

    def read(self, batch: AnyBatch) -> EncoderInput:
        """What the front-end takes: log-mels, or what it reads out of the batch itself."""
        if self.features and isinstance(batch, Batch):
            return EncoderInput(self.log_mels(batch))
        return self.front_end.read(batch)

    def is_empty(self, batch: AnyBatch) -> bool:
        """Nothing is left of a batch when none of its files can be read."""
        return len(batch.clip_index) == 0

    def clip_keys(self, batch: AnyBatch) -> Int[Tensor, "batch"]:
        """The key of every clip's random draws in this epoch. Evaluation draws the same at every epoch."""
        return clip_keys(batch.clip_index, self.seed, self.current_epoch if self.training else -1)

    def is_time_to_log(self) -> bool:
        """Whether the update that this batch belongs to ends an interval of ``trainer.log_every_n_steps``."""
        if self._trainer is None:
            return True
        return (self.trainer.global_step + 1) % max(1, self.trainer.log_every_n_steps) == 0  # type: ignore[attr-defined]

    @property
    def world_size(self) -> int:
        return 1 if self._trainer is None else self.trainer.world_size

    @property
    def loss_names(self) -> Sequence[str]:
        return ("loss",)

    def log_losses(self, losses: Mapping[str, Float[Tensor, ""]], clips: int) -> None:
        """Log the losses of an update behind its last batch: means over its clips, of all ranks when it is time to log.

        All ranks have to call this for every batch, one without clips with no losses.
        """
        self.log_sums({name: loss.double() * clips for name, loss in losses.items()}, clips)

    def log_sums(self, sums: Mapping[str, Float[Tensor, ""]], weight: float | Float[Tensor, ""]) -> None:
        """Log losses like `log_losses`, from their sums and from the weight that divides them."""
        self._losses = self._losses or UpdateLosses(self.loss_names)
        self._losses.add(sums, weight, next((loss.device for loss in sums.values()), self.device))
        if self._trainer is not None and not ends_step(self.trainer):
            return
        of_all_ranks = self.world_size > 1 and self.is_time_to_log()
        for name, mean in self._losses.finish(self.trainer.strategy if of_all_ranks else None).items():
            self.log(f"train/{name}", mean, prog_bar=name == "loss")

    @property
    def step_weights(self) -> Float[Tensor, "2"]:
        """What the logged losses of the step have been divided by so far, without and with the last batch."""
        assert self._losses is not None
        assert self._losses.weights is not None, "losses are logged first"
        return self._losses.weights

    def zero_loss(self) -> Float[Tensor, ""]:
        """Zero, with zero gradients for all that learns: every rank takes part in a step that one has no data for.

        Raises:
            ValueError: if weights are shared out: the other ranks wait for this one to gather them block by block.
        """
        if self.is_sharded:
            raise ValueError(
                f"rank {self.global_rank} can read too few clips of its batch for a step, which FSDP does not take: "
                "leave out the broken files, or train with --trainer.strategy=ddp"
            )
        self.log_losses({}, 0)
        parameters = (p for part in self.trainable_modules() for p in part.parameters() if p.requires_grad)
        return torch.stack([p.sum() * 0.0 for p in parameters]).sum()

    def setup(self, stage: str) -> None:
        """Check that precision and data fit; compile if asked to."""
        if self.trainer.precision not in _PRECISIONS:
            raise ValueError(f"trainer.precision must be one of {', '.join(_PRECISIONS)}, got {self.trainer.precision}")
        self.check_data(getattr(self.trainer, "datamodule", None))
        if self.compile_blocks:
            for part in self.modules_to_compile():
                part.compile()

    def check_data(self, data: Any) -> None:
        """Check that a data module fits, and tell it how short its clips may be.

        Raises:
            ValueError: it has another sample rate, or more tokens.
        """
        if isinstance(data, AudioDataModule):
            data.min_samples = self.min_samples
        rate = getattr(data, "sample_rate_hz", None)
        if self.features and rate is not None and rate != self.features.sample_rate_hz:
            raise ValueError(f"the model expects audio at {self.features.sample_rate_hz} Hz, the data comes at {rate} Hz")
        given, takes = getattr(data, "vocabulary", 0), self.front_end.takes
        if isinstance(takes, TextInput) and given > takes.vocabulary:
            raise ValueError(f"the tokenizer has {given} tokens, but {takes.setting} is {takes.vocabulary}")

    def transfer_batch_to_device(self, batch: AnyBatch, device: torch.device, dataloader_idx: int) -> AnyBatch:
        """Refuse clips that are too short by name, then move the batch."""
        if isinstance(batch, Batch):
            self._refuse_short(batch)
        return super().transfer_batch_to_device(batch, device, dataloader_idx)

    def _refuse_short(self, batch: Batch) -> None:
        too_short = batch.num_samples < self.min_samples
        if too_short.any():
            row = int(too_short.int().argmax())
            takes = self.takes_samples()
            raise ValueError(f"{batch.names[row]} has {batch.lengths[row]} samples, but {takes}: leave out shorter clips")

    def takes_samples(self) -> str:
        if features := self.features:
            patch = f"one patch of {features.patch_frames} frames"
            return f"{patch} takes {self.min_samples} at {features.sample_rate_hz} Hz"
        return f"one token takes {self.min_samples}"

    def configure_callbacks(self) -> list[Callback]:
        return default_callbacks(self._trainer)

    @property
    def is_sharded(self) -> bool:
        """Whether every device holds only its share of the weights."""
        return self._trainer is not None and isinstance(self.trainer.strategy, ShardedStrategy)

    def configure_model(self) -> None:
        """Share out the weights if the trainer's strategy asks for it; they have to be whole to start from others."""
        if not self.is_sharded or self._shared_out:
            return
        if self.trainer.precision == "16-mixed":
            raise ValueError("FSDP is not tested with the loss scaler of fp16: set trainer.precision to bf16-mixed")
        self._shared_out = True
        self._start()
        shard(self.modules_to_shard(), self.device_mesh["data_parallel"])  # type: ignore[index]

    def on_fit_start(self) -> None:
        if self.device.type == "cpu":
            keep_freed_memory()
        self._start()

    def on_validation_start(self) -> None:
        self._start()

    on_test_start = on_predict_start = on_validation_start

    def _start(self) -> None:
        """Start from ``init_from``, unless there are weights already."""
        if self.init_from and not self._has_weights and not self.trainer.ckpt_path:
            self.load_pretrained(self.init_from)
        self._has_weights = True

    @abstractmethod
    def load_pretrained(self, path: str) -> None:
        """Take over the weights of a checkpoint."""

    @abstractmethod
    def trainable_modules(self) -> Sequence[nn.Module]:
        """The modules that the optimizer trains, those of the encoder by the encoder's own names."""

    def predict_step(self, batch: AnyBatch, batch_idx: int) -> tuple[tuple[str, ...], Float[Tensor, "batch _"]]:
        """Names and predictions of clips; no rows where none of a batch's files can be read."""
        if len(batch.clip_index) == 0:
            return (), torch.zeros(0, 0, dtype=torch.float32, device=self.device)
        return self.predict_clips(batch)

    @abstractmethod
    def predict_clips(self, batch: AnyBatch) -> tuple[tuple[str, ...], Float[Tensor, "batch _"]]:
        """Names, and a row of whatever ``sslam predict`` is to write, of one clip or more."""

    def prediction_writer(self, folder: Path) -> PredictionWriter:
        """What ``sslam predict`` writes, and where."""
        return PredictionWriter(folder / "predictions.csv")

    @abstractmethod
    def modules_to_compile(self) -> Sequence[nn.Module]:
        """The modules that ``compile`` compiles, each by itself."""

    def modules_to_shard(self) -> Sequence[nn.Module]:
        """The modules that FSDP shares out."""
        return self.trainable_modules()

    def build_optimizers(self, num_blocks: int) -> Any:
        """AdamW and its schedule; the cosine ends where the trainer ends unless configured otherwise."""
        config = self.optimizer_config
        # With fp16 Lightning refuses to clip gradients that a fused optimizer has yet to unscale.
        fused = self.trainer.precision != "16-mixed"
        optimizer = build_optimizer(self.trainable_modules(), config, num_blocks, fused)
        scheduler = build_schedule(optimizer, config, self.trainer.estimated_stepping_batches)
        optimizer.register_step_post_hook(self._note_step)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}

    @property
    def steps_taken(self) -> int:
        """Optimizer steps that moved weights, the one count that schedule and teacher follow.

        ``trainer.global_step`` also counts those that were skipped, by `NonFiniteGuard` or by fp16's loss scaler.
        """
        scheduler: Any = self.lr_schedulers()
        return int(scheduler.last_epoch)

    def _note_step(self, optimizer: Optimizer, *_: Any) -> None:
        self._moved = any(p.grad is not None for group in optimizer.param_groups for p in group["params"])

    def lr_scheduler_step(self, scheduler: Any, metric: Any) -> None:
        if self._moved:
            scheduler.step()
        self._moved = False

    def configure_gradient_clipping(
        self, optimizer: Any, gradient_clip_val: float | None = None, gradient_clip_algorithm: str | None = None
    ) -> None:
        """Clip by value; by the norm `NonFiniteGuard` has clipped, which computes it anyway."""
        if gradient_clip_val and gradient_clip_algorithm not in (None, "norm"):
            self.clip_gradients(optimizer, gradient_clip_val, gradient_clip_algorithm)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["hyper_parameters"] = own_settings(type(self), checkpoint.get("hyper_parameters", {}))

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Check that the checkpoint is that of a module of this size and with these parts."""
        self._has_weights = True
        check_same_parts(self, checkpoint)
