"""What a pre-trained encoder makes of pieces of files: tags and embeddings of any layer, whatever it reads."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args

import torch
from jaxtyping import Bool, Float, Int, Shaped
from torch import Tensor, nn

from sslam_lightning.inference.windowing import Framing, Window, Windows
from sslam_lightning.models import ClassificationHead, ClipEncoder, TransformerDecoder, classify
from sslam_lightning.models.encoder import mean_of_tokens
from sslam_lightning.models.front_ends.base import padding_behind
from sslam_lightning.types import EncoderOutput

Layer = int | Literal["mean", "all"]
Level = Literal["clip", "frame", "patch"]
Pool = Literal["cls", "mean"]

LEVELS: tuple[Level, ...] = get_args(Level)


class Encodings(NamedTuple):
    """What the model makes of one batch of windows. There is a ``layers`` axis where several were asked for."""

    probs: Float[Tensor, "rows classes"] | None  # where there is a head
    clip: Float[Tensor, "rows *layers dim"] | None  # as `EncoderModel.pool` says; None: not asked for
    frames: Float[Tensor, "rows time *layers dim"] | None
    patches: Float[Tensor, "rows time mel *layers dim"] | None
    num_frames: Int[Tensor, "rows"]  # type: ignore[assignment]  # embedded frames of each row; what is behind them is padding


class Read(NamedTuple):
    """What the encoder's front-end takes."""

    clips: Shaped[Tensor, "rows *shape"]
    num_frames: Int[Tensor, "rows"]  # type: ignore[assignment]  # tokens in time of each row, on the CPU
    masks_padding: bool  # or what is behind a row's end is to be seen, as in training


class EncoderModel(nn.Module, ABC):
    """Files in, tags and embeddings out; a plain module, in evaluation mode and without gradients.

    A subclass cuts a file into windows (:meth:`read_windows`) and makes of them what the front-end takes (:meth:`read`).

    Args:
        encoder: the encoder.
        head: a classification head.
        decoder: what stands between encoder and head, where a model was fine-tuned with its decoder.
        class_names: in the order of the head's outputs.
        multi_label: whether probabilities are those of a sigmoid or of a softmax.
        layer: whose block's output is embedded: from 1 to the encoder's depth, or from -1 down; "mean" of all blocks, or
            "all" of them along an axis in front of the last.
        bf16: compute in bfloat16 (results are float32).
        pool: the embedding of a clip: its CLS token ("cls"), or the "mean" of its patches, without padding. None: CLS where
            the encoder has such a token, else the mean.

    Raises:
        ValueError: no such layer, or no CLS token where one is asked for.
    """

    kind: str  # of files, as the file extensions of `find_sources` are sorted
    levels: tuple[Level, ...] = LEVELS
    framing: Framing | None = None  # None: what it reads is no line of samples
    tells_time = False

    def __init__(
        self,
        encoder: ClipEncoder,
        head: ClassificationHead | None = None,
        decoder: TransformerDecoder | None = None,
        class_names: Sequence[str] = (),
        multi_label: bool = True,
        layer: Layer = -1,
        bf16: bool = False,
        pool: Pool | None = None,
    ) -> None:
        super().__init__()
        self.encoder, self.head, self.decoder = encoder, head, decoder
        self.class_names, self.multi_label = tuple(class_names), multi_label
        self.layer = check_layer(layer, encoder.depth)
        self.pool = check_pool(pool, encoder)
        self.bf16 = bf16
        self.eval()

    @abstractmethod
    def read_windows(self, path: Path, windows: Windows) -> Iterator[Window]:
        """The content of a file, in windows of one row each.

        Raises:
            UnreadableAudio: if it cannot be read.
        """

    @abstractmethod
    def read(self, content: Shaped[Tensor, "rows *shape"], lengths: Int[Tensor, "rows"]) -> Read:
        """What the front-end takes of windows that are filled up behind their ends."""

    @abstractmethod
    def settings(self) -> dict[str, Any]:
        """Whatever else than weights, level and layer a result depends on, as plain data."""

    def windows(self, window_seconds: float | None = None, overlap_seconds: float | None = None) -> Windows:
        """How long files are cut; here not at all.

        Raises:
            ValueError: if a window is asked for.
        """
        if window_seconds is not None or overlap_seconds is not None:
            raise ValueError(f"{self.kind} has no seconds: leave window_seconds and overlap_seconds out")
        return Windows(1, 0)

    def mask_padding(self) -> None:
        """Mask padding from now on, where there is a choice."""

    def worth_frames(self, content: Shaped[Tensor, "length *shape"]) -> int:
        """How much work a window is, in frames of 10 ms of log-mels; at least a clip of ten seconds is counted."""
        return 0

    @property
    def device(self) -> torch.device:
        return next(self.encoder.parameters()).device

    @property
    def dim(self) -> int:
        """Width of the embeddings."""
        return self.encoder.dim

    @property
    def token_frames(self) -> int:
        """Frames of an embedded frame, see :class:`Framing`."""
        return self.framing.token_frames if self.framing else 1

    @property
    def sample_seconds(self) -> float:
        """From one sample to the next; 0 where there is no time."""
        return 1 / self.framing.rate_hz if self.tells_time and self.framing else 0.0

    def check_level(self, level: Level) -> None:
        """Refuse an embedding that there is none of.

        Raises:
            ValueError: naming those that there are.
        """
        if level not in self.levels:
            raise ValueError(f"{self.kind} has no {level}s: set the level to {' or '.join(self.levels)}")

    @torch.no_grad()
    def encode(
        self,
        content: Shaped[Tensor, "rows *shape"],
        lengths: Int[Tensor, "rows"],
        levels: Collection[Level] = LEVELS,
        probs: bool = True,
        layer: Layer | tuple[int, ...] | None = None,
    ) -> Encodings:
        """One pass over windows of different lengths.

        Args:
            content: of sound mono waveforms at the model's rate, each at least one patch long; filled up behind their ends.
            lengths: valid samples of each row, on the CPU.
            levels: which embeddings to return.
            probs: whether to apply the head, where there is one.
            layer: other blocks than the model's ``layer``: those with these numbers, counted from 1, are stacked.
        """
        clips, num_frames, masks_padding = self.read(content.to(self.device), lengths)
        time, mel = self.encoder.front_end.grid(clips)
        num_frames = num_frames.clamp(max=time)
        padding = _behind(num_frames, time, mel, self.device) if masks_padding else None
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.bf16):
            layer, probs = self.layer if layer is None else layer, probs and self.head is not None
            return self._encode(clips, padding, num_frames, mel, levels, probs, layer)

    def _encode(
        self,
        clips: Tensor,
        padding: Tensor | None,
        num_frames: Tensor,
        mel: int,
        levels: Collection[Level],
        probs: bool,
        layer: Layer | tuple[int, ...],
    ) -> Encodings:
        numbers = (
            (layer,) if isinstance(layer, int) else range(1, self.encoder.depth + 1) if isinstance(layer, str) else layer
        )
        longest = int(num_frames.max())
        behind = _behind(num_frames, longest, mel, self.device)
        views: dict[str, dict[int, Tensor]] = {level: {} for level in levels}
        for number, x in enumerate(self.encoder.layer_outputs(clips, padding), start=1):
            if number in numbers:
                for level, kept in views.items():
                    view = self._view(x, level, mel, longest, behind)
                    if layer == "mean":
                        kept[0] = view + kept[0] if kept else view
                    else:
                        kept[number] = view
            if number == max(numbers) and not probs:
                break
        result = {level: _joined(kept, numbers, layer) for level, kept in views.items()}
        probabilities = self._probabilities(x, padding) if probs else None
        return Encodings(probabilities, result.get("clip"), result.get("frame"), result.get("patch"), num_frames)

    def _view(self, x: Tensor, level: str, mel: int, longest: int, behind: Tensor | None) -> Tensor:
        """Of a block's output the clip, or the patches by time and mel, or their mean over mel, in float32.

        ``behind`` is True for those of the first ``longest * mel`` patches that lie behind a row's end.
        """
        patches = x[:, int(self.encoder.cls_token is not None) :][:, : longest * mel]
        if level == "clip":
            return x[:, 0].float() if self.pool == "cls" else mean_of_tokens(patches.float(), behind)
        patches = patches.unflatten(1, (longest, mel)).float()
        return patches if level == "patch" else patches.mean(dim=2)

    def _probabilities(self, x: Tensor, padding: Tensor | None) -> Float[Tensor, "rows classes"]:
        """Of the last block's output; without a CLS token the mean of the tokens stands for the clip."""
        assert self.head is not None
        has_cls = self.encoder.cls_token is not None
        encoded = EncoderOutput(x[:, 0], x[:, 1:], ()) if has_cls else EncoderOutput(mean_of_tokens(x, padding), x, ())
        logits = classify(encoded, self.head, self.decoder, padding).float()
        return logits.sigmoid() if self.multi_label else logits.softmax(dim=1)


