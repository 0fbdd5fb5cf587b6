"""Nothing depends on torch's default type and device, nor on those under which a table was computed that is kept since."""

from __future__ import annotations

import functools
import gc
import importlib
import re
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from sslam_lightning import from_pretrained
from sslam_lightning.augment import Mixup, SpecAugment, crop_to_shortest, noise_and_roll, roll_and_gain
from sslam_lightning.checkpoints import Weights
from sslam_lightning.checkpoints.write import write_weights
from sslam_lightning.data import image_file
from sslam_lightning.data.audio.resample import resample_rows
from sslam_lightning.data.audio.sinc_resampler import sinc_resampler
from sslam_lightning.data.loading.collate import collate
from sslam_lightning.data.loading.sampler import EpochSampler
from sslam_lightning.data.manifests.recordings import class_balanced_weights, make_recordings
from sslam_lightning.data.modules.text import Passage, collate_texts
from sslam_lightning.default_dtype import float32_by_default
from sslam_lightning.events.frames import frame_labels
from sslam_lightning.features import LogMels
from sslam_lightning.inference.windowing import OverlapAdd
from sslam_lightning.layers import Alibi, DropPath, mel_major_positions, sincos_positions, sinusoidal_positions
from sslam_lightning.losses import DINOLoss, InfoNCE, ReconstructionLoss, SourceRetentionLoss, TeacherTargets, UtteranceLoss
from sslam_lightning.masking import (
    BlockMask,
    ChunkMask,
    FlexibleInverseBlockMask,
    InverseBlockMask,
    InverseSpanMask,
    SpanMask,
    UniformMask,
)
from sslam_lightning.metrics import knn_accuracy, mean_average_precision, token_std, variance_indicator
from sslam_lightning.mixing import FullMixing, PartialMixing
from sslam_lightning.models import (
    ClassificationHead,
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
from sslam_lightning.rng import clip_keys
from sslam_lightning.training import FinetuneModule, PretrainModule
from sslam_lightning.types import Batch, Clip, Events, Grid, ImageBatch, TextBatch

ENCODER = EncoderConfig(dim=16, depth=2, num_heads=2, drop_path_end=0.3, layer_drop=0.3, dropout=0.1)
SETTINGS: dict[str, Any] = {"targets": TeacherTargets(2), "masks_per_clip": 2, "encoder": ENCODER}
DECODER = ConvDecoderConfig(dim=16, depth=2)
LINE = ConvDecoderConfig(dim=16, depth=2, dimensions=1, kernel_size=5)
SHORT = LogMels(num_frames=64)
KEYS = clip_keys(torch.arange(4), seed=0, epoch=0)
GRID = Grid(13, 8)


@pytest.fixture(autouse=True)
def _without_a_trainer() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=r".*self\.log\(\).*")
        yield


@contextmanager
def as_ever() -> Iterator[None]:
    """For what comes from outside."""
    with float32_by_default(), torch.device("cpu"):
        yield


@as_ever()
def noise(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(1))


