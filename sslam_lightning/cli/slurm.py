"""``sslam slurm``: a job script for a cluster, or one that starts torchrun on plain machines."""

from __future__ import annotations

import argparse
import re
import shlex
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

from sslam_lightning.cli.job_script import Job, sbatch_script, torchrun_script

_DESCRIPTION = """\
Write a script that trains on a cluster, and submit it with --submit.

The options below say what the job gets; every other one is a setting of `sslam fit` and handed on to it:

  sslam slurm --config configs/pretrain/sslam_base.yaml --config configs/overlays/trainer/multinode.yaml \\
      --data.train_manifest=my/train.tsv --trainer.default_root_dir=runs/sslam \\
      --nodes 2 --gpus-per-node 4 --time 1-00:00:00 --partition gpu --submit

The settings are checked here and not hours later in the queue. The job saves when it is preempted and before its time
limit, Slurm puts it back into its queue, and it goes on from there: in the same folder, with the same W&B run, to the same
weights. Script and log lie in the run's folder. End the job for good with scancel.

With --torchrun, a script for machines without a scheduler, to be started on each of them: torchrun starts all processes
anew when one has died, and they go on from the newest checkpoint.
"""
_OF_SLURM = (
    "time",
    "partition",
    "account",
    "qos",
    "mem",
    "cpus_per_task",
    "job_name",
    "signal_seconds",
    "sbatch",
    "submit",
)
_TIME = re.compile(r"\d+(:\d+){0,2}|\d+-\d+(:\d+){0,2}")
_ADDRESS = re.compile(r"[^:\s]+(:\d{1,5})?")
_SIGNAL_SECONDS = 300


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise ValueError(f"{message} (see sslam slurm --help)")


def run_slurm(args: list[str]) -> None:
    """Write the script, and submit it if asked to.

    Raises:
        ValueError: options that make no job, settings that `sslam fit` would refuse, or Slurm's own refusal.
        FileExistsError: another script is there already.
    """
    options, settings_of_fit = _parse(args)
    _check_job(options)
    _check_fit(settings_of_fit)
    job = _job(options, settings_of_fit)
    script = Path(options.script or job.folder / ("torchrun.sh" if options.torchrun else "job.sbatch"))
    _write(script, torchrun_script(job, script) if options.torchrun else sbatch_script(job, script))
    job.folder.mkdir(parents=True, exist_ok=True)  # Slurm opens the log in it before anything runs
    print(f"wrote {script}")
    for note in job.notes:
        print(note)
    if options.submit:
        number = _submit(script)
        log = job.folder / f"slurm-{number}.log"
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

    option("nodes", type=_at_least(1), required=True, metavar="N", help="machines")
    option("gpus-per-node", type=_at_least(0), required=True, metavar="M", help="GPUs of each; 0: train on CPUs")
    option("tasks-per-node", type=_at_least(1), metavar="K", help="processes on each node of a CPU job (default: 1)")
    option("cpus-per-task", type=_at_least(1), metavar="C", help="cores of a process (default: data.num_workers + 1)")
    option("time", metavar="LIMIT", help="as Slurm has it: minutes, H:M:S, D-H or D-H:M:S (default: the partition's)")
    option("partition", metavar="NAME", help="queue of Slurm")
    option("account", metavar="NAME", help="who pays")
    option("qos", metavar="NAME", help="quality of service")
    option("mem", metavar="SIZE", help="memory of a node, such as 64G; 0: all")
    option("job-name", metavar="NAME", help="one job of a name runs at a time (default: the name of the run's folder)")
    option("signal-seconds", type=_at_least(1), metavar="S", help="save so long before the time limit (default: 300)")
    option("sbatch", action="append", default=[], metavar="OPTION", help="any other: --sbatch=--constraint=a100; repeat it")
    option("setup", action="append", default=[], metavar="LINE", help="shell before the run: 'module load cuda'; repeat it")
    option("script", metavar="FILE", help="where to write (default: job.sbatch in the run's folder)")
    option("submit", action="store_true", help="hand the script to sbatch")
    option("torchrun", action="store_true", help="no Slurm: a script to be started on each machine")
    option("rendezvous", metavar="HOST[:PORT]", help="with --torchrun and several nodes: one of them, where all meet")
    option("max-restarts", type=_at_least(0), metavar="R", help="with --torchrun: how often to start anew (default: 3)")
    return parser


def _parse(args: list[str]) -> tuple[argparse.Namespace, list[str]]:
    """The job's own options, and the settings of fit. Of an option that is given twice one would be dropped in silence."""
    parser = _parser()
    typed = [word.partition("=")[0].replace("_", "-") for word in args]
    for action in parser._actions:
        name = action.option_strings[0]
        if not isinstance(action, argparse._AppendAction) and typed.count(name) > 1:
            parser.error(f"the option {name} is given twice, of which one would be dropped: give it once")
    return parser.parse_known_args(args)


def _at_least(least: int) -> Any:
    def whole_number(text: str) -> int:
        if not text.isdigit() or int(text) < least:
            raise argparse.ArgumentTypeError(f"expected a whole number of at least {least}, got {text!r}")
        return int(text)

    return whole_number


