"""No tensor is left on the CPU and nothing waits for the GPU, on one that is not there; recipes: see test_configs.py."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import pytest
import torch
from fake_gpu import WaitingCopy, a_gpu, batch_for, hand_on, move_to_gpu, step_on_gpu
from torch import Tensor, nn
from torch._subclasses.fake_tensor import DataDependentOutputException, FakeTensorDeviceMismatchError

from sslam_lightning.features import LogMels
from sslam_lightning.features.fbank import fbank_tables
from sslam_lightning.inference import AudioModel
from sslam_lightning.losses import ExtraLoss, TeacherTargets
from sslam_lightning.masking import InverseBlockMask
from sslam_lightning.models import (
    ClassificationHead,
    ConvDecoderConfig,
    Encoder,
    EncoderConfig,
    HuggingFaceClipEncoder,
    HuggingFaceConfig,
    HuggingFaceEncoder,
    TextConfig,
    TextInput,
    WaveformConfig,
)
from sslam_lightning.training import PretrainModule
from sslam_lightning.types import Batch, TextBatch

ENCODER = EncoderConfig(dim=16, depth=2, num_heads=2, mlp_ratio=2.0, patch_size=4, num_mels=16)
FEATURES = LogMels(num_frames=32, num_mels=16, patch_frames=4)
WAV2VEC2 = {"conv_dim": [8, 8], "conv_kernel": [10, 3], "conv_stride": [5, 2], "num_feat_extract_layers": 2}
WAV2VEC2 |= {"feat_extract_norm": "layer", "num_conv_pos_embeddings": 4, "num_conv_pos_embedding_groups": 2}
ROBERTA = {"vocab_size": 30, "max_position_embeddings": 20}


def pretrain(extra_loss: ExtraLoss | None = None) -> PretrainModule:
    decoder = ConvDecoderConfig(dim=16, depth=2, groups=4)
    return PretrainModule(
        ENCODER, decoder, FEATURES, InverseBlockMask(0.75, 2), 2, TeacherTargets(2), extra_loss=extra_loss
    )


@pytest.mark.parametrize(
    "model",
    [
        AudioModel(Encoder(ENCODER), features=FEATURES),
        AudioModel(Encoder(ENCODER), ClassificationHead(ENCODER.dim, 4), FEATURES),
        AudioModel(Encoder(replace(ENCODER, front_end=WaveformConfig(((8, 10, 5), (8, 8, 4))))), features=None),
    ],
    ids=["clips of any length", "trained length", "waveforms"],
)
def test_inference(model: AudioModel) -> None:
    rate_hz = model.sample_rate_hz
    with a_gpu() as mode:
        mode.copies_are_free = True  # results have to come back
        move_to_gpu(model)
        shorter = torch.tensor([rate_hz, rate_hz, rate_hz // 2])
        found = model.encode(torch.zeros(3, rate_hz, device="cuda"), shorter, probs=model.head is not None)
        assert found.num_frames.device.type == "cpu"  # a GPU need not be asked how much of the rest is padding
        results = [
            found.probs,
            found.clip,
            found.frames,
            found.patches,
            model(torch.zeros(2, 3 * rate_hz), 3 * rate_hz).clip,
        ]
        assert [result.device.type for result in results if result is not None] == ["cuda"] * (5 if model.head else 4)


def _hugging_face(of_this: type[nn.Module], kind: str, settings: dict[str, Any]) -> nn.Module:
    pytest.importorskip("transformers")
    size = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
    return of_this(HuggingFaceConfig(kind, {**size, **settings})).eval()


@pytest.mark.parametrize(
    "make",
    [
        lambda: Encoder(replace(ENCODER, front_end=WaveformConfig(((8, 10, 5), (8, 8, 4))))),
        lambda: Encoder(replace(ENCODER, front_end=TextConfig(vocabulary=30, max_tokens=12))),
        partial(_hugging_face, HuggingFaceClipEncoder, "wav2vec2", WAV2VEC2),
        partial(_hugging_face, HuggingFaceClipEncoder, "roberta", ROBERTA),
        partial(_hugging_face, HuggingFaceEncoder, "wav2vec2", WAV2VEC2),
        partial(_hugging_face, HuggingFaceEncoder, "roberta", ROBERTA),
    ],
    ids=["waveform", "text", "wav2vec2", "roberta", "wav2vec2 that learns", "roberta that learns"],
)
def test_padded_clips_are_read(make: Callable[[], Any]) -> None:
    encoder = make()
    reader = getattr(encoder, "front_end", encoder)
    with a_gpu():
        move_to_gpu(encoder)
        rest = torch.zeros(2, 0), torch.arange(2), ("a", "b")
        if isinstance(reader.takes, TextInput):
            readings = reader.read(TextBatch(torch.ones(2, 8, dtype=torch.long, device="cuda"), [8, 3], *rest))
        else:
            readings = reader.read(Batch(torch.zeros(2, 400, device="cuda"), [400, 200], *rest))
        assert readings.padding is not None
        assert {readings.clips.device.type, readings.padding.device.type} == {"cuda"}
        assert encoder(*readings).tokens.device.type == "cuda"


class _LeftOnTheCPU(ExtraLoss):
    def __call__(self, output: Any) -> Tensor:
        return (output.predictions.patches + torch.zeros(output.predictions.patches.shape)).mean()


class _Waits(ExtraLoss):
    def __call__(self, output: Any) -> Tensor:
        patches = output.predictions.patches
        return patches.mean() if bool(patches.sum() > 0) else patches.sum()


class _CopiesAndWaits(ExtraLoss):
    def __call__(self, output: Any) -> Tensor:
        return output.predictions.patches.mean().cpu().to("cuda")


class _WrongType(ExtraLoss):
    def __call__(self, output: Any) -> Tensor:
        patches, cls, *_ = output.predictions
        first = torch.zeros(len(cls), 1, dtype=torch.long, device="cuda")
        return torch.zeros(cls.shape, device="cuda").scatter(1, first, patches[:, 0, :1]).mean()


@pytest.mark.parametrize(
    ("extra_loss", "error", "says"),
    [
        (_LeftOnTheCPU(), FakeTensorDeviceMismatchError, "cuda:0 and cpu"),
        (_Waits(), DataDependentOutputException, "_local_scalar_dense"),
        (_CopiesAndWaits(), WaitingCopy, "from cuda to cpu"),
        (_WrongType(), RuntimeError, "self.dtype to be equal to src.dtype"),  # the predictions are of half precision
    ],
    ids=["left on the CPU", "waits", "copies", "wrong type"],
)
def test_a_slip_is_seen(extra_loss: ExtraLoss, error: type[Exception], says: str) -> None:
    step_on_gpu(pretrain(), 16000)
    with pytest.raises(error, match=re.escape(says)):
        step_on_gpu(pretrain(extra_loss=extra_loss), 16000)


def test_lengths_stay_on_the_host() -> None:
    module = pretrain()
    rest = torch.zeros(2, 0), torch.arange(2), ("a", "b")
    batches = [batch_for(module, 16000), TextBatch(torch.zeros(2, 8, dtype=torch.long), [8, 3], *rest)]
    with a_gpu() as mode:
        mode.copies_are_free = True
        sounds, texts = (hand_on(module, batch) for batch in batches)
        assert isinstance(sounds, Batch)
        assert isinstance(texts, TextBatch)
        assert {part.device.type for part in (*sounds, *texts) if isinstance(part, Tensor)} == {"cuda"}
        assert sounds.num_samples.tolist() == [48000, 48000, 47999, 24000]
        assert texts.num_tokens.tolist() == [8, 3]


def test_nothing_of_it_is_left() -> None:
    step_on_gpu(pretrain(), 16000)
    assert fbank_tables.cache_info().currsize == 0
    assert not torch.is_autocast_enabled("cuda")