@as_ever()
def batch(samples: int = 10_600) -> Batch:
    labels = torch.tensor([[1, 1, 0], [0, 1, 0], [0, 0, 1], [0, 0, 1]], dtype=torch.float32)
    waveforms = 0.1 * noise(4, samples)
    lengths = [samples, samples, samples * 3 // 4, samples]
    waveforms[2, lengths[2] :] = 0
    return Batch(waveforms, lengths, labels, torch.arange(4), ("a", "b", "c", "d"))


def features(folder: Path) -> Iterable[Tensor]:
    decibels = {"kind": "decibel"}, {"kind": "decibel", "extremes": "padded_row"}
    for settings in ({}, {"sample_rate_hz": 22050, "num_mels": 64}, {"window": "povey"}, *decibels):
        yield LogMels(num_frames=None, **settings)(batch().waveforms, batch().num_samples)


def masks(folder: Path) -> Iterable[Tensor]:
    blocks = BlockMask(), InverseBlockMask(), FlexibleInverseBlockMask(), ChunkMask(), UniformMask()
    for sampler in (*blocks, SpanMask(), InverseSpanMask()):
        yield from sampler(KEYS, GRID)


def mixtures(folder: Path) -> Iterable[Tensor]:
    with as_ever():
        behind = torch.arange(208) >= torch.tensor([[208], [100], [160], [208]])
    for mixer in (PartialMixing(), FullMixing(padding="gives_way")):
        yield mixer(noise(4, 208, 128), KEYS, 16, behind).clips
    for mixup in (Mixup(), Mixup(alpha=0.0)):
        yield from mixup(noise(4, 32, 16), noise(4, 3), KEYS)
    yield SpecAugment()(noise(4, 32, 16), KEYS)
    yield noise_and_roll(noise(4, 32, 16), KEYS)
    yield roll_and_gain(batch().waveforms, batch().num_samples, KEYS)
    yield crop_to_shortest(batch(), KEYS).waveforms


def tables(folder: Path) -> Iterable[Tensor]:
    yield from (sincos_positions(13, 8, 16), mel_major_positions(13, 8, 16), sinusoidal_positions(13, 16))
    with as_ever():
        learned = Alibi(6)
    yield from (learned(GRID), Alibi(6, learned=False).slopes)
    torch.manual_seed(0)
    yield DropPath(0.3)(noise(64, 2))
    rows = [noise(1, 20, 3), noise(1, 20, 3) + 1]
    joiner = OverlapAdd()
    yield torch.cat([joiner.push(0, rows[0][0]), joiner.push(13, rows[1][0]), joiner.finish()])


def resampling(folder: Path) -> Iterable[Tensor]:
    for from_hz in (44100, 44101, 8000):
        yield sinc_resampler(from_hz, 16000)(noise(from_hz // 4))
        yield resample_rows(noise(2, from_hz // 4), from_hz, 16000)


def data(folder: Path) -> Iterable[Tensor]:
    recordings = make_recordings("", ["a", "b"], [[0, 2], [1]], ["x", "y", "z"])
    yield from (recordings.labels(0), class_balanced_weights(recordings))
    with as_ever():
        heard = Events(torch.tensor([2]), torch.tensor([0.13]), torch.tensor([0.57]))
    clips = [Clip(noise(size), recordings.labels(0), number, "", heard) for number, size in enumerate((50, 80))]
    for joined in (collate(clips), collate([])):
        yield from (joined.waveforms, joined.labels)
    events = collate(clips).events
    assert events is not None
    yield frame_labels(events, 10, 3, 0.1)
    yield EpochSampler(20, 2, seed=1).order(1)
    yield EpochSampler(20, 2, seed=1, weights=noise(20).abs(), samples_per_epoch=9).order(1)
    passages = [Passage(recordings.labels(0).int(), recordings.labels(0), number, "") for number in range(2)]
    texts = collate_texts(passages)
    yield from (texts.tokens, texts.clip_index)
    fresh = importlib.reload(image_file)  # which has numbers of its own
    yield from (fresh._MEAN, fresh._STD)


def metrics(folder: Path) -> Iterable[Tensor]:
    labels = (noise(20, 3) > 0).int()
    yield mean_average_precision(noise(20, 3).sigmoid(), labels).value
    yield mean_average_precision(noise(20, 3).sigmoid(), labels * 0).value.nan_to_num()
    yield from (variance_indicator(noise(20, 3)), token_std(noise(4, 5, 3)))
    yield knn_accuracy(noise(20, 3), labels[:, 0], noise(20, 3) + 1, labels[:, 1], 5)


def _step(make: Callable[[], Any], clips: Any) -> Iterable[Tensor]:
    """The loss of a step, and its gradient; the module is made as ever."""
    with as_ever():
        torch.manual_seed(0)
        module = make()
    torch.manual_seed(1)  # the noise of the step
    loss = module.training_step(clips, 0)
    loss.backward()
    yield loss
    yield from (parameter.grad for parameter in module.parameters() if parameter.grad is not None)


def stage_1(folder: Path) -> Iterable[Tensor]:
    parts = {"reconstruction": ReconstructionLoss(), "dino": DINOLoss(), "utterance": None}
    yield from _step(lambda: PretrainModule(decoder=DECODER, features=SHORT, **parts, **SETTINGS), batch())


def stage_2(folder: Path) -> Iterable[Tensor]:
    parts = {
        "mixing": PartialMixing(),
        "source_retention": SourceRetentionLoss(),
        "utterance": UtteranceLoss(top_k_layers=1),
    }
    yield from _step(lambda: PretrainModule(decoder=DECODER, features=SHORT, **parts, **SETTINGS), batch())


def transformer_decoder(folder: Path) -> Iterable[Tensor]:
    decoder = TransformerDecoderConfig(dim=16, depth=1, num_heads=2)
    yield from _step(lambda: PretrainModule(decoder=decoder, features=SHORT, **SETTINGS), batch())


def bat(folder: Path) -> Iterable[Tensor]:
    size = {"num_heads": 2, "gated_attention": True, "weight_init": "xavier"}
    encoder = EncoderConfig(dim=16, depth=2, max_time_patches=4, **size)
    decoder = TransformerDecoderConfig(
        dim=16,
        depth=1,
        positions="learned",
        max_tokens=32,
        input_norm=False,
        projection_bias=False,
        output_projection=True,
        **size,
    )
    settings = {**SETTINGS, "encoder": encoder, "features": replace(SHORT, kind="decibel")}
    yield from _step(lambda: PretrainModule(decoder=decoder, **settings), batch())
    with as_ever():
        longer = Encoder(encoder).eval()
    torch.nn.init.normal_(longer.cls_token, generator=torch.Generator().manual_seed(0))
    yield longer(noise(2, 112, 128)).cls


def waveforms(folder: Path) -> Iterable[Tensor]:
    front_end = WaveformConfig(((8, 10, 5), (8, 3, 2), (8, 8, 16)))
    parts = {"conv_positions": ConvPositionsConfig(2, 6, 4), "alibi": "learned"}
    settings = {**SETTINGS, "encoder": replace(ENCODER, front_end=front_end, **parts), "masking": SpanMask()}
    yield from _step(lambda: PretrainModule(decoder=LINE, features=None, **settings), batch())


def images(folder: Path) -> Iterable[Tensor]:
    settings = {**SETTINGS, "encoder": replace(ENCODER, front_end=ImageConfig()), "masking": UniformMask()}
    with as_ever():
        clips = ImageBatch(noise(4, 3, 64, 64), *batch()[2:5])
    yield from _step(lambda: PretrainModule(decoder=DECODER, features=None, **settings), clips)


def text(folder: Path) -> Iterable[Tensor]:
    settings = {**SETTINGS, "encoder": replace(ENCODER, front_end=TextConfig(50, 20)), "masking": UniformMask(0.4)}
    with as_ever():
        clips = TextBatch(torch.arange(60).view(4, 15) % 40 + 5, [15] * 4, *batch()[2:5])
    yield from _step(lambda: PretrainModule(decoder=LINE, features=None, **settings), clips)


def mae_ast(folder: Path) -> Iterable[Tensor]:
    encoder = EncoderConfig(dim=16, depth=1, num_heads=2, front_end=SpectrogramTokensConfig(), cls_token=False)
    decoder = TransformerDecoderConfig(dim=16, depth=1, num_heads=2)
    losses = {"ema": None, "regression": None, "utterance": None}
    losses |= {"reconstruction": ReconstructionLoss(), "info_nce": InfoNCE()}
    settings = {"features": SHORT, "masking": ChunkMask(), "decoder": decoder, **losses}
    yield from _step(lambda: PretrainModule(encoder, **settings), batch())


def fine_tuning(folder: Path) -> Iterable[Tensor]:
    parts = {"num_classes": 3, "mixup": Mixup(), "spec_augment": SpecAugment(), "features": SHORT}
    yield from _step(lambda: FinetuneModule(ENCODER, **parts), batch())


def opened(folder: Path) -> Iterable[Tensor]:
    if not (folder / "model").exists():
        encoder, head = Encoder(ENCODER), ClassificationHead(16, 3)
        parts = {"student": encoder.state_dict(), "head": head.state_dict(), "class_names": ("x", "y", "z")}
        weights = Weights("a model", ENCODER, features=SHORT.__dict__, **parts)
        write_weights(weights, folder / "model", "safetensors")
    with torch.device("cpu"):  # a model is made on the default device, as any module
        model = from_pretrained(folder / "model")
    encodings = model(batch().waveforms, 22050)
    yield from (part for part in encodings if isinstance(part, Tensor))


SOUND = [features, masks, mixtures, tables, resampling, data, metrics]
MODELS = [stage_1, stage_2, transformer_decoder, bat, waveforms, images, text, mae_ast, fine_tuning, opened]


@contextmanager
def default_type(dtype: torch.dtype) -> Iterator[None]:
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(torch.float32)


def forget_tables() -> None:
    """Empty every cache of a function of the package."""
    caches = [found for found in gc.get_objects() if type(found) is functools._lru_cache_wrapper]
    ours = [cache for cache in caches if cache.__module__.startswith("sslam_lightning")]
    assert len(ours) > 2
    for cache in ours:
        cache.cache_clear()


@pytest.mark.parametrize("default", [torch.bfloat16, torch.float64, torch.device("meta")], ids=str)
@pytest.mark.parametrize("compute", [*SOUND, *MODELS], ids=lambda function: function.__name__)
def test_every_result_has_the_same_bits(
    compute: Callable[[Path], Iterable[Tensor]], default: torch.dtype | torch.device, tmp_path: Path
) -> None:
    """U7: under another default type or device, and behind it, with whatever tables are kept from there."""
    expected = [result.detach().clone() for result in compute(tmp_path)]
    forget_tables()
    with default_type(default) if isinstance(default, torch.dtype) else default:
        under = [result.detach() for result in compute(tmp_path)]
    behind = [result.detach() for result in compute(tmp_path)]
    assert len(expected) > 0
    for results in (under, behind):
        for number, (ours, wanted) in enumerate(zip(results, expected, strict=True)):
            assert ours.dtype == wanted.dtype, number
            assert torch.equal(ours, wanted), number


def test_modules_are_not_trained_in_another_type() -> None:
    """U7."""
    message = "modules are trained in float32, but torch's default type is torch.float64: call torch.set_default_dtype"
    with default_type(torch.float64), pytest.raises(ValueError, match=re.escape(message)):
        PretrainModule(decoder=DECODER, **SETTINGS)