def _check_job(options: argparse.Namespace) -> None:
    """What contradicts itself."""
    given = {name for name, value in vars(options).items() if value is not None and value is not False and value != []}
    if options.torchrun and (of_slurm := [name for name in _OF_SLURM if name in given]):
        raise ValueError(f"leave out {_flag(of_slurm[0])}: a script for torchrun has no place for it")
    if not options.torchrun and (of_torchrun := given & {"rendezvous", "max_restarts"}):
        raise ValueError(f"leave out {_flag(min(of_torchrun))}, which goes with --torchrun")
    if options.torchrun and (options.nodes > 1) != bool(options.rendezvous):
        raise ValueError("set --rendezvous to the address of one of the nodes where there are several, and only then")
    if options.gpus_per_node and options.tasks_per_node:
        raise ValueError("leave out --tasks-per-node: on GPUs there is one process for each")
    if options.time and not _TIME.fullmatch(options.time):
        raise ValueError(f"expected minutes, H:M:S, D-H or D-H:M:S as --time, got {options.time!r}")
    if options.time and not options.torchrun:
        limit, early = _seconds(options.time), options.signal_seconds or _SIGNAL_SECONDS
        if limit <= early:
            raise ValueError(
                f"a time limit of {options.time} leaves no time before the signal to save, {early} s earlier: set a longer "
                "--time, or --signal-seconds"
            )
    if wrong := next((option for option in options.sbatch if not option.startswith("-")), None):
        raise ValueError(f"expected an option of Slurm, such as --sbatch=--constraint=a100, got {wrong!r}")
    if options.rendezvous and not _ADDRESS.fullmatch(options.rendezvous):
        raise ValueError(f"expected HOST or HOST:PORT as --rendezvous, got {options.rendezvous!r}")
    for name, value in vars(options).items():
        if value == "":
            raise ValueError(f"{_flag(name)} is empty: give a value, or leave it out")
        if any("\n" in line for line in (value if isinstance(value, list) else [str(value)])):
            raise ValueError(f"expected one line as {_flag(name)}, got {value!r}")


def _flag(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def _check_fit(settings: Sequence[str]) -> None:
    """What of a run is decided by the job."""
    for key in (word.split("=")[0] for word in settings):
        if key in ("--trainer.devices", "--trainer.num_nodes"):
            raise ValueError(f"leave out {key}: it follows from --nodes and --gpus-per-node")
        if key == "--ckpt_path":
            raise ValueError(
                "leave out --ckpt_path: a job goes on with the run in its folder, from the newest checkpoint; to start "
                "from another run's weights set --model.init_from"
            )


def _seconds(limit: str) -> int:
    """A time limit in Slurm's notation: behind days come hours, otherwise one or two numbers begin with minutes."""
    days, _, rest = limit.rpartition("-")
    parts = [int(part) for part in rest.split(":")]
    if not days and len(parts) < 3:
        parts = [0, *parts]
    hours, minutes, seconds = [*parts, 0, 0][:3]
    return ((int(days or 0) * 24 + hours) * 60 + minutes) * 60 + seconds


def _job(options: argparse.Namespace, settings_of_fit: list[str]) -> Job:
    """The job, with what has to be known of the run: its folder, its workers, its global batch."""
    from sslam_lightning.cli.plan import layout_of
    from sslam_lightning.cli.settings import SettingsCLI

    settings = SettingsCLI(settings_of_fit).settings()
    trainer, data = settings["trainer"], settings["data"]["init_args"]
    for name, least in (("batch_size", 1), ("num_workers", 0)):  # the job counts with them
        if data[name] < least:
            raise ValueError(f"data.{name} must be at least {least}, got {data[name]}")
    accelerator, processes = "gpu" if options.gpus_per_node else "cpu", options.gpus_per_node or options.tasks_per_node or 1
    if trainer["accelerator"] not in ("auto", accelerator, "cuda" if accelerator == "gpu" else accelerator):
        overlay = "overlays/trainer/multinode.yaml" if accelerator == "gpu" else "overlays/trainer/cpu.yaml"
        raise ValueError(
            f"the configuration says trainer.accelerator {trainer['accelerator']}, but --gpus-per-node is "
            f"{options.gpus_per_node}: layer configs/{overlay} behind it"
        )
    folder = Path(trainer["default_root_dir"])
    here = {**settings, "trainer": {**trainer, "devices": processes, "num_nodes": options.nodes}}
    unknown: list[str] = []  # how many devices the configuration means by itself
    layout, own = layout_of(here, []), layout_of(settings, unknown)
    notes = [f"global batch: {layout}"]
    if layout.global_batch != own.global_batch and not unknown:
        notes.append(f"the configuration by itself makes {own}: data.batch_size and accumulate_grad_batches bring it back")
    if (folder / "config.yaml").exists():
        notes.append(f"{folder} holds a run already: the job goes on with it")
    return Job(
        folder=folder,
        working_folder=Path.cwd(),
        name=options.job_name or folder.name,
        nodes=options.nodes,
        processes_per_node=processes,
        gpus_per_node=options.gpus_per_node,
        cpus_per_process=options.cpus_per_task or data["num_workers"] + 1,
        limits={name: getattr(options, name) for name in ("time", "partition", "account", "qos", "mem")},
        more_options=options.sbatch,
        signal_seconds=options.signal_seconds or _SIGNAL_SECONDS,
        setup=options.setup,
        rendezvous=options.rendezvous,
        max_restarts=3 if options.max_restarts is None else options.max_restarts,
        python=sys.executable,
        fit=[*settings_of_fit, *_placed(options.nodes, processes, accelerator)],
        notes=notes,
    )


def _placed(nodes: int, processes: int, accelerator: str) -> list[str]:
    chosen: Mapping[str, Any] = {"num_nodes": nodes, "devices": processes, "accelerator": accelerator}
    return [*(f"--trainer.{name}={value}" for name, value in chosen.items()), "--ckpt_path=last"]


def _write(script: Path, text: str) -> None:
    """Write a script that one may start; the same again is no harm.

    Raises:
        FileExistsError: another one is there.
    """
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
