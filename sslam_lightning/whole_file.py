"""Files that are there as a whole or as they were before, whatever interrupts who writes them."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any


class replacing:
    """A file that has its name only when it is complete."""

    def __init__(self, path: Path) -> None:
        self.path, self.partial = path, path.with_name(path.name + ".partial")

    def __enter__(self) -> Any:
        self.file = self.partial.open("w+b")  # HDF5 reads what it writes
        return self.file

    def __exit__(self, kind: Any, *_: Any) -> None:
        self.file.close()
        if kind is None:
            os.replace(self.partial, self.path)
        else:
            self.partial.unlink()
