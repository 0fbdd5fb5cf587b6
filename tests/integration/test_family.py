"""Every method of the family pre-trains for real in a short run, and its checkpoint opens."""

from __future__ import annotations

from pathlib import Path

import lightning.pytorch as pl
import pytest
import torch
from made_by_tests import docs_of_the_package, striped_images
from tiny import FAST_EMA, NUM_CLASSES, Diary, soundscapes, trainer

from sslam_lightning.checkpoints import load_state_dict_strict, read_weights
from sslam_lightning.data import AudioFolderDataModule, ImageFolderDataModule, TextDataModule
from sslam_lightning.features import LogMels
from sslam_lightning.losses import (
    InfoNCE,
    ReconstructionLoss,
    RegressionLoss,
    SourceRetentionLoss,
    TeacherTargets,
    UtteranceLoss,
)
from sslam_lightning.masking import ChunkMask, InverseBlockMask, InverseSpanMask, SpanMask, UniformMask
from sslam_lightning.mixing import PartialMixing
from sslam_lightning.models import (
    ConvDecoderConfig,
    ConvPositionsConfig,
    Encoder,
    EncoderConfig,
    ImageConfig,
    SpectrogramTokensConfig,
    TextConfig,
    TransformerDecoderConfig,
    WaveformConfig,
)
from sslam_lightning.training import FinetuneModule, PretrainModule
from sslam_lightning.training.run.optimizers import OptimizerConfig

_RECORDINGS = Path(__file__).parents[3] / "shared" / "data" / "esc10" / "audio"
FRAMES = 64
SIZE = {"dim": 32, "depth": 2, "num_heads": 2}
MASKS = {"random": UniformMask(), "chunk": ChunkMask(), "spans": InverseSpanMask(0.75, 4)}


def _data2vec2(encoder: EncoderConfig, lr: float = 3e-3, **settings) -> PretrainModule:
    settings = {"features": None, "masks_per_clip": 2, "ema": FAST_EMA, "targets": TeacherTargets(2), **settings}
    return PretrainModule(encoder, optimizer=OptimizerConfig(lr=lr, warmup_steps=10), **settings)


def _waveform(folder: Path):
    """A short stack of convolutions on real recordings, or on soundscapes where there are none."""
    front_end = WaveformConfig(((16, 10, 5), *[(16, 3, 2)] * 4, *[(16, 2, 2)] * 2))
    encoder = EncoderConfig(
        **SIZE,
        front_end=front_end,
        cls_token=False,
        conv_positions=ConvPositionsConfig(2, 10, 4),
        alibi="learned",
        layer_drop=0.05,
    )
    module = _data2vec2(
        encoder,
        lr=8e-3,
        decoder=ConvDecoderConfig(dim=16, depth=2, kernel_size=7, groups=4, dimensions=1),
        masking=SpanMask(),
        utterance=None,
        teacher_parts="context",
    )
    if not _RECORDINGS.is_dir():
        return module, soundscapes(32, batch_size=8)
    settings = {"max_clip_seconds": 0.66, "samples_per_epoch": 32, "batch_size": 8, "num_workers": 0}
    return module, AudioFolderDataModule(_RECORDINGS, **settings)


def _image(folder: Path):
    """Stripes of two colors in random directions."""
    striped_images(folder / "images", 32)
    module = _data2vec2(
        EncoderConfig(**SIZE, prenet_depth=1, front_end=ImageConfig(8)),
        decoder=ConvDecoderConfig(dim=16, depth=2, groups=4),
        masking=InverseBlockMask(0.7, 2),
        utterance=UtteranceLoss(weight=0.1),
    )
    return module, ImageFolderDataModule(folder / "images", size=32, batch_size=8, num_workers=0)


def _text(folder: Path):
    """This package's own documentation."""
    module = _data2vec2(
        EncoderConfig(**SIZE, front_end=TextConfig(400, 32), cls_token=False, input_norm=False),
        decoder=ConvDecoderConfig(
            dim=16, depth=2, kernel_size=5, groups=1, dimensions=1, residual=False, projection_depth=2
        ),
        masking=UniformMask(0.48),
        regression=RegressionLoss(scale=1.0),
        targets=TeacherTargets(2, normalize_average=()),
        utterance=None,
        teacher_parts="blocks",
    )
    docs_of_the_package(folder / "texts")
    settings = {"vocabulary": 400, "max_tokens": 32, "batch_size": 16, "num_workers": 0}
    return module, TextDataModule(folder / "texts", folder / "tokenizer.json", **settings)


