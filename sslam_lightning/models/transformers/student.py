"""Any encoder of Hugging Face transformers as a student: the plain model, with tokens hidden where it embeds them."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from jaxtyping import Bool, Float, Shaped
from torch import Tensor, nn

from sslam_lightning.models.teacher import MovingAverage
from sslam_lightning.models.transformers.model import HuggingFaceConfig, HuggingFaceModel
from sslam_lightning.types import Grid


class HiddenStates(NamedTuple):
    """What a model makes of clips; special tokens in front, such as [CLS], are left out."""

    tokens: Float[Tensor, "rows tokens dim"]  # the model's last hidden state
    hidden_states: tuple[Float[Tensor, "rows tokens dim"], ...]  # outputs of its blocks, the last one last


class HuggingFaceEncoder(HuggingFaceModel):
    """A model of transformers and the vector that replaces hidden tokens. ``front_end`` reads its batches."""

    cls_token = None  # special tokens are left out

    def __init__(self, config: HuggingFaceConfig) -> None:
        super().__init__(config)
        self.normalize_waveforms = config.normalize_waveforms
        words = getattr(self.model.get_submodule(self.token_module), "embedding_dim", self.dim)
        self.mask_token = nn.Parameter(torch.zeros(int(words)))
        nn.init.normal_(self.mask_token, std=0.02)

    def forward(
        self,
        clips: Shaped[Tensor, "rows *shape"],
        padding: Bool[Tensor, "rows tokens"] | None = None,
        hidden: Bool[Tensor, "rows tokens"] | None = None,
        keep_layers: int = 0,
    ) -> HiddenStates:
        """Hidden states of clips whose tokens are replaced by the mask token where ``hidden`` is True.

        Args:
            clips: what the model reads.
            padding: True for tokens behind a clip's end.
            hidden: which tokens are hidden, in the model's own order; None shows all.
            keep_layers: how many of the last blocks' outputs to return.
        """
        with self._hiding(hidden) as num_tokens:
            found = self.model(**self.inputs(clips, padding), output_hidden_states=keep_layers > 0)
        layers = found.hidden_states[-keep_layers:] if keep_layers else ()
        tokens, *layers = (state[:, -num_tokens[0] :] for state in (found.last_hidden_state, *layers))
        return HiddenStates(tokens, tuple(layers))

    def grid(self, clips: Shaped[Tensor, "rows *shape"], num_tokens: int) -> Grid:
        """The field of tokens in the model's own order, of spectrograms mels by time; one line if nothing cuts patches."""
        if self.convolution is None:
            return Grid(num_tokens, 1)
        grid = self.front_end.grid(clips)
        return Grid(grid.freq, grid.time) if self.front_end.by_mel else grid

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


class HuggingFaceTeacher(MovingAverage):
    """The student's moving average; sees whole clips."""

    def __init__(self, student: HuggingFaceEncoder) -> None:
        super().__init__(copy.deepcopy(student))

    @torch.no_grad()
    def forward(
        self, clips: Shaped[Tensor, "rows *shape"], padding: Bool[Tensor, "rows tokens"] | None, keep_layers: int
    ) -> HiddenStates:
        return self.encoder(clips, padding, keep_layers=keep_layers)
