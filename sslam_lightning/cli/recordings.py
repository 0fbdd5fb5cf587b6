"""How the commands about recordings tell what could not be read."""

from __future__ import annotations

import sys
from collections.abc import Sequence


def tell_broken(broken: Sequence[tuple[str, str]], total: int) -> None:
    """List what could not be read and leave with exit code 1; nothing where everything could."""
    if not broken:
        return
    for name, reason in broken:
        print(f"sslam: {name}: {reason}", file=sys.stderr)
    print(f"sslam: {len(broken)} of {total} recordings could not be read", file=sys.stderr)
    sys.exit(1)
