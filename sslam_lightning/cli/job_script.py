"""Shell scripts that train on several machines: for Slurm, and for torchrun without a scheduler."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

_PORT = 29400  # torchrun's own
_MEET_ANEW = (
    "# Else torch 2.14 keeps the addresses of processes that have died, and those started anew wait for them.",
    "export TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1",
)


class Job(NamedTuple):
    """What a script says. Arguments and values as they are, not quoted yet."""

    folder: Path  # of the run
    working_folder: Path
    name: str
    nodes: int
    processes_per_node: int
    gpus_per_node: int
    cpus_per_process: int
    limits: Mapping[str, str | None]  # options of Slurm that only hand on a value
    more_options: Sequence[str]
    signal_seconds: int
    setup: Sequence[str]
    rendezvous: str | None
    max_restarts: int
    python: str
    fit: Sequence[str]  # the arguments of `sslam fit`
    notes: Sequence[str]


def sbatch_script(job: Job, path: Path) -> str:
    """For ``sbatch``."""
    each = "one process a GPU" if job.gpus_per_node else "processes, as trainer.devices says"
    log = str(job.folder / "slurm-").replace("%", "%%") + "%j.log"
    options = [
        ("job-name", job.name, ""),
        ("chdir", str(job.working_folder), ""),
        ("output", log, ""),
        ("open-mode", "append", "one log, however often the job is put back into the queue"),
        ("nodes", str(job.nodes), ""),
        ("ntasks-per-node", str(job.processes_per_node), each),
        ("gpus-per-node", str(job.gpus_per_node) if job.gpus_per_node else None, ""),
        ("cpus-per-task", str(job.cpus_per_process), "a process and its data workers"),
        *((name, value, "") for name, value in job.limits.items()),
    ]
    requeue = [
        ("requeue", "", "the same job number, folder, log and W&B run"),
        ("signal", f"USR1@{job.signal_seconds}", "to all processes, so many seconds before the time limit"),
        ("dependency", "singleton", "one job of this name at a time: they would write into the same folder"),
    ]
    srun = f"srun --cpus-per-task={job.cpus_per_process} --kill-on-bad-exit=1"  # srun does not take it from sbatch
    return "\n".join(
        [
            "#!/bin/bash",
            f"# `sslam fit` as a job of Slurm. Submit it with: sbatch {shlex.quote(str(path))}",
            *(f"# {note[0].upper()}{note[1:]}." for note in job.notes[:1]),
            "",
            *_directives(options),
            *(f"#SBATCH {option}" for option in job.more_options),
            "",
            "# Preempted or out of time, the run saves at the end of the update, Slurm puts the job back into its queue,",
            "# and it goes on from there. End it for good with scancel.",
            *_directives(requeue),
            "",
            *([*job.setup, ""] if job.setup else []),
            _command([srun, _fit(job)], job.fit),
            "",
        ]
    )


def torchrun_script(job: Job, path: Path) -> str:
    """To be started on every node."""
    where = "on this machine" if job.nodes == 1 else f"on each of the {job.nodes} machines"
    options = [f"--nnodes={job.nodes}", f"--nproc-per-node={job.processes_per_node}", f"--max-restarts={job.max_restarts}"]
    if job.rendezvous:
        host, _, port = job.rendezvous.partition(":")
        name = shlex.quote(f"--rdzv-id={job.name}")
        options += ["--rdzv-backend=c10d", shlex.quote(f"--rdzv-endpoint={host}:{port or _PORT}"), name]
    else:
        options += ["--standalone"]
    torchrun = f"{shlex.quote(job.python)} -m torch.distributed.run"
    return "\n".join(
        [
            "#!/bin/bash",
            f"# `sslam fit` by torchrun. Start it {where}: bash {shlex.quote(str(path))}",
            *(f"# {note[0].upper()}{note[1:]}." for note in job.notes[:1]),
            "",
            f"cd {shlex.quote(str(job.working_folder))}",
            *job.setup,
            "",
            f"# When a process dies, all are started anew, up to {job.max_restarts} times, and go on from the newest whole",
            "# checkpoint. SIGTERM to torchrun saves and ends the run; the same script goes on with it.",
            *_MEET_ANEW,
            _command(["exec " + " ".join([torchrun, *options]), "-m sslam_lightning fit"], job.fit),
            "",
        ]
    )


def _directives(options: Sequence[tuple[str, str | None, str]]) -> list[str]:
    """Lines for sbatch, which reads quotes as a shell does."""
    lines = []
    for name, value, comment in options:
        if value is not None:
            line = f"#SBATCH --{name}" + (f"={shlex.quote(value)}" if value else "")
            lines.append(f"{line:<36} # {comment}" if comment else line)
    return lines


def _fit(job: Job) -> str:
    return f"{shlex.quote(job.python)} -m sslam_lightning fit"


def _command(beginning: Sequence[str], arguments: Sequence[str]) -> str:
    """One command over several lines, an option with its values on each."""
    lines = list(beginning)
    for word in arguments:
        if word.startswith("--") or len(lines) == len(beginning):
            lines.append(shlex.quote(word))
        else:
            lines[-1] += f" {shlex.quote(word)}"
    return " \\\n    ".join(lines)
