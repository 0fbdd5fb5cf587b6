"""Nearest neighbours and pictures while training: what is computed and refused, and that the module stays as it was."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from tiny_modules import ENCODER, finetune, noise, pretrain

from sslam_lightning.data import SyntheticDataModule
from sslam_lightning.metrics import knn_accuracy
from sslam_lightning.models import Encoder
from sslam_lightning.training.callbacks import OnlineKNN, Pictures
from sslam_lightning.training.callbacks.pictures import draw
from sslam_lightning.training.pictures import clip_token_attention


def labelled(**settings: Any) -> SyntheticDataModule:
    settings = {"num_train": 6, "num_val": 4, "max_sources": 1, "clip_seconds": 0.4, "num_workers": 0, **settings}
    return SyntheticDataModule(batch_size=4, **settings)


@pytest.mark.parametrize("pooling", ["clip_token", "mean"])
def test_the_score_is_that_of_all_clips_and_the_module_stays_as_it_was(pooling: Any) -> None:
    module, data = pretrain(), labelled()
    torch.manual_seed(3)
    before, modes = torch.get_rng_state(), [part.training for part in module.modules()]
    accuracy = OnlineKNN(data, k=2, pooling=pooling).score(module)
    assert torch.equal(torch.get_rng_state(), before)
    assert [part.training for part in module.modules()] == modes
    assert any(modes)

    embedded = {}
    for split in ("train", "val"):
        clips = [data.dataset(split)[index] for index in range(len(data.dataset(split)))]
        waveforms = torch.stack([clip.waveform for clip in clips])
        with torch.no_grad():
            encoded = module.eval().student(module.features(waveforms, torch.full((len(clips),), waveforms.shape[1])))
        labels = torch.stack([clip.labels for clip in clips]).argmax(dim=1)
        embedded[split] = (encoded.clip if pooling == "clip_token" else encoded.tokens.mean(dim=1), labels)
    assert accuracy == knn_accuracy(*embedded["train"], *embedded["val"], 2)


@pytest.mark.parametrize(
    ("settings", "k", "told"),
    [({"num_val": 0}, 2, "10 classes, 6 training and 0 validation clips"), ({}, 7, r"at least k = 7\) and to be judged")],
)
def test_sets_that_cannot_score_are_refused(settings: dict[str, Any], k: int, told: str) -> None:
    with pytest.raises(ValueError, match=told):
        OnlineKNN(labelled(**settings), k=k).setup(None, None, "fit")  # type: ignore[arg-type]
    OnlineKNN(labelled(**settings), k=k).setup(None, None, "test")  # type: ignore[arg-type]


def test_clips_of_several_classes_are_refused() -> None:
    with pytest.raises(ValueError, match="OnlineKNN needs clips of exactly one class each"):
        OnlineKNN(labelled(max_sources=3), k=2).score(pretrain())


def test_it_is_time_once_in_so_many_updates(monkeypatch: pytest.MonkeyPatch) -> None:
    callback, logged = OnlineKNN(labelled(), every_n_updates=3), []
    monkeypatch.setattr(callback, "score", lambda module: torch.tensor(0.25))
    logger = SimpleNamespace(log_metrics=lambda metrics, step: logged.append((metrics, step)))
    module: Any = SimpleNamespace(log=lambda name, value, **options: logged.append((name, options["logger"])))
    for step in (0, 1, 3, 3, 4, 6):  # 3 twice: an accumulated batch without an update
        callback.on_train_batch_end(SimpleNamespace(global_step=step, loggers=[logger]), module, None, None, 0)
    row = [("knn_accuracy", False), ({"knn_accuracy": 0.25}, 2)]
    assert logged == [*row, row[0], ({"knn_accuracy": 0.25}, 5)]


def test_attention_of_the_clip_token_by_hand() -> None:
    encoder, log_mels = Encoder(ENCODER).eval(), torch.randn(2, 32, 16)
    attention = clip_token_attention(encoder, log_mels)
    assert attention.shape == (2, 32)
    assert not encoder.blocks[-1].attn.qkv._forward_hooks

    x = torch.cat([encoder.clip_token.expand(2, -1, -1), encoder.embed(log_mels)], dim=1)
    x = encoder.blocks[0](encoder.input_norm(x)).tokens
    last = encoder.blocks[-1].attn
    q, k, _ = last.qkv(x).chunk(3, dim=-1)
    heads = [slice(0, 8), slice(8, 16)]
    weights = [(q[:, :1, head] @ k[:, :, head].mT / 8**0.5).softmax(dim=-1)[:, 0, 1:] for head in heads]
    torch.testing.assert_close(attention, sum(weights) / 2)


def test_a_picture_leaves_the_module_as_it_was(tmp_path) -> None:
    module = pretrain()
    torch.manual_seed(3)
    before, modes = torch.get_rng_state(), [part.training for part in module.modules()]
    batch = noise()
    names = (r"$a_^$", r"the $\nothing$ of mathematics", *batch.names[2:])
    draw(module, batch._replace(names=names), tmp_path / "picture.png", 1)
    assert (tmp_path / "picture.png").stat().st_size > 10_000
    assert torch.equal(torch.get_rng_state(), before)
    assert [part.training for part in module.modules()] == modes


def test_pictures_that_cannot_be_drawn_are_refused() -> None:
    with pytest.raises(ValueError, match="Pictures are of pre-training: leave the callback out of fine-tuning"):
        Pictures().setup(None, finetune(), "fit")  # type: ignore[arg-type]
    sharded = SimpleNamespace(teacher=None, is_sharded=True)
    with pytest.raises(ValueError, match="Pictures are drawn by rank 0 alone"):
        Pictures().setup(None, sharded, "fit")  # type: ignore[arg-type]
    of_waveforms = SimpleNamespace(teacher=None, is_sharded=False, features=None)
    with pytest.raises(ValueError, match="Pictures are of log-mel patches and a clip token, which this encoder lacks"):
        Pictures().setup(None, of_waveforms, "fit")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="expected every_n_updates > 0 and clip >= 0, got 0 and 0"):
        Pictures(every_n_updates=0)
    with pytest.raises(ValueError, match="every_n_updates must be at least 1, got 0"):
        OnlineKNN(labelled(), every_n_updates=0)
