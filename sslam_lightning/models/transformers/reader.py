"""How a model of Hugging Face transformers reads batches, and the field of tokens that it makes of them."""

from __future__ import annotations

from typing import TypeVar

from jaxtyping import Shaped
from torch import Tensor, nn

from sslam_lightning.models.front_ends.base import EncoderInput, TokenReader, padding_behind
from sslam_lightning.models.front_ends.inputs import ImageInput, Input, LogMelInput, TextInput, WaveformInput
from sslam_lightning.models.front_ends.waveform import normalize_clips
from sslam_lightning.types import AnyBatch, Grid, ImageBatch, TextBatch

Count = TypeVar("Count", int, Tensor)
_EPS = 1e-7  # of transformers' Wav2Vec2FeatureExtractor, added to the variance


class HuggingFaceReader(TokenReader):
    """Geometry alone; the weights are the encoder's.

    Args:
        takes: what the model reads.
        convolution: what cuts patches, where there is such a thing: rows by columns of images, mels by time.
        normalize: bring waveforms to mean 0 and variance 1, clip by clip.
    """

    def __init__(self, takes: Input | None, convolution: nn.Conv2d | None, normalize: bool = True) -> None:
        self._takes, self._normalize = takes, normalize
        self.by_mel = isinstance(takes, LogMelInput)  # transformers numbers such tokens mel by mel
        self._cut = None if convolution is None else tuple(zip(convolution.kernel_size, convolution.stride, strict=True))
        self.min_samples = takes.min_samples if isinstance(takes, WaveformInput) else 1
        if isinstance(takes, ImageInput) and self._cut:
            self.num_values = takes.channels * self._cut[0][0] * self._cut[1][0]

    @property
    def takes(self) -> Input | None:
        return self._takes

    def num_samples(self, num_tokens: Count) -> Count:
        """The fewest that make so many tokens of a waveform."""
        assert isinstance(self._takes, WaveformInput), "nothing else has samples"
        return (num_tokens - 1) * self._takes.hop_samples + self._takes.min_samples

    def grid(self, clips: Shaped[Tensor, "batch *shape"]) -> Grid:
        """The field of tokens, without special ones; ValueError if the model does not take clips of this shape."""
        takes = self._takes
        if isinstance(takes, WaveformInput):
            return takes.grid(clips)
        if isinstance(takes, TextInput):
            if clips.shape[1] > takes.max_tokens:
                raise ValueError(f"texts of {clips.shape[1]} tokens are longer than the model's {takes.max_tokens}")
            return Grid(clips.shape[1], 1)
        if isinstance(takes, LogMelInput):
            frames, mels = clips.shape[1:]
            if mels != takes.num_mels or frames != (takes.num_frames or frames) or frames < takes.patch_frames:
                length = takes.num_frames or f"at least {takes.patch_frames}"
                raise ValueError(
                    f"the encoder expects {length} frames and {takes.num_mels} mels, got {frames} frames and {mels} mels"
                )
            mel, time = self._patches(mels, frames)
            return Grid(time, mel)
        if isinstance(takes, ImageInput) and self._cut:
            channels, rows, columns = clips.shape[1:]
            if channels != takes.channels or {rows, columns} - {takes.size or rows, takes.size or columns}:
                wanted = f"{takes.channels} channels" + (f" and {takes.size} x {takes.size} pixels" if takes.size else "")
                raise ValueError(f"the encoder expects images of {wanted}, got {channels} channels, {rows} x {columns}")
            return Grid(*self._patches(rows, columns))
        raise ValueError("nothing is known of how this model of transformers makes tokens: use it with transformers itself")

    def read(self, batch: AnyBatch) -> EncoderInput:
        """Texts, images or waveforms, and which tokens lie behind a clip's end; ValueError if it reads no such data."""
        if isinstance(batch, TextBatch):
            return EncoderInput(batch.tokens, padding_behind(batch.num_tokens, batch.tokens.shape[1], batch.tokens.device))
        if isinstance(batch, ImageBatch):
            return EncoderInput(batch.images)
        if not isinstance(self._takes, WaveformInput):
            given = "log-mels, but model.features is null" if self.by_mel else "no sound, which the data give"
            raise ValueError(f"this model of transformers reads {given}")
        waveforms, lengths = batch.waveforms, self._takes.num_tokens(batch.num_samples)
        behind = padding_behind(lengths, self.grid(waveforms).time, waveforms.device)
        return EncoderInput(normalize_clips(waveforms, batch.num_samples, _EPS) if self._normalize else waveforms, behind)

    def _patches(self, *extents: int) -> tuple[int, ...]:
        assert self._cut is not None, "patches are cut by a convolution"
        return tuple((n - kernel) // stride + 1 for n, (kernel, stride) in zip(extents, self._cut, strict=True))
