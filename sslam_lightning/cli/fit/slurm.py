"""``sslam slurm``: a job script for a cluster."""

from __future__ import annotations

import argparse
import shlex
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

_DESCRIPTION = """\
Write a script that trains on a cluster, and submit it with --submit.

The options below say what the job gets; every other one is a setting of `sslam fit` and handed on to it:

  sslam slurm --config pretrain/sslam_base --config overlays/trainer/multinode \\
      --data.train_manifest=my/train.tsv --trainer.default_root_dir=runs/sslam \\
      --nodes 2 --gpus-per-node 4 --time 1-00:00:00 --partition gpu --submit

The settings are checked here and not hours later in the queue. The job saves when it is preempted and before its time
limit, Slurm puts it back into its queue, and it resumes from there: in the same folder, with the same W&B run, to the same
weights. Script and log lie in the run's folder. End the job for good with scancel.
"""
_HANDED_ON = ("time", "partition", "account", "qos", "mem")  # to sbatch as they are


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise ValueError(f"{message} (see sslam slurm --help)")


class _Run(NamedTuple):
    """The run that a job makes."""

    folder: Path
    num_workers: int
    fit: Sequence[str]  # the arguments of `sslam fit`
    notes: Sequence[str]


def run_slurm(args: list[str]) -> None:
    """Write the script, and submit it if asked to.

    Raises:
        ValueError: options that make no job, settings that `sslam fit` would refuse, or Slurm's own refusal.
        FileExistsError: another script is there already.
    """
    options, settings_of_fit = _parser().parse_known_args(args)
    _check_fit(settings_of_fit)
    run = _run(options, settings_of_fit)
    script = Path(options.script or run.folder / "job.sbatch")
    _write(script, _script_of(options, run, script))
    run.folder.mkdir(parents=True, exist_ok=True)  # Slurm opens the log in it before anything runs
    print("\n".join([f"wrote {script}", *run.notes]))
    if options.submit:
        number = _submit(script)
        log = run.folder / f"slurm-{number}.log"
        print(f"submitted job {number}: see squeue --job {number}, tail -F {log}, scancel {number}")


def _parser() -> _Parser:
    parser = _Parser(
        "sslam slurm",
        usage="sslam slurm --config FILE ... --nodes N --gpus-per-node M [options] [settings of sslam fit]",
        description=_DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )

    def option(name: str, **details: Any) -> None:
        parser.add_argument(*dict.fromkeys((f"--{name}", f"--{name.replace('-', '_')}")), **details)

    option("nodes", type=int, required=True, metavar="N", help="machines")
    option("gpus-per-node", type=int, required=True, metavar="M", help="GPUs of each; 0: train on CPUs")
    option("tasks-per-node", type=int, metavar="K", help="processes on each node of a CPU job (default: 1)")
    option("cpus-per-task", type=int, metavar="C", help="cores of a process (default: data.num_workers + 1)")
    for name in _HANDED_ON:
        option(name, metavar="VALUE", help=f"as in sbatch --{name}")
    option("signal-seconds", type=int, default=300, metavar="S", help="save so long before the time limit (default: 300)")
    option("sbatch", action="append", default=[], metavar="OPTION", help="any other: --sbatch=--constraint=a100; repeat it")
    option("setup", action="append", default=[], metavar="LINE", help="shell before the run: 'module load cuda'; repeat it")
    option("script", metavar="FILE", help="where to write (default: job.sbatch in the run's folder)")
    option("submit", action="store_true", help="hand the script to sbatch")
    return parser


def _check_fit(settings: Sequence[str]) -> None:
    for key in (word.split("=")[0] for word in settings):
        if key in ("--trainer.devices", "--trainer.num_nodes"):
            raise ValueError(f"leave out {key}: it follows from --nodes and --gpus-per-node")
        if key == "--ckpt_path":
            raise ValueError(
                "leave out --ckpt_path: a job resumes the run in its folder, from the newest checkpoint; to start "
                "from another run's weights set --model.init_from"
            )


