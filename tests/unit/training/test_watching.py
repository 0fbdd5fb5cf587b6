"""Nearest neighbors and pictures while training: what is computed and refused, and that the module stays as it was."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from PIL import Image
from tiny_modules import DECODER, ENCODER, finetune, noise, pretrain

from sslam_lightning.data import ImageFolderDataModule, SyntheticDataModule
from sslam_lightning.losses import TeacherTargets
from sslam_lightning.masking import UniformMask
from sslam_lightning.metrics import knn_accuracy
from sslam_lightning.models import Encoder, HuggingFaceConfig, WaveformConfig
from sslam_lightning.training import Data2Vec1Module, PretrainModule
from sslam_lightning.training.callbacks import OnlineKNN, Pictures
from sslam_lightning.training.callbacks.pictures import draw
from sslam_lightning.training.pictures import cls_token_attention
from sslam_lightning.types import Batch


def labeled(**settings: Any) -> SyntheticDataModule:
    settings = {"num_train": 6, "num_val": 4, "max_sources": 1, "clip_seconds": 0.4, "num_workers": 0, **settings}
    return SyntheticDataModule(batch_size=4, **settings)


def no_cls_token() -> PretrainModule:
    return pretrain(encoder=replace(ENCODER, cls_token=False), utterance=None)


def waveforms() -> PretrainModule:
    encoder = replace(ENCODER, front_end=WaveformConfig(((8, 10, 5), (8, 3, 2))), cls_token=False, alibi="learned")
    settings = {"masking": UniformMask(0.5), "targets": TeacherTargets(2), "utterance": None}
    return PretrainModule(encoder, replace(DECODER, dimensions=1), None, **settings)


def data2vec1(kind: str = "vit", **settings: Any) -> Data2Vec1Module:
    size = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
    settings = settings or {"image_size": 16, "patch_size": 4}
    return Data2Vec1Module(HuggingFaceConfig(kind, {**size, **settings}), targets=TeacherTargets(1, "block"))


def wav2vec2() -> Data2Vec1Module:
    convolutions = {"conv_dim": [8, 8], "conv_kernel": [10, 3], "conv_stride": [5, 2], "feat_extract_norm": "layer"}
    return data2vec1("wav2vec2", **convolutions, num_conv_pos_embeddings=8, num_conv_pos_embedding_groups=2)


@pytest.mark.parametrize("pooling", ["cls", "mean"])
def test_the_score_is_that_of_all_clips_and_the_module_stays_as_it_was(pooling: Any) -> None:
    module, data = pretrain(), labeled()
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
        embedded[split] = (encoded.cls if pooling == "cls" else encoded.tokens.mean(dim=1), labels)
    assert accuracy == knn_accuracy(*embedded["train"], *embedded["val"], 2)


@pytest.mark.parametrize(
    ("settings", "k", "told"),
    [({"num_val": 0}, 2, "10 classes, 6 training and 0 validation clips"), ({}, 7, r"at least k = 7\) and to be judged")],
)
def test_sets_that_cannot_score_are_refused(settings: dict[str, Any], k: int, told: str) -> None:
    with pytest.raises(ValueError, match=told):
        OnlineKNN(labeled(**settings), k=k).setup(None, pretrain(), "fit")
    OnlineKNN(labeled(**settings), k=k).setup(None, None, "test")


@pytest.mark.parametrize(
    ("build", "settings", "told"),
    [
        (finetune, {}, "OnlineKNN is of pre-training, got a FinetuneModule: leave the callback out"),
        (no_cls_token, {"pooling": "cls"}, "pooling is cls, but this encoder has no CLS token: set it to"),
        (data2vec1, {"pooling": "cls"}, "pooling is cls, but this encoder has no CLS token: set it to"),
        (pretrain, {"data": labeled(sample_rate_hz=8000)}, "the model expects audio at 16000 Hz, the data comes at 8000"),
    ],
)
def test_modules_that_do_not_fit_are_refused(build: Any, settings: dict[str, Any], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        OnlineKNN(**{"data": labeled(), "k": 2, **settings}).setup(None, build(), "fit")


def test_it_hears_what_the_training_hears() -> None:
    """Models of waveforms know no sample rate."""
    trainer = SimpleNamespace(datamodule=labeled(sample_rate_hz=16000))
    with pytest.raises(ValueError, match="OnlineKNN's data comes at 8000 Hz, that of the training at 16000 Hz"):
        OnlineKNN(labeled(sample_rate_hz=8000), k=2).setup(trainer, waveforms(), "fit")
    OnlineKNN(labeled(), k=2).setup(trainer, waveforms(), "fit")


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"max_sources": 3}, r"OnlineKNN needs clips of exactly one class each, synthetic/train/\d is of [23]"),
        (
            {"clip_seconds": 0.1},
            r"needs 2 or more clips for train, its data has 0; 6 are left out \(synthetic/train/0: too short, 1600 samples "
            r"where the model needs 8000\)",
        ),
    ],
)
def test_what_only_the_clips_tell_is_told_before_the_training(
    settings: dict[str, Any], told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    module, callback = pretrain(), OnlineKNN(labeled(**settings), k=2)
    monkeypatch.setattr(PretrainModule, "min_samples", 8000 if "clip_seconds" in settings else 1)
    callback.setup(None, module, "fit")
    with pytest.raises(ValueError, match=told):
        callback.on_train_start(None, module)  # type: ignore[arg-type]


def test_clips_that_are_too_short_do_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    module, data = pretrain(), labeled()
    clips = data.dataset("train")
    cut = [clips[i] if i != 3 else clips[i]._replace(waveform=clips[i].waveform[:500]) for i in range(6)]
    monkeypatch.setattr(type(clips), "__getitem__", lambda self, key: cut[key[1]])
    callback = OnlineKNN(data, k=2)
    callback.setup(None, module, "fit")
    _, votes = callback._embed(module, "train")
    assert votes.tolist() == [int(clip.labels.argmax()) for i, clip in enumerate(cut) if i != 3]


@pytest.mark.parametrize("build", [waveforms, wav2vec2])
def test_padding_does_not_count(build: Any) -> None:
    torch.manual_seed(1)
    module, noise = build().eval(), torch.randn(2, 4000)
    noise[0, 2000:] = 0
    both = Batch(noise, [2000, 4000], torch.zeros(2, 0), torch.arange(2), ("a", "b"))
    alone = Batch(noise[:1, :2000], [2000], torch.zeros(1, 0), torch.arange(1), ("a",))
    with torch.no_grad():
        torch.testing.assert_close(module.embed(both, "mean")[:1], module.embed(alone, "mean"), rtol=1e-4, atol=1e-5)


def test_images_are_told_apart_too(tmp_path) -> None:
    for name, level in (("black", 0), ("white", 255)):
        for split in ("train", "val"):
            (tmp_path / split / name).mkdir(parents=True)
            Image.new("RGB", (16, 16), (level, level, level)).save(tmp_path / split / name / "image.png")
    data = ImageFolderDataModule(tmp_path / "train", tmp_path / "val", size=16, labeled=True, num_workers=0)
    callback, module = OnlineKNN(data, k=1), data2vec1()
    callback.setup(None, module, "fit")
    assert callback.score(module) == 1


def test_it_is_time_once_in_so_many_updates(monkeypatch: pytest.MonkeyPatch) -> None:
    callback, logged = OnlineKNN(labeled(), every_n_steps=3), []
    monkeypatch.setattr(callback, "score", lambda module: torch.tensor(0.25))
    logger = SimpleNamespace(log_metrics=lambda metrics, step: logged.append((metrics, step)))
    module: Any = SimpleNamespace(log=lambda name, value, **options: logged.append((name, options["logger"])))
    for step, accumulates in ((0, True), (1, False), (3, False), (3, True), (4, False), (6, False)):
        loop = SimpleNamespace(_should_accumulate=lambda accumulates=accumulates: accumulates)
        trainer = SimpleNamespace(global_step=step, loggers=[logger], fit_loop=loop)
        callback.on_train_batch_end(trainer, module, None, None, 0)
    row = [("val/knn_accuracy", False), ({"val/knn_accuracy": 0.25}, 2)]
    assert logged == [*row, row[0], ({"val/knn_accuracy": 0.25}, 5)]


def test_attention_of_the_cls_token_by_hand() -> None:
    encoder, log_mels = Encoder(ENCODER).eval(), torch.randn(2, 32, 16)
    attention = cls_token_attention(encoder, log_mels)
    assert attention.shape == (2, 32)
    assert not encoder.blocks[-1].attn.qkv._forward_hooks

    x = torch.cat([encoder.cls_token.expand(2, -1, -1), encoder.embed(log_mels)], dim=1)
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


def test_pictures_that_cannot_be_drawn_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (finetune(), data2vec1()):
        told = f"Pictures are of what a PretrainModule predictions, got a {type(module).__name__}: leave the callback out"
        with pytest.raises(ValueError, match=told):
            Pictures().setup(None, module, "fit")  # type: ignore[arg-type]
    for module in (waveforms(), no_cls_token()):
        with pytest.raises(ValueError, match="Pictures are of log-mel patches and a CLS token, which this encoder lacks"):
            Pictures().setup(None, module, "fit")  # type: ignore[arg-type]
    Pictures().setup(None, pretrain(), "fit")  # type: ignore[arg-type]
    monkeypatch.setattr(PretrainModule, "is_sharded", True)
    with pytest.raises(ValueError, match="Pictures are drawn by rank 0 alone"):
        Pictures().setup(None, pretrain(), "fit")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="expected every_n_steps > 0 and clip >= 0, got 0 and 0"):
        Pictures(every_n_steps=0)
    with pytest.raises(ValueError, match="every_n_steps must be at least 1, got 0"):
        OnlineKNN(labeled(), every_n_steps=0)
