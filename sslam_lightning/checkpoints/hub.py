"""Models on the Hugging Face Hub: their files are fetched, no code of a repository is ever run."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from sslam_lightning.checkpoints.messages import first_line

_FILES = ["config.json", "model.safetensors", "model.safetensors.index.json", "model-*-of-*.safetensors"]
_FILE_ENDINGS = (".pt", ".pth", ".ckpt", ".bin", ".safetensors", ".json", ".yaml")


def is_hub_id(source: str) -> bool:
    """Whether a text looks like ``owner/name`` or ``owner/name@revision``, and not like the name of a file."""
    return re.fullmatch(r"[\w-][\w.-]*/[\w.-]+(@[\w./-]+)?", source) is not None and not source.endswith(_FILE_ENDINGS)


def download(hub_id: str) -> Path:
    """The folder in the Hub's cache with a model's configuration and weights; offline, what the cache has."""
    repository, _, revision = hub_id.partition("@")
    hub = _library(f"no checkpoint at {hub_id}, and to look on the Hub")
    try:
        return Path(hub.snapshot_download(repository, revision=revision or None, allow_patterns=_FILES))
    except Exception as error:  # of the network, of the Hub, of the cache: the library has no common class for them
        raise OSError(f"no checkpoint at {hub_id}, and the Hub did not give one: {first_line(error)}") from None


def push_to_hub(folder: str | Path, hub_id: str, private: bool = False) -> str:
    """Put a folder that ``sslam convert`` wrote on the Hub, as a model repository of its own.

    Args:
        folder: in our form or in the Hugging Face layout; its files, and no others, are uploaded.
        hub_id: ``owner/name``; made if it does not exist.
        private: who may see a new repository.

    Returns:
        Where to look at it.

    Raises:
        OSError: if huggingface_hub is missing, or the Hub refuses.
        ValueError: if ``hub_id`` is no name of a repository, or the folder is no model.
    """
    check_repository(hub_id)
    if not (Path(folder) / "config.json").is_file():
        raise ValueError(f"{folder} is no folder of a model: it holds no config.json")
    hub = _library("to share a model")
    try:
        api = hub.HfApi()
        address = api.create_repo(hub_id, repo_type="model", private=private, exist_ok=True)
        api.upload_folder(
            repo_id=hub_id,
            repo_type="model",
            folder_path=str(folder),
            allow_patterns=[*_FILES, "README.md"],
            commit_message="Add the model",
        )
    except Exception as error:
        raise OSError(f"{hub_id} could not be put on the Hub: {first_line(error)}") from None
    return str(address)


def check_repository(hub_id: str) -> None:
    """Raise ValueError unless ``hub_id`` is ``owner/name``."""
    if not is_hub_id(hub_id) or "@" in hub_id:
        raise ValueError(f"a repository on the Hub is named owner/name, got {hub_id!r}")


def _library(purpose: str) -> Any:
    try:
        import huggingface_hub
    except ImportError:
        raise OSError(f"{purpose} huggingface_hub is needed: pip install 'sslam-lightning[hub]'") from None
    return huggingface_hub
