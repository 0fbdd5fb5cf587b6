"""A pre-trained encoder, with a head or without, as a module that takes sound of any rate and length."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, get_args

import torch
from jaxtyping import Float, Int
from torch import Tensor

from sslam_lightning.data.audio.resample import resample_rows
from sslam_lightning.data.audio.stream import stream_audio
from sslam_lightning.features import LogMels
from sslam_lightning.inference.encoding import EncoderModel, Layer, Pool, Read, check_layers
from sslam_lightning.inference.windowing import Framing, OverlapAdd, Window, Windows
from sslam_lightning.models import ClassificationHead, ClipEncoder, LogMelInput, TransformerDecoder, WaveformInput
from sslam_lightning.types import Batch, ResamplerName
from sslam_lightning.whole_numbers import whole_rate

Padding = Literal["masked", "trained"]

_ONE_PASS_SECONDS = 120.0
_ONE_PASS_OF_WAVEFORMS_SECONDS = 30.0  # 50 tokens a second, and ALiBi holds a number for every pair of them and head
_OVERLAP_SECONDS = 10.24
_TRAINED_OVERLAP = 0.25  # of a window, in the fixed windows that a classifier was trained on
_WAVEFORM_RATE_HZ = 16000  # of models that read waveforms, where nothing says otherwise


class AudioOutput(NamedTuple):
    """What an :class:`AudioModel` makes of sound. Of one waveform ``(samples,)``, no field has the axis ``rows``.

    Fields have an axis ``layers`` with layer "all" and from :meth:`AudioModel.extract_features` alone.

    Args:
        probs: probabilities of the classes, where there is a head; of long sounds, the mean over windows.
        clip: one embedding per sound: the CLS token (of long sounds, its mean over windows) or the mean of ``patches``.
        frames: one embedding per frame, the mean over its patches.
        patches: one embedding per patch.
        timestamps: the middle of each frame in seconds.
    """

    probs: Float[Tensor, "rows classes"] | None
    clip: Float[Tensor, "rows *layers dim"]
    frames: Float[Tensor, "rows time *layers dim"]
    patches: Float[Tensor, "rows time mel *layers dim"]
    timestamps: Float[Tensor, "time"]


class AudioModel(EncoderModel):
    """Sound in, :class:`AudioOutput` out; a plain module, in evaluation mode and without gradients.

    ``padding`` says what happens to sound shorter than what the model was trained on:

    - ``"trained"``: padded with zeros to the trained length *before* normalization, and the padding is seen, as in the
      training of all released weights. Longer sound is cut into windows of that length. Default where
      there is a head, because its probabilities are only those of the published models under this condition.
    - ``"masked"``: every sound has its own length, padding is masked out of attention and pooling, so that a result does
      not depend on what a sound is batched with. Up to two minutes are one pass, or what a model takes at most that takes
      one length alone. Default without a head, and all that there is for models of waveforms, which have no trained length.

    A model that cannot do the one or the other does what it can by default, and refuses to be told otherwise.

    Args:
        encoder: the encoder: of log-mel patches, MAE-AST's tokens or waveforms; or a model of transformers of such.
        head, class_names, multi_label, layer, bf16, decoder, pool: see :class:`EncoderModel`.
        features: the log-mels that it was trained on; ``num_frames`` is the trained length. None for waveforms.
        resampler: how other sample rates are brought to that of the model.
        padding: None: by the rules above.
        waveform_rate_hz: of a model of waveforms; None: 16000.

    Raises:
        ValueError: an encoder or settings that do not fit each other.
    """

    kind = "sound"
    framing: Framing
    tells_time = True

    def __init__(
        self,
        encoder: ClipEncoder,
        head: ClassificationHead | None = None,
        features: LogMels | None = LogMels(),
        class_names: Sequence[str] = (),
        multi_label: bool = True,
        resampler: ResamplerName = "torchaudio",
        padding: Padding | None = None,
        layer: Layer = -1,
        bf16: bool = False,
        decoder: TransformerDecoder | None = None,
        waveform_rate_hz: int | None = None,
        pool: Pool | None = None,
    ) -> None:
        super().__init__(encoder, head, decoder, class_names, multi_label, layer, bf16, pool)
        takes = encoder.front_end.takes
        self.features: LogMels | None = None
        if isinstance(takes, WaveformInput):
            rate_hz = _WAVEFORM_RATE_HZ if waveform_rate_hz is None else whole_rate(waveform_rate_hz, "waveform_rate_hz")
            self.framing = Framing(rate_hz, takes.hop_samples, takes.min_samples, 1)
        else:
            takes = log_mels_of(encoder)
            if waveform_rate_hz is not None:
                raise ValueError(f"this model reads log-mels: leave waveform_rate_hz out, got {waveform_rate_hz}")
            # Whatever a clip is batched with.
            self.features = replace(takes.check(features), extremes="clip")
            if takes.num_frames is not None:  # which also the shortest clip is padded to
                self.features = replace(self.features, patch_frames=1)
            self.framing = Framing.of(self.features, takes)
        self.takes = takes
        self.resampler = resampler
        self.padding: Padding = self._check_padding(padding)

    def _check_padding(self, padding: Padding | None) -> Padding:
        has_length = self.features is not None and self.features.num_frames is not None
        if padding is None:
            must_be_seen = self.features is not None and not self.encoder.masks_padding
            return "trained" if must_be_seen or (self.head is not None and has_length) else "masked"
        if padding not in get_args(Padding):
            raise ValueError(f"padding must be one of {', '.join(get_args(Padding))}, got {padding!r}")
        if padding == "trained" and not has_length:
            why = "its features.num_frames is null" if self.features else "it reads waveforms"
            raise ValueError(f"padding cannot be trained: this model has no trained length, {why}; leave padding out")
        if padding == "masked" and self.features is not None and not self.encoder.masks_padding:
            raise ValueError("padding cannot be masked: this model takes no attention mask; leave padding out")
        return padding

    def mask_padding(self) -> None:
        """Mask padding from now on, where the encoder can."""
        if self.features is None or self.encoder.masks_padding:
            self.padding = "masked"

    @property
    def sample_rate_hz(self) -> int:
        """Of what the model hears; any other rate is resampled to it."""
        return self.framing.rate_hz

    @property
    def any_length_features(self) -> LogMels:
        """The log-mels without a length of their own, where the encoder takes such."""
        assert isinstance(self.takes, LogMelInput), "waveforms have none"
        assert self.features is not None, "waveforms have none"
        return replace(self.features, num_frames=self.takes.num_frames)

    @property
    def frame_seconds(self) -> float:
        """From one embedded frame to the next."""
        return self.framing.token_seconds

    def windows(self, window_seconds: float | None = None, overlap_seconds: float | None = None) -> Windows:
        """How long sound is cut: by default what one pass takes, two minutes, or the trained length (see ``padding``)."""
        if self._fixed_frames and window_seconds is None:
            window_seconds = self._fixed_frames / 100
            overlap_seconds = _TRAINED_OVERLAP * window_seconds if overlap_seconds is None else overlap_seconds
        if window_seconds is None:
            window_seconds = _ONE_PASS_SECONDS if self.features else _ONE_PASS_OF_WAVEFORMS_SECONDS
        overlap_seconds = min(_OVERLAP_SECONDS, window_seconds / 4) if overlap_seconds is None else overlap_seconds
        per_second = self.framing.frames_per_second
        windows = Windows.of(window_seconds, overlap_seconds, self.framing.token_frames, per_second)
        if self._fixed_frames and windows.window_frames > self._fixed_frames:
            why = "with padding as trained" if self.padding == "trained" else "of this model"
            raise ValueError(f"{why} a window has at most {self._fixed_frames / 100:g} s, got {window_seconds:g} s")
        return windows

    if TYPE_CHECKING:  # torch's own `__call__` says nothing of what goes in and comes out

        def __call__(self, waveform: Tensor, sample_rate_hz: int) -> AudioOutput: ...

    @torch.no_grad()
    def forward(self, waveform: Float[Tensor, "*shape samples"], sample_rate_hz: int) -> AudioOutput:
        """Probabilities and embeddings of one sound, or of several of the same length.

        Args:
            waveform: (samples,) mono; (rows, samples) mono sounds; or (rows, channels, samples), whose channels are
                averaged. Full scale is 1. What is shorter than one patch (0.175 s) gets silence behind its end.
            sample_rate_hz: of the waveform; any. 44100.0 is one of 44100 Hz.

        Raises:
            ValueError: if it is no tensor of floating-point numbers, the shape is another, there are no samples, or the
                rate is not a whole number.
        """
        return self._of_waveform(waveform, sample_rate_hz, self.layer)

    @torch.no_grad()
    def extract_features(
        self,
        waveform: Float[Tensor, "*shape samples"],
        sample_rate_hz: int,
        layers: Sequence[int] | Literal["all"] = "all",
    ) -> AudioOutput:
        """Embeddings of several layers, in one pass: ``extract_features(waveform, 44100, layers=[3, 6, 12])``.

        Args:
            waveform, sample_rate_hz: as the model itself takes them.
            layers: the blocks whose outputs to return, from 1, or from -1 down; "all" of them.

        Returns:
            What the model itself returns, with the layers in the order of ``layers`` on the axis before the last:
            ``clip`` (rows, layers, dim), ``frames`` (rows, time, layers, dim), ``patches`` (rows, time, mel, layers, dim),
            each without ``rows`` for one waveform.

        Raises:
            ValueError: as the model itself, or if there is no such layer.
        """
        return self._of_waveform(waveform, sample_rate_hz, check_layers(layers, self.encoder.depth))

    def _of_waveform(self, waveform: Tensor, sample_rate_hz: int, layer: Layer | tuple[int, ...]) -> AudioOutput:
        if not isinstance(waveform, Tensor) or not waveform.is_floating_point():
            # Whole numbers do not tell their full scale.
            came = f"a tensor of {waveform.dtype}" if isinstance(waveform, Tensor) else type(waveform).__name__
            raise ValueError(
                f"a waveform is a floating-point tensor of full scale 1, got {came}: make a tensor of an array with "
                "torch.from_numpy, and divide whole numbers by their full scale, those of int16 by 32768"
            )
        if waveform.ndim not in (1, 2, 3) or waveform.shape[-1] == 0:
            raise ValueError(
                "a waveform is (samples,), (rows, samples) or (rows, channels, samples) with at least one sample, got "
                f"{tuple(waveform.shape)}"
            )
        sample_rate_hz = whole_rate(sample_rate_hz)
        rows = waveform.mean(dim=1) if waveform.ndim == 3 else waveform.reshape(-1, waveform.shape[-1])
        rows = resample_rows(rows.to(self.device, torch.float32), sample_rate_hz, self.sample_rate_hz, self.resampler)
        result = self._through_windows(rows, layer)
        if waveform.ndim == 1:
            probs = None if result.probs is None else result.probs[0]
            result = AudioOutput(probs, result.clip[0], result.frames[0], result.patches[0], result.timestamps)
        return result

    def _through_windows(self, rows: Float[Tensor, "rows samples"], layer: Layer | tuple[int, ...]) -> AudioOutput:
        overlap_add, parts, windows = OverlapAdd(), [], []
        for window in self.windows().cut(iter([rows]), self.framing):
            num_samples = torch.full((len(rows),), window.content.shape[1], device="cpu")
            encodings = self.encode(window.content, num_samples, levels=("clip", "patch"), layer=layer)
            assert encodings.patches is not None
            start = window.start_frame // self.framing.token_frames
            parts.append(overlap_add.push(start, encodings.patches.transpose(0, 1)))
            windows.append(encodings._replace(patches=None))
        patches = torch.cat([*parts, overlap_add.finish()]).transpose(0, 1)
        weights = [float(window.num_frames[0]) for window in windows]
        probs = None if self.head is None else _weighted_mean([window.probs for window in windows], weights)
        clip = patches.mean(dim=(1, 2))
        if self.pool == "cls":
            clip = _weighted_mean([window.clip for window in windows], weights)
        return AudioOutput(probs, clip, patches.mean(dim=2), patches, self.framing.timestamps(0, patches.shape[1]))

    def read_windows(self, path: Path, windows: Windows) -> Iterator[Window]:
        """A recording, decoded and resampled by blocks, in windows."""
        blocks = stream_audio(path, self.sample_rate_hz, self.resampler)
        return windows.cut((block[None] for block in blocks), self.framing)

    def read(self, content: Float[Tensor, "rows samples"], lengths: Int[Tensor, "rows"]) -> Read:
        if isinstance(self.takes, WaveformInput):
            rows = len(content)
            labels = torch.zeros(rows, 0, dtype=torch.float32, device="cpu")
            batch = Batch(content, lengths.tolist(), labels, torch.arange(rows, device="cpu"), ("",) * rows)
            return Read(self.encoder.front_end.read(batch).clips, self.takes.num_tokens(lengths), True)
        features = self.any_length_features if self.padding == "masked" else self.features
        assert features is not None, "only waveforms have none"
        features.check(lengths, content.shape[1])
        num_frames = self.takes.num_tokens(features.count_frames(lengths), features.partial_patch)
        seen = self.padding == "trained" and features.num_frames is not None
        return Read(features(content, lengths), num_frames, masks_padding=not seen)

    def worth_frames(self, content: Float[Tensor, "samples"]) -> int:
        return len(content) * 100 // self.sample_rate_hz

    def settings(self) -> dict[str, Any]:
        return {
            "padding": self.padding,
            "features": None if self.features is None else vars(self.features),
            "resampler": self.resampler,
            "frame_seconds": self.frame_seconds,
        }

    @property
    def _fixed_frames(self) -> int | None:
        """The one length that the encoder sees, or None: that of the sound. Of overlapping patches their hops alone."""
        if not isinstance(self.takes, LogMelInput):
            return None
        takes, frames = self.takes, self.takes.num_frames
        if frames is None and self.features is not None and self.padding == "trained":
            frames = self.features.num_frames
        return None if frames is None else ((frames - takes.patch_frames) // takes.hop_frames + 1) * takes.hop_frames


def _weighted_mean(values: Sequence[Tensor | None], weights: Sequence[float]) -> Tensor:
    weighted = [value * (weight / sum(weights)) for value, weight in zip(values, weights, strict=True) if value is not None]
    return torch.stack(weighted).sum(dim=0)


def log_mels_of(encoder: ClipEncoder) -> LogMelInput:
    """The log-mels that an encoder of sound takes.

    Raises:
        ValueError: if it takes anything else.
    """
    takes = encoder.front_end.takes
    if isinstance(takes, LogMelInput):
        return takes
    kind = type(encoder.front_end).__name__
    raise ValueError(f"an AudioModel reads log-mels or waveforms, the front-end {kind} reads neither")
