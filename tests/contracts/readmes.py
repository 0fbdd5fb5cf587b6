"""The README of the project and those of its folders, and their code blocks."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
# In reading order: later files use what the commands of earlier ones have made.
_FOLDERS = (
    ".",
    "configs",
    "configs/downstream",
    *(
        f"sslam_lightning/{name}"
        for name in ("data", "training", "checkpoints", "models", "evaluation", "inference", "benchmarks")
    ),
)
READMES = {folder: (ROOT / folder / "README.md").read_text() for folder in _FOLDERS}
TEXT = "\n".join(READMES.values())


def blocks(text: str, language: str = "bash test") -> list[str]:
    """The code blocks whose opening fence starts with ``language``, without further words of the same kind."""
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


def files(text: str) -> dict[str, str]:
    """The files that a text shows, by name: ``py NAME`` and ``yaml NAME`` blocks."""
    return dict(re.findall(r"^```(?:py|yaml) (\S+)\n(.*?)^```", text, re.MULTILINE | re.DOTALL))
