"""From padded waveforms to the normalized log-mel spectrogram that a model sees."""

from __future__ import annotations

import math
from dataclasses import dataclass
from numbers import Real
from typing import Literal, get_args

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from sslam_lightning.features.decibels import count_centered_frames, fft_samples, mel_decibels, scaled_decibels
from sslam_lightning.features.fbank import Count, Window, count_frames, hop_samples, kaldi_fbank, window_samples
from sslam_lightning.whole_numbers import check_whole_numbers

Kind = Literal["kaldi", "decibel"]
PartialPatch = Literal["pad", "drop"]
Extremes = Literal["clip", "padded_row"]

# Far beyond what is trained on: more comes from broken files, and would fill the memory with the first clip.
_MOST = {"num_frames": 60_000, "patch_frames": 60_000, "num_mels": 1024, "sample_rate_hz": 768_000}
_OF_THE_OTHER_KIND = {"kaldi": ("extremes",), "decibel": ("window", "remove_mean")}


@dataclass(frozen=True)
class LogMels:
    """Settings of the front-end; called with waveforms, it returns spectrograms of one common length.

    ``kaldi``: the clip's mean is subtracted, 128 Kaldi log-mels are padded with zeros or cut to ``num_frames``, then
    ``(x - mean) / (2 std)`` (AST, Gong et al., 2021; EAT and SSLAM keep it). The padding comes *before* the
    normalization, as in all released weights, so a padded frame is ``-mean / (2 std)`` and not 0.
    MAE-AST differs: :data:`MAE_AST_LOG_MELS`.
    ``decibel``: decibels of another mel spectrogram, scaled to [0, 1] clip by clip before they are padded with zeros or cut
    (BAT, 2026), see :func:`~sslam_lightning.features.mel_decibels`; ``window`` and ``remove_mean`` keep their
    defaults, ``mean`` and ``std`` play no part: overlays set those of a data set for recipes of either kind.

    Args:
        num_frames: length of the result in frames of 10 ms, at most ten minutes, or None: that of the longest clip in
            the batch, rounded up to whole patches.
        mean, std: of the data set's log-mels (AudioSet's by default); ``std`` is that of one value, not its double.
        num_mels: mel bands.
        sample_rate_hz: of the waveforms.
        patch_frames: frames in one patch; ``num_frames`` is a multiple of it.
        kind: which of the two front-ends.
        window: shape of the window of a frame.
        remove_mean: subtract the mean of each clip from its waveform.
        partial_patch: where ``num_frames`` is None, ``pad`` the frames behind the last whole patch to one more, or
            ``drop`` them.
        extremes: of ``decibel``, what is scaled to [0, 1]: the ``clip``, or as published the ``padded_row``, in which the
            silence behind a clip that is shorter than others of its batch counts; models that are loaded use ``clip``.
    """

    num_frames: int | None = 1024
    mean: float = -4.268
    std: float = 4.569
    num_mels: int = 128
    sample_rate_hz: int = 16000
    patch_frames: int = 16
    kind: Kind = "kaldi"
    window: Window = "hanning"
    remove_mean: bool = True
    partial_patch: PartialPatch = "pad"
    extremes: Extremes = "clip"

    def __post_init__(self) -> None:
        check_whole_numbers(self, "features")
        if self.patch_frames < 1:
            raise ValueError(f"features: patch_frames must be at least 1, got {self.patch_frames}")
        if self.num_frames is not None and (self.num_frames < 1 or self.num_frames % self.patch_frames):
            raise ValueError(
                f"features: num_frames must be a positive multiple of patch_frames = {self.patch_frames}, or null, "
                f"got {self.num_frames}"
            )
        if not isinstance(self.mean, Real) or not math.isfinite(self.mean):
            raise ValueError(f"features: mean must be a finite number, got {self.mean!r}")
        if not isinstance(self.std, Real) or not 0.0 < self.std < math.inf:
            raise ValueError(f"features: std must be positive, got {self.std!r}")
        if self.num_mels < 4:
            raise ValueError(f"features: num_mels must be at least 4, got {self.num_mels}")
        if self.sample_rate_hz < 1000:
            raise ValueError(f"features: sample_rate_hz must be at least 1000 Hz, got {self.sample_rate_hz}")
        for name, most in _MOST.items():
            if (getattr(self, name) or 0) > most:
                raise ValueError(f"features: {name} must be at most {most}, got {getattr(self, name)}")
        options = {"kind": Kind, "window": Window, "partial_patch": PartialPatch, "extremes": Extremes}
        for name, known in options.items():
            if getattr(self, name) not in get_args(known):
                told = ", ".join(get_args(known))
                raise ValueError(f"features: {name} must be one of {told}, got {getattr(self, name)!r}")
        for name in _OF_THE_OTHER_KIND[self.kind]:
            plain = type(self).__dataclass_fields__[name].default
            if getattr(self, name) != plain:
                raise ValueError(
                    f"features: {name} has no effect on kind {self.kind}: leave it at {plain}, got {getattr(self, name)!r}"
                )

    @property
    def frame_samples(self) -> int:
        """Samples that a clip needs for one frame; those around the middle of a ``decibel`` frame may be mirrored."""
        return 0 if self.kind == "decibel" else window_samples(self.sample_rate_hz)

    @property
    def min_samples(self) -> int:
        """Samples in the shortest clip that fills one patch."""
        patch = self.frame_samples + (self.patch_frames - 1) * hop_samples(self.sample_rate_hz)
        return max(patch, fft_samples(self.sample_rate_hz) // 2 + 1) if self.kind == "decibel" else patch

    def count_frames(self, num_samples: Count) -> Count:
        """Frames of a clip of so many samples."""
        return (count_centered_frames if self.kind == "decibel" else count_frames)(num_samples, self.sample_rate_hz)

    def check(self, num_samples: Int[Tensor, "batch"], width: int) -> None:
        """Refuse clips that are too short for one patch, or said to be longer than the ``width`` of their batch.

        Raises:
            ValueError: naming the row, its samples and the limit.
        """
        bad = (num_samples < self.min_samples) | (num_samples > width)
        if bool(bad.any()):
            row = int(bad.int().argmax())
            raise ValueError(
                f"features: a clip must have between {self.min_samples} samples (one patch of {self.patch_frames} "
                f"frames) and the batch's {width}, row {row} has {int(num_samples[row])}"
            )

    def __call__(
        self, waveforms: Float[Tensor, "batch samples"], num_samples: Int[Tensor, "batch"]
    ) -> Float[Tensor, "batch frames mels"]:
        """The spectrograms, float32; a clip's does not depend on what it is batched with.

        Lengths are checked where that is free: when ``num_samples`` lies on the CPU, or when its maximum has to be
        fetched anyway (``num_frames`` None). With ``num_samples`` on a GPU and fixed ``num_frames`` nothing waits for
        the device, and a clip that is too short comes out as padding: call :meth:`check` before the transfer.

        Args:
            waveforms: mono, full scale 1.0; what lies behind a clip's own end is ignored.
            num_samples: valid samples of each row; may stay on the CPU when the waveforms do not.

        Raises:
            ValueError: if a clip is shorter than one patch of frames, or longer than its batch is wide.
        """
        if num_samples.device.type == "cpu" or self.num_frames is None:
            self.check(num_samples, waveforms.shape[1])
        length = self.num_frames or self.length(int(num_samples.max()))  # a GPU is asked for the longest only if need be
        num_samples = num_samples.to(waveforms.device, non_blocking=True)
        if self.kind == "decibel":
            return self._decibels(waveforms, num_samples, length)
        samples_in_use = window_samples(self.sample_rate_hz) + (length - 1) * hop_samples(self.sample_rate_hz)
        clips = _centered(waveforms, num_samples) if self.remove_mean else waveforms
        log_mels = kaldi_fbank(clips[:, :samples_in_use], self.sample_rate_hz, self.num_mels, self.window)
        log_mels = torch.nn.functional.pad(log_mels, (0, 0, 0, length - log_mels.shape[1]))
        valid = _first(count_frames(num_samples, self.sample_rate_hz), length)
        return log_mels.masked_fill(~valid.unsqueeze(-1), 0.0).sub_(self.mean).div_(2.0 * self.std)

    def length(self, longest: int) -> int:
        """Frames of the spectrograms of a batch whose longest clip has so many samples, a whole number of patches."""
        if self.num_frames is not None:
            return self.num_frames
        filling = self.patch_frames - 1 if self.partial_patch == "pad" else 0
        num_patches = (self.count_frames(longest) + filling) // self.patch_frames
        return max(num_patches, 1) * self.patch_frames

    def _decibels(
        self, waveforms: Float[Tensor, "batch samples"], num_samples: Int[Tensor, "batch"], length: int
    ) -> Float[Tensor, "batch frames mels"]:
        """Scaled first, cut or padded to ``length`` frames then."""
        if self.extremes == "padded_row":
            waveforms = waveforms.masked_fill(~_first(num_samples, waveforms.shape[1]), 0.0)
            num_samples = torch.full_like(num_samples, waveforms.shape[1])
        decibels = mel_decibels(waveforms, num_samples, self.sample_rate_hz, self.num_mels)
        scaled = scaled_decibels(decibels, _first(self.count_frames(num_samples), decibels.shape[1]))
        return torch.nn.functional.pad(scaled, (0, 0, 0, length - scaled.shape[1]))


# MAE-AST's input (arXiv 2203.16691, its public code): torchaudio's default window, no padding, and log-mels as they are,
# which its batch norm expects. The other settings are those of the model.
MAE_AST_LOG_MELS = LogMels(num_frames=None, mean=0.0, std=0.5, window="povey", remove_mean=False, partial_patch="drop")


def _centered(
    waveforms: Float[Tensor, "batch samples"], num_samples: Int[Tensor, "batch"]
) -> Float[Tensor, "batch samples"]:
    """Every clip without its mean over its own samples; 0 behind its end."""
    outside = ~_first(num_samples, waveforms.shape[1])
    clips = waveforms.float().masked_fill(outside, 0.0)  # a copy, so the rest may work in place
    # In float64 the sum does not show how far a row is padded, so neither does anything after it.
    mean = clips.sum(dim=1, dtype=torch.float64) / num_samples.clamp(min=1)
    return clips.sub_(mean.float().unsqueeze(1)).masked_fill_(outside, 0.0)


def _first(counts: Int[Tensor, "batch"], width: int) -> Bool[Tensor, "batch width"]:
    """True at the first ``counts[i]`` places of row i."""
    return torch.arange(width, device=counts.device) < counts.unsqueeze(1)
