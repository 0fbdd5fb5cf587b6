"""Rebuilds the reference's weights, inputs and masks from their names and seeds, and reads its vocabulary.

The recipes are those of the reference's README: NumPy's legacy stream, keyed by the parameter's public name.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from sslam_lightning.checkpoints import from_fairseq, load_state_dict_strict
from sslam_lightning.losses import ReconstructionLoss, RegressionLoss, SourceRetentionLoss, TeacherTargets, UtteranceLoss
from sslam_lightning.masking import MaskSampler
from sslam_lightning.masking.sampler import mask_from_hidden
from sslam_lightning.mixing import PartialMixing
from sslam_lightning.models import ConvDecoderConfig, EncoderInput
from sslam_lightning.models.front_ends.base import padding_behind
from sslam_lightning.training import PretrainModule
from sslam_lightning.types import Batch, Grid, ImageBatch, Mask, TextBatch


def recipe_tensor(name: str, shape: list[int]) -> Tensor:
    x = np.random.RandomState(zlib.crc32(name.encode())).standard_normal(int(np.prod(shape))).reshape(shape)
    if len(shape) >= 2:
        x = x * (1.0 if "extra_tokens" in name else 0.05)
    elif name.endswith(".weight"):
        x = 1 + 0.1 * x
    else:
        x = 0.05 * x
    return torch.tensor(x, dtype=torch.float32)


def recipe_state(shapes: dict[str, list[int]], prefix: str = "") -> dict[str, Tensor]:
    return {name: recipe_tensor(prefix + name, shape) for name, shape in shapes.items() if not name.endswith(".positions")}


def recipe_input(seed: int, shape: tuple[int, ...]) -> Tensor:
    x = np.random.RandomState(seed).standard_normal(int(np.prod(shape))).reshape(shape) * 0.5
    return torch.tensor(x, dtype=torch.float32)


def recipe_mask(seed: int, rows: int, num_patches: int, num_hidden: int) -> Tensor:
    draw = np.random.RandomState(seed)
    hidden = torch.zeros(rows, num_patches, dtype=torch.bool)
    for row in hidden:
        row[draw.permutation(num_patches)[:num_hidden]] = True
    return hidden


@dataclass(frozen=True)
class RecordedMasks(MaskSampler):
    """Plays recorded masks back, one batch after the other."""

    batches: list[Tensor] = field(default_factory=list)
    played: list[int] = field(default_factory=lambda: [0])

    def num_hidden(self, grid: Grid) -> int:
        return int(self.batches[self.played[0]][0].sum())

    def hidden(self, keys: Tensor, grid: Grid) -> Tensor:
        return self.batches[self.played[0]]

    def __call__(self, keys: Tensor, grid: Grid, padding: Tensor | None = None) -> Mask:
        mask = mask_from_hidden(self.hidden(keys, grid), self.num_hidden(grid))
        self.played[0] = (self.played[0] + 1) % len(self.batches)
        return mask


@dataclass(frozen=True)
class RecordedRegions(PartialMixing):
    """Partial mixing with the regions of a recording."""

    starts: tuple[int, ...] = ()
    region_frames: int = 240

    def shared(self, keys: Tensor, num_time: int) -> Tensor:
        frame = torch.arange(num_time) * 16
        alone = torch.stack([(frame >= start) & (frame < start + self.region_frames) for start in self.starts]).any(0)
        return ~alone.expand(len(keys), -1)


class FromLogMels(PretrainModule):
    """The real module, fed with recorded log-mels in place of waveforms."""

    def log_mels(self, batch: Batch) -> Tensor:
        return batch.waveforms


def log_mel_batch(log_mels: Tensor) -> Batch:
    rows = len(log_mels)
    lengths = [160 * log_mels.shape[1] + 240] * rows  # as many as make so many frames
    return Batch(log_mels, lengths, torch.zeros(rows, 0), torch.arange(rows), ("recorded",) * rows)


def layer_targets(cfg: dict, depth: int) -> TeacherTargets:
    """The public code's switches, in the order in which it applies them; of more layers than there are it takes all."""
    per_layer = {"batch": "batch_norm_target_layer", "instance": "instance_norm_target_layer"}
    per_layer["layer"] = "layer_norm_target_layer"
    average = {"layer": "layer_norm_targets", "instance": "instance_norm_targets"}
    return TeacherTargets(
        min(cfg["average_top_k_layers"], depth),
        "block" if cfg["end_of_block_targets"] else "ffn",
        tuple(kind for kind, switch in per_layer.items() if cfg[switch]),
        tuple(kind for kind, switch in average.items() if cfg[switch]),
    )


def pretrain_module(cfg: dict, state: dict, teacher: dict | None, source: str, **settings) -> FromLogMels:
    """The module of a public configuration with public weights, through the checkpoint importer."""
    weights = from_fairseq(state, cfg, source, teacher)
    assert not weights.unused
    shape = {"beta": cfg["loss_beta"], "scale": cfg["loss_scale"]}
    mixed = "mixing" in settings
    settings = {
        "masks_per_clip": cfg["clone_batch"],
        "targets": layer_targets(cfg, weights.encoder.depth),
        "regression": RegressionLoss(cfg["d2v_loss"], **shape),
        "utterance": UtteranceLoss(cfg["cls_loss"], **shape, reduction="sum", top_k_layers=1 if mixed else None),
        "reconstruction": ReconstructionLoss(cfg["recon_loss"], **shape) if cfg["recon_loss"] else None,
        "source_retention": SourceRetentionLoss() if mixed else None,
        **settings,
    }
    decoder = weights.decoder_config
    assert isinstance(decoder, ConvDecoderConfig)
    module = FromLogMels(weights.encoder, decoder, **settings)
    load_state_dict_strict(module.student, weights.student, "student", source)
    load_state_dict_strict(module.teacher.encoder, weights.teacher, "teacher", source)
    load_state_dict_strict(module.decoder, weights.decoder, "decoder", source)
    if weights.reconstruction:
        load_state_dict_strict(module.reconstruction_head, weights.reconstruction, "reconstruction head", source)
    return module


class FromReadings(PretrainModule):
    """The real module, fed with recorded inputs as they are: the recordings were not normalized clip by clip."""

    def read(self, batch) -> EncoderInput:
        if isinstance(batch, Batch):
            num_tokens = self.student.front_end.takes.num_tokens
            width = num_tokens(torch.tensor(batch.waveforms.shape[1])).item()
            return EncoderInput(
                batch.waveforms, padding_behind(num_tokens(batch.num_samples), width, batch.waveforms.device)
            )
        return super().read(batch)


def data2vec_batch(modality: str, arrays: dict[str, np.ndarray]) -> Batch | ImageBatch | TextBatch:
    """The recorded input as a batch of its modality."""
    source = torch.tensor(arrays["source"])
    rows = len(source)
    rest = (torch.zeros(rows, 0), torch.arange(rows), ("recorded",) * rows)
    if modality == "IMAGE":
        return ImageBatch(source, *rest)
    lengths = torch.full((rows,), source.shape[1])
    if "padding_mask" in arrays:
        lengths -= torch.tensor(arrays["padding_mask"].sum(axis=1))
    return (Batch if modality == "AUDIO" else TextBatch)(source, lengths, *rest)
