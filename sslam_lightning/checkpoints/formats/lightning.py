"""This project's own Lightning checkpoints."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sslam_lightning.checkpoints.archive import open_archive
from sslam_lightning.checkpoints.messages import unknown_keys
from sslam_lightning.checkpoints.metadata import read_metadata
from sslam_lightning.checkpoints.settings import as_kind, as_table, read_dataclass, read_decoder
from sslam_lightning.checkpoints.state_dict import read_state, with_prefix
from sslam_lightning.checkpoints.weights import Weights
from sslam_lightning.models import EncoderConfig, HuggingFaceConfig

LIGHTNING_MARK = "pytorch-lightning_version"
CONFIG_KEY = "transformers_config"  # in checkpoints of a model of Hugging Face transformers
_TRAINING = {
    *(LIGHTNING_MARK, "epoch", "global_step", "loops", "train_progress"),
    *("package_version", "callbacks", "optimizer_states", "lr_schedulers", "MixedPrecision", "hparams_name"),
    *("hparams_type", "head_predicts", "hyper_parameters", "state_dict", CONFIG_KEY),
}
_NO_WEIGHTS = ("best_score.", "score.", "mean_loss.", "dino.")  # what training keeps beside them


def from_lightning(checkpoint: Mapping[str, Any], source: str, max_bytes: int | None = None) -> Weights:
    """Weights and configuration of a checkpoint of one of our modules."""
    state = read_state(checkpoint.get("state_dict") or {}, f"{source}: state_dict", max_bytes)
    settings, where = checkpoint.get("hyper_parameters") or {}, f"{source}: hyper_parameters"
    of_transformers = CONFIG_KEY in checkpoint
    inner = "model." if of_transformers else ""  # a model of transformers is one member of its encoder
    taken = {
        "student": f"student.{inner}" if any(name.startswith("student.") for name in state) else f"encoder.{inner}",
        "teacher": f"teacher.encoder.{inner}",
        "decoder": "decoder.",
        "reconstruction": "reconstruction_head.",
        "contrast": "contrast_head.",
        "head": "head.",
    }
    if checkpoint.get("head_predicts") == "frames":  # a head of these is none for clips
        del taken["head"]
    parts: dict[str, Any] = {
        part: {f"{inner if part in ('student', 'teacher') else ''}{name}": value for name, value in found.items()}
        for part, prefix in taken.items()
        if (found := with_prefix(state, prefix))
    }
    student, decoder = parts.pop("student", {}), parts.get("decoder")
    encoder: EncoderConfig | HuggingFaceConfig
    if of_transformers:
        encoder = _of_transformers(checkpoint[CONFIG_KEY], as_table(settings, where), source)
    elif "blocks.0.mlp.fc1.weight" not in student or not isinstance(settings, Mapping) or "encoder" not in settings:
        raise ValueError(f"{source} is a Lightning checkpoint, but not of this project: it holds no encoder")
    else:
        encoder = read_dataclass(EncoderConfig, settings["encoder"], f"{where}.encoder")
    if decoder and isinstance(encoder, EncoderConfig):
        parts["decoder_config"] = read_decoder(settings.get("decoder"), encoder.dim, f"{where}.decoder")
    metadata = read_metadata(settings, where)
    if "head" in parts:
        metadata["head_on"] = "decoder" if decoder else "encoder"  # fine-tuning keeps no decoder but one that is used
    else:
        metadata["class_names"] = ()
    unused = [key for key in state if not key.startswith((*taken.values(), *_NO_WEIGHTS))]
    unused += unknown_keys([key for key in checkpoint if not str(key).endswith("DataModule")], _TRAINING)
    return Weights(source, encoder, student, unused=tuple(unused))._replace(**parts, **metadata)


def _of_transformers(config: Any, settings: Mapping[str, Any], source: str) -> HuggingFaceConfig:
    if not isinstance(config, Mapping) or not isinstance(config.get("model_type"), str):
        raise ValueError(f"{source} holds no model of transformers: it is no checkpoint of Data2Vec1Module")
    encoder = settings.get("hugging_face") or settings.get("encoder")
    told = {} if not isinstance(encoder, Mapping) else encoder
    where = f"{source}: hyper_parameters.encoder"
    return HuggingFaceConfig(
        config["model_type"],
        dict(config),
        as_kind(told.get("token_module"), str | None, f"{where}.token_module"),
        as_kind(told.get("normalize_waveforms", True), bool, f"{where}.normalize_waveforms"),
        as_kind(told.get("cls_pooling", False), bool, f"{where}.cls_pooling"),
    )


def read_own_transformers(path: Path) -> Weights:
    """The models of a checkpoint of ``Data2Vec1Module`` or of what was fine-tuned from it, opened as data."""
    if not path.is_file():
        raise FileNotFoundError(f"no checkpoint at {path}")
    content = open_archive(path)
    checkpoint = content if isinstance(content, Mapping) else {}
    return from_lightning({CONFIG_KEY: None, **checkpoint}, str(path), path.stat().st_size)
