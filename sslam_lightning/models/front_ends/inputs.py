"""What an encoder takes, for those who bring it sound, images or text."""

from __future__ import annotations

from functools import reduce
from math import prod
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from sslam_lightning.features import LogMels
from sslam_lightning.features.log_mels import PartialPatch
from sslam_lightning.types import Grid


class LogMelInput(NamedTuple):
    """Log-mels; a token sees ``patch_frames`` of them, the next one those ``hop_frames`` later."""

    num_mels: int
    patch_frames: int
    hop_frames: int
    num_frames: int | None = None  # the only length of a clip; None: any

    def settings(self) -> dict[str, int]:
        """What such features have to be."""
        if self.num_frames is None:
            return {"num_mels": self.num_mels, "patch_frames": self.patch_frames}
        return {"num_mels": self.num_mels, "num_frames": self.num_frames, "patch_frames": 1}

    def check(self, features: LogMels | None) -> LogMels:
        """Return the features if they are such log-mels; ValueError if there are none, or others."""
        one_length = self.num_frames is not None  # then how they are cut is no concern of the features
        length = "num_frames" if one_length else "patch_frames"
        told = "{} mels of {} frames" if one_length else "{} mels in patches of {} frames"
        wanted = (self.num_mels, getattr(self, length))
        if features is None:
            raise ValueError(f"the encoder expects {told.format(*wanted)}, the features have no mels")
        if (theirs := (features.num_mels, getattr(features, length))) != wanted:
            raise ValueError(f"the encoder expects {told.format(*wanted)}, the features have {told.format(*theirs)}")
        return features

    def num_tokens(self, num_frames: Int[Tensor, "*clips"], partial_patch: PartialPatch = "pad") -> Int[Tensor, "*clips"]:
        """How many tokens in time it takes to see so many frames, at least one; with ``drop``, how many they fill."""
        more = num_frames - self.patch_frames
        hops = -(-more // self.hop_frames) if partial_patch == "pad" else more // self.hop_frames
        return 1 + hops.clamp(min=0)


class WaveformInput(NamedTuple):
    """Waveforms, cut into tokens by a stack of convolutions without padding."""

    layers: tuple[tuple[int, int], ...]  # kernel and stride of each

    @property
    def hop_samples(self) -> int:
        """From one token to the next."""
        return prod(stride for _, stride in self.layers)

    @property
    def min_samples(self) -> int:
        """What one token sees."""
        return reduce(lambda n, layer: (n - 1) * layer[1] + layer[0], reversed(self.layers), 1)

    def num_tokens(self, num_samples: Int[Tensor, "*clips"]) -> Int[Tensor, "*clips"]:
        """How many tokens clips of so many samples become."""
        for kernel, stride in self.layers:
            num_samples = (num_samples - kernel) // stride + 1
        return num_samples

    def grid(self, clips: Float[Tensor, "batch samples"]) -> Grid:
        """The clips' tokens, in one line; ValueError if the clips are too short for one token."""
        if clips.shape[1] < self.min_samples:
            raise ValueError(f"one token takes {self.min_samples} samples, got clips of {clips.shape[1]}")
        return Grid(int(self.num_tokens(torch.tensor(clips.shape[1], device="cpu"))), 1)


class ImageInput(NamedTuple):
    """Images of ``channels``."""

    channels: int
    size: int | None = None  # side in pixels of the only ones; None: any whole number of patches


class TextInput(NamedTuple):
    """Numbers of tokens."""

    vocabulary: int
    max_tokens: int  # of a text
    padding_token: int
    setting: str = "encoder.front_end.vocabulary"  # where a recipe says the vocabulary


Input = LogMelInput | WaveformInput | ImageInput | TextInput


def check_sound(takes: Input | None, source: str) -> None:
    """Raise ValueError, naming the model and what it reads, if that is no sound."""
    if isinstance(takes, (ImageInput, TextInput)):
        raise ValueError(f"{source} reads {'images' if isinstance(takes, ImageInput) else 'text'}, not sound")
