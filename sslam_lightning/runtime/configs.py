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


def shipped_configs() -> dict[str, Path]:
    """The files of `config_folder` by name: their paths below it without ``.yaml``, such as ``pretrain/eat_base``."""
    folder = config_folder()
    return {config_name(str(path.relative_to(folder))): path for path in folder.rglob("*.yaml")}


def config_name(path: str) -> str:
    """``pretrain/eat_base`` for ``configs/pretrain/eat_base.yaml``."""
    return path.removeprefix("./").removeprefix("configs/").removesuffix(".yaml")


def find_config(name: str, below: str = "") -> str:
    """A file that is there as it is named, else the shipped one of this name, else the name as it is.

    Args:
        name: with or without ``configs/`` in front and ``.yaml`` behind.
        below: a folder of ``configs/`` that may be left out of the name.
    """
    if Path(name).is_file():
        return name
    shipped, short = shipped_configs(), config_name(name)
    found = shipped.get(f"{below}/{short}") or shipped.get(short)
    return str(found) if found else name
