"""LightningCLI, with its traps taken out."""

from __future__ import annotations

import atexit
import errno
import logging
import sys
import warnings
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
import yaml
from lightning.pytorch.callbacks import ModelCheckpoint, ProgressBar, TQDMProgressBar
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI, SaveConfigCallback
from lightning.pytorch.utilities.model_helpers import is_overridden
from torch import distributed

from sslam_lightning.checkpoints import check_resumable, check_source
from sslam_lightning.cli.fit.checkpoints import (
    CKPT_PATH_HELP,
    as_run_checkpoints,
    find_checkpoint,
    monitor_score_of,
    tell_checkpoint,
)
from sslam_lightning.cli.fit.linked_settings import DECIDED_ELSEWHERE, OF_DATA, refuse_linked_settings, settle_idle_settings
from sslam_lightning.cli.fit.untrusted_config import refuse_foreign_classes
from sslam_lightning.cli.parser import ConfigFile, OneLineParser, flat
from sslam_lightning.data.modules.base import AudioDataModule
from sslam_lightning.training.callbacks import PredictionWriter, RunCheckpoint
from sslam_lightning.training.modules.base import AudioModule
from sslam_lightning.training.run.csv_log import CSVRun
from sslam_lightning.training.run.loggers import WandbRun

# Lightning's advice to itself, and hints that do not apply here.
NOISE = (
    "args.? parameter is intended to run from within Python",
    "is smaller than the logging interval",
    "checkpoints exists and is not empty",
    "LeafSpec",
    "transfer_batch_to_device",
    "module.s. in eval mode at the start",
    "does not have many workers",
    "returned a view tensor",
    "Total length of `list` across ranks is zero",  # there is nothing to validate on
)


# Of the subcommands that judge: how many batches.
_LIMITS = {"validate": "limit_val_batches", "test": "limit_test_batches", "predict": "limit_predict_batches"}
_DATA = "sslam_lightning.data.SyntheticDataModule"  # where no others are given
_POSITIVE = ("accumulate_grad_batches", "num_nodes", "check_val_every_n_epoch")
_LEAST = {**dict.fromkeys(_POSITIVE, 1), "log_every_n_steps": 0, "num_sanity_val_steps": -1}


class Parser(OneLineParser, LightningArgumentParser):
    """LightningCLI's parser."""

    decided_elsewhere = DECIDED_ELSEWHERE