def check_layer(layer: Layer, depth: int) -> Layer:
    """The layer counted from 1.

    Raises:
        ValueError: if there is no such layer.
    """
    if isinstance(layer, str):
        if layer in ("mean", "all"):
            return layer
    elif type(layer) is int and 1 <= abs(layer) <= depth:
        return layer if layer > 0 else depth + 1 + layer
    raise ValueError(f"layer must be 1 to {depth}, -{depth} to -1, mean or all, got {layer!r}")


def check_layers(layers: Sequence[int] | Literal["all"], depth: int) -> tuple[int, ...]:
    """The layers counted from 1, in the order given.

    Raises:
        ValueError: if there is none, or no such layer.
    """
    if layers == "all":
        return tuple(range(1, depth + 1))
    if isinstance(layers, str) or not layers or any(isinstance(layer, str) for layer in layers):
        raise ValueError(f'layers must be "all" or numbers from 1 to {depth} or -{depth} to -1, got {layers!r}')
    return tuple(check_layer(layer, depth) for layer in layers)  # type: ignore[misc]


def check_pool(pool: Pool | None, encoder: ClipEncoder) -> Pool:
    """How clips are pooled, chosen by the encoder where nobody else does.

    Raises:
        ValueError: if there is no such pooling, or the encoder has no CLS token.
    """
    if pool is None:
        return "mean" if encoder.cls_token is None else "cls"
    if pool not in get_args(Pool):
        raise ValueError(f"pool must be one of {', '.join(get_args(Pool))}, got {pool!r}")
    if pool == "cls" and encoder.cls_token is None:
        raise ValueError("pool cannot be cls: this model has no CLS token; set it to mean, or leave it out")
    return pool


def _joined(views: dict[int, Tensor], numbers: Sequence[int], layer: Layer | tuple[int, ...]) -> Tensor:
    """The one layer that was asked for, the mean of all (whose sum is number 0), or several in front of the last axis."""
    if layer == "mean":
        return views[0] / len(numbers)
    return views[layer] if isinstance(layer, int) else torch.stack([views[number] for number in numbers], dim=-2)


def _behind(
    num_frames: Int[Tensor, "rows"], time: int, mel: int, device: torch.device
) -> Bool[Tensor, "rows patches"] | None:
    """True for patches behind a row's end, time-major; None where there are none."""
    behind = padding_behind(num_frames, time, device)
    return None if behind is None else behind.repeat_interleave(mel, dim=1)
