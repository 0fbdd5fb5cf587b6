"""What pre-training and fine-tuning share: features, keys, seeds, the optimizer, and what is logged about it."""

from __future__ import annotations

import contextlib
import hashlib
import inspect
import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
from jaxtyping import Float, Int
from lightning.fabric.utilities.data import AttributeDict
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.trainer.states import TrainerFn
from lightning.pytorch.utilities import rank_zero_warn
from torch import Tensor, nn

from sslam_lightning.checkpoints import check_names_and_shapes
from sslam_lightning.data.module import AudioDataModule
from sslam_lightning.features import LogMels
from sslam_lightning.host_memory import keep_freed_memory
from sslam_lightning.models import Readings, TextInput, TokenReader
from sslam_lightning.random_streams import clip_keys
from sslam_lightning.training.callbacks import BrokenClipWatch, PredictionWriter
from sslam_lightning.training.callbacks.loss_guard import LossGuard, UpdateSkipped
from sslam_lightning.training.callbacks.sharded_evaluation import ShardedEvaluation
from sslam_lightning.training.checkpoint_io import check_one_checkpoint, save_atomically
from sslam_lightning.training.hparams import differences, plain
from sslam_lightning.training.optimizers import OptimizerConfig, ScheduledLR, build_optimizer
from sslam_lightning.training.resume import (
    ends_update,
    find_place,
    gradients_in_flight,
    keep_place,
    losses_in_flight,
    restore_gradients,
    share_of_ranks,
)
from sslam_lightning.training.sharding import ShardedStrategy, shard, whole
from sslam_lightning.training.update_losses import UpdateLosses
from sslam_lightning.types import AnyBatch, Batch
from sslam_lightning.version import __version__

