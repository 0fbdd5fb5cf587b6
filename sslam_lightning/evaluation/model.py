"""The encoder that is judged: a checkpoint's, or one of the same size that has learned nothing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from sslam_lightning.checkpoints import open_encoder, read_model
from sslam_lightning.checkpoints.settings import as_plain, check_normalization, read_dataclass, refuse_unknown_features
from sslam_lightning.checkpoints.weights import Part
from sslam_lightning.evaluation.settings import deep_merge, read_yaml
from sslam_lightning.features import LogMels
from sslam_lightning.inference.embed import digest_of_weights
from sslam_lightning.models import ClipEncoder, Encoder, EncoderConfig, EncoderInput, LogMelInput, SpectrogramTokens
from sslam_lightning.models.encoder import mean_of_tokens
from sslam_lightning.models.front_ends.inputs import check_sound
from sslam_lightning.types import Batch

NONE = "none"
_SAMPLES_A_FRAME = 160


@dataclass(frozen=True)
class Candidate:
    """An encoder to judge, and how it takes sound.

    Args:
        source: a checkpoint (anything that ``init_from`` takes); ``none`` for EAT's base model with random weights; or a
            recipe's ``.yaml``, or several that are layered, joined by commas: random weights of that size.
        part: the checkpoint's ``student`` or its ``teacher``.
        seed: of random weights.
        features: settings of the log-mels, over those of the checkpoint.
        clip_features: likewise of the suite; its mean and standard deviation are for Kaldi log-mel patches alone.
    """

    source: str
    part: Part = "student"
    seed: int = 0
    features: Mapping[str, Any] = field(default_factory=dict)
    clip_features: Mapping[str, Any] = field(default_factory=dict)

    @property
    def is_random(self) -> bool:
        """Whether there is no checkpoint."""
        return self.source == NONE or self.source.endswith((".yaml", ".yml"))

    def open(self) -> OpenedModel:
        """Read the checkpoint, or draw weights.

        Raises:
            OSError: if there is no such file.
            ValueError: if it cannot be used, or reads images or text.
        """
        if self.is_random:
            settings = {} if self.source == NONE else _layered(self.source)
            config = read_dataclass(EncoderConfig, settings.get("encoder", {}), f"{self.source}: model.encoder")
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(self.seed)
                encoder: ClipEncoder = Encoder(config)
            own, resampler = settings.get("features"), "torchaudio"
        else:
            weights = read_model(self.source)
            encoder = open_encoder(weights, self.part)
            own, resampler = weights.features, weights.resampler
        check_sound(encoder.front_end.takes, self.source)
        refuse_unknown_features({**self.clip_features, **self.features})
        features, num_frames = self._features(encoder, own or {})
        return OpenedModel(self, encoder.eval(), features, num_frames, resampler, digest_of_weights(encoder))

    def _features(self, encoder: ClipEncoder, own: Mapping[str, Any]) -> tuple[LogMels | None, int | None]:
        """The log-mels (None where the front-end reads waveforms) and the common length of all clips in frames of 10 ms.

        The user's settings win over the suite's, these over the model's ``own``, and these over what its encoder needs.
        """
        user, suite, takes = self.features, dict(self.clip_features), encoder.front_end.takes
        if not isinstance(takes, LogMelInput):
            if unused := [name for name in user if name != "num_frames"]:
                raise ValueError(f"features: a model of waveforms is told num_frames alone, leave {unused[0]} out")
            return None, {**suite, **user}.get("num_frames")
        # MAE-AST's front-end normalizes by averages of its own.
        if isinstance(encoder.front_end, SpectrogramTokens) or {**own, **user}.get("kind", "kaldi") != "kaldi":
            suite = {name: value for name, value in suite.items() if name not in ("mean", "std")}
        fixed = takes.settings() if takes.num_frames is not None else {}
        if other := [name for name in fixed if user.get(name, fixed[name]) != fixed[name]]:
            kept = f"{other[0]} {fixed[other[0]]}"
            raise ValueError(f"features: this model takes {kept} alone, leave it out, got {user[other[0]]}")
        settings = {**takes.settings(), **own, **suite, **user, **fixed, "extremes": "clip"}
        if not self.is_random:
            check_normalization(settings, self.source)
        log_mels = read_dataclass(LogMels, settings, "features")
        return log_mels, log_mels.num_frames


@dataclass(frozen=True)
class OpenedModel:
    """A candidate in memory, in evaluation mode.

    ``features`` is None where the front-end reads waveforms; ``num_frames`` is the length, in frames of 10 ms, to which
    every clip is padded or cut.
    """

    candidate: Candidate
    encoder: ClipEncoder
    features: LogMels | None
    num_frames: int | None
    resampler: str
    digest: str

    @property
    def sample_rate_hz(self) -> int:
        """Of the waveforms that it takes."""
        return self.features.sample_rate_hz if self.features else 16000

    @property
    def min_samples(self) -> int:
        """Of the shortest clip that makes one token."""
        return self.features.min_samples if self.features else self.encoder.front_end.min_samples

    def read(self, batch: Batch) -> EncoderInput:
        """What the front-end takes, at the common length of all clips; ValueError if nothing says which."""
        if self.num_frames is None:
            raise ValueError("clips need a common length: set features.num_frames in the suite, or --features.num_frames")
        if self.features is not None:
            return EncoderInput(self.features(batch.waveforms, batch.num_samples))
        most = self.num_frames * _SAMPLES_A_FRAME
        waveforms = F.pad(batch.waveforms, (0, max(0, most - batch.waveforms.shape[1])))[:, :most]
        lengths = [min(length, most) for length in batch.lengths]
        return self.encoder.front_end.read(batch._replace(waveforms=waveforms, lengths=lengths))

    def settings_for_training(self, drop_path_end: float) -> dict[str, Any]:
        """What `FinetuneModule` is told of the encoder: this drop path if it is ours, else the dropouts of pre-training."""
        config = self.encoder.config
        if isinstance(config, EncoderConfig):
            return {"encoder": as_plain(replace(config, drop_path_start=0.0, drop_path_end=drop_path_end))}
        return {"hugging_face": as_plain(config)}


class Layers(NamedTuple):
    """The outputs of all blocks, the first token of each being the clip's; the last layer is the encoder's output."""

    tokens: Float[Tensor, "clips layers clip_and_tokens dim"]
    padding: Bool[Tensor, "clips tokens"] | None = None  # True behind a clip's end


@torch.no_grad()
def all_layers(encoder: ClipEncoder, readings: EncoderInput) -> Layers:
    """Run every block and keep what it makes. Without a CLS token, the mean of a layer's tokens is its clip."""
    layers = list(encoder.layer_outputs(*readings, hide_padding=False))
    tokens = torch.stack(layers, dim=1)
    if encoder.cls_token is None:
        means = [mean_of_tokens(layer, readings.padding) for layer in layers]
        tokens = torch.cat([torch.stack(means, dim=1).unsqueeze(2), tokens], dim=2)
    return Layers(tokens, readings.padding)


def _layered(files: str) -> dict[str, Any]:
    """The encoder and the features of recipes, the later ones laid over the earlier."""
    settings: dict[str, Any] = {}
    for name in files.split(","):
        if not Path(name).is_file():
            raise FileNotFoundError(f"no recipe at {name}")
        content = read_yaml(Path(name))
        model = content.get("model") if isinstance(content, Mapping) else None
        if not isinstance(model, Mapping):
            raise ValueError(f"{name} has no `model`, so it is no recipe of an encoder")
        found = model.get("init_args") or {}
        settings = deep_merge(settings, {key: found[key] for key in ("encoder", "features") if found.get(key) is not None})
    return settings
