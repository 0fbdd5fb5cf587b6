"""Files of a folder, in an order that does not depend on the machine."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path


def walk(folder: str | Path) -> Iterator[str]:
    """Every file below a folder, by its path from there; OSError for a folder that cannot be listed.

    Links to folders are followed, but no folder is entered twice: what lies here itself has its own name and not that of a
    link. Hidden files and what lies in hidden folders are left out.
    """
    starts, entered = [str(folder)], set[str]()
    for start in starts:  # which grow by the links that are found on the way
        for inside, folders, files in os.walk(start, onerror=_raise):
            place = os.path.realpath(inside)
            if place in entered:
                folders.clear()
                continue
            entered.add(place)
            folders[:] = sorted(name for name in folders if not name.startswith("."))
            starts += filter(os.path.islink, (os.path.join(inside, name) for name in folders))
            way = Path(os.path.relpath(inside, folder)).as_posix()
            yield from (name if way == "." else f"{way}/{name}" for name in files if not name.startswith("."))


def find_files(root: str | Path, extensions: Iterable[str]) -> list[str]:
    """Paths below ``root`` (see `walk`), relative to it and sorted, whose extension is one of ``extensions`` in any case.

    FileNotFoundError if there is no such folder, or no such file in it.
    """
    root, wanted = Path(root), {extension.lower() for extension in extensions}
    if not root.is_dir():
        raise FileNotFoundError(f"there is no folder {root}")
    named = (name for name in walk(root) if os.path.splitext(name)[1].lower() in wanted)
    found = sorted(name for name in named if os.path.isfile(root / name))
    if not found:
        raise FileNotFoundError(f"{root} holds no files of the kinds {', '.join(sorted(wanted))}")
    return found


def class_folders(root: str | Path) -> tuple[str, ...]:
    """The folders in ``root``, sorted: the classes of what lies in them. FileNotFoundError if there is none."""
    root = Path(root)
    if not root.is_dir():
        raise FileNotFoundError(f"there is no folder {root}")
    names = sorted(path.name for path in root.iterdir() if path.is_dir() and not path.name.startswith("."))
    if not names:
        raise FileNotFoundError(f"{root} holds no folders: labeled files lie in a folder per class")
    return tuple(names)


def classes_of(root: Path, names: Sequence[str], class_names: Sequence[str]) -> list[int]:
    """The class of every file, by the first folder on the way to it; ValueError where that is no class."""
    number = {name: place for place, name in enumerate(class_names)}
    folders = [name.partition("/")[0] for name in names]
    for name, folder in zip(names, folders, strict=True):
        if folder not in number or folder == name:
            raise ValueError(f"{root / name} lies in no folder of a class ({', '.join(class_names[:10])})")
    return [number[folder] for folder in folders]


def _raise(error: OSError) -> None:
    raise error
