"""Files that libsndfile does not know and FFmpeg (through torchcodec) does: who reads them, and what to do otherwise."""

from __future__ import annotations

import os

CONTAINERS = frozenset((".m4a", ".mp4", ".aac", ".webm", ".mkv", ".mov", ".wma", ".3gp", ".mka"))

_LIBRARIES = "needs FFmpeg and torchcodec: pip install 'sslam-lightning[m4a]'"


def is_container(path: str | os.PathLike[str]) -> bool:
    """Whether a file is one by its name."""
    return os.path.splitext(path)[1].lower() in CONTAINERS


def container_hint(path: str | os.PathLike[str], for_data: bool = False) -> str:
    """What to do about a container that cannot be read.

    Args:
        path: the file.
        for_data: whether it is to be trained on, which takes what libsndfile knows alone, or else tagged or embedded.
    """
    extension = os.path.splitext(path)[1]
    if for_data:
        return f"{extension} is read by tag and embed alone, where it {_LIBRARIES}; to train on it, convert it to flac"
    return f"{extension} {_LIBRARIES}, or convert it to flac"
