"""Fetch a zip archive and turn it into a folder, all or nothing."""

from __future__ import annotations

import os
import stat
import tempfile
import zipfile
from pathlib import Path, PurePosixPath

from torch.hub import download_url_to_file


def download_and_unpack(url: str, folder: Path, marker: str) -> None:
    """Download a zip with a progress bar and make the part of it that holds ``marker`` the new ``folder``.

    Everything is written beside the folder first and renamed at the end, so the folder is complete or absent; of
    several processes that do this at once the first wins and the others drop theirs.

    Args:
        url: of the archive.
        folder: to be made; FileExistsError if it exists.
        marker: a file of the data set, relative to the folder, as ``meta/table.csv``.
    """
    if folder.exists():
        raise FileExistsError(f"{folder} exists but has no {marker}; move it away or give another folder to download to")
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}-") as temporary:
        archive, content = Path(temporary, "archive.zip"), Path(temporary, "content")
        try:
            download_url_to_file(url, str(archive))
        except OSError as error:  # HTTP and connection errors are OSErrors as well
            raise OSError(f"download of {url} failed: {error}") from error
        unpack(archive, content)
        found = sorted(content.glob(f"**/{marker}"))
        if len(found) != 1:
            raise ValueError(f"the archive at {url} should hold {marker} once, it does {len(found)} times")
        made = found[0].parents[len(PurePosixPath(marker).parts) - 1]
        try:
            made.rename(folder)
        except OSError:
            if not (folder / marker).is_file():  # nobody else was faster
                raise


def unpack(archive: Path, folder: Path) -> None:
    """Extract a zip into a new folder; ValueError for a member that would lie outside the folder or is a link."""
    try:
        with zipfile.ZipFile(archive) as file:
            for member in file.infolist():
                _refuse_escape(member)
            file.extractall(folder)
    except zipfile.BadZipFile as error:
        raise ValueError(f"{archive.name} is not a whole zip archive: {error}") from error


def _refuse_escape(member: zipfile.ZipInfo) -> None:
    name = member.filename.replace("\\", "/")
    escapes = name.startswith("/") or ".." in name.split("/") or (os.name == "nt" and ":" in name)
    if escapes or stat.S_ISLNK(member.external_attr >> 16):
        raise ValueError(f"refused to unpack {member.filename!r}: it would lie or point outside the folder")
