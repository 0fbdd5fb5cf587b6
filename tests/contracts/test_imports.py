"""Who may import whom, and what must not be imported before it is needed."""

from __future__ import annotations

import os
import pkgutil
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import sslam_lightning

_ROOT = Path(__file__).parents[2]
_PACKAGE = Path(sslam_lightning.__file__).parents[1]


def _python(code: str, folder: Path) -> str:
    path = os.pathsep.join([str(_PACKAGE), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_layers_hold():
    pytest.importorskip("importlinter")
    command = shutil.which("lint-imports", path=os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]))
    assert command, "import-linter is installed, its command is not"
    done = subprocess.run([command, "--no-cache"], cwd=_ROOT, capture_output=True, text=True, timeout=900, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "3 kept, 0 broken" in done.stdout


@pytest.mark.parametrize(
    "code",
    [
        "import sslam_lightning",
        "from sslam_lightning.__main__ import main\n"
        "try: main(['--help'])\nexcept SystemExit as left: assert left.code == 0",
        "from sslam_lightning.__main__ import main\nmain(['--version'])",
        "from sslam_lightning.__main__ import main\n"
        "try: main(['demo', '--help'])\nexcept SystemExit as left: assert left.code == 0",
        "from sslam_lightning.__main__ import main\n"
        "try: main(['tag', '--help'])\nexcept SystemExit as left: assert left.code == 0",
        "from sslam_lightning.__main__ import main\n"
        "try: main(['data', 'pack', '--help'])\nexcept SystemExit as left: assert left.code == 0",
        "from sslam_lightning.__main__ import main\n"
        "try: main(['evaluate', '--help'])\nexcept SystemExit as left: assert left.code == 0",
    ],
    ids=["import", "help", "version", "demo --help", "tag --help", "data pack --help", "evaluate --help"],
)
def test_what_needs_no_torch_does_not_import_it(code, tmp_path):
    heavy = ("torch", "lightning", "torchaudio", "matplotlib")
    out = _python(f"{code}\nimport sys\nprint('HEAVY', [name for name in {heavy} if name in sys.modules])", tmp_path)
    assert out.splitlines()[-1] == "HEAVY []"


def test_inference_does_without_lightning(tmp_path):
    code = "import sys, sslam_lightning.inference, sslam_lightning.adapters.hear, sslam_lightning.adapters.xares\n"
    out = _python(
        code + "print([name for name in ('lightning', 'torchmetrics', 'wandb') if name in sys.modules])", tmp_path
    )
    assert out.splitlines()[-1] == "[]"


def test_torchaudio_and_extras_are_imported_only_where_they_are_used(tmp_path):
    """So that the package works where torchaudio cannot be imported, and extras are not installed."""
    modules = [
        module.name
        for module in pkgutil.walk_packages(sslam_lightning.__path__, "sslam_lightning.")
        if not module.name.endswith("__main__")
    ]
    assert len(modules) > 40
    code = f"import importlib, sys\nfor name in {modules}: importlib.import_module(name)\n"
    out = _python(
        code + "print([name for name in ('torchaudio', 'wandb', 'soxr', 'pyarrow', 'h5py') if name in sys.modules])",
        tmp_path,
    )
    assert out.splitlines()[-1] == "[]"
