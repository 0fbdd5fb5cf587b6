"""Who holds a file."""

from __future__ import annotations

import errno
import fcntl
import os
from pathlib import Path
from typing import Any

import pytest

from sslam_lightning.runtime.lock import held_file


def test_a_file_system_without_locks_is_worked_on_without(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails_with(code: int) -> None:
        def flock(*_: Any) -> None:
            raise OSError(code, os.strerror(code))

        monkeypatch.setattr(fcntl, "flock", flock)

    for code in (errno.ENOSYS, errno.ENOTSUP, errno.ENOLCK):
        fails_with(code)
        with held_file(str(tmp_path / "x")) as file:
            file.write(b"x")
    fails_with(errno.EIO)
    with pytest.raises(OSError, match=os.strerror(errno.EIO)):
        held_file(str(tmp_path / "x"))
    assert (tmp_path / "x").read_bytes() == b"xxx"
