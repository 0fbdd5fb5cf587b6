"""Any encoder of Hugging Face transformers as a student: the plain model, with tokens hidden where it embeds them."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from jaxtyping import Bool, Float, Shaped
from torch import Tensor, nn

from sslam_lightning.models.front_end import BatchReader, Readings, padding_behind
from sslam_lightning.models.hugging_face_model import HuggingFaceConfig, HuggingFaceModel
from sslam_lightning.models.hugging_face_reader import EPS
from sslam_lightning.models.inputs import WaveformInput
from sslam_lightning.models.teacher import follow
from sslam_lightning.models.waveform import normalise_clips
from sslam_lightning.types import AnyBatch, Grid, ImageBatch, TextBatch


class HiddenStates(NamedTuple):
    """What a model makes of clips; special tokens in front, such as [CLS], are left out."""

    tokens: Float[Tensor, "rows tokens dim"]  # the model's last hidden state
    layers: tuple[Float[Tensor, "rows tokens dim"], ...]  # outputs of its blocks, the last one last


class HuggingFaceEncoder(HuggingFaceModel, BatchReader):
    """A model of transformers, and beside it only the vector that stands for hidden tokens.

    The model reads what its ``main_input_name`` says: ``input_ids`` text, ``pixel_values`` images, anything else log-mels,
    where the module has features, or waveforms.
    """

    clip_token = None  # special tokens are left out

    def __init__(self, config: HuggingFaceConfig) -> None:
        super().__init__(config)
        self.normalize_waveforms = config.normalize_waveforms
        words = getattr(self.model.get_submodule(self.token_module), "embedding_dim", self.dim)
        self.mask_token = nn.Parameter(torch.zeros(int(words)))
        nn.init.normal_(self.mask_token, std=0.02)
        self.min_samples = self.takes.min_samples if isinstance(self.takes, WaveformInput) else 1

    def read(self, batch: AnyBatch) -> Readings:
        """Tokens, images or waveforms, and what of their length is padding: of texts tokens, of waveforms samples."""
        if isinstance(batch, TextBatch):
            return Readings(batch.tokens, padding_behind(batch.num_tokens, batch.tokens.shape[1], batch.tokens.device))
        if isinstance(batch, ImageBatch):
            return Readings(batch.images)
        waveforms, lengths = batch.waveforms, batch.num_samples
        behind = padding_behind(lengths, waveforms.shape[1], waveforms.device)
        return Readings(normalise_clips(waveforms, lengths, EPS) if self.normalize_waveforms else waveforms, behind)

    def forward(
        self,
        clips: Shaped[Tensor, "rows *shape"],
        padding: Bool[Tensor, "rows length"] | None = None,
        hidden: Bool[Tensor, "rows tokens"] | None = None,
        keep_layers: int = 0,
    ) -> HiddenStates:
        """Hidden states of clips whose tokens are replaced by the mask token where ``hidden`` is True.

        Args:
            clips: what the model reads.
            padding: True behind a clip's end, in the clips' own length.
            hidden: which tokens are hidden; None shows all.
            keep_layers: how many of the last blocks' outputs to return.
        """
        inputs = {self.model.main_input_name: clips}
        if padding is not None:
            inputs["attention_mask"] = (~padding).long()
        with self._hiding(hidden) as num_tokens:
            found = self.model(**inputs, output_hidden_states=keep_layers > 0)
        layers = found.hidden_states[-keep_layers:] if keep_layers else ()
        return HiddenStates(
            found.last_hidden_state[:, -num_tokens[0] :], tuple(layer[:, -num_tokens[0] :] for layer in layers)
        )

    def grid(self, clips: Shaped[Tensor, "rows *shape"], num_tokens: int) -> Grid:
        """The field of tokens: rows and columns where a convolution cuts patches (of spectrograms mels by time), else one
        line.
        """
        cut = self.convolution
        if cut is None:
            return Grid(num_tokens, 1)
        height = clips.shape[-2] if self.model.main_input_name == "pixel_values" else clips.shape[-1]
        rows = (height - cut.kernel_size[0]) // cut.stride[0] + 1
        return Grid(rows, num_tokens // rows)

    def token_padding(
        self, padding: Bool[Tensor, "rows length"] | None, num_tokens: int
    ) -> Bool[Tensor, "rows tokens"] | None:
        """Which tokens are padding, from what of the clips' length is."""
        if padding is None or padding.shape[1] == num_tokens:
            return padding
        return ~self.model._get_feature_vector_attention_mask(num_tokens, (~padding).long())

    @contextmanager
    def _hiding(self, hidden: Tensor | None) -> Iterator[list[int]]:
        """Hide tokens where the model makes them; the list then holds how many there are."""
        num_tokens: list[int] = []

        def replace(_: nn.Module, __: Any, output: Any) -> Any:
            first = output if isinstance(output, Tensor) else output[0]
            num_tokens.append(first.shape[1])
            if hidden is None:
                return None
            masked = torch.where(hidden.unsqueeze(-1), self.mask_token.to(first.dtype), first)
            return masked if isinstance(output, Tensor) else (masked, *output[1:])

        handle = self.model.get_submodule(self.token_module).register_forward_hook(replace)
        try:
            yield num_tokens
        finally:
            handle.remove()


class HuggingFaceTeacher(nn.Module):
    """A copy of the student that follows it slowly, learns nothing by itself, and always is in evaluation mode."""

    def __init__(self, student: HuggingFaceEncoder) -> None:
        super().__init__()
        self.encoder = copy.deepcopy(student).requires_grad_(False)
        self.eval()

    def train(self, mode: bool = True) -> HuggingFaceTeacher:
        """Stay in evaluation mode, whatever the model around does."""
        return super().train(False)

    @torch.no_grad()
    def forward(
        self, clips: Shaped[Tensor, "rows *shape"], padding: Bool[Tensor, "rows length"] | None, keep_layers: int
    ) -> HiddenStates:
        """Hidden states of whole clips."""
        return self.encoder(clips, padding, keep_layers=keep_layers)

    def follow(self, student: HuggingFaceEncoder, decay: float) -> None:
        """Move every weight towards the student's: teacher = decay * teacher + (1 - decay) * student."""
        follow(self.encoder, student, decay)
