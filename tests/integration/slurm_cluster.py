"""A Slurm of its own: munge, a controller and nodes, all of them processes of this machine, below one folder.

Debian's packages are fetched and unpacked there, not installed: nothing of the machine changes, no rights of root are
needed, and a Slurm that runs here already is neither used nor disturbed.
"""

from __future__ import annotations

import os
import pwd
import random
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

PACKAGES = ("munge", "slurm-client", "slurmctld", "slurmd")
PROGRAMS = ("munged", "slurmctld", "slurmd", "slurmstepd", "sbatch", "srun", "scancel", "scontrol", "squeue")
GRACE_SECONDS = 10  # between the word that a job is preempted and its end


class Unavailable(RuntimeError):
    """Why there can be no Slurm here."""


class Cluster(NamedTuple):
    """A Slurm that runs: the environment in which its commands find it."""

    folder: Path
    environment: dict[str, str]

    def run(self, *command: object) -> str:
        """What a command of Slurm prints."""
        done = subprocess.run(
            [str(word) for word in command], env=self.environment, capture_output=True, text=True, timeout=30, check=False
        )
        assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
        return done.stdout

    def job(self, number: int) -> dict[str, str]:
        """What the controller knows of a job."""
        return dict(re.findall(r"(\S+?)=(\S*)", self.run("scontrol", "show", "job", number)))

    def told(self) -> str:
        """The daemons' logs, for messages."""
        return "\n".join(f"== {log.name}\n{log.read_text()[-3000:]}" for log in sorted(self.folder.glob("*.log")))


def wait_until(true: Callable[[], object], seconds: float, what: str) -> None:
    """Look every fifth of a second."""
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, f"{what} has not happened within {seconds:g} s"
        time.sleep(0.2)


@contextmanager
def cluster(nodes: Sequence[str]) -> Iterator[Cluster]:
    """Start a Slurm whose jobs in the partition ``urgent`` preempt those in ``normal``; it ends with the block.

    Raises:
        Unavailable: if the programs cannot be fetched.
        AssertionError: if they do not start.
    """
    # Not below pytest's folder: the path of a socket has at most 107 characters.
    folder = Path(tempfile.mkdtemp(prefix="slurm-"))
    daemons: list[subprocess.Popen[bytes]] = []
    try:
        environment = _programs(folder)
        ports = free_ports(1 + len(nodes))
        _configure(folder, nodes, ports, environment["SLURM_PLUGINS"])
        found = Cluster(folder, environment)
        for command in _commands(folder, nodes, environment):
            log = folder / f"{Path(command[0]).name}{len(daemons)}.out.log"
            with log.open("wb") as out:
                daemon = subprocess.Popen(
                    command, env=environment, stdin=subprocess.DEVNULL, stdout=out, stderr=out, start_new_session=True
                )
            daemons.append(daemon)
            if "munged" in command[0]:
                _wait_for_start(lambda: (folder / "munge.socket").exists(), found)
        _wait_for_start(lambda: _idle(found) == len(nodes), found)
        try:
            yield found
        finally:
            _end_jobs(found)
    finally:
        _end(daemons)
        _kill_what_is_left(folder)
        shutil.rmtree(folder, ignore_errors=True)


def _programs(folder: Path) -> dict[str, str]:
    """An environment in which the programs are found, without what another Slurm may have set."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("SLURM", "SBATCH", "SRUN"))}
    binaries = folder / "bin"
    binaries.mkdir()
    environment["PATH"] = f"{binaries}:{environment['PATH']}:/usr/sbin:/sbin"
    environment["SLURM_CONF"] = str(folder / "slurm.conf")
    _fetch(folder)
    root = folder / "root"
    libraries = [str(path) for path in root.glob("usr/lib/*") if path.is_dir()]
    plugins = next((str(path.parent) for path in root.glob("usr/lib/*/slurm-wlm/libslurmfull.so")), None)
    if plugins is None:
        raise Unavailable("Debian's packages of Slurm are laid out otherwise than expected")
    environment["LD_LIBRARY_PATH"] = ":".join([plugins, *libraries, environment.get("LD_LIBRARY_PATH", "")]).rstrip(":")
    environment["SLURM_PLUGINS"] = plugins
    for program in PROGRAMS:
        target = next((path for path in (*root.glob(f"usr/*bin/{program}"), *root.glob(f"usr/*bin/{program}-wlm"))), None)
        if target is None:
            raise Unavailable(f"{program} is not in Debian's packages")
        (binaries / program).symlink_to(target)
    return environment


def _fetch(folder: Path) -> None:
    """Unpack Debian's packages, and those that they need and the machine lacks, into ``root``."""
    if not (shutil.which("apt-get") and shutil.which("dpkg-deb")):
        raise Unavailable("Slurm is fetched with apt-get, which is not here")
    archives = folder / "packages"
    archives.mkdir()
    names = _needed()
    if names is None and os.geteuid() == 0:
        _apt("update", folder=archives)
        names = _needed()
    if names is None:
        raise Unavailable("apt-get does not know Slurm's packages: the lists are missing, or this is no Debian")
    done = _apt("download", "-q", *names, folder=archives)
    if done.returncode != 0:
        raise Unavailable(f"Slurm's packages cannot be fetched: {done.stderr.strip().splitlines()[-1]}")
    for archive in archives.glob("*.deb"):
        subprocess.run(["dpkg-deb", "-x", str(archive), str(folder / "root")], check=True, timeout=60)


def _needed() -> list[str] | None:
    """What apt-get would install; of Slurm everything, also where it is installed."""
    done = _apt("install", "--simulate", "--no-install-recommends", *PACKAGES)
    if done.returncode != 0:
        return None
    return sorted({*re.findall(r"^Inst (\S+)", done.stdout, re.MULTILINE), *PACKAGES, "slurm-wlm-basic-plugins"})


