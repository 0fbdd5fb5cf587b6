"""The commands that README shows do run: its ``bash test`` blocks, with `runs/` in a temporary folder."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from prefork import interpreter

_ROOT = Path(__file__).parents[2]
_README = _ROOT / "README.md"
_ESC10 = _ROOT.parent / "shared" / "data" / "esc10"


def blocks(text: str, language: str = "bash test") -> list[str]:
    return re.findall(rf"^```{language}(?: [^\n]*)?\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


def test_blocks_are_found():
    text = "a\n```bash test\nsslam --help\n```\nb\n```bash\nrm -rf /\n```\n```bash test slow\ntrue\n\nfalse\n```\n"
    assert blocks(text) == ["sslam --help\n", "true\n\nfalse\n"]


def run(commands: list[str], tmp_path: Path, **variables: str) -> str:
    """One shell for all blocks, in their order, as a reader would type them."""
    assert commands, "README has no such block"
    binaries = tmp_path / "bin"
    binaries.mkdir()
    # `sslam` and `python` are those of this environment, whether or not it has been activated.
    for name, target in (("sslam", "-m sslam_lightning"), ("python", "")):
        (binaries / name).write_text(f'#!/bin/sh\nexec {shlex.join(interpreter())} {target} "$@"\n')
        (binaries / name).chmod(0o755)
    script = "set -euo pipefail\n" + re.sub(r"(?<![\w/.-])runs(?=/)", str(tmp_path / "runs"), "\n".join(commands))
    done = subprocess.run(
        ["bash", "-c", script],
        cwd=_ROOT,
        env={
            **os.environ,
            "PATH": os.pathsep.join([str(binaries), str(Path(sys.executable).parent), os.environ["PATH"]]),
            "PYTHONPATH": os.pathsep.join([str(_ROOT), os.environ.get("PYTHONPATH", "")]),
            **variables,
        },
        capture_output=True,
        text=True,
        timeout=1800,  # with what hangs
        check=False,
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    return done.stdout


@pytest.mark.slow
def test_the_commands_and_the_python_of_readme_run(tmp_path):
    text = _README.read_text()
    (code,) = blocks(text, "python")
    printed = run([*blocks(text), f"python - <<'END'\n{code}\nprint(encoded.clip.shape)\nEND\n"], tmp_path)
    outputs = re.findall(r"^prints\n\n```\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    assert outputs, "README shows no output"
    for output in outputs:
        assert output.replace("runs/", f"{tmp_path}/runs/") in printed


def test_the_commands_for_a_cluster_make_runs_of_the_published_batch(tmp_path, monkeypatch, capsys):
    """Their devices are not here: the settings are understood, the scripts written, and nothing is started."""
    from sslam_lightning.__main__ import main
    from sslam_lightning.cli.plan import layout_of
    from sslam_lightning.cli.settings import SettingsCLI

    (block,) = blocks(_README.read_text(), "bash cluster")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "configs").symlink_to(_ROOT / "configs")
    listing = 'sslam() { printf "%q " "$@"; echo; }\ntorchrun() { sslam "$@"; }\n' + block
    done = subprocess.run(["bash", "-euc", listing], capture_output=True, text=True, check=True)
    *runs, slurm = [shlex.split(line) for line in done.stdout.splitlines()]
    settings = [SettingsCLI(words[words.index("fit") + 1 :]).settings() for words in runs]
    assert [layout_of(each, []).global_batch for each in settings][1:] == [48, 48, 48]
    assert slurm[0] == "slurm"
    main([word for word in slurm if word != "--submit"])
    assert "global batch: 48 clips" in capsys.readouterr().out
    assert "--submit" in slurm
    written = {path.relative_to(tmp_path).as_posix() for path in tmp_path.glob("runs/*/*")}
    assert len(written) == 1
    assert all(f"writes {path}" in block for path in written)


@pytest.mark.slow
def test_the_whole_method_runs_on_real_recordings(tmp_path):
    """README's ESC-50 commands, a few steps each: stage 1, stage 2, fine-tuning, evaluation on the held-out fold."""
    if not _ESC10.is_dir():
        pytest.skip("the recordings of ESC-10 are not here")
    small = "--data.batch_size=4 --data.num_workers=0 --trainer.max_steps=2 --trainer.limit_test_batches=4"
    printed = run(
        blocks(_README.read_text(), "bash esc50"), tmp_path, ESC50=str(_ESC10), RUN=str(tmp_path / "esc10"), MORE=small
    )
    assert "test/accuracy" in printed
    assert (tmp_path / "esc10/finetuned/checkpoints/last.ckpt").is_file()
