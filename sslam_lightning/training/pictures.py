"""Pictures of what a pre-training module sees and predictions."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from sslam_lightning.layers import Block
from sslam_lightning.models import Encoder
from sslam_lightning.types import Batch, Grid

FRAME_SHIFT_SECONDS = 0.01


@torch.no_grad()
def draw_predictions(module: Any, batch: Batch, path: Path, clip: int = 0) -> None:
    """Draw a clip, its mixture, what the student saw, prediction and target, and the CLS token's attention, as PNG.

    Targets have many channels; the three in which this clip's target varies most are shown as red, green and blue.

    Args:
        module: a trained `PretrainModule`, on any device.
        batch: clips to choose from (stage 2 needs at least two).
        path: the file to write.
        clip: which clip of the batch to show.
    """
    if module.features is None:
        raise ValueError("pictures are drawn of spectrograms, this module's front-end reads something else")
    size = module.student.config.patch_size
    panels = _panels(module.eval(), batch, clip)
    _, clean = panels[0]
    extent = (0, clean.shape[1] * FRAME_SHIFT_SECONDS, 0, module.features.num_mels)
    _plot(panels, extent, f"seconds; a patch is {size} mel bins x {size} frames of 10 ms", path)


def _panels(module: Any, batch: Batch, clip: int) -> list[tuple[str, Tensor]]:
    """Titles and images, low mel bins first."""
    keys, clean = module.clip_keys(batch), module.log_mels(batch)
    mixture = module.mix(clean, keys, behind=module.frames_behind(batch, clean))
    grid = module.student.front_end.grid(clean)
    mask = module.draw_masks(keys, grid)
    embedded = module.student.embed(mixture.clips)
    targets = module.teacher_targets(embedded, mixture, grid)
    predictions = module.predict_masked(embedded, mixture, mask, grid)
    shown = len(batch.waveforms) + clip if module.mixing else clip  # the clip's mixture, where there are mixtures
    row = shown * module.masks_per_clip
    hidden, ids_masked, predicted = mask.hidden[row], mask.ids_masked[row], predictions.patches[row].float()
    target = targets.retained[clip] if targets.retained is not None else targets.patches[shown]
    error = (target[ids_masked] - predicted).square().mean()
    prediction = target.new_zeros(target.shape).index_copy(0, ids_masked, predicted)
    palette = _palette(target)
    size = module.student.config.patch_size
    cover = hidden.view(*grid).repeat_interleave(size, 0).repeat_interleave(size, 1)
    attention = cls_token_attention(module.student, clean[clip : clip + 1])[0]
    return [
        (f"clip: {batch.names[clip]}", clean[clip].T),
        ("its mixture" if module.mixing else "the same (no mixing)", mixture.clips[shown].T),
        ("what the student sees (white is hidden)", mixture.clips[shown].masked_fill(cover, float("nan")).T),
        ("teacher's target at hidden patches", _colors(target, *palette, hidden, grid)),
        (
            f"student's prediction there: mean squared error {float(error):.2f}, where guessing the mean gives about 1",
            _colors(prediction, *palette, hidden, grid),
        ),
        ("what the CLS token of the whole clip attends to (last block, mean of heads)", attention.view(*grid).T),
    ]


def _plot(panels: list[tuple[str, Tensor]], extent: tuple[float, float, float, float], below: str, path: Path) -> None:
    """Write the panels as PNG, one below the other; ``extent`` is in seconds and mel bins."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(len(panels), 1, figsize=(8, 2 * len(panels)), layout="constrained", sharex=True)
    for axis, (title, image) in zip(axes, panels, strict=True):
        axis.imshow(image.cpu().numpy(), origin="lower", aspect="auto", interpolation="nearest", extent=extent)
        axis.set_title(title, fontsize=9, parse_math=False)  # the $ of a name is a $
        axis.set_ylabel("mel bin")
    axes[-1].set_xlabel(below)
    figure.supxlabel("Colors: the three channels in which the target varies most, as red, green and blue", fontsize=8)
    figure.savefig(path, dpi=110)
    pyplot.close(figure)


@torch.no_grad()
def cls_token_attention(encoder: Encoder, log_mels: Float[Tensor, "clips frames mels"]) -> Float[Tensor, "clips patches"]:
    """The CLS token's attention to all patches in the last block, averaged over heads; with itself a row sums to 1."""
    seen: list[Tensor] = []
    block = encoder.blocks[-1]
    assert isinstance(block, Block)
    attention = block.attn
    hook = attention.qkv.register_forward_hook(lambda module, inputs, output: seen.append(output))
    try:
        encoder(log_mels)
    finally:
        hook.remove()
    clips, tokens, _ = seen[0].shape
    q, k, _ = seen[0].float().view(clips, tokens, 3, attention.num_heads, -1).permute(2, 0, 3, 1, 4)
    weights = (q[:, :, :1] @ k.transpose(-2, -1) * q.shape[-1] ** -0.5).softmax(dim=-1)
    return weights.mean(dim=1)[:, 0, 1:]


def _palette(target: Float[Tensor, "patches dim"]) -> tuple[Tensor, Tensor, Tensor]:
    channels = target.var(dim=0).topk(3).indices
    chosen = target[:, channels]
    return channels, chosen.amin(dim=0), chosen.amax(dim=0)


def _colors(
    x: Float[Tensor, "patches dim"], channels: Tensor, low: Tensor, high: Tensor, hidden: Tensor, grid: Grid
) -> Float[Tensor, "mel time 3"]:
    colors = ((x[:, channels] - low) / (high - low).clamp(min=1e-6)).clamp(0, 1)
    colors[~hidden] = 1.0
    return colors.view(*grid, 3).transpose(0, 1)
