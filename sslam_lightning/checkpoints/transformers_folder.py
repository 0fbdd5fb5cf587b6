"""Encoders of Hugging Face transformers: out of this project's checkpoints into their own folders, and from there."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from safetensors import SafetensorError

from sslam_lightning.checkpoints.archive import open_archive
from sslam_lightning.checkpoints.lightning import CONFIG_KEY
from sslam_lightning.checkpoints.settings import read_state
from sslam_lightning.checkpoints.strictly import load_strictly
from sslam_lightning.checkpoints.transformers_settings import check_same_model
from sslam_lightning.checkpoints.weights import Part, State
from sslam_lightning.checkpoints.write import written_whole
from sslam_lightning.models.plain_transformers import make_config, make_model, plain_settings, read_settings

_PREFIXES = {"student": "student.model.", "teacher": "teacher.encoder.model."}


class TransformersCheckpoint(NamedTuple):
    """What a checkpoint of ``Data2Vec1Module`` holds of its two models."""

    config: Mapping[str, Any]
    student: State
    teacher: State
    unused: tuple[str, ...]  # names of the file's other weights


def read_own_checkpoint(path: Path) -> TransformersCheckpoint:
    """The models of a checkpoint of ``Data2Vec1Module``, opened as data.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it is another one.
    """
    if not path.is_file():
        raise FileNotFoundError(f"no checkpoint at {path}")
    content = open_archive(path)
    config = content.get(CONFIG_KEY) if isinstance(content, Mapping) else None
    if not isinstance(config, Mapping) or not isinstance(config.get("model_type"), str):
        raise ValueError(f"{path} holds no model of transformers: it is no checkpoint of Data2Vec1Module")
    state = read_state(content.get("state_dict") or {}, f"{path}: state_dict", path.stat().st_size)
    parts = {
        part: {name.removeprefix(prefix): tensor for name, tensor in state.items() if name.startswith(prefix)}
        for part, prefix in _PREFIXES.items()
    }
    unused = tuple(name for name in state if not name.startswith(tuple(_PREFIXES.values())))
    return TransformersCheckpoint(config, **parts, unused=unused)


def write_transformers(source: Path, target: Path, part: Part = "student") -> None:
    """Write a model as ``save_pretrained`` does: ``config.json`` and ``model.safetensors``.

    Raises:
        FileNotFoundError, ValueError: as :func:`read_own_checkpoint`, or if weights and configuration do not agree.
    """
    found = read_own_checkpoint(source)
    try:
        model = make_model(make_config(plain_settings(found.config)))
    except (ValueError, TypeError, KeyError, AttributeError, RuntimeError) as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
        raise ValueError(f"{source}: transformers makes no model of its configuration ({reason})") from None
    load_strictly(model, getattr(found, part), part, str(source))
    with written_whole(target) as temporary:
        model.save_pretrained(temporary)


def read_pretrained(folder: Path, like: Any) -> State:
    """The weights of a folder of transformers for a model such as ``like``; from safetensors, and without its code.

    Raises:
        ValueError: if there are none, or they are not those of such a model.
    """
    if not (folder / "config.json").is_file():
        raise ValueError(f"{folder} holds no config.json: init_from takes a folder that save_pretrained has written")
    if (folder / "adapter_config.json").is_file():
        raise ValueError(f"{folder} holds an adapter_config.json, which names other weights: merge the adapter first")
    try:
        settings = read_settings(folder)
    except (OSError, ValueError) as error:
        raise ValueError(f"{folder} cannot be opened as a model: {error}") from None
    check_same_model(settings, like.config, str(folder))
    try:
        # With a configuration given, transformers does not open the folder's.
        model, told = type(like).from_pretrained(
            folder,
            config=like.config,
            use_safetensors=True,
            local_files_only=True,
            trust_remote_code=False,
            output_loading_info=True,
            ignore_mismatched_sizes=True,  # told, not raised with a table of them
        )
    except (OSError, RuntimeError, SafetensorError) as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
        raise ValueError(f"{folder} cannot be opened as a model in safetensors: {reason}") from None
    for name, found, expected in sorted(told["mismatched_keys"]):
        raise ValueError(f"{folder}: {name} has shape {tuple(found)}, the model expects {tuple(expected)}")
    learned = {name for name, parameter in like.named_parameters() if parameter.requires_grad}
    if missing := sorted(learned & set(told["missing_keys"])):
        raise ValueError(f"{folder} has no {missing[0]}, which a {type(like).__name__} has: it is another model")
    return dict(model.state_dict())
