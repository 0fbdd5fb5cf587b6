"""Where the recipes are: beside the package in a checkout, inside it in an installed wheel."""

from __future__ import annotations

from pathlib import Path

_PACKAGE = Path(__file__).parents[1]


def config_folder() -> Path:
    """The folder of recipes.

    Raises:
        FileNotFoundError: if the installation has none.
    """
    for folder in (_PACKAGE.parent / "configs", _PACKAGE / "configs"):
        if (folder / "pretrain").is_dir():
            return folder
    raise FileNotFoundError(f"the recipes are neither beside nor inside {_PACKAGE}: install the package anew")