def _apt(*words: str, folder: Path | None = None) -> subprocess.CompletedProcess[str]:
    # A user of its own would have no access to the folder.
    command = ["apt-get", "-o", "APT::Sandbox::User=root", *words]
    try:
        return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=60, check=False)
    except subprocess.TimeoutExpired:
        raise Unavailable(f"apt-get {words[0]} has not ended within a minute") from None


def free_ports(count: int) -> list[int]:
    """Ports below those that the system hands out by itself: no other program is given one of them in between."""
    ports: list[int] = []
    for port in random.sample(range(10_000, 30_000), 20_000):
        with socket.socket() as probe, suppress(OSError):  # somebody listens there
            probe.bind(("127.0.0.1", port))
            ports.append(port)
        if len(ports) == count:
            return ports
    raise AssertionError(f"this machine has no {count} free ports")


def _configure(folder: Path, nodes: Sequence[str], ports: Sequence[int], plugins: str) -> None:
    key = folder / "munge.key"
    key.write_bytes(os.urandom(1024))
    key.chmod(0o600)
    folder.chmod(0o711)  # munge wants others to reach its socket
    (folder / "state").mkdir()
    host, user = socket.gethostname().split(".")[0], _user()
    lines = [
        f"ClusterName=test\nSlurmctldHost={host}(127.0.0.1)\nSlurmctldPort={ports[0]}\nSlurmUser={user}\nSlurmdUser={user}",
        f"AuthType=auth/munge\nAuthInfo=socket={folder}/munge.socket\nCredType=cred/munge\nPluginDir={plugins}",
        f"StateSaveLocation={folder}/state\nSlurmdSpoolDir={folder}/spool-%n",
        f"SlurmctldPidFile={folder}/slurmctld.pid\nSlurmdPidFile={folder}/slurmd-%n.pid",
        f"SlurmctldLogFile={folder}/slurmctld.log\nSlurmdLogFile={folder}/slurmd-%n.log",
        "ProctrackType=proctrack/linuxproc\nTaskPlugin=task/none\nMpiDefault=none\nReturnToService=2\nKillWait=5",
        "SelectType=select/cons_tres\nSelectTypeParameters=CR_CPU\nSchedulerParameters=batch_sched_delay=1,sched_interval=2",
        "PreemptType=preempt/partition_prio\nPreemptMode=REQUEUE\nJobRequeue=1",
        *(
            f"NodeName={node} NodeHostname={host} NodeAddr=127.0.0.1 Port={port} CPUs=2"
            for node, port in zip(nodes, ports[1:], strict=True)
        ),
        f"PartitionName=normal Nodes={','.join(nodes)} Default=YES State=UP PriorityTier=1 GraceTime={GRACE_SECONDS}",
        f"PartitionName=urgent Nodes={','.join(nodes)} State=UP PriorityTier=10",
    ]
    (folder / "slurm.conf").write_text("\n".join(lines) + "\n")


def _commands(folder: Path, nodes: Sequence[str], environment: dict[str, str]) -> Iterator[list[str]]:
    files = {"socket": "munge.socket", "key-file": "munge.key", "pid-file": "munged.pid"}
    files |= {"log-file": "munged.log", "seed-file": "munged.seed"}
    options = [f"--{name}={folder / file}" for name, file in files.items()]
    binaries = folder / "bin"
    yield [str(binaries / "munged"), "--foreground", "--force", *options]
    yield [str(binaries / "slurmctld"), "-D", "-f", str(folder / "slurm.conf")]
    for node in nodes:
        yield [
            str(binaries / "slurmd"),
            "-D",
            "-f",
            str(folder / "slurm.conf"),
            "-N",
            node,
            "-d",
            str(binaries / "slurmstepd"),
        ]


def _idle(found: Cluster) -> int:
    done = subprocess.run(
        ["scontrol", "show", "nodes"], env=found.environment, capture_output=True, text=True, timeout=30, check=False
    )
    return len(re.findall(r"State=IDLE\b(?!\+)", done.stdout))


def _wait_for_start(true: Callable[[], object], found: Cluster) -> None:
    try:
        wait_until(true, 60, "the start of Slurm")
    except AssertionError as error:
        raise AssertionError(f"{error}\n{found.told()}") from None


def _end(daemons: Sequence[subprocess.Popen[bytes]]) -> None:
    """Nodes first, then the controller, then munge."""
    for daemon in reversed(daemons):
        daemon.terminate()
        try:
            daemon.wait(5)
        except subprocess.TimeoutExpired:
            daemon.kill()
            daemon.wait(5)


def _end_jobs(found: Cluster) -> None:
    """Ask Slurm to, as long as it lives."""

    def command(*words: str) -> str:
        return subprocess.run(words, env=found.environment, capture_output=True, text=True, timeout=30, check=False).stdout

    command("scancel", "--state=PENDING", "--quiet")
    command("scancel", "--state=RUNNING", "--signal=KILL", "--full", "--quiet")
    end = time.monotonic() + 10
    while command("squeue", "--noheader").strip() and time.monotonic() < end:
        time.sleep(0.2)


def _kill_what_is_left(folder: Path) -> None:
    """Processes of this cluster, which its daemons have lost: known by the configuration in their environment."""
    mark = f"SLURM_CONF={folder}/".encode()
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if mark in (process / "environ").read_bytes():
                os.kill(int(process.name), signal.SIGKILL)
        except OSError:  # it has ended, or is somebody else's
            pass


def _user() -> str:
    return pwd.getpwuid(os.geteuid()).pw_name
