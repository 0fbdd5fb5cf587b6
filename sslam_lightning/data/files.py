"""Files of a folder, in an order that does not depend on the machine."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path


def find_files(root: str | Path, extensions: Iterable[str]) -> list[str]:
    """Paths below ``root``, relative to it and sorted, whose extension is one of ``extensions`` in any case.

    Hidden files and what lies in hidden folders are left out.

    Raises:
        FileNotFoundError: no such folder, or no such file in it.
    """
    root, wanted = Path(root), {extension.lower() for extension in extensions}
    if not root.is_dir():
        raise FileNotFoundError(f"there is no folder {root}")
    below = (path.relative_to(root) for path in root.rglob("*") if path.suffix.lower() in wanted and path.is_file())
    found = sorted(path.as_posix() for path in below if not any(part.startswith(".") for part in path.parts))
    if not found:
        raise FileNotFoundError(f"{root} holds no files of the kinds {', '.join(sorted(wanted))}")
    return found


def class_folders(root: str | Path) -> tuple[str, ...]:
    """The folders in ``root``, sorted: the classes of what lies in them.

    Raises:
        FileNotFoundError: no such folder, or no folder in it.
    """
    root = Path(root)
    if not root.is_dir():
        raise FileNotFoundError(f"there is no folder {root}")
    names = sorted(path.name for path in root.iterdir() if path.is_dir() and not path.name.startswith("."))
    if not names:
        raise FileNotFoundError(f"{root} holds no folders: labelled files lie in a folder per class")
    return tuple(names)


def classes_of(root: Path, names: Sequence[str], class_names: Sequence[str]) -> list[int]:
    """The class of every file, by the first folder on the way to it.

    Raises:
        ValueError: a file that lies in no folder, or in one that is no class.
    """
    number = {name: place for place, name in enumerate(class_names)}
    folders = [name.partition("/")[0] for name in names]
    for name, folder in zip(names, folders, strict=True):
        if folder not in number or folder == name:
            raise ValueError(f"{root / name} lies in no folder of a class ({', '.join(class_names[:10])})")
    return [number[folder] for folder in folders]
