"""From a checkpoint of any kind, or a name, to a model that takes sound, images or text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from sslam_lightning.checkpoints import open_encoder, read_model
from sslam_lightning.checkpoints.formats.transformers_preprocessor import check_images
from sslam_lightning.checkpoints.load import build_head
from sslam_lightning.checkpoints.settings import as_kind, check_normalization, features_with
from sslam_lightning.checkpoints.weights import Weights
from sslam_lightning.data.manifests.class_map import read_class_table
from sslam_lightning.default_dtype import float32_by_default
from sslam_lightning.inference.encoding import EncoderModel, Layer, Pool
from sslam_lightning.inference.image_and_text import ImageModel, TextModel
from sslam_lightning.inference.model import AudioModel, Padding, log_mels_of
from sslam_lightning.models import ClipEncoder, Encoder, ImageInput, TextInput, WaveformInput
from sslam_lightning.models.front_ends.inputs import check_sound
from sslam_lightning.models.sizes import named_model
from sslam_lightning.runtime.devices import device_named

_AUDIOSET = Path(__file__).with_name("audioset_classes.csv")
_NUM_AUDIOSET_CLASSES = 527


def from_pretrained(
    path: str | Path,
    part: Literal["student", "teacher"] = "student",
    padding: Padding | None = None,
    layer: Layer = -1,
    bf16: bool = False,
    features: Mapping[str, Any] | None = None,
    pool: Pool | None = None,
) -> AudioModel:
    """Open a checkpoint: ``sslam_lightning.from_pretrained("model")(waveform, sample_rate_hz)``.

    Args:
        path: a file or folder of any kind that ``sslam convert`` reads, or a Hugging Face Hub id.
        part: the checkpoint's ``student`` or its ``teacher`` (which has no head).
        padding, layer, bf16, pool: see :class:`AudioModel`.
        features: settings of :class:`~sslam_lightning.features.LogMels` that the file does not tell, or tells wrongly:
            ``mean`` and ``std`` where it tells none. Of a model of waveforms ``sample_rate_hz`` alone, by default 16000.

    Raises:
        ValueError, OSError: in one line, if it cannot be opened, or reads no sound.
    """
    model = load_model(path, part, padding, layer, bf16, features, sound_only=True, pool=pool)
    assert isinstance(model, AudioModel), "others have been refused"
    return model


def open_model(model: str | Path, device: str, features: Mapping[str, Any] | None = None, **options: Any) -> EncoderModel:
    """The model of a command on its device, see :func:`load_model`."""
    if not model:
        raise ValueError("no model is named: set --model to a checkpoint file, a folder or a Hugging Face Hub id")
    where = device_named(device)
    return load_model(model, features=features, **options).to(where)


@float32_by_default()
def create_model(
    name: str,
    padding: Padding | None = None,
    layer: Layer = -1,
    bf16: bool = False,
    features: Mapping[str, Any] | None = None,
    pool: Pool | None = None,
    **encoder: Any,
) -> AudioModel:
    """A model with random weights, of the class that :func:`from_pretrained` returns, without a head.

    Args:
        name: one of :func:`list_models`, such as ``"sslam_base"``.
        padding, layer, bf16, pool: see :class:`AudioModel`.
        features: settings of :class:`~sslam_lightning.features.LogMels` over those of the recipe.
        encoder: settings of :class:`~sslam_lightning.models.EncoderConfig` over those of the recipe, such as ``depth=6``.

    Raises:
        ValueError: there is no such model, or settings do not fit each other.
    """
    model = named_model(name)
    log_mels = model.features
    if features and log_mels is None:
        raise ValueError(f"{name} reads waveforms: leave features out, got {dict(features)}")
    if features and log_mels is not None:
        log_mels = replace(log_mels, **features)
    built = Encoder(replace(model.encoder, **encoder))
    return AudioModel(built, features=log_mels, padding=padding, layer=layer, bf16=bf16, pool=pool)


def load_model(
    path: str | Path,
    part: Literal["student", "teacher"] = "student",
    padding: Padding | None = None,
    layer: Layer = -1,
    bf16: bool = False,
    features: Mapping[str, Any] | None = None,
    tokenizer: str | Path | None = None,
    image_size: int | None = None,
    sound_only: bool = False,
    pool: Pool | None = None,
) -> EncoderModel:
    """Open a checkpoint as what reads the files that its encoder is for: sound, images or text.

    Args:
        path, part, padding, layer, bf16, features, pool: as :func:`from_pretrained`.
        tokenizer: of a model of text, the ``tokenizer.json`` that it was trained with.
        image_size: of a model of images, the side of the squares that it sees, in pixels; None: the one it takes, or 224.
        sound_only: refuse all others.

    Raises:
        ValueError, OSError: in one line, if it cannot be opened, or something is asked for that is not of its kind.
    """
    weights = read_model(path)
    encoder = open_encoder(weights, part)
    options: dict[str, Any] = {"layer": layer, "bf16": bf16, "pool": pool, "multi_label": weights.multi_label}
    if weights.head and part == "student":
        head, decoder = build_head(weights, encoder)
        names = class_names_of(head.linear.out_features, weights.class_names)
        options |= {"head": head, "decoder": decoder, "class_names": names}
    takes = encoder.front_end.takes
    if sound_only:
        check_sound(takes, str(path))
    if tokenizer is not None and not isinstance(takes, TextInput):
        raise ValueError(f"{path} reads no text: leave tokenizer out, got {tokenizer}")
    if image_size is not None and not isinstance(takes, ImageInput):
        raise ValueError(f"{path} reads no images: leave image_size out, got {image_size}")
    if not isinstance(takes, (ImageInput, TextInput)):
        return _audio_model(str(path), weights, encoder, padding, features or {}, options)
    for name, setting in (("padding", padding), ("features", features)):
        if setting is not None:
            reads = "images" if isinstance(takes, ImageInput) else "text"
            raise ValueError(f"{path} reads {reads}, and {name} is about sound: leave {name} out, got {setting}")
    if isinstance(takes, ImageInput):
        check_images(weights.images, str(path))
        return ImageModel(encoder, image_size, **options)
    if tokenizer is None:
        raise ValueError(f"{path} reads text: set tokenizer to the tokenizer.json that it was trained with")
    return TextModel(encoder, tokenizer, **options)


def _audio_model(
    path: str,
    weights: Weights,
    encoder: ClipEncoder,
    padding: Padding | None,
    features: Mapping[str, Any],
    options: dict[str, Any],
) -> AudioModel:
    given = {**(weights.features or {}), **features}
    as_trained: Padding | None = "trained" if weights.pads_as_trained else None
    options |= {"resampler": weights.resampler, "padding": padding or as_trained}
    if isinstance(encoder.front_end.takes, WaveformInput):
        if unknown := [name for name in given if name != "sample_rate_hz"]:
            raise ValueError(f"features: a model of waveforms knows sample_rate_hz alone, got {unknown[0]}")
        if given:
            options["waveform_rate_hz"] = as_kind(given["sample_rate_hz"], int, "features.sample_rate_hz")
        return AudioModel(encoder, features=None, **options)
    check_normalization(given, path)
    own = {**log_mels_of(encoder).settings(), **(weights.features or {})}
    return AudioModel(encoder, features=features_with(own, features), **options)


def audioset_classes() -> tuple[str, ...]:
    """The names of AudioSet's 527 classes, in the order in which all models number them."""
    return read_class_table(_AUDIOSET).names


def class_names_of(num_classes: int, recorded: Sequence[str] = ()) -> tuple[str, ...]:
    """The names that a checkpoint records; else AudioSet's for as many classes; else numbers."""
    if len(recorded) == num_classes:
        return tuple(recorded)
    if num_classes == _NUM_AUDIOSET_CLASSES:
        return audioset_classes()
    return tuple(f"class {number}" for number in range(num_classes))
