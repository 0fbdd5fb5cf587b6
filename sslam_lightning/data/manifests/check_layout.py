"""Checks that a folder is laid out as a data set's makers hand it out; a complaint is one line that says what is amiss."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from sslam_lightning.data.manifests.manifest import missing_rows


def expect_file(path: Path, form: str = "", what: str = "") -> Path:
    """The path itself, if there is such a file; messages say ``what`` it is, and of what ``form`` the data set."""
    name, form = f"{what} {path}".lstrip(), f": {form}" if form else ""
    if path.is_dir():
        raise IsADirectoryError(f"{name} is a folder, where a file is expected{form}")
    if not path.is_file():
        raise FileNotFoundError(f"{name} does not exist{form}")
    return path


def expect_folder(path: Path, form: str) -> Path:
    """The path itself, if there is such a folder; as `expect_file`."""
    return expect_one_of([path], form)


def expect_one_of(paths: Sequence[Path], form: str) -> Path:
    """The first of several folders that exists, where a set is unpacked in several ways."""
    found = next((path for path in paths if path.is_dir()), None)
    if found is None:
        raise FileNotFoundError(f"there is no folder {' or '.join(map(str, paths))}: {form}")
    return found


def expect_files_of(source: Path, root: Path, names: Sequence[str]) -> None:
    """Raise FileNotFoundError for files of a table that do not lie in ``root``, and ValueError for a table of none."""
    if not names:
        raise ValueError(f"{source}: no recordings in it")
    missing = missing_rows(str(root), names)
    if missing:
        first = root / names[min(missing)]
        raise FileNotFoundError(f"{source}: {len(missing)} of {len(names)} files do not exist, the first is {first}")


def read_lines(path: Path) -> list[str]:
    """The lines of a text file that are not blank, without the white space around them."""
    with path.open(encoding="utf-8-sig") as file:
        return [line.strip() for line in file if line.strip()]
