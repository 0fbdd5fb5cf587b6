"""Encoders of Hugging Face transformers: out of this project's checkpoints into their own folders, and from there."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError

from sslam_lightning.checkpoints.archive import open_archive
from sslam_lightning.checkpoints.hugging_face import MODEL_TYPE
from sslam_lightning.checkpoints.json_file import read_json
from sslam_lightning.checkpoints.safetensors_file import inside, read_folder
from sslam_lightning.checkpoints.shared import FORMAT
from sslam_lightning.checkpoints.strictly import load_strictly
from sslam_lightning.checkpoints.transformers_head import with_head
from sslam_lightning.checkpoints.transformers_preprocessor import read_preprocessing, write_preprocessing
from sslam_lightning.checkpoints.transformers_settings import check_same_model, refusal
from sslam_lightning.checkpoints.transformers_weights import TransformersWeights, from_transformers_checkpoint
from sslam_lightning.checkpoints.weights import Part, State
from sslam_lightning.checkpoints.write import written_whole
from sslam_lightning.models.transformers.model import freeze_idle
from sslam_lightning.models.transformers.settings import make_config, make_model, plain_settings, read_settings


def read_own_checkpoint(path: Path) -> TransformersWeights:
    """The models of a checkpoint of ``Data2Vec1Module`` or of what was fine-tuned from it, opened as data.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it is another one.
    """
    if not path.is_file():
        raise FileNotFoundError(f"no checkpoint at {path}")
    content = open_archive(path)
    return from_transformers_checkpoint(content if isinstance(content, Mapping) else {}, str(path), path.stat().st_size)


def write_transformers(source: Path, target: Path, part: Part = "student") -> tuple[str, ...]:
    """Write a model as ``save_pretrained`` does: ``config.json``, ``model.safetensors`` and, of a model that reads sound,
    ``preprocessor_config.json``.

    Returns:
        The parts that such a folder cannot hold.

    Raises:
        FileNotFoundError, ValueError: as :func:`read_own_checkpoint`, or if weights and configuration do not agree.
    """
    found = read_own_checkpoint(source)
    try:
        model = make_model(make_config(plain_settings(found.config)))
    except (ValueError, TypeError, KeyError, AttributeError, RuntimeError) as error:
        raise refusal(str(source), error) from None
    load_strictly(model, found.own(part), part, str(source))
    with written_whole(target) as temporary:
        model.save_pretrained(temporary)
        kind = found.config["model_type"]
        has_features = write_preprocessing(temporary, kind, found.features, found.normalize_waveforms)
    return (*(("head",) if found.head else ()), *(() if has_features else ("features",)))


def is_transformers_folder(folder: Path) -> bool:
    """Whether a folder is one of transformers' own, and not in a layout of this project's models."""
    try:
        config = read_json(inside(folder, "config.json")) if folder.is_dir() else {}
    except (OSError, ValueError):
        return False  # whoever opens it says why
    kind = config.get("model_type")
    return isinstance(kind, str) and config.get("format") != FORMAT and kind != MODEL_TYPE


def read_transformers_folder(folder: Path) -> TransformersWeights:
    """The model of a folder that ``save_pretrained`` has written, whatever head it was written with.

    Raises:
        ValueError: if transformers has no such model, or the folder does not hold all of it.
    """
    try:
        config = make_config(read_settings(folder))
        _check_size(folder, config)
        model = freeze_idle(make_model(config))
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RuntimeError) as error:
        raise refusal(str(folder), error) from None
    whole = json.loads(config.to_json_string(use_diff=False))
    found = read_preprocessing(folder, whole)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)  # idle parts that the folder lacks are drawn: the same at every time, for who compares digests
        state, others = _open_pretrained(folder, model)
    weights = TransformersWeights(
        str(folder),
        whole,
        state,
        features=found.features,
        normalize_waveforms=found.normalize_waveforms,
        images=found.images,
        pads_as_trained="num_frames" in (found.features or {}),
        unused=others,
    )
    return with_head(weights, read_folder(folder), config) if others else weights


def _check_size(folder: Path, config: Any) -> None:
    """Refuse a configuration that claims more parameters than the folder's files have bytes, before memory is asked for."""
    with torch.device("meta"):
        claimed = sum(p.numel() for p in freeze_idle(make_model(config)).parameters() if p.requires_grad)
    held = sum(file.stat().st_size for file in folder.glob("*.safetensors"))
    if 0 < held < claimed:
        raise ValueError(f"it describes {claimed} parameters, the files have {held} bytes")


def read_pretrained(folder: Path, like: Any) -> State:
    """The weights of a folder of transformers for a model such as ``like``; from safetensors, and without its code.

    Raises:
        ValueError: if there are none, or they are not those of such a model.
    """
    return _open_pretrained(folder, like)[0]


def _open_pretrained(folder: Path, like: Any) -> tuple[State, tuple[str, ...]]:
    """The weights, and the names of those in the folder that the model has no place for."""
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
    return dict(model.state_dict()), tuple(sorted(told["unexpected_keys"]))
