"""From the teacher's layers to what the student regresses (data2vec 2.0, arXiv 2212.07525, section 3.1)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from sslam_lightning.whole_numbers import check_whole_numbers

Normalization = Literal["instance", "batch", "layer"]


def normalize(
    x: Float[Tensor, "rows tokens dim"], kind: Normalization, eps: float = 1e-5
) -> Float[Tensor, "rows tokens dim"]:
    """Normalize to mean 0 and variance 1, without learned weights.

    ``instance``: every channel over the tokens of its row; ``batch``: every channel over all tokens of all rows;
    ``layer``: every token over its channels.
    """
    if kind == "layer":
        return F.layer_norm(x, x.shape[-1:], eps=eps)
    dims = (1,) if kind == "instance" else (0, 1)
    centered = x - x.mean(dims, keepdim=True)
    variance = centered.square().mean(dims, keepdim=True)  # on CPUs `var` over other dims than the last is ten times slower
    return centered * (variance + eps).rsqrt()


@dataclass(frozen=True)
class TeacherTargets:
    """Averages the last layers of the teacher.

    Args:
        top_k_layers: how many of the last blocks count; None is all of them.
        output: ``ffn`` takes a block's feed-forward output before the residual, ``block`` its output.
        normalize_layers: applied to every layer, in this order.
        normalize_average: applied to their average, in this order.
        eps: is added to variances; 1e-6 in BAT.
    """

    top_k_layers: int | None = None
    output: Literal["ffn", "block"] = "ffn"
    normalize_layers: tuple[Normalization, ...] = ("instance",)
    normalize_average: tuple[Normalization, ...] = ("layer",)
    eps: float = 1e-5

    def __post_init__(self) -> None:
        check_whole_numbers(self, "targets")
        if not self.eps > 0:
            raise ValueError(f"targets: eps must be positive, got {self.eps}")

    @property
    def rows_are_independent(self) -> bool:
        """Whether a row's targets are the same in whatever batch it stands."""
        return "batch" not in (*self.normalize_layers, *self.normalize_average)

    def __call__(
        self, layers: Sequence[Float[Tensor, "rows tokens dim"]], top_k_layers: int | None = None
    ) -> Float[Tensor, "rows tokens dim"]:
        """The target of every token in float32, from ``layers``, the last of which is the teacher's last."""
        chosen = layers[-(top_k_layers or self.top_k_layers or len(layers)) :]
        total = torch.zeros_like(chosen[0], dtype=torch.float32)
        for layer in chosen:
            layer = layer.float()
            for kind in self.normalize_layers:
                layer = normalize(layer, kind, self.eps)
            total += layer
        average = total.div_(len(chosen))
        for kind in self.normalize_average:
            average = normalize(average, kind, self.eps)
        return average
