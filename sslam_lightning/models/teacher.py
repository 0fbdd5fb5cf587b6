"""The teacher: an exponential moving average of the student's encoder (data2vec, Baevski et al., 2022, section 3.3)."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Literal

import torch
from jaxtyping import Bool, Float, Int, Shaped
from torch import Tensor, nn

from sslam_lightning.models.encoder import Encoder
from sslam_lightning.types import Grid

TeacherParts = Literal["encoder", "context", "blocks"]


class Teacher(nn.Module):
    """A copy of an encoder that follows it slowly, learns nothing by itself, and always is in evaluation mode.

    Args:
        student: the encoder to copy.
        parts: what the teacher has of its own. ``encoder``: everything. ``context``: everything behind the front-end,
            whose tokens it takes from the student (data2vec 2.0 on waveforms). ``blocks``: the main blocks alone
            (data2vec 2.0 on text).
    """

    def __init__(self, student: Encoder, parts: TeacherParts = "encoder") -> None:
        super().__init__()
        self.parts = parts
        self.encoder = copy.deepcopy(student).requires_grad_(False)
        if parts != "encoder":
            del self.encoder.front_end
        if parts == "blocks":
            for part in ("conv_positions", "alibi", "clip_token", "input_norm", "input_dropout", "prenet", "output_norm"):
                delattr(self.encoder, part)
            self.encoder.output_norm = nn.Identity()
        self.eval()

    def train(self, mode: bool = True) -> Teacher:
        """Stay in evaluation mode, whatever the model around does."""
        return super().train(False)

    def embed(
        self, clips: Shaped[Tensor, "clips *shape"], embedded: Float[Tensor, "clips patches dim"]
    ) -> Float[Tensor, "clips patches dim"]:
        """The clips by its own front-end; without one, as the student has ``embedded`` them."""
        return self.encoder.embed(clips) if self.parts == "encoder" else embedded.detach()

    def layers(
        self,
        student: Encoder,
        embedded: Float[Tensor, "clips patches dim"],
        grid: Grid,
        index: Int[Tensor, "rows kept"] | None = None,
        padding: Bool[Tensor, "clips patches"] | None = None,
        keep_layers: int = 0,
        layer_source: Literal["feed_forward", "block"] = "feed_forward",
    ) -> Sequence[Float[Tensor, "rows tokens dim"]]:
        """What the last ``keep_layers`` blocks make of the tokens at ``index``, of all where it is None."""
        if self.parts != "blocks":
            seen = self.encoder.choose(embedded, grid, index, padding)
            return self.encoder.encode(*seen, keep_layers, layer_source).layers
        entered = student.enter(*student.choose(embedded, grid, index, padding))
        return self.encoder.run(*entered, keep_layers, layer_source).layers

    def follow(self, student: Encoder, decay: float) -> None:
        """Move every weight towards the student's: teacher = decay * teacher + (1 - decay) * student."""
        follow(self.encoder, student, decay)


@torch.no_grad()
def follow(average: nn.Module, leader: nn.Module, decay: float) -> None:
    """Move the weights of ``average``, all of which ``leader`` has too, towards the leader's; buffers are copied."""
    learned = dict(leader.named_parameters())
    own = dict(average.named_parameters())
    towards = [learned[name].to(weight.dtype) for name, weight in own.items()]
    torch._foreach_lerp_(list[Tensor](own.values()), towards, 1.0 - decay)
    buffers = dict(leader.named_buffers())
    for name, buffer in average.named_buffers():  # of batch norms, averages already
        buffer.copy_(buffers[name])
