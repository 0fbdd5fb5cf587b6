"""Sound through an AST of transformers: where its patches lie in time, in windows of the one length that it takes."""

from __future__ import annotations

import pytest
import torch

from sslam_lightning.features import LogMels
from sslam_lightning.inference import AudioModel
from sslam_lightning.inference.windowing import Framing, Windows
from sslam_lightning.models import ClassificationHead, HuggingFaceClipEncoder, HuggingFaceConfig

pytest.importorskip("transformers")

SIZE = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}


def model(stride: int = 10, **options) -> AudioModel:
    torch.manual_seed(0)
    settings = {**SIZE, "max_length": 96, "time_stride": stride, "frequency_stride": stride}
    encoder = HuggingFaceClipEncoder(HuggingFaceConfig("audio-spectrogram-transformer", settings))
    return AudioModel(encoder, features=LogMels(num_frames=96), **options)


def test_patches_that_overlap():
    made = model()
    # A patch of 16 frames of 25 ms, one every 10 of 10 ms; nine of them in 96 frames.
    assert made.framing == Framing(16000, 160, 400 + 6 * 160, 10)
    assert made.framing.token_samples == 400 + 15 * 160
    assert made.windows() == Windows(90, 20)
    with pytest.raises(ValueError, match=r"of this model a window has at most 0\.9 s, got 2 s"):
        made.windows(2.0)
    sound = torch.randn(48000)
    found = made(sound, 16000)
    assert found.patches.shape == (30, 12, 16)  # 298 frames: 28.2 hops behind the first patch's
    torch.testing.assert_close(found.timestamps[:2], torch.tensor([1400, 3000]).double() / 16000)
    window = made(sound[: made.framing.token_samples + 8 * 1600], 16000)  # what the first window sees
    assert len(window.frames) == 9
    torch.testing.assert_close(found.patches[:7], window.patches[:7])  # behind them the next window is blended in


def test_padding_is_masked_or_seen_as_in_training():
    sound = torch.randn(6000)
    masked, trained = model(16)(sound, 16000), model(16, padding="trained")
    assert len(masked.frames) == 3
    torch.testing.assert_close(masked.clip, masked.patches.mean(dim=(0, 1)))
    log_mels = LogMels(num_frames=96)(sound[None], torch.tensor([6000]))
    seen = trained(sound, 16000)
    torch.testing.assert_close(seen.patches, trained.encoder(log_mels).tokens[0].unflatten(0, (-1, 8))[:3])
    torch.testing.assert_close(seen.clip, seen.patches.mean(dim=(0, 1)))  # what was seen as padding is not averaged in
    other = model(16, head=ClassificationHead(16, 3, "mean")).eval()
    assert other.padding == "trained"
    expected = other.head(other.encoder(log_mels)).sigmoid()[0]
    torch.testing.assert_close(other(sound, 16000).probs, expected)
    without = model(16)
    without.encoder.masks_padding = False  # as AST in older releases, whose forward takes no attention mask
    assert AudioModel(without.encoder, features=LogMels(num_frames=96)).padding == "trained"
