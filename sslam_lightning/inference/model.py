"""A pre-trained encoder, with a head or without, as a module that takes sound of any rate and length."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace
from typing import Literal, NamedTuple, get_args

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from sslam_lightning.data.audio import ResamplerName
from sslam_lightning.data.stream import resample_rows
from sslam_lightning.features import LogMels, count_frames
from sslam_lightning.features.fbank import hop_samples, window_samples
from sslam_lightning.inference.spans import Joiner, Windows
from sslam_lightning.models import ClassificationHead, Encoder, EncoderConfig
from sslam_lightning.types import Encoded

Padding = Literal["masked", "trained"]
Layer = int | Literal["mean", "all"]
Level = Literal["clip", "frame", "patch"]

_ONE_PASS_SECONDS = 120.0
_OVERLAP_SECONDS = 10.24
_TRAINED_OVERLAP = 0.25  # of a window, in the fixed windows that a classifier was trained on
LEVELS: tuple[Level, ...] = get_args(Level)


class Encodings(NamedTuple):
    """What the model makes of one batch of windows. ``[layers]`` is there for layer "all" only."""

    tags: Float[Tensor, "rows classes"] | None  # probabilities, where there is a head
    clip: Float[Tensor, "rows *layers dim"] | None  # None: not asked for
    frames: Float[Tensor, "rows time *layers dim"] | None
    patches: Float[Tensor, "rows time mel *layers dim"] | None
    num_frames: Int[Tensor, "rows"]  # type: ignore[assignment]  # embedded frames of each row; what is behind them is padding


class Analysis(NamedTuple):
    """What the model makes of sound; without ``rows`` where one waveform was given. ``[layers]`` for layer "all" only."""

    tags: (
        Float[Tensor, "rows classes"] | None
    )  # probabilities, where there is a head; of long sounds, the mean over windows
    clip: Float[Tensor, "rows *layers dim"]  # the clip token; of long sounds, the mean over windows by their length
    frames: Float[Tensor, "rows time *layers dim"]  # the mean of the patches above each other
    patches: Float[Tensor, "rows time mel *layers dim"]
    times_seconds: Float[Tensor, "time"]  # the middle of each frame


class AudioModel(nn.Module):
    """Sound in, tags and embeddings out; a plain module, in evaluation mode and without gradients.

    ``padding`` says what happens to sound shorter than what the model was trained on:

    - ``"trained"``: padded with zeros to the trained length *before* normalisation, and the padding is seen, as in the
      training of all released weights. Longer sound is cut into windows of that length. Default where
      there is a head, because its probabilities are only those of the published models under this condition.
    - ``"masked"``: every sound has its own length, padding is masked out of attention and pooling, so that a result does
      not depend on what a sound is batched with. Up to two minutes are one pass. Default without a head.

    Args:
        encoder: the encoder.
        head: a classification head.
        features: the log-mels that it was trained on; ``num_frames`` is the trained length.
        class_names: in the order of the head's outputs.
        multi_label: whether probabilities are those of a sigmoid or of a softmax.
        resampler: how other sample rates are brought to that of ``features``.
        padding: None: by the rule above.
        layer: whose block's output is embedded: from 1 to the encoder's depth, or from -1 down; "mean" of all blocks, or
            "all" of them along an axis in front of the last.
        bf16: compute in bfloat16 (results are float32).
    """

    def __init__(
        self,
        encoder: Encoder,
        head: ClassificationHead | None = None,
        features: LogMels = LogMels(),
        class_names: Sequence[str] = (),
        multi_label: bool = True,
        resampler: ResamplerName = "torchaudio",
        padding: Padding | None = None,
        layer: Layer = -1,
        bf16: bool = False,
    ) -> None:
        super().__init__()
        if padding is not None and padding not in get_args(Padding):
            raise ValueError(f"padding must be one of {', '.join(get_args(Padding))}, got {padding!r}")
        _refuse_others(encoder.config)
        if features.num_mels != encoder.config.num_mels or features.patch_frames != encoder.config.patch_size:
            raise ValueError(
                f"the encoder expects {encoder.config.num_mels} mels in patches of {encoder.config.patch_size} frames, the "
                f"features have {features.num_mels} mels in patches of {features.patch_frames}"
            )
        self.encoder, self.head, self.features = encoder, head, features
        self.class_names, self.multi_label, self.resampler = tuple(class_names), multi_label, resampler
        self.padding: Padding = padding or ("trained" if head is not None and features.num_frames else "masked")
        self.layer = check_layer(layer, encoder.config.depth)
        self.bf16 = bf16
        self.eval()

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return next(self.encoder.parameters()).device

    @property
    def dim(self) -> int:
        """Width of the embeddings."""
        return self.encoder.config.dim

    @property
    def sample_rate_hz(self) -> int:
        """Of what the model hears; any other rate is resampled to it."""
        return self.features.sample_rate_hz

    @property
    def any_length_features(self) -> LogMels:
        """The log-mels without a length of their own."""
        return replace(self.features, num_frames=None)

    @property
    def frame_seconds(self) -> float:
        """From one embedded frame to the next."""
        return self.features.patch_frames * hop_samples(self.sample_rate_hz) / self.sample_rate_hz

    def windows(self, window_seconds: float | None = None, overlap_seconds: float | None = None) -> Windows:
        """How long sound is cut: by default what one pass takes, two minutes, or the trained length (see ``padding``)."""
        if self._fixed_frames and window_seconds is None:
            window_seconds = self._fixed_frames / 100
            overlap_seconds = _TRAINED_OVERLAP * window_seconds if overlap_seconds is None else overlap_seconds
        window_seconds = _ONE_PASS_SECONDS if window_seconds is None else window_seconds
        overlap_seconds = min(_OVERLAP_SECONDS, window_seconds / 4) if overlap_seconds is None else overlap_seconds
        windows = Windows.of(window_seconds, overlap_seconds, self.features.patch_frames)
        if self._fixed_frames and windows.window_frames > self._fixed_frames:
            raise ValueError(
                f"with padding as trained a window has at most {self._fixed_frames / 100:g} s, got {window_seconds:g} s"
            )
        return windows

    def times_seconds(self, start: int, stop: int) -> Float[Tensor, "time"]:
        """Middles of the embedded frames from ``start`` to ``stop``, float64."""
        hop, size = hop_samples(self.sample_rate_hz), self.features.patch_frames
        middle = ((size - 1) * hop + window_samples(self.sample_rate_hz)) / 2
        return (torch.arange(start, stop, dtype=torch.float64) * (size * hop) + middle) / self.sample_rate_hz

    @torch.no_grad()
    def forward(self, waveform: Float[Tensor, "*shape samples"], sample_rate_hz: int) -> Analysis:
        """Tags and embeddings of one sound, or of several of the same length.

        Args:
            waveform: (samples,) mono; (rows, samples) mono sounds; or (rows, channels, samples), whose channels are
                averaged. Full scale is 1. What is shorter than one patch (0.175 s) gets silence behind its end.
            sample_rate_hz: of the waveform; any.

        Raises:
            ValueError: if the shape is another, or there are no samples.
        """
        if waveform.ndim not in (1, 2, 3) or waveform.shape[-1] == 0:
            raise ValueError(
                "a waveform is (samples,), (rows, samples) or (rows, channels, samples) with at least one sample, got "
                f"{tuple(waveform.shape)}"
            )
        rows = waveform.mean(dim=1) if waveform.ndim == 3 else waveform.reshape(-1, waveform.shape[-1])
        rows = resample_rows(rows.to(self.device, torch.float32), sample_rate_hz, self.sample_rate_hz, self.resampler)
        result = self._through_windows(rows)
        if waveform.ndim == 1:
            tags = None if result.tags is None else result.tags[0]
            result = Analysis(tags, result.clip[0], result.frames[0], result.patches[0], result.times_seconds)
        return result

    def _through_windows(self, rows: Float[Tensor, "rows samples"]) -> Analysis:
        joiner, tags, clips, weights, parts = Joiner(), [], [], [], []
        for piece in self.windows().cut(iter([rows]), self.features):
            num_samples = torch.full((len(rows),), piece.waveforms.shape[1])
            found = self.encode(piece.waveforms, num_samples, levels=("clip", "patch"))
            assert found.patches is not None
            assert found.clip is not None
            parts.append(joiner.push(piece.start_frame // self.features.patch_frames, found.patches.transpose(0, 1)))
            if found.tags is not None:
                tags.append(found.tags)
            clips.append(found.clip)
            weights.append(float(found.num_frames[0]))
        patches = torch.cat([*parts, joiner.finish()]).transpose(0, 1)
        times = self.times_seconds(0, patches.shape[1])
        mean_tags = weighted_mean(tags, weights) if tags else None
        return Analysis(mean_tags, weighted_mean(clips, weights), patches.mean(dim=2), patches, times)

    @torch.no_grad()
    def encode(
        self,
        waveforms: Float[Tensor, "rows samples"],
        num_samples: Int[Tensor, "rows"],
        levels: Collection[Level] = LEVELS,
        tags: bool = True,
    ) -> Encodings:
        """One pass over windows of different lengths, at the model's rate, each at least one patch long.

        Args:
            waveforms: mono, padded behind their ends with anything.
            num_samples: valid samples of each row, on the CPU.
            levels: which embeddings to return.
            tags: whether to apply the head, where there is one.
        """
        features = self.features if self.padding == "trained" else self.any_length_features
        features.check(num_samples, waveforms.shape[1])
        log_mels = features(waveforms.to(self.device), num_samples)
        size = self.features.patch_frames
        num_frames = -(-count_frames(num_samples, self.sample_rate_hz) // size)
        time, mel = self.encoder.front_end.grid(log_mels)
        num_frames = num_frames.clamp(max=time)
        padding = None
        if self._fixed_frames is None and int(num_frames.min()) < time:
            padding = torch.arange(time) >= num_frames[:, None]
            padding = padding.repeat_interleave(mel, dim=1).to(self.device)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.bf16):
            return self._encode(log_mels, padding, num_frames, mel, levels, tags and self.head is not None)

    def _encode(
        self,
        log_mels: Tensor,
        padding: Bool[Tensor, "rows tokens"] | None,
        num_frames: Tensor,
        mel: int,
        levels: Collection[Level],
        tags: bool,
    ) -> Encodings:
        depth, longest = self.encoder.config.depth, int(num_frames.max())
        picked: dict[str, list[Tensor]] = {level: [] for level in levels}
        last_wanted = self.layer if isinstance(self.layer, int) else depth
        x = log_mels
        for number, x in enumerate(self.encoder.block_outputs(self.encoder.embed(log_mels), padding), start=1):
            if self.layer == number or not isinstance(self.layer, int):
                for level, views in picked.items():
                    _pick(views, _view(x, level, mel, longest), self.layer)
            if number == last_wanted and not (tags and number < depth):
                break
        result = {level: _gather(views, self.layer, depth) for level, views in picked.items()}
        probabilities = self._probabilities(x, padding) if tags else None
        return Encodings(probabilities, result.get("clip"), result.get("frame"), result.get("patch"), num_frames)

    def _probabilities(self, x: Tensor, padding: Tensor | None) -> Float[Tensor, "rows classes"]:
        assert self.head is not None
        logits = self.head(Encoded(x[:, 0], x[:, 1:], ()), padding).float()
        return logits.sigmoid() if self.multi_label else logits.softmax(dim=1)

    @property
    def _fixed_frames(self) -> int | None:
        """The one length that the encoder sees, or None: that of the sound."""
        return self.features.num_frames if self.padding == "trained" else None


def check_layer(layer: Layer, depth: int) -> Layer:
    """The layer counted from 1.

    Raises:
        ValueError: if there is no such layer.
    """
    if isinstance(layer, str):
        if layer in ("mean", "all"):
            return layer
    elif 1 <= abs(layer) <= depth:
        return layer if layer > 0 else depth + 1 + layer
    raise ValueError(f"layer must be 1 to {depth}, -{depth} to -1, mean or all, got {layer!r}")


def weighted_mean(values: Sequence[Tensor], weights: Sequence[float]) -> Tensor:
    """The mean of what several windows say."""
    total = sum(weights)
    return torch.stack([value * (weight / total) for value, weight in zip(values, weights, strict=True)]).sum(dim=0)


def _view(x: Float[Tensor, "rows tokens dim"], level: str, mel: int, longest: int) -> Tensor:
    """The clip token, or the patches by time and mel, or their mean over mel, in float32."""
    if level == "clip":
        return x[:, 0].float()
    patches = x[:, 1 : 1 + longest * mel].unflatten(1, (longest, mel))
    return patches.float() if level == "patch" else patches.float().mean(dim=2)


def _pick(views: list[Tensor], view: Tensor, layer: Layer) -> None:
    """Take a layer in; a mean is summed up on the way."""
    if layer == "mean" and views:
        views[0] = views[0] + view
    else:
        views.append(view)


def _gather(views: list[Tensor], layer: Layer, depth: int) -> Tensor:
    if layer == "all":
        return torch.stack(views, dim=-2)
    return views[0] / depth if layer == "mean" else views[0]


def _refuse_others(config: EncoderConfig) -> None:
    """Time here is that of log-mel patches with a clip token in front; the family's other encoders count it otherwise."""
    others = {
        f"the front-end {type(config.front_end).__name__}": config.front_end,
        "no clip token": not config.clip_token,
        "positions by convolution": config.conv_positions,
        "ALiBi": config.alibi,
    }
    if found := [name for name, has in others.items() if has]:
        raise ValueError(f"tagging and embedding take log-mel patches with a clip token, this encoder has {found[0]}")
