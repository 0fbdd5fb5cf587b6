"""Models on the Hugging Face Hub: their files are fetched, no code of a repository is ever run."""

from __future__ import annotations

import re
from pathlib import Path

from sslam_lightning.checkpoints.messages import first_line

_FILES = ["config.json", "model.safetensors"]
_FILE_ENDINGS = (".pt", ".pth", ".ckpt", ".bin", ".safetensors", ".json", ".yaml")


def is_hub_id(source: str) -> bool:
    """Whether a text looks like ``owner/name`` or ``owner/name@revision``, and not like the name of a file."""
    return re.fullmatch(r"[\w-][\w.-]*/[\w.-]+(@[\w./-]+)?", source) is not None and not source.endswith(_FILE_ENDINGS)


def download(hub_id: str) -> Path:
    """The folder in the Hub's cache with a model's configuration and weights; offline, what the cache has."""
    try:
        from huggingface_hub import snapshot_download
    except ImportError:
        told = "to look on the Hub huggingface_hub is needed: pip install 'sslam-lightning[hub]'"
        raise OSError(f"no checkpoint at {hub_id}, and {told}") from None
    repository, _, revision = hub_id.partition("@")
    try:
        return Path(snapshot_download(repository, revision=revision or None, allow_patterns=_FILES))
    except Exception as error:  # of the network, of the Hub, of the cache: the library has no common class for them
        raise OSError(f"no checkpoint at {hub_id}, and the Hub did not give one: {first_line(error)}") from None
