"""Names of classes: texts of any script, which go into tables, checkpoints and onto terminals."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable


def check_class_names(names: Iterable[str], where: str) -> None:
    """Raise ValueError for a name with a control character, or with half of a character, which no UTF-8 file can hold.

    Joiners and no-break spaces are neither: Persian, the scripts of India and emoji need them.
    """
    for name in names:
        if any(unicodedata.category(letter) in ("Cc", "Cs") for letter in name):
            raise ValueError(f"{where}: the class {name[:80]!r} holds a control character or a surrogate")
