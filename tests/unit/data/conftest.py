from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile

ESC10 = Path(__file__).parents[3].parent / "shared" / "data" / "esc10"


@pytest.fixture
def esc10() -> Path:
    if not ESC10.is_dir():
        pytest.skip("the ESC-10 recordings are not here")
    return ESC10


@pytest.fixture
def write_sound(tmp_path: Path) -> Callable[..., Path]:
    """Write a tone under tmp_path; its frequency tells the files apart."""

    def write(name: str, seconds: float = 0.1, rate_hz: int = 16000, hertz: float = 440.0) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        wave = 0.5 * np.sin(2 * np.pi * hertz * np.arange(round(seconds * rate_hz)) / rate_hz)
        soundfile.write(path, wave.astype(np.float32), rate_hz)
        return path

    return write


@pytest.fixture
def manifest(tmp_path: Path, write_sound: Callable[..., Path]) -> Path:
    """Six clips of 50 to 100 ms with labels; clip i is of class i % 3, and clips 0 and 3 of class 2 as well."""
    names = [f"sounds/clip{i}.wav" for i in range(6)]
    for i, name in enumerate(names):
        write_sound(f"audio/{name}", seconds=0.05 + 0.01 * i, hertz=200 + 100 * i)
    (tmp_path / "train.tsv").write_text("audio\n" + "".join(f"{name}\t{800 + 160 * i}\n" for i, name in enumerate(names)))
    rows = [f"{name}\t{'/m/' + 'abc'[i % 3]}{',/m/c' if i % 3 == 0 else ''}\n" for i, name in enumerate(names)]
    (tmp_path / "train.lbl").write_text("".join(rows))
    (tmp_path / "classes.csv").write_text('index,mid,name\n0,/m/a,Ape\n1,/m/b,"Bee, buzzing"\n2,/m/c,Cat\n')
    return tmp_path / "train.tsv"