_PRECISIONS = ("32-true", "bf16-mixed", "16-mixed")  # the teacher's small steps and the log-mels need float32
_FREE_SETTINGS = ("init_from", "compile", "_instantiator")  # a run that goes on is none the wiser


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
        self._updated = False  # the optimizer has stepped since the schedule did
        self._has_weights = False  # a fit or a checkpoint has set them: nothing else may
        self._resumed: dict[str, Any] | None = None  # what a checkpoint says of the place where it was saved
        self._shared_out = False  # among devices

    @property
    def hparams_initial(self) -> AttributeDict:
        """The settings as plain data: a logger writes them to a file, and objects would stop it."""
        return AttributeDict(plain(dict(super().hparams_initial)))

    def log_mels(self, batch: Batch) -> Float[Tensor, "batch frames mels"]:
        """Normalised log-mels of a batch, in float32 on the batch's device."""
        assert self.features is not None, "a front-end that reads the batch itself has no log-mels"
        return self.features(batch.waveforms, batch.num_samples)

    @property
    @abstractmethod
    def front_end(self) -> TokenReader:
        """That of the encoder that learns."""

    @property
    def min_samples(self) -> int:
        """Of the shortest clip that makes one token."""
        return self.features.min_samples if self.features else self.front_end.min_samples

    def read(self, batch: AnyBatch) -> Readings:
        """What the front-end takes: log-mels, or what it reads out of the batch itself."""
        if self.features and isinstance(batch, Batch):
            return Readings(self.log_mels(batch))
        return self.front_end.read(batch)

    def is_unusable(self, batch: AnyBatch) -> bool:
        """Nothing is left of a batch when none of its files can be read."""
        return len(batch.clip_index) == 0

    def clip_keys(self, batch: AnyBatch) -> Int[Tensor, "batch"]:
        """The key of every clip's random draws in this epoch. Evaluation draws the same at every epoch."""
        return clip_keys(batch.clip_index, self.seed, self.current_epoch if self.training else -1)

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        """Seed what has no key of its own, differently on every rank: by the number of the device's batch in the epoch."""
        self._seed_batch(self.current_epoch, batch_idx)

    def on_validation_batch_start(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> None:
        """Draw the same at every epoch."""
        self._seed_batch(-1, batch_idx)

    def _seed_batch(self, epoch: int, batch_idx: int) -> None:
        where = f"{self.seed} {epoch} {batch_idx * self.world_size + self.global_rank}"
        torch.manual_seed(int.from_bytes(hashlib.blake2b(where.encode(), digest_size=8).digest(), "little", signed=True))

    def is_time_to_log(self) -> bool:
        """Whether the update that this batch belongs to ends an interval of ``trainer.log_every_n_steps``."""
        if self._trainer is None:
            return True
        return (self.trainer.global_step + 1) % max(1, self.trainer.log_every_n_steps) == 0  # type: ignore[attr-defined]

    @property
    def world_size(self) -> int:
        """How many devices train together."""
        return 1 if self._trainer is None else self.trainer.world_size

    @property
    def loss_names(self) -> Sequence[str]:
        """What `log_losses` is given."""
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
        if self._trainer is not None and not ends_update(self.trainer):
            return
        of_all_ranks = self.world_size > 1 and self.is_time_to_log()
        for name, mean in self._losses.finish(self.trainer.strategy if of_all_ranks else None).items():
            self.log(f"train/{name}", mean, prog_bar=name == "loss")

    def no_loss(self) -> Float[Tensor, ""]:
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
        parameters = (p for part in self.learning_parts() for p in part.parameters() if p.requires_grad)
        return torch.stack([p.sum() * 0.0 for p in parameters]).sum()

    def setup(self, stage: str) -> None:
        """Check that precision and data fit; compile if asked to."""
        if self.trainer.precision not in _PRECISIONS:
            raise ValueError(f"trainer.precision must be one of {', '.join(_PRECISIONS)}, got {self.trainer.precision}")
        self.check_data(getattr(self.trainer, "datamodule", None))
        if self.compile_blocks:
            for part in self.compiled_parts():
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
        """What takes `min_samples`, for messages."""
        if features := self.features:
            patch = f"one patch of {features.patch_frames} frames"
            return f"{patch} takes {self.min_samples} at {features.sample_rate_hz} Hz"
        return f"one token takes {self.min_samples}"

    def configure_callbacks(self) -> list[Callback]:
        """Broken clips are watched, and no rank waits in vain in an evaluation, however the trainer is built."""
        return [BrokenClipWatch(), ShardedEvaluation()]

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
        shard(self.sharded_parts(), self.device_mesh["data_parallel"])  # type: ignore[index]

    def on_fit_start(self) -> None:
        """Start from ``init_from``, unless a run is being resumed, by all ranks from one file; save atomically."""
        if self.device.type == "cpu":
            keep_freed_memory()
        check_one_checkpoint(self.trainer)
        save_atomically(self.trainer)
        self._start()

    def on_train_start(self) -> None:
        """Go on where the checkpoint was saved, between any two batches."""
        if self._resumed is not None:
            find_place(self.trainer, self._resumed["place"])
            restore_gradients(self.trainer, self, self._resumed["gradients"] or {})
            if (losses := self._resumed["losses"]) is not None:
                self._losses = UpdateLosses(self.loss_names, share_of_ranks(losses, self.trainer).to(self.device))
            self._resumed = None

    def on_validation_start(self) -> None:
        """Start from ``init_from``, unless there are weights already; likewise before testing and predicting."""
        self._start()

    on_test_start = on_predict_start = on_validation_start

    def _start(self) -> None:
        if self.init_from and not self._has_weights and not self.trainer.ckpt_path:
            self.start_from(self.init_from)
        self._has_weights = True

    @abstractmethod
    def start_from(self, path: str) -> None:
        """Take over the weights of a checkpoint."""

    @abstractmethod
    def learning_parts(self) -> Sequence[nn.Module]:
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
    def compiled_parts(self) -> Sequence[nn.Module]:
        """The modules that ``compile`` compiles, each by itself."""

    def sharded_parts(self) -> Sequence[nn.Module]:
        """The modules that FSDP shares out."""
        return self.learning_parts()

    def build_optimizers(self, num_blocks: int) -> Any:
        """AdamW and its schedule; the cosine ends where the trainer ends unless configured otherwise."""
        config = self.optimizer_config
        max_updates = config.max_updates or self.trainer.estimated_stepping_batches
        if not math.isfinite(max_updates):
            raise ValueError("the learning rate's cosine needs an end: set trainer.max_steps or optimizer.max_updates")
        if config.warmup_updates >= max_updates:
            rank_zero_warn(
                f"the learning rate rises to the end of the run, of {int(max_updates)} updates: "
                f"model.optimizer.warmup_updates is {config.warmup_updates}"
            )
        # With fp16 Lightning refuses to clip gradients that a fused optimizer has yet to unscale.
        fused = self.trainer.precision != "16-mixed"
        optimizer = build_optimizer(self.learning_parts(), config, num_blocks, fused)
        scheduler = ScheduledLR(optimizer, config, int(max_updates))
        optimizer.register_step_post_hook(self._note_update)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}

    def optimizer_step(self, *args: Any, **kwargs: Any) -> None:
        """Make the update, unless the guard refuses it: then neither schedule nor teacher hear of one."""
        with contextlib.suppress(UpdateSkipped):
            super().optimizer_step(*args, **kwargs)

    def lr_scheduler_step(self, scheduler: Any, metric: Any) -> None:
        """Advance with every real update; fp16's loss scaler skips those whose gradients are not finite."""
        if self._updated:
            scheduler.step()
        self._updated = False

    def _note_update(self, *_: Any) -> None:
        self._updated = True

    def configure_gradient_clipping(
        self, optimizer: Any, gradient_clip_val: float | None = None, gradient_clip_algorithm: str | None = None
    ) -> None:
        """Clip as the trainer is told to, and log the norm before clipping."""
        if gradient_clip_val is not None and not gradient_clip_val >= 0:  # a negative norm would turn the gradients round
            raise ValueError(f"gradient_clip_val must not be negative, got {gradient_clip_val}")
        parameters = [p for group in optimizer.param_groups for p in group["params"]]
        by_norm = gradient_clip_algorithm in (None, "norm")
        limit = gradient_clip_val if gradient_clip_val and by_norm else math.inf
        norm = whole(torch.nn.utils.get_total_norm([p.grad for p in parameters if p.grad is not None]))
        guard = next((c for c in self.trainer.callbacks if isinstance(c, LossGuard)), None)  # type: ignore[attr-defined]
        if guard and not guard.allows(self.trainer, norm):
            raise UpdateSkipped
        if math.isfinite(limit):
            torch.nn.utils.clip_grads_with_norm_(parameters, limit, norm)
        if gradient_clip_val and not by_norm:
            self.clip_gradients(optimizer, gradient_clip_val, gradient_clip_algorithm)
        self.log("gradient_norm", norm)
        self.log("learning_rate", max(group["lr"] for group in optimizer.param_groups))

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep settings as plain data, whoever built the module, and the place where a resumed run goes on."""
        if self._trainer is not None:
            keep_place(self.trainer, checkpoint)
            checkpoint["gradients_in_flight"] = gradients_in_flight(self.trainer, self)
            checkpoint["losses_in_flight"] = losses_in_flight(self.trainer, self._losses)
        checkpoint["package_version"] = __version__
        known = inspect.signature(type(self)).parameters  # the command line also hands on what another module takes
        given = {
            name: value for name, value in checkpoint.get("hyper_parameters", {}).items() if name[0] == "_" or name in known
        }
        checkpoint["hyper_parameters"] = plain(given)
        checkpoint["hyper_parameters"].setdefault("_instantiator", "lightning.pytorch.cli.instantiate_module")

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Name the first weight that does not fit, where PyTorch would list all of them.

        Raises:
            ValueError: if the checkpoint is that of a module of another size or with other parts.
        """
        self._has_weights = True
        if "place" in checkpoint:
            self._resumed = {
                "place": checkpoint["place"],
                "gradients": checkpoint["gradients_in_flight"],
                "losses": checkpoint.get("losses_in_flight"),
            }
        try:
            check_names_and_shapes(self.state_dict(), checkpoint["state_dict"], "the checkpoint's ")
        except ValueError as error:
            theirs = checkpoint.get("hyper_parameters", {}).get("_class_path", "").rsplit(".", 1)[-1]
            if theirs in ("", type(self).__name__):
                raise
            raise ValueError(
                f"the checkpoint is of a {theirs}, which a {type(self).__name__} does not go on from: to start from its "
                f"weights, name it in model.init_from ({error})"
            ) from None
        if self._trainer is not None and self.trainer.state.fn == TrainerFn.FITTING:
            self._tell_changes(checkpoint)
            made, end = checkpoint.get("global_step", 0), self.trainer.max_steps
            if 0 < end <= made:
                rank_zero_warn(f"nothing is left to train: the checkpoint has {made} updates, trainer.max_steps is {end}")

    def _tell_changes(self, checkpoint: Mapping[str, Any]) -> None:
        """A run may go on with other settings, or with another version; but not unawares."""
        saved = {
            name: value for name, value in checkpoint.get("hyper_parameters", {}).items() if name not in _FREE_SETTINGS
        }
        changed = differences(saved, self.hparams)
        before, now = checkpoint.get("package_version"), __version__
        if before and before != now:
            changed.insert(0, f"sslam-lightning {before} (now {now})")
        if changed:
            rank_zero_warn(f"the run goes on with other settings than the checkpoint's: {', '.join(changed)}")