def _run(options: argparse.Namespace, settings_of_fit: list[str]) -> _Run:
    """What has to be known of the run: its folder, its workers, its global batch."""
    from sslam_lightning.cli.fit.plan import layout_of
    from sslam_lightning.cli.fit.settings import SettingsCLI

    settings = SettingsCLI(settings_of_fit).settings()
    trainer = settings["trainer"]
    accelerator, processes = "gpu" if options.gpus_per_node else "cpu", _processes(options)
    if trainer["accelerator"] not in ("auto", accelerator, "cuda" if accelerator == "gpu" else accelerator):
        overlay = "overlays/trainer/multinode" if accelerator == "gpu" else "overlays/trainer/cpu"
        raise ValueError(
            f"the configuration says trainer.accelerator {trainer['accelerator']}, but --gpus-per-node is "
            f"{options.gpus_per_node}: add --config {overlay} after it"
        )
    placed = {"num_nodes": options.nodes, "devices": processes, "accelerator": accelerator}
    folder, unknown = Path(trainer["default_root_dir"]), list[str]()  # how many devices the configuration means by itself
    layout, own = layout_of({**settings, "trainer": {**trainer, **placed}}, []), layout_of(settings, unknown)
    notes = [f"global batch: {layout}"]
    if layout.global_batch != own.global_batch and not unknown:
        notes.append(f"the configuration by itself makes {own}: data.batch_size and accumulate_grad_batches bring it back")
    if (folder / "config.yaml").exists():
        notes.append(f"{folder} holds a run already: the job resumes it")
    fit = [*settings_of_fit, *(f"--trainer.{name}={value}" for name, value in placed.items()), "--ckpt_path=last"]
    return _Run(folder, settings["data"]["init_args"]["num_workers"], fit, notes)


def _processes(options: argparse.Namespace) -> int:
    return options.gpus_per_node or options.tasks_per_node or 1


def _script_of(options: argparse.Namespace, run: _Run, path: Path) -> str:
    cpus = options.cpus_per_task or run.num_workers + 1  # a process and its data workers
    log = str(run.folder / "slurm-").replace("%", "%%") + "%j.log"
    directives = [
        ("job-name", run.folder.name),
        ("chdir", Path.cwd()),
        ("output", log),
        ("open-mode", "append"),  # one log, however often the job is put back into the queue
        ("nodes", options.nodes),
        ("ntasks-per-node", _processes(options)),
        ("gpus-per-node", options.gpus_per_node or None),
        ("cpus-per-task", cpus),
        *((name, getattr(options, name)) for name in _HANDED_ON),
        ("signal", f"USR1@{options.signal_seconds}"),  # to all processes, S seconds before the limit
        ("dependency", "singleton"),  # one job of this name at a time: they would write into the same folder
    ]
    words = "".join((" \\\n    " if word.startswith("--") else " ") + shlex.quote(word) for word in run.fit)
    return "\n".join(
        [
            "#!/bin/bash",
            f"# `sslam fit` as a job of Slurm. Submit it with: sbatch {shlex.quote(str(path))}",
            *(f"# {note}." for note in run.notes[:1]),
            "# Preempted or out of time, the run saves at the end of the step, Slurm puts the job back into its queue, and",
            "# it resumes with the same job number, folder, log and W&B run. End it for good with scancel.",
            "",
            # sbatch reads quotes as a shell does
            *(f"#SBATCH --{name}={shlex.quote(str(value))}" for name, value in directives if value is not None),
            *(f"#SBATCH {option}" for option in ("--requeue", *options.sbatch)),
            "",
            *([*options.setup, ""] if options.setup else []),
            # srun does not take the number of cores from sbatch
            f"srun --cpus-per-task={cpus} --kill-on-bad-exit=1 \\",
            f"    {shlex.quote(sys.executable)} -m sslam_lightning fit{words}",
            "",
        ]
    )


def _write(script: Path, text: str) -> None:
    """Write a script that one may start; the same again is no harm."""
    if script.exists() and (script.is_dir() or script.read_bytes() != text.encode()):
        raise FileExistsError(f"{script} is there already: move it, or name another place with --script")
    script.parent.mkdir(parents=True, exist_ok=True)
    script.write_text(text)
    script.chmod(0o755)


def _submit(script: Path) -> int:
    try:
        done = subprocess.run(["sbatch", "--parsable", str(script)], capture_output=True, text=True, check=True)
    except FileNotFoundError:
        raise ValueError(f"sbatch is not here: submit {shlex.quote(str(script))} where Slurm is") from None
    except subprocess.CalledProcessError as error:
        raise ValueError(f"Slurm refuses {script}: {' '.join(error.stderr.split())}") from None
    return int(done.stdout.split(";")[0])
