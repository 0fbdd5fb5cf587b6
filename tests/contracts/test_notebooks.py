"""Every notebook runs from top to bottom."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest
from prefork import interpreter

_ROOT = Path(__file__).parents[2]
_NOTEBOOKS = sorted((_ROOT / "notebooks").glob("*.ipynb"))
# Cell by cell as in Jupyter, whose kernels talk over ports.
_RUN = """
import json, sys
from IPython.core.interactiveshell import InteractiveShell
shell = InteractiveShell.instance()
for cell in json.load(sys.stdin)["cells"]:
    if cell["cell_type"] == "code":
        shell.run_cell("".join(cell["source"])).raise_error()
"""


def test_there_are_notebooks():
    assert _NOTEBOOKS


@pytest.mark.slow
@pytest.mark.parametrize("path", _NOTEBOOKS, ids=lambda path: path.stem)
def test_notebook_runs(path, tmp_path):
    pytest.importorskip("IPython")
    cells = json.loads(path.read_text())["cells"]
    assert any(cell["cell_type"] == "code" for cell in cells)
    assert all(not cell.get("outputs") for cell in cells), "notebooks are committed without outputs"
    environment = {**os.environ, "PYTHONPATH": str(_ROOT), "MPLBACKEND": "agg", "IPYTHONDIR": str(tmp_path / "ipython")}
    with path.open() as notebook:
        done = subprocess.run(
            [*interpreter(), "-c", _RUN], stdin=notebook, cwd=tmp_path, env=environment, capture_output=True, text=True
        )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-3000:]
