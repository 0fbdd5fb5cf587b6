"""Encoders of Hugging Face transformers: out of this project's checkpoints into their own folders, and from there."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError

from sslam_lightning.checkpoints.formats.eat_hf import MODEL_TYPE
from sslam_lightning.checkpoints.formats.lightning import read_own_transformers
from sslam_lightning.checkpoints.formats.safetensors import FORMAT, inside, read_folder, read_json
from sslam_lightning.checkpoints.formats.transformers_preprocessor import read_preprocessing, write_preprocessing
from sslam_lightning.checkpoints.formats.transformers_settings import check_same_model, making_a_model
from sslam_lightning.checkpoints.messages import first_line
from sslam_lightning.checkpoints.settings import read_class_names
from sslam_lightning.checkpoints.state_dict import load_state_dict_strict, with_prefix
from sslam_lightning.checkpoints.weights import Part, State, Weights
from sslam_lightning.checkpoints.write import written_whole
from sslam_lightning.models import HuggingFaceConfig
from sslam_lightning.models.transformers.model import freeze_idle
from sslam_lightning.models.transformers.settings import make_config, make_model, plain_settings, read_settings

_AST_HEAD = {"classifier.layernorm.": "norm.", "classifier.dense.": "linear."}  # of ASTForAudioClassification


def write_transformers(source: Path, target: Path, part: Part = "student") -> tuple[str, ...]:
    """Write a model as ``save_pretrained`` does: ``config.json``, ``model.safetensors`` and, of a model that reads sound,
    ``preprocessor_config.json``."""
    weights = read_own_transformers(source)
    assert isinstance(weights.encoder, HuggingFaceConfig), "others have been refused"
    config = weights.encoder
    with making_a_model(str(source)):
        model = make_model(make_config(plain_settings(config.settings)))
    load_state_dict_strict(model, with_prefix(weights.part(part), "model."), part, str(source))
    with written_whole(target) as temporary:
        model.save_pretrained(temporary)
        has_features = write_preprocessing(temporary, config.model, weights.features, config.normalize_waveforms)
    return (*(("head",) if weights.head else ()), *(() if has_features else ("features",)))


def is_transformers_folder(folder: Path) -> bool:
    """Whether a folder is one of transformers' own, and not in a layout of this project's models."""
    try:
        config = read_json(inside(folder, "config.json")) if folder.is_dir() else {}
    except (OSError, ValueError):
        return False  # whoever opens it says why
    kind = config.get("model_type")
    return isinstance(kind, str) and config.get("format") != FORMAT and kind != MODEL_TYPE


def read_transformers_folder(folder: Path) -> Weights:
    """The model of a folder that ``save_pretrained`` has written, whatever head it was written with."""
    with making_a_model(str(folder)):
        config = make_config(read_settings(folder))
        _check_size(folder, config)
        model = freeze_idle(make_model(config))
    settings = json.loads(config.to_json_string(use_diff=False))
    found = read_preprocessing(folder, settings)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)  # idle parts that the folder lacks are drawn: the same at every time, for who compares digests
        state, others = _open_pretrained(folder, model)
    weights = Weights(
        str(folder),
        HuggingFaceConfig(settings["model_type"], settings, normalize_waveforms=found.normalize_waveforms),
        {f"model.{name}": value for name, value in state.items()},
        features=found.features,
        images=found.images,
        pads_as_trained="num_frames" in (found.features or {}),
        unused=others,
    )
    return _with_head(weights, folder, config)


def _with_head(weights: Weights, folder: Path, config: Any) -> Weights:
    """The weights with the head of ``ASTForAudioClassification``: a layer norm and a linear layer on the mean of the
    model's two special tokens. Other heads stay in ``unused``."""
    starts = tuple(_AST_HEAD)
    names = [name for name in weights.unused if name.startswith(starts)]
    if not names or config.model_type != "audio-spectrogram-transformer":
        return weights
    state = read_folder(folder)
    head = {
        ours + name.removeprefix(theirs): state[name]
        for name in names
        for theirs, ours in _AST_HEAD.items()
        if name.startswith(theirs)
    }
    classes, count = [config.id2label[number] for number in sorted(config.id2label)], len(head.get("linear.weight", ()))
    if len(classes) != count:
        raise ValueError(f"{folder}: config.json: id2label has {len(classes)} names for {count} classes")
    assert isinstance(weights.encoder, HuggingFaceConfig), "it was made of a folder of transformers"
    return weights._replace(
        encoder=replace(weights.encoder, cls_pooling=True),
        head=head,
        unused=tuple(name for name in weights.unused if name not in names),
        class_names=read_class_names(classes, f"{folder}: config.json: id2label"),
        # As the pipeline of transformers chooses between sigmoid and softmax.
        multi_label=getattr(config, "problem_type", None) == "multi_label_classification" or len(classes) == 1,
        pooling="cls",
        head_norm_eps=config.layer_norm_eps,
    )


def _check_size(folder: Path, config: Any) -> None:
    """Refuse a configuration that claims more parameters than the folder's files have bytes, before memory is asked for."""
    with torch.device("meta"):
        claimed = sum(p.numel() for p in freeze_idle(make_model(config)).parameters() if p.requires_grad)
    held = sum(file.stat().st_size for file in folder.glob("*.safetensors"))
    if 0 < held < claimed:
        raise ValueError(f"it describes {claimed} parameters, the files have {held} bytes")


def read_pretrained(folder: Path, like: Any) -> State:
    """The weights of a folder of transformers for a model such as ``like``; from safetensors, and without its code."""
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
        raise ValueError(f"{folder} cannot be opened as a model in safetensors: {first_line(error)[:200]}") from None
    for name, found, expected in sorted(told["mismatched_keys"]):
        raise ValueError(f"{folder}: {name} has shape {tuple(found)}, the model expects {tuple(expected)}")
    learned = {name for name, parameter in like.named_parameters() if parameter.requires_grad}
    if missing := sorted(learned & set(told["missing_keys"])):
        raise ValueError(f"{folder} has no {missing[0]}, which a {type(like).__name__} has: it is another model")
    return dict(model.state_dict()), tuple(sorted(told["unexpected_keys"]))
