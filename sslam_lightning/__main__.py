"""``sslam`` and ``python -m sslam_lightning``: a thin door in front of the tools and of LightningCLI."""

from __future__ import annotations

import errno
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

_HELP = """\
sslam: self-supervised pre-training of audio encoders (SSLAM, EAT and their family)

Try it          sslam demo                                the whole method in three minutes, without any data
Prepare data    sslam data scan|check|import              a manifest of your recordings; the broken ones with reasons
                sslam data stats|pack                     mean and std for the recipe, class weights; fast shards
Train           sslam plan --config FILE ...              memory, epochs, time, differences from the paper
                sslam fit --config FILE ...               pre-train or fine-tune; several --config layer, later ones win
                sslam slurm --config FILE ... --nodes N --gpus-per-node M --submit     on a cluster, surviving preemption
Judge           sslam validate|test|predict --config FILE --ckpt_path CKPT
                sslam evaluate --suite NAME --model MODEL           probes, kNN, fine-tuning; one table
Use a model     sslam tag FILE|FOLDER|- --model MODEL               the sounds in recordings of any length
                sslam embed FILE|FOLDER --model MODEL --out X.npz   embeddings by clip, frame or patch
Share a model   sslam convert SOURCE TARGET               fairseq, Hugging Face, safetensors and others
                sslam export X.onnx --model MODEL         for other programs
Measure speed   sslam benchmark pretrain|data|inference

Options of a command:         sslam COMMAND --help
Arguments of a class:         sslam fit --model.help sslam_lightning.PretrainModule
All settings of a run:        sslam fit --config FILE --print_config
Change a setting:             sslam fit --config pretrain/eat_base --data.batch_size 6
Resume a run:                 sslam fit --config RUN/config.yaml --ckpt_path last
Find where an error is from:  SSLAM_DEBUG=1 sslam ...
"""


def main(args: Sequence[str] | None = None) -> None:
    """Run one command; errors of the user become one line and exit code 2."""
    argv = list(sys.argv[1:] if args is None else args)
    if not argv or argv[0] in ("-h", "--help"):
        print(_HELP, end="")
        sys.exit(0 if argv else 2)
    try:
        _dispatch(argv)
    except Exception as error:
        # Naming Lightning's class here would import all of it.
        of_settings = getattr(error, "for_users", False) or type(error).__name__ == "MisconfigurationException"
        if os.environ.get("SSLAM_DEBUG") or not (of_settings or isinstance(error, (ValueError, OSError, MemoryError))):
            raise
        print(f"sslam: error: {_one_line(error)}", file=sys.stderr)
        sys.exit(2)


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
        return
    from sslam_lightning.cli import COMMANDS, run_command

    if argv[0] == "fit" and "SLURM_JOB_ID" in os.environ:
        from sslam_lightning.runtime.signals import install

        install(signal.SIGTERM, signal.SIGUSR1)  # that come before training starts; see SaveOnSignal
    if not argv[0].startswith("-") and argv[0] not in COMMANDS:
        raise ValueError(f"there is no command {argv[0]}, only {', '.join(COMMANDS)}")
    run_command(argv)


def _one_line(error: Exception) -> str:
    from sslam_lightning.cli.parse_errors import one_line

    message = _no_folder(error) or str(error) or repr(error)
    if message.startswith("Caught "):  # in a data worker, with its traceback
        message = message.strip().splitlines()[-1].split("Error: ", 1)[-1]
    return one_line(message)


def _no_folder(error: Exception) -> str | None:
    """Where a file lies in the way of a folder; the system names what would have been in it."""
    if isinstance(error, OSError) and error.errno in (errno.EEXIST, errno.ENOTDIR) and isinstance(error.filename, str):
        for place in (path := Path(error.filename), *path.parents):
            if place.is_file():
                return f"a folder is expected at {place}, which is a file"
    return None


if __name__ == "__main__":
    console()