class KeepConfig(SaveConfigCallback):
    """Writes the whole configuration beside the run's results, and overwrites nothing."""

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Wait: what fails before its first step, on a mistyped path say, is no run and must not block the folder."""

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if self.already_saved or trainer.fast_dev_run or not trainer.is_global_zero:  # type: ignore[attr-defined]
            return
        self.already_saved = True
        folder = Path(trainer.default_root_dir)
        folder.mkdir(parents=True, exist_ok=True)
        resumption, target = 0, folder / "config.yaml"
        while target.exists():
            resumption += 1
            target = folder / f"config_resumed_{resumption}.yaml"
        self.parser.save(self.config, target, skip_unset=False, overwrite=False, multifile=False)
        for logger in trainer.loggers:
            if isinstance(logger, WandbRun):
                logger.log_settings(yaml.safe_load(target.read_text()))


class SSLAMCLI(LightningCLI):
    """``sslam fit|validate|test|predict``.

    Results go to ``trainer.default_root_dir``: the configuration, logs as CSV (or to the logger of the configuration),
    and checkpoints: ``last.ckpt``, the newest state, and others as the configuration's RunCheckpoint says.
    """

    command = "fit"  # of `sslam`, where the words do not begin with it
    _linked = True

    def __init__(self, args: list[str] | None = None, run: bool = True) -> None:
        for noise in NOISE:
            warnings.filterwarnings("ignore", message=f".*{noise}")
        logging.getLogger("lightning.pytorch.utilities.rank_zero").addFilter(lambda record: "💡" not in str(record.msg))
        words = sys.argv[1:] if args is None else args
        known = run and words and words[0] in self.subcommands()
        OneLineParser.begin(f"sslam {words[0] if known else self.command}", words)
        self._words = words
        super().__init__(
            AudioModule,
            AudioDataModule,
            subclass_mode_model=True,
            subclass_mode_data=True,
            save_config_callback=KeepConfig,
            auto_configure_optimizers=False,
            seed_everything_default=0,
            trainer_defaults={"default_root_dir": "runs/latest", "log_every_n_steps": 10},
            args=args if args != sys.argv[1:] else None,
            run=run,
        )

    def init_parser(self, **kwargs: Any) -> LightningArgumentParser:
        parser = Parser(**kwargs)
        parser.add_argument(
            "-c",
            "--config",
            action=ConfigFile,
            help="A file, or a recipe or overlay by its name; several layer, later ones win.",
        )
        return parser

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        parser.set_defaults({"data": {"class_path": _DATA}})
        for name in OF_DATA if self._linked else ():
            parser.link_arguments(f"data.{name}", f"model.init_args.{name}", apply_on="instantiate")
        for part in ("model", "data") if self._linked else ():
            parser.link_arguments("seed_everything", f"{part}.init_args.seed", compute_fn=_seed)

    def parse_arguments(self, parser: LightningArgumentParser, args: Any) -> None:
        """Refuse settings that something else decides, and those without effect."""
        super().parse_arguments(parser, args)
        config = self.config[self.config.subcommand] if "subcommand" in self.config else self.config
        given = self._given("subcommand" in self.config)

        def place(key: str) -> str:
            value, file = OneLineParser.places.get(key, (None, ""))
            return f"{file}: {key}" if file and value == given[key] else key

        refuse_linked_settings(given, config.data.get("init_args", {}), place)
        settle_idle_settings(config.model.get("init_args", {}), given, place)

    def _given(self, has_subcommand: bool) -> dict[str, Any]:
        """What the command line and its files set, by whole keys: parsed once more, without defaults and links."""
        self._linked = False
        if has_subcommand:
            parser = self._prepare_subcommand_parser(pl.Trainer, self._words[0])
        else:
            self._add_arguments(parser := self.init_parser())
        words = ["--data", _DATA, *self._words[has_subcommand:]]
        return dict(flat(parser.parse_args(words, defaults=False).as_dict()))

    def _prepare_subcommand_parser(self, klass: type, subcommand: str, **kwargs: Any) -> LightningArgumentParser:
        parser = super()._prepare_subcommand_parser(klass, subcommand, **kwargs)
        for action in parser._actions:
            if action.dest == "ckpt_path":
                action.help = CKPT_PATH_HELP
        return parser

    def _parse_ckpt_path(self) -> None:
        """For ``fit`` the command line has the last word: Lightning would let the checkpoint's settings win."""
        subcommand = self.config.get("subcommand")
        if (self.config[subcommand] if subcommand else self.config)["trainer"]["default_root_dir"] is None:
            raise ValueError("trainer.default_root_dir must be a folder, got null")
        settings = self.config[subcommand] if subcommand else {}
        self._resumes_from_last = settings.get("ckpt_path") == "last"
        if (word := settings.get("ckpt_path")) in ("last", "best"):
            settings["ckpt_path"] = find_checkpoint(word, settings["trainer"], starts=subcommand == "fit")
        if path := settings.get("ckpt_path"):
            step = check_resumable(Path(path))
            if step is not None:
                tell_checkpoint(subcommand, path, step)
        if subcommand and subcommand != "fit":
            if path and Path(path).is_file():
                refuse_foreign_classes(Path(path), self.config[subcommand].as_dict())
            super()._parse_ckpt_path()

    def _set_seed(self) -> None:
        seed = self._get(self.config, "seed_everything")
        if not 0 <= int(seed) < 2**32:
            raise ValueError(f"seed_everything must lie between 0 and {2**32 - 1}, got {seed}")
        super()._set_seed()

    def before_instantiate_classes(self) -> None:
        """Loggers write into the run's folder; W&B goes on with a run that is resumed."""
        trainer = self._get(self.config, "trainer")
        for name, least in _LEAST.items():  # Lightning divides by them, or goes on as if nothing were wrong
            if trainer[name] is not None and trainer[name] < least:
                raise ValueError(f"trainer.{name} must be at least {least}, got {trainer[name]}")
        interval = trainer.val_check_interval
        if isinstance(interval, (int, float)) and interval <= 0:
            raise ValueError(f"trainer.val_check_interval must be positive, got {interval}")
        as_run_checkpoints(trainer.callbacks)
        loggers = trainer.logger if isinstance(trainer.logger, list) else [trainer.logger]
        for logger in loggers:
            name = getattr(logger, "class_path", "")
            if name.endswith("TensorBoardLogger") and find_spec("tensorboard") is None:
                raise ValueError("TensorBoard is not installed: pip install 'sslam-lightning[tensorboard]', or log to CSV")
            if name.endswith(("TensorBoardLogger", "WandbRun")) and not logger.init_args.save_dir:
                logger.init_args.save_dir = trainer.default_root_dir
            if name.endswith("WandbRun"):
                logger.init_args.resume = bool(self._get(self.config, "ckpt_path", default=None))

    def instantiate_classes(self) -> None:
        """A value of the wrong type, such as null, is a mistake in the configuration."""
        try:
            super().instantiate_classes()
        except TypeError as error:
            raise ValueError(f"the configuration does not fit together: {error}") from error

    def instantiate_trainer(self, **kwargs: Any) -> pl.Trainer:
        """Add a CSV log and checkpoints unless they are configured."""
        settings = self._get(self.config_init, "trainer", default={})
        root = Path(settings["default_root_dir"])
        resumes = bool(self._get(self.config_init, "ckpt_path", default=None)) or self._resumes_from_last
        if self.subcommand == "fit" and (root / "config.yaml").exists() and not resumes:
            raise FileExistsError(
                f"{root} already holds a run. Resume it with --ckpt_path last, "
                "or name another folder with --trainer.default_root_dir"
            )
        if settings["logger"] in (None, True):
            trains = self.subcommand == "fit"  # other commands have tables of their own: a resume goes on with training's
            kwargs["logger"] = CSVRun(root, "logs" if trains else f"logs/{self.subcommand}", resume=resumes and trains)
        if limit := _LIMITS.get(self.subcommand or ""):
            if not resumes and not self._get(self.config, "model").init_args.get("init_from"):
                raise ValueError("there is nothing to evaluate: give --ckpt_path, or a checkpoint in --model.init_from")
            if settings[limit] == 0:  # as in recipes that do not validate while they train
                raise ValueError(f"there is nothing to evaluate: trainer.{limit} is 0, set it to 1.0 for all batches")
        _check_gpus_are_here(settings["devices"], settings["accelerator"])
        kwargs["callbacks"] = self._callbacks(settings)
        monitor_score_of(self.model, kwargs["callbacks"])
        if self.subcommand == "predict" and not any(isinstance(c, PredictionWriter) for c in kwargs["callbacks"]):
            kwargs["callbacks"].append(self.model.prediction_writer(root))
        trainer = super().instantiate_trainer(**kwargs)
        if 0 < trainer.max_steps < trainer.log_every_n_steps:  # type: ignore[attr-defined]
            trainer.log_every_n_steps = trainer.max_steps  # type: ignore[attr-defined]  # or a run this short would log nothing
        for callback in trainer.callbacks:  # type: ignore[attr-defined]
            if isinstance(callback, ModelCheckpoint) and callback.dirpath is None:
                callback.dirpath = str(root / "checkpoints")
        return trainer

    def _run_subcommand(self, subcommand: str) -> None:
        """Run, and say in one line what the machine does to a run."""
        atexit.register(_end_process_group)
        try:
            super()._run_subcommand(subcommand)
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
                raise
            folder = self.trainer.default_root_dir
            raise OSError(
                f"{folder} takes no more ({error.strerror}): the checkpoints there are intact. Make room, then resume with "
                f"--ckpt_path={folder}/checkpoints/last.ckpt"
            ) from error
        except (RuntimeError, MemoryError) as error:
            if not _is_out_of_memory(error):
                raise
            raise MemoryError(
                f"out of memory with {self.datamodule.batch_size} clips on a device; lower data.batch_size and raise "
                "trainer.accumulate_grad_batches by the same factor (`sslam plan` estimates the memory), set "
                "trainer.precision=bf16-mixed, or add configs/overlays/trainer/fsdp.yaml"
            ) from error

    def before_fit(self) -> None:
        """What is wrong with data and checkpoint is said once, before processes are started for several devices."""
        if self.model.init_from:
            try:
                check_source(self.model.init_from)
            except FileNotFoundError as error:
                instead = "set it to another, or to null for random weights"
                if self.subcommand != "fit" and not self._get(self.config_init, "ckpt_path", default=None):
                    instead = "give --ckpt_path, a checkpoint of the run"
                raise FileNotFoundError(f"{error}, which model.init_from names; {instead}") from None
        self.datamodule.read_ahead(self.subcommand)

    before_predict = before_fit

    def before_test(self) -> None:
        if not is_overridden("test_step", self.model):
            raise ValueError(
                f"{type(self.model).__name__}, which the checkpoint holds, has nothing to test: fine-tune it "
                "(configs/finetune) or judge its encoder (sslam evaluate)"
            )
        self.before_fit()

    before_validate = before_fit

    def after_fit(self) -> None:
        if self.trainer.is_global_zero and not self.trainer.fast_dev_run:  # type: ignore[attr-defined]
            print(f"results: {self.trainer.default_root_dir} (config.yaml, logs, checkpoints)")

    def after_predict(self) -> None:
        for callback in self.trainer.callbacks:  # type: ignore[attr-defined]
            if isinstance(callback, PredictionWriter) and callback.path.exists():  # or no clip could be read
                print(f"predictions: {callback.path}")

    @staticmethod
    def _callbacks(settings: Any) -> list[Any]:
        """What the configuration asks for, with a progress bar and checkpoints; the module adds `default_callbacks`."""
        configured = settings["callbacks"] or []
        configured = configured if isinstance(configured, list) else [configured]
        wants_bar = settings["enable_progress_bar"] is not False
        if wants_bar and not any(isinstance(callback, ProgressBar) for callback in configured):
            # Every refresh fetches the loss from the device, which then waits: not at every step.
            configured = [TQDMProgressBar(refresh_rate=10), *configured]
        saves = settings["enable_checkpointing"] is not False and not settings["fast_dev_run"]
        if saves and not any(isinstance(callback, ModelCheckpoint) for callback in configured):
            configured = [*configured, RunCheckpoint()]
        return configured