def _bat(folder: Path, **settings):
    """With the switches of its recipe."""
    shared = {"gated_attention": True, "weight_init": "xavier"}
    module = _data2vec2(
        EncoderConfig(**SIZE, **shared, max_time_patches=4),
        features=LogMels(num_frames=FRAMES, kind="decibel", extremes="padded_row"),
        decoder=TransformerDecoderConfig(
            **SIZE,
            **shared,
            positions="learned",
            max_tokens=32,
            input_norm=False,
            norm_eps=1e-6,
            projection_bias=False,
            output_projection=True,
        ),
        targets=TeacherTargets(2, "block", eps=1e-6),
        regression=RegressionLoss(scale="mean"),
        roll=True,
        **{"utterance": UtteranceLoss(scale="mean"), **settings},
    )
    return module, soundscapes(32, batch_size=8)


def _sslam_on_bat(folder: Path):
    """SSLAM's mixtures on BAT's encoder."""
    stage_2 = {"mixing": PartialMixing(partner="neighbor"), "source_retention": SourceRetentionLoss()}
    return _bat(folder, **stage_2, utterance=UtteranceLoss(scale="mean", top_k_layers=1))


def _mae_ast(token_frames: int, token_mels: int, mask: str):
    front_end = SpectrogramTokensConfig(token_frames, token_mels)
    return PretrainModule(
        EncoderConfig(**SIZE, front_end=front_end, cls_token=False, norm_eps=1e-5),
        features=LogMels(num_frames=FRAMES, patch_frames=token_frames, mean=0.0, std=0.5),
        masking=MASKS[mask],
        masks_per_clip=1,
        decoder=TransformerDecoderConfig(**SIZE),
        ema=None,
        regression=None,
        utterance=None,
        reconstruction=ReconstructionLoss(weight=10.0, scale="mean", normalize=False),
        info_nce=InfoNCE(),
        optimizer=OptimizerConfig(lr=3e-3, warmup_steps=5, decay="linear"),
    ), soundscapes(32, batch_size=8)


# name -> how it is made, epochs, and what the last epoch's mean loss may be at most, as a share of the first one's
METHODS = {
    "waveform": (_waveform, 30, 0.85),
    "image": (_image, 16, 0.8),
    "text": (_text, 6, 0.8),
    "bat": (_bat, 10, 0.5),
    "sslam on bat": (_sslam_on_bat, 6, 0.6),
    "mae-ast, patches, random": (lambda _: _mae_ast(16, 16, "random"), 10, 0.5),
    "mae-ast, patches, chunks": (lambda _: _mae_ast(16, 16, "chunk"), 10, 0.5),
    "mae-ast, frames, random": (lambda _: _mae_ast(2, 128, "random"), 10, 0.5),
    "mae-ast, frames, spans": (lambda _: _mae_ast(2, 128, "spans"), 10, 0.5),
}


def _fit(name: str, folder: Path) -> tuple[pl.LightningModule, Diary, Path]:
    pl.seed_everything(1, verbose=False)
    make, epochs, _ = METHODS[name]
    module, data = make(folder)
    diary = Diary()
    runner = trainer(folder / "run", diary, max_epochs=epochs, gradient_clip_val=4.0)
    runner.fit(module, data)
    runner.save_checkpoint(folder / "last.ckpt")
    return module, diary, folder / "last.ckpt"


def _loss(entry: dict[str, float]) -> float:
    """Of a step. The scale of a teacher's targets moves while it learns, so errors are taken relative to it."""
    return entry.get("train/loss/regression", entry["train/loss"]) / entry.get("train/target_std", 1.0) ** 2


@pytest.mark.parametrize("name", METHODS)
def test_a_short_run_learns_and_its_checkpoint_opens(name, tmp_path):
    module, diary, checkpoint = _fit(name, tmp_path)
    losses = [_loss(entry) for entry in diary.logged]
    length = sum(epoch == 0 for epoch, _ in diary.losses)
    first, last = (sum(part) / length for part in (losses[:length], losses[-length:]))
    assert last < METHODS[name][2] * first, f"{last / first:.3f}"

    weights = read_weights(checkpoint)
    assert weights.encoder == module.student.config
    assert not [name for name in weights.unused if not name.startswith("mean_")]
    encoder = Encoder(weights.encoder)
    load_state_dict_strict(encoder, weights.student, "student", weights.source)
    for name, weight in module.student.state_dict().items():
        assert torch.equal(encoder.state_dict()[name], weight)


@pytest.mark.parametrize("name", ["mae-ast, frames, spans", "bat"])
def test_what_reads_log_mels_is_fine_tuned_from_its_checkpoint(name, tmp_path):
    module, _, checkpoint = _fit(name, tmp_path)
    tuned = FinetuneModule(
        module.student.config, module.features, NUM_CLASSES, init_from=str(checkpoint), roll_and_gain=False
    )
    diary = Diary()
    trainer(tmp_path / "tuned", diary, max_steps=1).fit(tuned, soundscapes(8, batch_size=8))
    before, after = dict(module.student.named_parameters()), dict(tuned.encoder.named_parameters())
    assert diary.losses
    for key, weight in before.items():  # one step of a warm rate moves nothing far
        assert (after[key] - weight).abs().max() < 1e-2, key
