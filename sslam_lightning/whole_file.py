"""Files that are there as a whole or as they were before, whatever interrupts who writes them."""

from __future__ import annotations

import os
import uuid
from pathlib import Path
from typing import Any


class replacing:
    """A file that has its name only when it is complete.

    Args:
        path: the file.
        several_writers: whether other processes may write it at the same time; the last one's stands. (With one writer, the
            next one takes the place of what a kill left behind.)
    """

    def __init__(self, path: Path, several_writers: bool = False) -> None:
        own = f".{uuid.uuid4().hex[:8]}" if several_writers else ""
        self.path, self.partial = path, path.with_name(f"{path.name}{own}.partial")

    def __enter__(self) -> Any:
        self.file = self.partial.open("w+b")  # HDF5 reads what it writes
        return self.file

    def __exit__(self, kind: Any, *_: Any) -> None:
        self.file.close()
        if kind is None:
            os.replace(self.partial, self.path)
        else:
            self.partial.unlink()
