"""Folders of transformers with their ``preprocessor_config.json``, against what transformers itself makes of sound."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import sslam_lightning
from sslam_lightning.checkpoints import load_classifier, load_encoder, read_model
from sslam_lightning.checkpoints.formats.transformers import write_transformers
from sslam_lightning.features import LogMels
from sslam_lightning.losses import TeacherTargets
from sslam_lightning.models import HuggingFaceConfig
from sslam_lightning.training import Data2Vec1Module, FinetuneModule
from sslam_lightning.training.run.hparams import plain

transformers = pytest.importorskip("transformers")

SIZE = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
AST = {**SIZE, "max_length": 64, "num_mel_bins": 32, "patch_size": 16, "frequency_stride": 10, "time_stride": 10}
CONVOLUTIONS = {"conv_dim": [8, 8], "conv_kernel": [10, 3], "conv_stride": [5, 2], "num_feat_extract_layers": 2}
WAVES = {**SIZE, **CONVOLUTIONS, "num_conv_pos_embeddings": 4, "num_conv_pos_embedding_groups": 2}
WAVES["feat_extract_norm"] = "layer"
EXTRACTOR = {"mean": -3.1, "std": 2.2, "max_length": 64, "num_mel_bins": 32, "sampling_rate": 8000}


def ast_folder(folder: Path, kind: str = "ASTModel", config: Any = (), **settings: Any) -> tuple[Any, Any]:
    """A tiny model with its feature extractor, saved as transformers saves them."""
    torch.manual_seed(0)
    model = getattr(transformers, kind)(transformers.ASTConfig(**{**AST, **dict(config)})).eval()
    with torch.no_grad():  # positions and special tokens start at zero
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    extractor = transformers.ASTFeatureExtractor(**{**EXTRACTOR, **settings})
    model.save_pretrained(folder)
    extractor.save_pretrained(folder)
    return model, extractor


def sound(samples: int) -> torch.Tensor:
    return torch.randn(samples, generator=torch.Generator().manual_seed(samples)) * 0.1 + 0.05


@pytest.mark.parametrize("samples", [5160, 4000])  # 63 frames at 8 kHz, all but one that it takes, and 23 at 16 kHz
@pytest.mark.parametrize("settings", [{}, {"do_normalize": False}, {"sampling_rate": 16000, "return_attention_mask": True}])
def test_an_ast_hears_what_its_own_feature_extractor_makes(samples: int, settings: dict[str, Any], tmp_path: Path) -> None:
    model, extractor = ast_folder(tmp_path, **settings)
    waveform = sound(samples)
    rate = extractor.sampling_rate
    inputs = extractor(waveform.numpy(), sampling_rate=rate, return_tensors="pt")
    with torch.no_grad():
        expected = model(**inputs).last_hidden_state[0, 2:]
    opened = sslam_lightning.from_pretrained(tmp_path)
    assert opened.sample_rate_hz == rate
    spectrogram = opened.features(waveform[None], torch.tensor([samples]))
    torch.testing.assert_close(spectrogram, inputs["input_values"], atol=1e-4, rtol=0)
    found = opened(waveform, rate).patches
    mel = (32 - 16) // 10 + 1
    by_mel = expected.unflatten(0, (mel, -1)).transpose(0, 1)[: len(found)]
    torch.testing.assert_close(found, by_mel, atol=1e-4 * by_mel.abs().max().item(), rtol=0)
    seen = opened.encode(waveform[None], torch.tensor([samples]), levels=("clip",))
    torch.testing.assert_close(seen.clip[0], by_mel.flatten(0, 1).mean(dim=0), atol=1e-4, rtol=0)


@pytest.mark.parametrize(("problem", "multi_label"), [("multi_label_classification", True), (None, False)])
def test_an_ast_for_classification_keeps_its_head(problem: str | None, multi_label: bool, tmp_path: Path) -> None:
    """U9."""
    names = {0: "wind", 1: "rain", 2: "bell"}
    config = {"id2label": names, "label2id": {name: number for number, name in names.items()}, "problem_type": problem}
    model, extractor = ast_folder(tmp_path, "ASTForAudioClassification", config)
    waveform = sound(5160)
    inputs = extractor(waveform.numpy(), sampling_rate=8000, return_tensors="pt")
    with torch.no_grad():
        logits = model(**inputs).logits
        torch.testing.assert_close(load_classifier(tmp_path)(inputs["input_values"]), logits, atol=1e-5, rtol=1e-4)
    opened = sslam_lightning.from_pretrained(tmp_path)
    assert opened.class_names == ("wind", "rain", "bell")
    assert opened.multi_label is multi_label
    expected = logits.sigmoid() if multi_label else logits.softmax(dim=1)
    torch.testing.assert_close(opened(waveform, 8000).probs, expected[0], atol=1e-4, rtol=0)


def test_an_ast_with_a_head_starts_another_fine_tuning(tmp_path: Path) -> None:
    """U9: its encoder is the same with a head as without."""
    model, _ = ast_folder(tmp_path, "ASTForAudioClassification")
    weights = read_model(tmp_path)
    features = LogMels(**{**weights.features, "mean": -5.0})
    module = FinetuneModule(
        hugging_face=HuggingFaceConfig("audio-spectrogram-transformer", AST),
        features=features,
        num_classes=5,
        pooling="mean",
    )
    module.load_pretrained(str(tmp_path))
    state = model.audio_spectrogram_transformer.state_dict()
    assert all(torch.equal(weight, state[name]) for name, weight in module.encoder.model.state_dict().items())


def wave_folder(folder: Path, **settings: Any) -> tuple[Any, Any]:
    torch.manual_seed(0)
    model = transformers.Wav2Vec2Model(transformers.Wav2Vec2Config(**WAVES)).eval()
    extractor = transformers.Wav2Vec2FeatureExtractor(**settings)
    model.save_pretrained(folder)
    extractor.save_pretrained(folder)
    return model, extractor


@pytest.mark.parametrize("loudness", [0.1, 1e-3])
@pytest.mark.parametrize("settings", [{}, {"do_normalize": False, "sampling_rate": 8000}])
def test_waveforms_are_normalized_as_the_folder_says(settings: dict[str, Any], loudness: float, tmp_path: Path) -> None:
    model, extractor = wave_folder(tmp_path, **settings)
    waveform, rate = sound(900) * loudness, extractor.sampling_rate
    inputs = extractor(waveform.numpy(), sampling_rate=rate, return_tensors="pt")
    with torch.no_grad():
        expected = model(**inputs).last_hidden_state[0]
    opened = sslam_lightning.from_pretrained(tmp_path)
    assert opened.sample_rate_hz == rate
    torch.testing.assert_close(opened(waveform, rate).frames, expected, atol=1e-4 * expected.abs().max().item(), rtol=0)


def test_an_encoder_that_normalizes_where_the_folder_does_not_is_refused(tmp_path: Path) -> None:
    wave_folder(tmp_path, do_normalize=False)
    for normalizes, refused in ((True, True), (False, False)):
        config = HuggingFaceConfig("wav2vec2", WAVES, normalize_waveforms=normalizes)
        modules = (
            FinetuneModule(hugging_face=config, features=None, num_classes=2, pooling="mean", roll_and_gain=False),
            Data2Vec1Module(config, targets=TeacherTargets(1, "block")),
        )
        for module in modules:
            if not refused:
                module.load_pretrained(str(tmp_path))
                continue
            with pytest.raises(ValueError, match=r"has normalize_waveforms \(do_normalize\) = False, the configured"):
                module.load_pretrained(str(tmp_path))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"window": "hamming"}, r"preprocessor_config\.json\.window is no configuration key"),
        ({"feature_size": 2}, r"preprocessor_config\.json\.feature_size is 2, only 1 is computed here"),
        ({"max_length": 32}, r"max_length is 32, in config\.json it is 64"),
        ({"num_mel_bins": 64}, r"num_mel_bins is 64, in config\.json it is 32"),
        ({"std": 0.0}, r"std must be positive, got 0\.0"),
        ({"mean": "low"}, r"mean must be a number, got 'low'"),
        (
            {"feature_extractor_type": "ClapFeatureExtractor"},
            r"feature_extractor_type ClapFeatureExtractor is not computed",
        ),
    ],
)
def test_settings_that_are_not_computed_are_refused_by_name(change: dict[str, Any], message: str, tmp_path: Path) -> None:
    ast_folder(tmp_path)
    file = tmp_path / "preprocessor_config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **change}))
    with pytest.raises(ValueError, match=message) as raised:
        sslam_lightning.from_pretrained(tmp_path)
    assert len(str(raised.value).splitlines()) == 1


def test_a_folder_that_says_nothing_of_its_log_mels_needs_them_told(tmp_path: Path) -> None:
    _, extractor = ast_folder(tmp_path)
    (tmp_path / "preprocessor_config.json").unlink()
    with pytest.raises(ValueError, match=r"does not say which mean and std its log-mels were normalized by: set features"):
        sslam_lightning.from_pretrained(tmp_path)
    opened = sslam_lightning.from_pretrained(tmp_path, features={"mean": -3.1, "std": 2.2, "sample_rate_hz": 8000})
    waveform = sound(5160)
    inputs = extractor(waveform.numpy(), sampling_rate=8000, return_tensors="pt")["input_values"]
    torch.testing.assert_close(opened.features(waveform[None], torch.tensor([5160])), inputs, atol=1e-3, rtol=0)


def test_a_processor_of_images_that_does_otherwise_is_refused_where_images_are_read(tmp_path: Path) -> None:
    transformers.ViTModel(transformers.ViTConfig(**SIZE, image_size=16, patch_size=4)).save_pretrained(tmp_path)
    processor = {"image_processor_type": "ViTImageProcessor", "image_mean": [0.5] * 3, "image_std": [0.5] * 3}
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(processor))
    assert load_encoder(tmp_path).dim == 16  # whose recipe reads images its own way
    with pytest.raises(ValueError, match=r"preprocessor_config\.json: image_mean is \[0\.5, 0\.5, 0\.5\], only \[0\.485"):
        sslam_lightning.inference.load_model(tmp_path)


def test_a_head_with_another_number_of_names_is_refused(tmp_path: Path) -> None:
    ast_folder(tmp_path, "ASTForAudioClassification", {"id2label": {number: str(number) for number in range(3)}})
    file = tmp_path / "config.json"
    told = json.loads(file.read_text())
    told |= {"id2label": {"0": "one", "1": "two"}, "label2id": {"one": 0, "two": 1}}
    file.write_text(json.dumps(told))
    with pytest.raises(ValueError, match=r"config\.json: id2label has 2 names for 3 classes"):
        read_model(tmp_path)


@pytest.mark.parametrize("window", ["hanning", "povey"])
def test_a_checkpoint_of_ours_takes_its_log_mels_with_it(window: Any, tmp_path: Path) -> None:
    """Where transformers has such log-mels."""
    features = LogMels(64, -3.1, 2.2, 32, 8000, 1, window=window)
    encoder = HuggingFaceConfig("audio-spectrogram-transformer", AST)
    module = FinetuneModule(hugging_face=encoder, features=features, num_classes=2, pooling="mean")
    checkpoint = {
        "pytorch-lightning_version": "2",
        "state_dict": module.state_dict(),
        "hyper_parameters": dict(module.hparams),
    }
    module.on_save_checkpoint(checkpoint)
    torch.save({**checkpoint, "hyper_parameters": plain(checkpoint["hyper_parameters"])}, tmp_path / "a.ckpt")
    left = write_transformers(tmp_path / "a.ckpt", tmp_path / "plain")
    assert left == (("head",) if window == "hanning" else ("head", "features"))
    if window == "povey":
        assert not (tmp_path / "plain/preprocessor_config.json").exists()
        return
    extractor = transformers.ASTFeatureExtractor.from_pretrained(tmp_path / "plain")
    waveform = sound(5160)
    theirs = extractor(waveform.numpy(), sampling_rate=8000, return_tensors="pt")["input_values"]
    torch.testing.assert_close(theirs, features(waveform[None], torch.tensor([5160])), atol=1e-3, rtol=0)
    assert sslam_lightning.from_pretrained(tmp_path / "plain").features == replace(features, remove_mean=False)


@pytest.mark.parametrize("normalizes", [True, False])
def test_a_checkpoint_of_a_waveform_model_says_whether_it_normalizes(normalizes: bool, tmp_path: Path) -> None:
    module = Data2Vec1Module(
        HuggingFaceConfig("wav2vec2", WAVES, normalize_waveforms=normalizes), targets=TeacherTargets(1, "block")
    )
    checkpoint = {
        "pytorch-lightning_version": "2",
        "state_dict": module.state_dict(),
        "hyper_parameters": dict(module.hparams),
    }
    module.on_save_checkpoint(checkpoint)
    torch.save({**checkpoint, "hyper_parameters": plain(checkpoint["hyper_parameters"])}, tmp_path / "a.ckpt")
    write_transformers(tmp_path / "a.ckpt", tmp_path / "plain")
    for place in ("a.ckpt", "plain"):
        assert read_model(tmp_path / place).encoder.normalize_waveforms is normalizes


def test_numpy_is_what_the_extractor_takes() -> None:
    """The tests above compare with the branch of transformers that uses torchaudio."""
    assert transformers.utils.is_speech_available()
    assert isinstance(sound(3).numpy(), np.ndarray)
