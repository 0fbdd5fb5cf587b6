"""The teacher: an exponential moving average of the student's encoder (data2vec, Baevski et al., 2022, section 3.3)."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any, Literal

import torch
from jaxtyping import Bool, Float, Int, Shaped
from torch import Tensor, nn

from sslam_lightning.layers import gather_tokens
from sslam_lightning.models.encoder import Encoder
from sslam_lightning.types import BlockInput, Grid

TeacherParts = Literal["encoder", "context", "blocks"]


class MovingAverage(nn.Module):
    """A frozen encoder that follows the student's, always in evaluation mode."""

    def __init__(self, encoder: nn.Module) -> None:
        super().__init__()
        self.encoder: Any = encoder.requires_grad_(False)
        self.eval()

    def train(self, mode: bool = True) -> MovingAverage:
        return super().train(False)

    @torch.no_grad()
    def update_ema(self, student: nn.Module, decay: float) -> None:
        """Move every weight towards the student's: teacher = decay * teacher + (1 - decay) * student; copy buffers."""
        learned, own = dict(student.named_parameters()), dict(self.encoder.named_parameters())
        towards = [learned[name].to(weight.dtype) for name, weight in own.items()]
        torch._foreach_lerp_(list[Tensor](own.values()), towards, 1.0 - decay)
        buffers = dict(student.named_buffers())
        for name, buffer in self.encoder.named_buffers():  # of batch norms, averages already
            buffer.copy_(buffers[name])


class Teacher(MovingAverage):
    """The moving average of an encoder of ours.

    Args:
        student: the encoder to copy.
        parts: what the teacher has of its own. ``encoder``: everything. ``context``: everything behind the front-end,
            whose tokens it takes from the student (data2vec 2.0 on waveforms). ``blocks``: the main blocks alone
            (data2vec 2.0 on text).
    """

    encoder: Encoder

    def __init__(self, student: Encoder, parts: TeacherParts = "encoder") -> None:
        super().__init__(copy.deepcopy(student))
        self.parts = parts
        if parts != "encoder":
            del self.encoder.front_end
        if parts == "blocks":
            for part in ("conv_positions", "alibi", "cls_token", "input_norm", "input_dropout", "prenet", "output_norm"):
                delattr(self.encoder, part)
            self.encoder.output_norm = nn.Identity()

    def embed(
        self, clips: Shaped[Tensor, "clips *shape"], embedded: Float[Tensor, "clips patches dim"]
    ) -> Float[Tensor, "clips patches dim"]:
        """The clips by its own front-end; without one, as the student has ``embedded`` them."""
        return self.encoder.embed(clips) if self.parts == "encoder" else embedded.detach()

    def prepare_tokens(
        self,
        student: Encoder,
        embedded: Float[Tensor, "clips patches dim"],
        grid: Grid,
        padding: Bool[Tensor, "clips patches"] | None = None,
    ) -> BlockInput:
        """What the first of the main blocks sees of whole clips; a teacher of blocks alone takes it from the student."""
        source = student if self.parts == "blocks" else self.encoder
        return source.prepare_tokens(*source.select_tokens(embedded, grid, padding=padding))

    def keep(self, entered: BlockInput, rows: Int[Tensor, "rows"], index: Int[Tensor, "rows kept"]) -> BlockInput:
        """The patches at ``index`` of the clips ``rows`` of those that have entered, and their CLS tokens.

        What is left out is left out of the main blocks alone: in the prenet the patches have met, as published.
        """
        if self.encoder.config.cls_token:
            index = torch.cat([torch.zeros_like(index[:, :1]), index + 1], dim=1)
        bias = entered.bias
        if bias is not None:
            row = (rows if len(bias) > 1 else torch.zeros_like(rows)).view(-1, 1, 1)
            bias = bias[row, :, index.unsqueeze(2), index.unsqueeze(1)].permute(0, 3, 1, 2)
        padding = None if entered.padding is None else entered.padding[rows].gather(1, index)
        return BlockInput(gather_tokens(entered.tokens[rows], index), padding, bias)

    def layers(
        self, seen: BlockInput, keep_layers: int = 0, layer_output: Literal["ffn", "block"] = "ffn"
    ) -> Sequence[Float[Tensor, "rows tokens dim"]]:
        """What the last ``keep_layers`` main blocks make of the patches that have entered."""
        return self.encoder.forward_blocks(*seen, keep_layers, layer_output).hidden_states
