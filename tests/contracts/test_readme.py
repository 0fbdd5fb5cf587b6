"""The commands that README shows do run: its ``bash test`` blocks, with `runs/` in a temporary folder."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

_ROOT = Path(__file__).parents[2]
_README = _ROOT / "README.md"
_BLOCK = re.compile(r"^```bash test[^\n]*\n(.*?)^```", re.MULTILINE | re.DOTALL)


def blocks(text: str) -> list[str]:
    return _BLOCK.findall(text)


def test_blocks_are_found():
    text = "a\n```bash test\nsslam --help\n```\nb\n```bash\nrm -rf /\n```\n```bash test slow\ntrue\n\nfalse\n```\n"
    assert blocks(text) == ["sslam --help\n", "true\n\nfalse\n"]


def test_the_commands_of_readme_run(tmp_path):
    """One shell for all blocks, in their order, as a reader would type them."""
    if not _README.is_file():
        pytest.skip("there is no README yet")
    commands = blocks(_README.read_text())
    assert commands, "README has no block with the info string 'bash test'"
    binaries = tmp_path / "bin"
    binaries.mkdir()
    # `sslam` and `python` are those of this environment, whether or not it has been activated.
    for name, target in (("sslam", "-m sslam_lightning"), ("python", "")):
        (binaries / name).write_text(f'#!/bin/sh\nexec "{sys.executable}" {target} "$@"\n')
        (binaries / name).chmod(0o755)
    script = "set -euo pipefail\n" + re.sub(r"(?<![\w/.-])runs(?=/)", str(tmp_path / "runs"), "\n".join(commands))
    done = subprocess.run(
        ["bash", "-c", script],
        cwd=_ROOT,
        env={
            **os.environ,
            "PATH": os.pathsep.join([str(binaries), str(Path(sys.executable).parent), os.environ["PATH"]]),
            "PYTHONPATH": os.pathsep.join([str(_ROOT), os.environ.get("PYTHONPATH", "")]),
            "SSLAM_RUNS": str(tmp_path / "runs"),
        },
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
