"""Files of a folder, in an order that does not depend on the machine."""

from __future__ import annotations

from collections.abc import Iterable
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
