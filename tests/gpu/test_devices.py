"""CPU and GPU agree, and every precision trains. Skipped where there is no GPU."""

from __future__ import annotations

import lightning.pytorch as pl
import pytest
import torch

from sslam_lightning.data import SyntheticDataModule
from sslam_lightning.features import LogMels, kaldi_fbank
from sslam_lightning.losses import SourceRetentionLoss, TeacherTargets
from sslam_lightning.masking import InverseBlockMask
from sslam_lightning.mixing import PartialMixing
from sslam_lightning.models import ConvDecoderConfig, EncoderConfig
from sslam_lightning.rng import clip_keys
from sslam_lightning.training import PretrainModule
from sslam_lightning.training.run.optimizers import OptimizerConfig
from sslam_lightning.types import Grid

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")]


@pytest.fixture(params=["highest", "high"])
def matmul_precision(request):
    """Of the model's own products; ``high`` rounds them to TF32."""
    torch.set_float32_matmul_precision(request.param)
    yield
    torch.set_float32_matmul_precision("highest")


def test_log_mels_agree(matmul_precision):
    waveforms = torch.randn(4, 32000, generator=torch.Generator().manual_seed(0)) * 0.1
    # float32 itself is 4e-3 off float64 here, so two orders of summation may be too.
    torch.testing.assert_close(kaldi_fbank(waveforms.cuda()).cpu(), kaldi_fbank(waveforms), rtol=0, atol=8e-3)


def test_masks_agree_to_the_last_patch():
    keys, grid = clip_keys(torch.arange(64), seed=3, epoch=1), Grid(64, 8)
    assert torch.equal(InverseBlockMask()(keys.cuda(), grid).hidden.cpu(), InverseBlockMask()(keys, grid).hidden)


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed", "16-mixed"])
@pytest.mark.parametrize("compile", [False, True])
def test_stage_2_trains(precision, compile, tmp_path):
    module = PretrainModule(
        EncoderConfig(dim=64, depth=2, num_heads=4),
        ConvDecoderConfig(dim=64, depth=2, groups=4),
        LogMels(num_frames=128),
        masks_per_clip=4,
        targets=TeacherTargets(top_k_layers=2),
        mixing=PartialMixing(),
        source_retention=SourceRetentionLoss(),
        optimizer=OptimizerConfig(lr=1e-3, max_steps=20),
        compile=compile,
    )
    losses = []

    class Record(pl.Callback):
        def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
            losses.append(float(outputs["loss"]))

    trainer = pl.Trainer(
        accelerator="gpu",
        devices=1,
        precision=precision,
        max_steps=20,
        gradient_clip_val=4.0,
        limit_val_batches=0,
        logger=False,
        enable_checkpointing=False,
        callbacks=[Record()],
        default_root_dir=tmp_path,
    )
    data = SyntheticDataModule(num_train=64, num_val=8, clip_seconds=1.3, batch_size=8, num_workers=0)
    trainer.fit(module, data)
    assert sum(losses[-5:]) < 0.9 * sum(losses[:5])
    assert next(module.teacher.parameters()).dtype == torch.float32
