"""What ``import sslam_lightning`` offers: at once, without torch, and with types for users' own type checkers."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

import sslam_lightning

_PACKAGE = Path(sslam_lightning.__file__).parent

_USE = """
import torch
import sslam_lightning

model = sslam_lightning.create_model("eat_tiny", depth=2)
reveal_type(model)
reveal_type(sslam_lightning.from_pretrained("model"))
found = model(torch.zeros(16000), 16000)
reveal_type(found.probs)
reveal_type(model.extract_features(torch.zeros(16000), 16000, layers=[1, 2]).clip)
reveal_type(sslam_lightning.list_models())
reveal_type(sslam_lightning.tag(["a.wav"], "model").recordings[0].best(3))
reveal_type(sslam_lightning.embed("a.wav", "model", "a.npz").shape)
reveal_type(sslam_lightning.evaluate("esc50", "model").runs[0].best)
reveal_type(sslam_lightning.convert("model", "shared").target)
reveal_type(sslam_lightning.load_classifier("model"))
sslam_lightning.PretrainModule(encoder=sslam_lightning.EncoderConfig(dim=96))
"""
_WRONG = """sslam_lightning.create_model(3)
sslam_lightning.lode_encoder("model")
found.tags
"""


def _python(code: str, folder: Path) -> subprocess.CompletedProcess[str]:
    path = os.pathsep.join([str(_PACKAGE.parent), os.environ.get("PYTHONPATH", "")])
    environment = {**os.environ, "PYTHONPATH": path}
    command = [sys.executable, "-c", code]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=900, check=False)


def test_names_are_those_of_their_modules() -> None:
    modules = sslam_lightning._modules()
    assert len(modules) > 15
    assert set(sslam_lightning.__all__) == {*modules, "__version__"} <= set(dir(sslam_lightning))
    for name, module in modules.items():
        assert getattr(sslam_lightning, name) is getattr(import_module(module), name)


def test_there_are_no_others() -> None:
    with pytest.raises(AttributeError, match=r"module 'sslam_lightning' has no attribute 'lode_encoder'"):
        _ = sslam_lightning.lode_encoder
    assert not hasattr(sslam_lightning, "load")


def test_the_import_brings_no_other_package(tmp_path) -> None:
    code = "import sys; old = {*sys.modules}; import sslam_lightning; print(*{*sys.modules} - old)"
    new = {name.partition(".")[0] for name in _python(code, tmp_path).stdout.split()}
    assert new - set(sys.stdlib_module_names) == {"sslam_lightning"}


@pytest.mark.ci
def test_types_reach_the_users_of_the_package(tmp_path) -> None:
    """mypy finds the package as an installed one, since py.typed says so, and reports wrong uses of it alone."""
    pytest.importorskip("mypy")
    (tmp_path / "use.py").write_text(_USE + _WRONG)
    code = (
        "import sys\nfrom mypy import api\n"
        "out, err, code = api.run(['--config-file=', '--cache-dir=cache', '--strict', 'use.py'])\n"
        "print(out, err)\n"
    )
    lines = _python(code, tmp_path).stdout.strip().splitlines()
    revealed = [line.partition('Revealed type is "')[2].rstrip('"') for line in lines if "Revealed type" in line]
    assert [" ".join(one.replace("torch._tensor.", "").replace("builtins.", "").split()) for one in revealed] == [
        "sslam_lightning.inference.model.AudioModel",
        "sslam_lightning.inference.model.AudioModel",
        "Tensor | None",
        "Tensor",
        "list[str]",
        "list[tuple[str, float]]",
        "tuple[int, ...]",
        "float",
        "pathlib.Path",
        "sslam_lightning.models.heads.Classifier",
    ]
    first = _USE.count("\n") + 1
    errors = [line.partition(": error: ")[::2] for line in lines if ": error: " in line]
    assert [place for place, _ in errors] == [f"use.py:{first + number}" for number in range(3)]
    assert 'incompatible type "int"; expected "str"' in errors[0][1]
    assert 'Module has no attribute "lode_encoder"' in errors[1][1]
    assert '"AudioOutput" has no attribute "tags"' in errors[2][1]


def test_the_wheel_holds_the_types() -> None:
    wheel = pytest.importorskip("hatchling.builders.wheel")
    names = {file.distribution_path for file in wheel.WheelBuilder(str(_PACKAGE.parent)).recurse_included_files()}
    assert {
        "sslam_lightning/py.typed",
        "sslam_lightning/__init__.py",
        "sslam_lightning/configs/pretrain/eat_base.yaml",
    } <= names
