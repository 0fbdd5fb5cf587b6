"""The ``preprocessor_config.json`` of a folder of transformers: how the model's input is made of sound."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from sslam_lightning.checkpoints.formats.safetensors import inside, read_json
from sslam_lightning.checkpoints.keys.config import check_keys
from sslam_lightning.checkpoints.keys.tables import AST_EXTRACTOR_KEYS, WAVEFORM_EXTRACTOR_KEYS
from sslam_lightning.checkpoints.messages import printable
from sslam_lightning.checkpoints.settings import as_kind, read_features
from sslam_lightning.features import LogMels
from sslam_lightning.models.transformers.settings import transformers_library

NAME = "preprocessor_config.json"
_AST, _WAVEFORMS = "ASTFeatureExtractor", "Wav2Vec2FeatureExtractor"
_TABLES = {_AST: AST_EXTRACTOR_KEYS, _WAVEFORMS: WAVEFORM_EXTRACTOR_KEYS}
_AST_MODEL = "audio-spectrogram-transformer"
_IMAGES = ("image_processor_type", "image_mean", "do_resize")  # keys by which a processor of images is known
_USED = ("sampling_rate", "do_normalize", "max_length", "num_mel_bins", "mean", "std")
_CROPPED: dict[str, tuple[Any, ...]] = {  # what a processor of images may say, as it is computed here
    "do_normalize": (True,),
    "do_rescale": (True,),
    "rescale_factor": (1 / 255, 0.00392156862745098),
    "image_mean": ([0.485, 0.456, 0.406],),
    "image_std": ([0.229, 0.224, 0.225],),
    "do_resize": (True,),
    "resample": (3,),  # bicubic
}
_NOT_NORMALIZED = (0.0, 0.5)  # mean and std, of which the double divides


class Preprocessing(NamedTuple):
    """What a folder says about the input of its model; the defaults are those of a folder that says nothing.

    ``features`` are keyword arguments of :class:`sslam_lightning.features.LogMels`, of waveforms ``sample_rate_hz`` alone;
    ``normalize_waveforms`` says whether every clip is brought to mean 0 and variance 1; ``images`` are the settings of a
    processor of images as they stand in the file.
    """

    features: Mapping[str, Any] | None = None
    normalize_waveforms: bool = True
    images: Mapping[str, Any] | None = None


def read_preprocessing(folder: Path, config: Mapping[str, Any]) -> Preprocessing:
    """The preprocessing of a folder whose model has this ``config``."""
    if not (folder / NAME).exists():
        return Preprocessing()
    content, where = read_json(inside(folder, NAME)), f"{folder}: {NAME}"
    if any(name in content for name in _IMAGES):
        return Preprocessing(images=content)
    usual = _AST if config["model_type"] == _AST_MODEL else _WAVEFORMS
    kind = content.get("feature_extractor_type", usual)
    if kind != usual:
        raise ValueError(
            f"{where}: feature_extractor_type {printable(str(kind)[:80])} is not computed here, only {usual} is"
        )
    check_keys(content, _TABLES[kind], where, "inference")
    # Its own class knows the values of the settings that the file leaves out.
    extractor = getattr(transformers_library(), kind)(**{name: content[name] for name in content if name in _USED})

    def setting(name: str, hint: type) -> Any:
        return as_kind(getattr(extractor, name), hint, f"{where}: {name}")

    rate, normalize = setting("sampling_rate", int), setting("do_normalize", bool)
    if kind == _WAVEFORMS:
        return Preprocessing(read_features({"sample_rate_hz": rate}, where), normalize)
    for name in ("max_length", "num_mel_bins"):
        if setting(name, int) != config.get(name):
            raise ValueError(f"{where}: {name} is {getattr(extractor, name)}, in config.json it is {config.get(name)}")
    mean, std = (setting("mean", float), setting("std", float)) if normalize else _NOT_NORMALIZED
    features = {
        "num_frames": extractor.max_length,
        "num_mels": extractor.num_mel_bins,
        "patch_frames": 1,  # its patches overlap: how they are cut is the model's business
        "sample_rate_hz": rate,
        "mean": mean,
        "std": std,
        "remove_mean": False,
    }
    return Preprocessing(read_features(features, where))


def write_preprocessing(
    folder: Path, model_type: str, features: Mapping[str, Any] | None, normalize_waveforms: bool
) -> bool:
    """Write how sound becomes the input of a model; of a model that reads none, nothing. False if transformers has no such
    log-mels."""
    library = transformers_library()
    if model_type == _AST_MODEL:
        if features is None:
            return True
        log_mels = LogMels(**features)
        if (log_mels.kind, log_mels.window) != ("kaldi", "hanning"):
            return False
        extractor = library.ASTFeatureExtractor(
            sampling_rate=log_mels.sample_rate_hz,
            num_mel_bins=log_mels.num_mels,
            max_length=log_mels.num_frames,
            mean=log_mels.mean,
            std=log_mels.std,
        )
    elif hasattr(library.AutoConfig.for_model(model_type), "conv_kernel"):
        extractor = library.Wav2Vec2FeatureExtractor(do_normalize=normalize_waveforms)
    else:
        return True
    extractor.save_pretrained(folder)
    return True


def check_images(images: Mapping[str, Any] | None, source: str) -> None:
    """Refuse a processor of images that does otherwise than :func:`sslam_lightning.data.image_file.cropped`."""
    for name, allowed in _CROPPED.items():
        if images is not None and name in images and images[name] not in allowed:
            raise ValueError(f"{source}: {NAME}: {name} is {images[name]}, only {allowed[0]} is computed here")