def _is_out_of_memory(error: BaseException) -> bool:
    """torch has a class for it on GPUs, a text on CPUs."""
    on_cpu = "can't allocate memory" in str(error) or "not enough memory" in str(error)
    return isinstance(error, (torch.OutOfMemoryError, MemoryError)) or on_cpu


def _end_process_group() -> None:
    """While the interpreter still lives; Lightning does so for NCCL alone, and gloo's threads may abort the process."""
    if distributed.is_initialized():
        distributed.destroy_process_group()


def _seed(seed_everything: int | bool | None) -> int:
    """One seed for initial weights, draws and the order of clips; a seed left to chance is 0 for the latter two."""
    return seed_everything if isinstance(seed_everything, int) and not isinstance(seed_everything, bool) else 0


def _check_gpus_are_here(devices: Any, accelerator: Any) -> None:
    """A recipe for several GPUs would start as many processes on a CPU."""
    several = str(devices).isdigit() and int(devices) > 1  # text on the command line
    if several and accelerator == "auto" and not torch.accelerator.is_available():
        raise ValueError(
            f"this is a recipe for {devices} GPUs, and there is none here: layer "
            "configs/overlays/trainer/cpu.yaml over it, and a small model (configs/overlays/sizes/tiny.yaml); or "
            "ask for processes with --trainer.accelerator=cpu"
        )
