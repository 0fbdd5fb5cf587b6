"""Images and texts for short runs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

_ROOT = Path(__file__).parents[2]


def striped_images(folder: Path, count: int) -> None:
    """Stripes of two colors in random directions."""
    folder.mkdir(parents=True, exist_ok=True)
    draw = np.random.RandomState(0)
    rows, columns = np.mgrid[0:40, 0:40] / 40
    for number in range(count):
        angle, frequency, phase = draw.uniform(0, np.pi), draw.uniform(2, 6), draw.uniform(0, 6)
        wave = np.sin(2 * np.pi * frequency * (np.cos(angle) * columns + np.sin(angle) * rows) + phase)
        colors = draw.randint(0, 255, (2, 3))
        Image.fromarray(colors[(wave > 0).astype(int)].astype(np.uint8)).save(folder / f"{number}.png")


def docs_of_the_package(folder: Path) -> None:
    """This package's own documentation, a paragraph a line."""
    folder.mkdir(parents=True, exist_ok=True)
    documents = [_ROOT / "README.md", _ROOT / "configs/README.md", *sorted((_ROOT / "sslam_lightning").rglob("README.md"))]
    assert len(documents) > 3
    for number, path in enumerate(documents):
        (folder / f"{number}.md").write_text(path.read_text(encoding="utf-8")[:4_000], encoding="utf-8")
