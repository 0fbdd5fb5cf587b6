"""Settings of a file of EAT's matter to what it is opened for, and to nothing else."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_weights import DECODER, ENCODER, finetuned, pretrained

from sslam_lightning.checkpoints import load_classifier, load_encoder, read_weights
from sslam_lightning.checkpoints.formats.fairseq_export import to_fairseq
from sslam_lightning.losses import TeacherTargets
from sslam_lightning.training import FinetuneModule, PretrainModule


def public_file(path: Path, change: Callable[[dict[str, Any]], Any], make: Callable = pretrained) -> Path:
    """A file as the public trainer writes it, with one change to its configuration."""
    content, _ = to_fairseq(make())
    del content["sslam_lightning"]
    change(content["cfg"])
    torch.save(content, path / "a.pt")
    return path / "a.pt"


def of_image(**settings: Any) -> Callable[[dict[str, Any]], Any]:
    return lambda cfg: cfg["model"]["modalities"]["image"].update(settings)


@pytest.mark.parametrize("setting", [{"keep_masked_pct": 0.1}, {"mask_dropout": 0.2}])
def test_what_only_pretraining_computes_is_refused_for_pretraining_alone(tmp_path, setting: dict[str, float]) -> None:
    path = str(public_file(tmp_path, of_image(**setting)))
    load_encoder(path)
    FinetuneModule(ENCODER, None, 3).load_pretrained(path)
    (name,) = setting
    message = rf"a\.pt: cfg\.model\.modalities\.image\.{name} is .*, only 0 is computed here for training \(it can be"
    with pytest.raises(ValueError, match=message):
        PretrainModule(ENCODER, DECODER, None, targets=TeacherTargets(2)).load_pretrained(path)
    with pytest.raises(ValueError, match=message):
        read_weights(path)


def test_more_layers_in_the_targets_than_there_are_stand_in_nobodys_way(tmp_path) -> None:
    """The public code takes all layers then: the weights are the same, and targets are the recipe's."""
    path = public_file(tmp_path, lambda cfg: cfg["model"].update(average_top_k_layers=99))
    load_encoder(str(path))
    assert read_weights(path).encoder.depth == ENCODER.depth
    pretraining = PretrainModule(ENCODER, DECODER, None, targets=TeacherTargets(ENCODER.depth))
    for module in (FinetuneModule(ENCODER, None, 3), pretraining):
        module.load_pretrained(str(path))


def test_what_gradients_meet_is_refused_for_any_training(tmp_path) -> None:
    path = str(public_file(tmp_path, of_image(local_grad_mult=0.5)))
    load_encoder(path)
    for module in (FinetuneModule(ENCODER, None, 3), PretrainModule(ENCODER, DECODER, None, targets=TeacherTargets(2))):
        with pytest.raises(ValueError, match=r"local_grad_mult is 0\.5, only 1 is .* \(it can be opened for inference\)"):
            module.load_pretrained(path)


def test_a_fine_tuned_model_cannot_continue_pretraining_so_its_masks_do_not_matter(tmp_path) -> None:
    def change(cfg: dict[str, Any]) -> None:
        cfg["model"]["pretrained_model_args"]["model"]["modalities"]["image"]["keep_masked_pct"] = 0.1

    assert read_weights(public_file(tmp_path, change, finetuned)).head is not None


def test_the_place_of_a_refused_key_in_a_fine_tuned_file_is_told(tmp_path) -> None:
    def change(cfg: dict[str, Any]) -> None:
        cfg["model"]["pretrained_model_args"]["model"]["modalities"]["image"]["fixed_positions"] = False

    with pytest.raises(ValueError, match=r"cfg\.model\.pretrained_model_args\.model\.modalities\.image\.fixed_positions"):
        load_classifier(public_file(tmp_path, change, finetuned))


@pytest.mark.parametrize(
    ("part", "setting", "message"),
    [
        ("model", {"moels": 1}, r"cfg\.model\.moels is no configuration key of the public code"),
        ("model", {"use_fc_norm": False}, r"cfg\.model\.use_fc_norm is False, only True is computed here$"),
        ("task", {"rolling": True}, r"cfg\.task\.rolling is no configuration key of the public code"),
        ("task", {"downsr_16hz": False}, r"cfg\.task\.downsr_16hz is False, only True is computed here for inference"),
        ("task", {"_name": "singing"}, r"cfg\.task\._name is 'singing', only mae_image_pretraining, .* can be opened"),
    ],
)
def test_keys_of_fine_tuning_and_of_its_data_are_known_or_refused(tmp_path, part, setting, message) -> None:
    with pytest.raises(ValueError, match=message):
        load_classifier(public_file(tmp_path, lambda cfg: cfg[part].update(setting), finetuned))


@pytest.mark.parametrize(
    ("settings", "multi_label"),
    [
        ({"audio_mae": True}, True),
        ({"audio_mae": False}, False),
        ({"audio_mae": True, "esc50_eval": True}, False),
        ({"audio_mae": True, "spcv2_eval": True}, False),
    ],
)
def test_labels_are_those_of_the_public_loss(tmp_path, settings: dict[str, bool], multi_label: bool) -> None:
    def change(cfg: dict[str, Any]) -> None:
        cfg["model"].update(settings)
        del cfg["criterion"]

    assert read_weights(public_file(tmp_path, change, finetuned)).multi_label is multi_label


@pytest.mark.parametrize(("esc50", "spcv2", "mean"), [(0, 0, -4.268), (1, 0, -6.627), (0, 1, -6.846), (1, 1, -6.846)])
def test_log_mels_are_those_of_the_public_data_set(tmp_path, esc50: int, spcv2: int, mean: float) -> None:
    switches = {"esc50_eval": bool(esc50), "spcv2_eval": bool(spcv2)}
    features = read_weights(public_file(tmp_path, lambda cfg: cfg["task"].update(switches))).features
    assert features is not None
    assert features["mean"] == mean


def test_encoders_of_two_modalities_are_refused(tmp_path) -> None:
    content, _ = to_fairseq(pretrained())
    content["model"]["modality_encoders.AUDIO.alibi_scale"] = torch.ones(1)
    torch.save(content, tmp_path / "a.pt")
    with pytest.raises(ValueError, match="checkpoint of one modality: it has encoders of audio and image"):
        read_weights(tmp_path / "a.pt")
