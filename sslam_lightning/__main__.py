"""``sslam`` and ``python -m sslam_lightning``: a thin door in front of the tools and of LightningCLI."""

from __future__ import annotations

import errno
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

_OF_THE_TRAINER = ("fit", "validate", "test", "predict")
_HELP = """\
sslam: self-supervised pre-training of audio encoders (SSLAM, EAT)

  sslam demo                                     the whole method in three minutes on synthetic sounds, without any data

  sslam data scan|check|import                   a manifest of your recordings; the broken ones listed with their reasons
  sslam data stats|pack                          mean and std for the recipe, class weights; fast shards
  sslam plan --config FILE ...                   what a run will be: memory, epochs, time, differences from its paper
  sslam fit --config FILE ...                    pre-train or fine-tune; several --config layer, later ones win
  sslam slurm --config FILE ... --nodes N --gpus-per-node M      a script for Slurm that survives preemption; --submit
  sslam validate|test|predict --config FILE --ckpt_path CKPT
  sslam convert SOURCE TARGET                    checkpoints: fairseq, Hugging Face, ours; to safetensors and the others
  sslam evaluate --suite NAME --model MODEL      probes, kNN, fine-tuning; all folds and seeds, one table

  sslam tag FILE|FOLDER|- --model MODEL          what is heard in recordings of any length
  sslam embed FILE|FOLDER --model MODEL --out X.npz       embeddings by clip, frame or patch
  sslam export X.onnx --model MODEL              for other programs
  sslam benchmark pretrain|data|inference        speed, part by part

Any key of a recipe can be set behind it: sslam fit --config configs/pretrain/eat_base.yaml --data.batch_size 6
What a command knows:                     sslam COMMAND --help        (sslam demo --help, sslam fit --help)
What a class in a recipe knows:           sslam fit --model.help sslam_lightning.PretrainModule
All settings of a run, without running it: sslam fit --config FILE --print_config
Resume a run:                             sslam fit --config RUN/config.yaml --ckpt_path last
Set SSLAM_DEBUG=1 to see where in the code an error comes from.
"""


def main(args: Sequence[str] | None = None) -> None:
    """Run one command; errors of the user become one line and exit code 2."""
    argv = list(sys.argv[1:] if args is None else args)
    if not argv or argv[0] in ("-h", "--help"):
        print(_HELP, end="")
        sys.exit(0 if argv else 2)
    try:
        _dispatch(argv)
    except (ValueError, OSError, MemoryError) as error:
        _complain(error)
    except Exception as error:
        # Lightning's name for settings that this machine cannot follow; naming the class would import all of it.
        if not getattr(error, "for_users", False) and type(error).__name__ != "MisconfigurationException":
            raise
        _complain(error)


def console() -> None:
    """`main` for a terminal, where Ctrl-C is no error of the program."""
    try:
        main()
    except KeyboardInterrupt:
        if os.environ.get("SSLAM_DEBUG"):
            raise
        print("sslam: interrupted", file=sys.stderr)
        sys.exit(128 + signal.SIGINT)


def _dispatch(argv: list[str]) -> None:
    if argv[0] == "--version":
        from sslam_lightning import __version__

        print(__version__)
    elif argv[0] == "plan":
        from sslam_lightning.cli.plan import run_plan

        run_plan(argv[1:])
    elif argv[0] == "slurm":
        from sslam_lightning.cli.slurm import run_slurm

        run_slurm(argv[1:])
    else:
        from sslam_lightning.cli import TOOLS, run_tool, run_trainer

        if not argv[0].startswith("-") and argv[0] not in (commands := [*_OF_THE_TRAINER, *TOOLS, "plan", "slurm"]):
            raise ValueError(f"there is no command {argv[0]}, only {', '.join(commands)}")
        if argv[0] == "demo":  # before torch: threads that wait spin, and on cores shared with others hold each other up
            os.environ.setdefault("GOMP_SPINCOUNT", "1000")
        if argv[0] == "fit" and "SLURM_JOB_ID" in os.environ:
            from sslam_lightning.runtime.signals import listen_to

            listen_to(signal.SIGTERM, signal.SIGUSR1)  # that come before training starts; see SaveOnSignal
        (run_tool if argv[0] in TOOLS else run_trainer)(argv)


def _complain(error: Exception) -> NoReturn:
    if os.environ.get("SSLAM_DEBUG"):
        raise error
    # An error in a loader's worker comes wrapped in the worker's traceback, with its own line last.
    from sslam_lightning.parser_complaints import one_line

    message = _no_folder(error) or str(error) or repr(error)
    if message.startswith("Caught "):
        message = message.strip().splitlines()[-1].split("Error: ", 1)[-1]
    line = one_line(message)
    print(f"sslam: error: {line}", file=sys.stderr)
    sys.exit(2)


def _no_folder(error: Exception) -> str | None:
    """Where a file lies in the way of a folder; the system names what would have been in it."""
    if isinstance(error, OSError) and error.errno in (errno.EEXIST, errno.ENOTDIR) and isinstance(error.filename, str):
        for place in (path := Path(error.filename), *path.parents):
            if place.is_file():
                return f"a folder is expected at {place}, which is a file"
    return None


if __name__ == "__main__":
    console()
