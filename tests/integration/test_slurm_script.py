"""What `sslam slurm` writes: the scripts are run by bash with other programs in the place of Slurm's."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from sslam_lightning.__main__ import main
from sslam_lightning.runtime.configs import config_folder

TINY = [
    word
    for name in ("pretrain/sslam_base", "overlays/sizes/tiny", "overlays/data/synthetic")
    for word in ("--config", str(config_folder() / f"{name}.yaml"))
]
CPU = ["--config", str(config_folder() / "overlays" / "trainer" / "cpu.yaml")]
GPU = ["--config", str(config_folder() / "overlays" / "trainer" / "gpu.yaml")]
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
    assert "runs/sslam_base holds a run already: the job resumes it" in capsys.readouterr().out
    monkeypatch.setenv("PATH", "/nowhere")
    assert refused(capsys, *job, "--submit") == "sbatch is not here: submit job.sh where Slurm is"


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--nodes=1"], "the following arguments are required: --gpus-per-node/--gpus_per_node"),
        (["--nodes=two", "--gpus-per-node=1"], "argument --nodes: invalid int value: 'two'"),
        (["--nodes=1", "--gpus-per-node=1", "--trainer.devices=2"], "leave out --trainer.devices: it follows from --nodes"),
        (["--nodes=1", "--gpus-per-node=1", "--ckpt_path", "a.ckpt"], "leave out --ckpt_path: a job resumes the run"),
        (
            ["--nodes=1", "--gpus-per-node=1", "--trainer.max_step=5"],
            "unrecognized arguments: --trainer.max_step=5: did you mean --trainer.max_steps?",
        ),
        (["--nodes=1", "--gpus-per-node=1", "--constraint=a100"], "unrecognized arguments: --constraint=a100"),
        (
            ["--nodes=1", "--gpus-per-node=1", *CPU],
            "the configuration says trainer.accelerator cpu, but --gpus-per-node is 1",
        ),
        (
            ["--nodes=1", "--gpus-per-node=0", *GPU],
            "trainer.accelerator gpu, but --gpus-per-node is 0: add --config overlays/trainer/cpu",
        ),
    ],
)
def test_what_makes_no_job_is_said_in_one_line(arguments, told, capsys):
    assert told in refused(capsys, *TINY, *arguments)
    assert list(Path.cwd().iterdir()) == []


def test_help_teaches(capsys):
    with pytest.raises(SystemExit) as end:
        main(["slurm", "--help"])
    assert end.value.code == 0
    told = capsys.readouterr().out
    for word in ("--nodes N", "--gpus-per-node M", "--submit", "overlays/trainer/multinode", "scancel"):
        assert word in told
