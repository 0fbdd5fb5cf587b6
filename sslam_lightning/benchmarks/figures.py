"""The file of a benchmark's figures."""

from __future__ import annotations

import json
from typing import Any

from sslam_lightning.data.durable import new_file, refuse_existing


def check_target(out: str | None) -> None:
    """Before anything is measured.

    Raises:
        FileExistsError: if there is something already.
    """
    if out is not None:
        refuse_existing(out)


def write_figures(result: dict[str, Any], out: str | None) -> None:
    """The figures as JSON, where a file is named."""
    if out is not None:
        with new_file(out) as file:
            file.write(json.dumps(result, indent=1).encode() + b"\n")
