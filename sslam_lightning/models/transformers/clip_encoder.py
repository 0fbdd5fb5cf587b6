"""A model of Hugging Face transformers in the place of this project's own encoder, as it is behind pre-training."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from jaxtyping import Bool, Float, Shaped
from torch import Tensor, nn

from sslam_lightning.models.clip_encoder import ClipEncoder
from sslam_lightning.models.encoder import mean_of_tokens
from sslam_lightning.models.front_ends.inputs import WaveformInput
from sslam_lightning.models.transformers.model import HuggingFaceConfig, HuggingFaceModel
from sslam_lightning.models.transformers.reader import HuggingFaceReader
from sslam_lightning.types import EncoderOutput

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
        settings = self.model.config
        leaves_out = settings.model_type in _LEAVE_PADDING_OUT and settings.feat_extract_norm == "layer"
        self._by_length = isinstance(self.takes, WaveformInput) and not leaves_out
        self._norm_over_time = getattr(settings, "feat_extract_norm", None) == "group"
        if config.cls_pooling and not (self.front_end.by_mel and self.num_special):
            raise ValueError(f"a {type(self.model).__name__} has no special tokens to pool: set cls_pooling to false")

    @property
    def cls_token(self) -> nn.Parameter | None:  # type: ignore[override]
        """The first special token, where special tokens stand for the clip."""
        return self.model.embeddings.cls_token if self.config.cls_pooling else None

    def forward(
        self, clips: Shaped[Tensor, "batch *shape"], padding: Bool[Tensor, "batch patches"] | None = None
    ) -> EncoderOutput:
        (tokens,) = self._hidden_states(clips, padding, layers=False)
        if self.config.cls_pooling:
            return EncoderOutput(tokens[:, 0], tokens[:, 1:], ())
        return EncoderOutput(mean_of_tokens(tokens, padding), tokens, ())

    def layer_outputs(
        self,
        clips: Shaped[Tensor, "batch *shape"],
        padding: Bool[Tensor, "batch patches"] | None = None,
        hide_padding: bool = True,
    ) -> Iterator[Float[Tensor, "batch tokens dim"]]:
        """Hidden states, the last behind the model's last norm; transformers computes all of them at once."""
        return iter(self._hidden_states(clips, padding, layers=True))

    def all_blocks(self) -> Sequence[nn.Module]:
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
        num_tokens = self.front_end.grid(clips).time
        counts = torch.full((len(clips),), num_tokens) if padding is None else (~padding).sum(dim=1).cpu()
        lengths = self._lengths(clips, counts)
        found: list[Tensor] = []
        for length in lengths.unique().tolist():
            rows = (lengths == length).nonzero().squeeze(1).to(clips.device)
            states = self._run(clips[rows, :length], None, layers)
            found = found or [state.new_zeros(len(clips), num_tokens, self.dim) for state in states]
            filled = (nn.functional.pad(state, (0, 0, 0, num_tokens - state.shape[1])) for state in states)
            found = [whole.index_put((rows,), state) for whole, state in zip(found, filled, strict=True)]
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
        """The clip's own tokens, time-major, after the mean of the special tokens with ``cls_pooling``."""
        grid = self.front_end.grid(clips)
        found = self.model(**self.inputs(clips, padding), output_hidden_states=layers)
        if found.last_hidden_state.shape[1] < grid.num_patches:
            kind, least = type(self.model).__name__, grid.num_patches
            raise ValueError(
                f"a {kind} puts out fewer tokens than the {least} that it embeds: use it with transformers itself"
            )

        def clip_and_tokens(state: Tensor) -> Tensor:
            tokens = state[:, -grid.num_patches :]
            if self.front_end.by_mel:
                tokens = tokens.unflatten(1, (grid.freq, grid.time)).transpose(1, 2).flatten(1, 2)
            clip = [state[:, : self.num_special].mean(dim=1, keepdim=True)] * self.config.cls_pooling
            return torch.cat([*clip, tokens], dim=1)

        states = (*found.hidden_states[1:-1], found.last_hidden_state) if layers else (found.last_hidden_state,)
        return tuple(map(clip_and_tokens, states))
