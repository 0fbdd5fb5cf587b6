"""What an encoder takes, told to whoever brings it sound, images or text."""

from __future__ import annotations

from functools import reduce
from math import prod
from typing import NamedTuple

from jaxtyping import Int
from torch import Tensor

from sslam_lightning.features import LogMels
from sslam_lightning.features.log_mels import PartialPatch


class LogMelInput(NamedTuple):
    """Log-mels, of which a token sees ``patch_frames``, ``hop_frames`` behind the one before it."""

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
        """The features, if they are such log-mels.

        Raises:
            ValueError: if there are none, or others.
        """
        wanted = f"{self.num_mels} mels in patches of {self.patch_frames} frames"
        if features is None:
            raise ValueError(f"the encoder expects {wanted}, the features have no mels")
        theirs = f"{features.num_mels} mels in patches of {features.patch_frames}"
        fits = features.num_mels == self.num_mels and features.patch_frames == self.patch_frames
        if self.num_frames is not None:  # how they are cut is no concern of theirs
            wanted = f"{self.num_mels} mels of {self.num_frames} frames"
            theirs = f"{features.num_mels} of {features.num_frames}"
            fits = (features.num_mels, features.num_frames) == (self.num_mels, self.num_frames)
        if not fits:
            raise ValueError(f"the encoder expects {wanted}, the features have {theirs}")
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
    """Refuse a model that takes no sound.

    Raises:
        ValueError: naming it and what it reads.
    """
    if isinstance(takes, (ImageInput, TextInput)):
        raise ValueError(f"{source} reads {'images' if isinstance(takes, ImageInput) else 'text'}, not sound")
