"""What `sslam slurm` writes: the scripts are run by bash with other programs in the place of Slurm's."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from sslam_lightning.__main__ import main
from sslam_lightning.cli.configs import config_folder
from sslam_lightning.cli.slurm import _seconds

TINY = [
    word
    for name in ("pretrain/sslam_base", "overlays/sizes/tiny", "overlays/sizes/tiny_pretrain", "overlays/data/synthetic")
    for word in ("--config", str(config_folder() / f"{name}.yaml"))
]
CPU = ["--config", str(config_folder() / "trainer" / "cpu.yaml")]
GPU = ["--config", str(config_folder() / "trainer" / "gpu.yaml")]
ODD = ["--trainer.default_root_dir", 'runs/it\'s a "run" of $HOME', "--model.init_from", "it's\\a `b`.ckpt"]


@pytest.fixture(autouse=True)
def programs(tmp_path, monkeypatch) -> Path:
    """A folder of programs that come first; work is done beside it."""
    binaries = tmp_path / "programs"
    binaries.mkdir()
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    monkeypatch.setenv("PATH", f"{binaries}:{os.environ['PATH']}")
    return binaries


def program(path: Path, text: str) -> None:
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)


def refused(capsys, *arguments: str) -> str:
    with pytest.raises(SystemExit) as end:
        main(["slurm", *arguments])
    assert end.value.code == 2
    told = capsys.readouterr().err
    assert told.count("\n") == 1
    return told.removeprefix("sslam: error: ").strip()


def directives(script: str) -> dict[str, str]:
    """Options of sbatch by their names; a comment behind one is none of it."""
    lines = [line.removeprefix("#SBATCH ") for line in script.splitlines() if line.startswith("#SBATCH ")]
    words = [shlex.split(line, comments=True) for line in lines]
    assert all(len(word) == 1 for word in words)
    return dict(word.removeprefix("--").partition("=")[::2] for (word,) in words)


def test_a_job_on_gpus(capsys):
    limits = ["--time", "1-00:00:00", "--partition", "gpu", "--account=me", "--mem", "64G", "--cpus-per-task=5"]
    more = ["--sbatch=--constraint=a100", "--setup", "module load cuda", "--setup=ulimit -n 4096"]
    main(["slurm", *TINY, "--nodes", "2", *limits, *more, "--gpus-per-node=4", "--data.batch_size=12"])
    assert capsys.readouterr().out.splitlines() == [
        "wrote runs/sslam_base/job.sbatch",
        "global batch: 96 clips = 4 devices x 2 nodes x 12 clips",
        "the configuration by itself makes 48 clips = 4 devices x 12 clips: data.batch_size and accumulate_grad_batches "
        "bring it back",
    ]
    script = Path("runs/sslam_base/job.sbatch").read_text()
    assert directives(script) == {
        "job-name": "sslam_base",
        "chdir": os.getcwd(),
        "output": "runs/sslam_base/slurm-%j.log",
        "open-mode": "append",
        "nodes": "2",
        "ntasks-per-node": "4",
        "gpus-per-node": "4",
        "cpus-per-task": "5",
        "time": "1-00:00:00",
        "partition": "gpu",
        "account": "me",
        "mem": "64G",
        "constraint": "a100",
        "requeue": "",
        "signal": "USR1@300",
        "dependency": "singleton",
    }
    body = script[script.index("module load cuda") :]
    assert body.startswith("module load cuda\nulimit -n 4096\n\nsrun --cpus-per-task=5 --kill-on-bad-exit=1 \\\n")
    assert all(line.startswith("#") for line in script[: script.index("module load")].splitlines() if line)
    assert max(map(len, script.splitlines())) <= 124


def test_every_argument_comes_through(programs, capsys):
    program(programs / "srun", 'printf "%s\\0" "$@" > "$OLDPWD/arguments"')
    main(["slurm", *TINY, *CPU, *ODD, "--nodes=3", "--gpus_per_node=0", "--tasks_per_node=2"])
    script = Path('runs/it\'s a "run" of $HOME/job.sbatch')
    assert "--gpus-per-node" not in script.read_text()
    assert directives(script.read_text())["output"] == 'runs/it\'s a "run" of $HOME/slurm-%j.log'
    subprocess.run(["bash", str(script)], check=True, env={**os.environ, "OLDPWD": os.getcwd()})
    arguments = Path("arguments").read_text().split("\0")[:-1]
    assert arguments == [
        "--cpus-per-task=1",  # no data workers
        "--kill-on-bad-exit=1",
        sys.executable,
        "-m",
        "sslam_lightning",
        "fit",
        *TINY,
        *CPU,
        *ODD,
        "--trainer.num_nodes=3",
        "--trainer.devices=2",
        "--trainer.accelerator=cpu",
        "--ckpt_path=last",
    ]


@pytest.mark.parametrize(
    ("options", "restarts", "meeting"),
    [
        (["--nodes=1"], 3, ["--standalone"]),
        (["--nodes=4", "--rendezvous=node1", "--max-restarts=0"], 0, ["--rdzv-endpoint=node1:29400"]),
        (["--nodes=2", "--rendezvous=node1:1234"], 3, ["--rdzv-endpoint=node1:1234"]),
    ],
)
def test_torchrun(options, restarts, meeting, capsys):
    main(["slurm", *TINY, *ODD, "--gpus-per-node=2", "--torchrun", "--setup=export NCCL_DEBUG=WARN", *options])
    script = Path('runs/it\'s a "run" of $HOME/torchrun.sh').read_text()
    setup, command = script.split("\n\n")[1:]
    assert setup == f"cd {shlex.quote(os.getcwd())}\nexport NCCL_DEBUG=WARN"
    words = shlex.split(command.replace("\\\n", ""), comments=True)
    nodes = options[0].removeprefix("--nodes=")
    placed = [f"--trainer.num_nodes={nodes}", "--trainer.devices=2", "--trainer.accelerator=gpu", "--ckpt_path=last"]
    if nodes != "1":
        meeting = ["--rdzv-backend=c10d", *meeting, '--rdzv-id=it\'s a "run" of $HOME']
    torchrun = [f"--nnodes={nodes}", "--nproc-per-node=2", f"--max-restarts={restarts}", *meeting]
    alone = ["export", "TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1"]  # see multinode.yaml
    started = [*alone, "exec", sys.executable, "-m", "torch.distributed.run", *torchrun, "-m", "sslam_lightning", "fit"]
    assert words == [*started, *TINY, *ODD, *placed]


def test_submit(programs, capsys):
    program(programs / "sbatch", 'echo "$@" > sbatch_told; echo "123;cluster"')
    main(["slurm", *TINY, "--nodes=1", "--gpus-per-node=1", "--submit", "--script=job.sh"])
    assert Path("sbatch_told").read_text() == "--parsable job.sh\n"
    log = "runs/sslam_base/slurm-123.log"
    assert f"submitted job 123: see squeue --job 123, tail -F {log}, scancel 123" in capsys.readouterr().out
    assert Path("runs/sslam_base").is_dir()  # or Slurm could not open the log
    program(programs / "sbatch", 'echo "sbatch: error: invalid partition specified: gpuu" >&2; exit 1')
    told = refused(capsys, *TINY, "--nodes=1", "--gpus-per-node=1", "--submit", "--script=job.sh")
    assert told == "Slurm refuses job.sh: sbatch: error: invalid partition specified: gpuu"


def test_another_script_is_not_overwritten(capsys, monkeypatch):
    job = [*TINY, "--nodes=1", "--gpus-per-node=1", "--script=job.sh"]
    main(["slurm", *job])
    before = Path("job.sh").read_text()
    main(["slurm", *job])  # the same one
    assert "job.sh is there already: move it, or name another place" in refused(capsys, *job, "--time=5:00:00")
    assert Path("job.sh").read_text() == before
    for path in (Path("folder"), Path("sound.ogg")):
        path.mkdir() if not path.suffix else path.write_bytes(b"OggS\xf4\xbf")
        assert f"{path} is there already" in refused(capsys, *job[:-1], f"--script={path}")
    assert Path("sound.ogg").read_bytes() == b"OggS\xf4\xbf"
    Path("runs/sslam_base/config.yaml").parent.mkdir(parents=True, exist_ok=True)
    Path("runs/sslam_base/config.yaml").touch()
    main(["slurm", *job])
    assert "runs/sslam_base holds a run already: the job goes on with it" in capsys.readouterr().out
    monkeypatch.setenv("PATH", "/nowhere")
    assert refused(capsys, *job, "--submit") == "sbatch is not here: submit job.sh where Slurm is"


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--nodes=1"], "the following arguments are required: --gpus-per-node/--gpus_per_node"),
        (["--nodes=1", "--gpus-per-node=1", "--nodes", "2"], "the option --nodes is given twice, of which one would be"),
        (["--nodes=1", "--gpus-per-node=1", "--gpus_per_node=2"], "the option --gpus-per-node is given twice"),
        (["--nodes=0", "--gpus-per-node=1"], "argument --nodes: expected a whole number of at least 1, got '0'"),
        (["--nodes=two", "--gpus-per-node=1"], "argument --nodes: expected a whole number of at least 1, got 'two'"),
        (["--nodes=1", "--gpus-per-node=-1"], "expected a whole number of at least 0, got '-1'"),
        (
            ["--nodes=1", "--gpus-per-node=1", "--time=tomorrow"],
            "expected minutes, H:M:S, D-H or D-H:M:S as --time, got 'tom",
        ),
        (
            ["--nodes=1", "--gpus-per-node=1", "--time=5"],
            "a time limit of 5 leaves no time before the signal to save, 300 s",
        ),
        (
            ["--nodes=1", "--gpus-per-node=1", "--tasks-per-node=2"],
            "leave out --tasks-per-node: on GPUs there is one process for each",
        ),
        (
            ["--nodes=1", "--gpus-per-node=1", "--sbatch=a100"],
            "expected an option of Slurm, such as --sbatch=--constraint=a100, got 'a100'",
        ),
        (["--nodes=1", "--gpus-per-node=1", "--setup=a\nb"], "expected one line as --setup, got ['a\\nb']"),
        (["--nodes=1", "--gpus-per-node=1", "--trainer.devices=2"], "leave out --trainer.devices: it follows from --nodes"),
        (["--nodes=1", "--gpus-per-node=1", "--ckpt_path", "a.ckpt"], "leave out --ckpt_path: a job goes on with the run"),
        (
            ["--nodes=1", "--gpus-per-node=1", "--trainer.max_step=5"],
            "there is no setting trainer.max_step: did you mean trainer.max_steps?",
        ),
        (["--nodes=1", "--gpus-per-node=1", "--constraint=a100"], "there is no setting constraint"),
        (
            ["--nodes=1", "--gpus-per-node=1", *CPU],
            "the configuration says trainer.accelerator cpu, but --gpus-per-node is 1",
        ),
        (
            ["--nodes=1", "--gpus-per-node=0", *GPU],
            "trainer.accelerator gpu, but --gpus-per-node is 0: layer configs/overlays/trainer/cpu.yaml",
        ),
        (["--nodes=2", "--gpus-per-node=1", "--torchrun"], "set --rendezvous to the address of one of the nodes"),
        (
            ["--nodes=1", "--gpus-per-node=1", "--torchrun", "--qos=x"],
            "leave out --qos: a script for torchrun has no place for it",
        ),
        (
            ["--nodes=2", "--gpus-per-node=1", "--torchrun", "--rendezvous=node1:port"],
            "expected HOST or HOST:PORT as --rendezvous, got 'node1:port'",
        ),
        (["--nodes=1", "--gpus-per-node=1", "--partition="], "--partition is empty: give a value, or leave it out"),
        (["--nodes=1", "--gpus-per-node=0", *CPU, "--data.batch_size=0"], "data.batch_size must be at least 1, got 0"),
        (["--nodes=1", "--gpus-per-node=0", *CPU, "--data.num_workers=-5"], "data.num_workers must be at least 0, got -5"),
        (["--nodes=1", "--gpus-per-node=1", "--max-restarts=0"], "leave out --max-restarts, which goes with --torchrun"),
    ],
)
def test_what_makes_no_job_is_said_in_one_line(arguments, told, capsys):
    assert told in refused(capsys, *TINY, *arguments)
    assert list(Path.cwd().iterdir()) == []


@pytest.mark.parametrize(
    ("limit", "seconds"),
    [("90", 5400), ("90:30", 5430), ("2:00:05", 7205), ("1-2", 93600), ("1-2:03", 93780), ("0-0:0:9", 9)],
)
def test_time_limits(limit, seconds):
    assert _seconds(limit) == seconds


def test_help_teaches(capsys):
    with pytest.raises(SystemExit) as end:
        main(["slurm", "--help"])
    assert end.value.code == 0
    told = capsys.readouterr().out
    for word in (
        "--nodes N",
        "--gpus-per-node M",
        "--submit",
        "--torchrun",
        "configs/overlays/trainer/multinode.yaml",
        "scancel",
    ):
        assert word in told
