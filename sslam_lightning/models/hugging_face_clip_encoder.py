"""A model of Hugging Face transformers in the place of this project's own encoder, as it is behind pre-training."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from jaxtyping import Bool, Float, Shaped
from torch import Tensor, nn

from sslam_lightning.models.clip_encoder import ClipEncoder
from sslam_lightning.models.encoder import mean_of_tokens
from sslam_lightning.models.hugging_face_model import HuggingFaceConfig, HuggingFaceModel
from sslam_lightning.models.hugging_face_reader import HuggingFaceReader
from sslam_lightning.models.inputs import WaveformInput
from sslam_lightning.types import Encoded, Grid

# Models of waveforms that leave padding out everywhere, if no norm spans the time: others have convolutions that it leaks
# through. They see clips of one length at a time.
_LEAVE_PADDING_OUT = ("wav2vec2", "hubert", "wavlm", "unispeech", "unispeech-sat")


class HuggingFaceClipEncoder(ClipEncoder, HuggingFaceModel):
    """The model alone. The mean of a clip's own tokens stands for the clip, and special tokens in front of them are left
    out; with ``cls_pooling`` it is the mean of the special tokens.

    Spectrograms' tokens, which transformers numbers mel by mel, come time-major. Padding is left out as far as the model
    can: ``masks_padding`` is False for one that takes no attention mask.
    """

    front_end: HuggingFaceReader

    def __init__(self, config: HuggingFaceConfig) -> None:
        super().__init__(config)
        self.config = config
        self.front_end = HuggingFaceReader(self.takes, self.convolution, config.normalize_waveforms)
        self.masks_padding = "attention_mask" in inspect.signature(self.model.forward).parameters
        settings = self.model.config
        leaves_out = settings.model_type in _LEAVE_PADDING_OUT and settings.feat_extract_norm == "layer"
        self._by_length = isinstance(self.takes, WaveformInput) and not leaves_out
        self._norm_over_time = getattr(settings, "feat_extract_norm", None) == "group"
        if config.cls_pooling and not (self.front_end.by_mel and self._num_special):
            raise ValueError(f"a {type(self.model).__name__} has no special tokens to pool: set cls_pooling to false")

    @property
    def clip_token(self) -> nn.Parameter | None:  # type: ignore[override]
        """The first special token, where special tokens stand for the clip."""
        return self.model.embeddings.cls_token if self.config.cls_pooling else None

    def forward(
        self, clips: Shaped[Tensor, "batch *shape"], padding: Bool[Tensor, "batch patches"] | None = None
    ) -> Encoded:
        """Encode whole clips."""
        (tokens,) = self._hidden_states(clips, padding, layers=False)
        if self.config.cls_pooling:
            return Encoded(tokens[:, 0], tokens[:, 1:], ())
        return Encoded(mean_of_tokens(tokens, padding), tokens, ())

    def layer_outputs(
        self,
        clips: Shaped[Tensor, "batch *shape"],
        padding: Bool[Tensor, "batch patches"] | None = None,
        hide_padding: bool = True,
    ) -> Iterator[Float[Tensor, "batch tokens dim"]]:
        """Hidden states, the last behind the model's last norm; transformers computes all of them at once."""
        return iter(self._hidden_states(clips, padding, layers=True))

    def all_blocks(self) -> Sequence[nn.Module]:
        """The model's."""
        return self.blocks()

    def in_layers(self) -> nn.Module:
        """Blocks by number; as ``front_end`` what the model defines before them, which is what comes before them."""
        below, part = nn.ModuleList(), self.model
        for name in self.stack.split("."):
            children = dict(part.named_children())
            below.extend(child for other, child in list(children.items())[: list(children).index(name)])
            part = children[name]
        return nn.ModuleDict({"front_end": below, "blocks": part, "model": self.model})

    def _hidden_states(self, clips: Tensor, padding: Tensor | None, layers: bool) -> tuple[Tensor, ...]:
        """The last one, or one a block."""
        if not self._by_length:
            return self._run(clips, padding, layers)
        grid = self.front_end.grid(clips)
        counts = torch.full((len(clips),), grid.time) if padding is None else (~padding).sum(dim=1).cpu()
        lengths = self._lengths(clips, counts)
        found: list[Tensor] = []
        for length in lengths.unique().tolist():
            rows = (lengths == length).nonzero().squeeze(1).to(clips.device)
            states = self._run(clips[rows, :length], None, layers)
            found = found or [state.new_zeros(len(clips), grid.time, self.dim) for state in states]
            found = [
                whole.index_put((rows,), _lengthened(state, grid.time)) for whole, state in zip(found, states, strict=True)
            ]
        return tuple(found)

    def _lengths(self, clips: Tensor, counts: Tensor) -> Tensor:
        """Samples of clips of so many tokens: what makes them, and of what is behind, which counts in a norm over the time,
        all up to the last sample that is not 0. (What fills up a batch is 0, and a clip at mean 0 seldom ends in it.)
        """
        least = self.front_end.num_samples(counts)
        if not self._norm_over_time:
            return least
        most = self.front_end.num_samples(counts + 1).clamp(max=clips.shape[1] + 1) - 1
        ends = ((clips != 0) * torch.arange(1, clips.shape[1] + 1, device=clips.device)).amax(dim=1).cpu()
        return ends.clamp(min=least, max=most)

    def _run(self, clips: Tensor, padding: Tensor | None, layers: bool) -> tuple[Tensor, ...]:
        grid = self.front_end.grid(clips)
        inputs: dict[str, Any] = {self.model.main_input_name: clips}
        if padding is not None and self.masks_padding:
            inputs["attention_mask"] = self._attention_mask(clips, padding, grid)
        found = self.model(**inputs, output_hidden_states=layers)
        if found.last_hidden_state.shape[1] < grid.num_patches:
            kind, least = type(self.model).__name__, grid.num_patches
            raise ValueError(
                f"a {kind} puts out fewer tokens than the {least} that it embeds: use it with transformers itself"
            )
        states = (*found.hidden_states[1:-1], found.last_hidden_state) if layers else (found.last_hidden_state,)
        return tuple(self._clip_and_tokens(state, grid) for state in states)

    def _clip_and_tokens(self, state: Tensor, grid: Grid) -> Tensor:
        """A clip's own tokens, behind the vector that stands for the clip where special tokens make one."""
        tokens = self._ordered(state[:, -grid.num_patches :], grid)
        if not self.config.cls_pooling:
            return tokens
        return torch.cat([state[:, : self._num_special].mean(dim=1, keepdim=True), tokens], dim=1)

    def _attention_mask(self, clips: Tensor, padding: Tensor, grid: Grid) -> Tensor:
        """1 where something is: of waveforms in samples, else in the model's tokens."""
        if isinstance(self.takes, WaveformInput):
            ends = self.front_end.num_samples((~padding).sum(dim=1, keepdim=True))
            return (torch.arange(clips.shape[1], device=clips.device) < ends).long()
        if self.front_end.by_mel:
            padding = padding.unflatten(1, grid).transpose(1, 2).flatten(1)
        return nn.functional.pad((~padding).long(), (self._num_special, 0), value=1)

    @property
    def _num_special(self) -> int:
        """Tokens that the model puts in front of a spectrogram's own."""
        names = ("cls_token", "distillation_token")
        return sum(getattr(getattr(self.model, "embeddings", None), name, None) is not None for name in names)

    def _ordered(self, tokens: Tensor, grid: Grid) -> Tensor:
        """Time-major."""
        if not self.front_end.by_mel:
            return tokens
        return tokens.unflatten(1, (grid.mel, grid.time)).transpose(1, 2).flatten(1, 2)


def _lengthened(tokens: Tensor, length: int) -> Tensor:
    return nn.functional.pad(tokens, (0, 0, 0, length - tokens.shape[1]))
