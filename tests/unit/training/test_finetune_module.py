"""Losses and modes of fine-tuning, without a trainer."""

from __future__ import annotations

import math
import warnings
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import lightning.pytorch as pl
import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.loggers import CSVLogger
from tiny_modules import ENCODER, finetune, noise

from sslam_lightning.augment import Mixup, SpecAugment
from sslam_lightning.models import TransformerDecoderConfig
from sslam_lightning.training.run.optimizers import OptimizerConfig

LOGITS = torch.tensor([[0.0, math.log(3), 0.0, 0.0], [0.0, 0.0, -math.log(3), 0.0]])
LABELS = torch.tensor([[1.0, 1, 0, 0], [0.0, 0, 1, 0]])
# Probabilities are 1/2 but for 3/4 (right) and 1/4 (wrong): six errors of ln 2, ln 4/3 and ln 4.
SUMMED = 6 * math.log(2) + math.log(4 / 3) + math.log(4)


@pytest.mark.parametrize(("bce_reduction", "expected"), [("clips", SUMMED / 2), ("positives", SUMMED / 3)])
def test_binary_cross_entropy_by_hand(bce_reduction: str, expected: float) -> None:
    assert finetune(bce_reduction=bce_reduction).loss(LOGITS, LABELS).item() == pytest.approx(expected)


def test_without_any_positive_the_divisor_is_one() -> None:
    loss = finetune(bce_reduction="positives").loss(torch.zeros(2, 4), torch.zeros(2, 4))
    assert loss.item() == pytest.approx(8 * math.log(2))


def test_smoothed_binary_labels_by_hand() -> None:
    module = finetune(label_smoothing=0.2)  # 1 becomes 0.85, 0 becomes 0.05
    loss = module.loss(torch.full((1, 4), math.log(3)), torch.tensor([[1.0, 0, 0, 0]]))
    right, wrong = math.log(4 / 3), math.log(4)  # of a probability of 3/4
    assert loss.item() == pytest.approx(0.85 * right + 0.15 * wrong + 3 * (0.05 * right + 0.95 * wrong))


def test_divided_by_clips_the_loss_does_not_depend_on_the_batch() -> None:
    module = finetune()
    halves = [module.loss(LOGITS[row : row + 1], LABELS[row : row + 1]) for row in range(2)]
    torch.testing.assert_close(module.loss(LOGITS, LABELS), sum(halves) / 2)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_cross_entropy_is_pytorchs(smoothing: float) -> None:
    module = finetune(multi_label=False, label_smoothing=smoothing)
    logits, classes = torch.randn(5, 4), torch.tensor([0, 3, 1, 1, 2])
    expected = torch.nn.functional.cross_entropy(logits, classes, label_smoothing=smoothing)
    torch.testing.assert_close(module.loss(logits, torch.nn.functional.one_hot(classes, 4).float()), expected)


def test_cross_entropy_that_follows_from_the_data_is_divided_by_clips() -> None:
    """The divisor of a recipe for several classes is that of its binary cross entropy."""
    labels = torch.eye(4)[[1, 0]]
    by_positives, by_clips = (finetune(multi_label=False, bce_reduction=name) for name in ("positives", "clips"))
    torch.testing.assert_close(by_positives.loss(LOGITS, labels), by_clips.loss(LOGITS, labels))
    assert by_positives.bce_reduction == "clips"
    assert (
        finetune(multi_label=False, criterion="binary_cross_entropy", bce_reduction="positives").bce_reduction
        == "positives"
    )


def test_binary_cross_entropy_of_one_class_by_hand() -> None:
    """D4: summed over the classes, divided by the clips."""
    module = finetune(multi_label=False, criterion="binary_cross_entropy")
    labels = torch.tensor([[0.0, 1, 0, 0], [0.0, 0, 0.5, 0.5]])
    half = torch.nn.functional.softplus  # -log of a probability of sigmoid(-x)
    expected = (half(LOGITS) - labels * LOGITS).sum().item() / 2
    assert module.loss(LOGITS, labels).item() == pytest.approx(expected)


def test_labels_are_smoothed_in_training_alone() -> None:
    """D4: the loss of an evaluation has the labels as they are."""
    for settings in ({"multi_label": False}, {}):
        smoothed, plain = finetune(label_smoothing=0.1, **settings), finetune(**settings)
        labels = torch.eye(4)[[1, 0]]
        assert smoothed.loss(LOGITS, labels) > plain.loss(LOGITS, labels)
        torch.testing.assert_close(smoothed.eval().loss(LOGITS, labels), plain.eval().loss(LOGITS, labels))


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        (
            {"multi_label": False, "criterion": "cross_entropy", "bce_reduction": "positives"},
            r"bce_reduction: positives has no effect on criterion: cross_entropy.* to clips$",
        ),
        ({"criterion": "cross_entropy"}, r"criterion: cross_entropy takes clips of exactly one class"),
        ({"criterion": "focal"}, r"criterion must be cross_entropy or binary_cross_entropy, got 'focal'"),
        ({"bce_reduction": "labels"}, r"bce_reduction must be positives or clips, got 'labels'"),
        ({"multi_label": False, "num_classes": 1}, r"need at least two classes to tell apart, got 1$"),
        ({"frozen_drop_path": True}, r"frozen_drop_path has no effect on an encoder that learns"),
        ({"decoder": TransformerDecoderConfig(dim=16, depth=1, num_heads=2)}, r"pooling: a decoder gives no CLS token"),
    ],
)
def test_settings_without_an_effect(settings: dict[str, Any], told: str) -> None:
    """D4, U4: what would do nothing is refused by name."""
    with pytest.raises(ValueError, match=told):
        finetune(**settings)


@pytest.mark.parametrize("multi_label", [True, False])
@pytest.mark.parametrize("monitored", [True, False])
def test_nothing_is_logged_of_a_validation_without_anything_to_score(multi_label: bool, monitored: bool, tmp_path) -> None:
    """U9: without positives there is no mAP, without clips no score at all; neither is infinite or not a number."""
    name = "val/mAP" if multi_label else "val/accuracy"
    logged: dict[str, float] = {}
    logger = CSVLogger(tmp_path)
    logger.log_metrics = lambda metrics, step: logged.update(metrics)  # type: ignore[method-assign]
    callbacks = [ModelCheckpoint(tmp_path, monitor=name, mode="max")] if monitored else []
    trainer = pl.Trainer(
        accelerator="cpu",
        max_epochs=2,
        logger=logger,
        callbacks=callbacks,
        enable_checkpointing=monitored,
        enable_progress_bar=False,
        enable_model_summary=False,
        log_every_n_steps=1,
    )
    batch = noise()
    nothing = batch._replace(labels=torch.zeros(4, 4)) if multi_label else noise(0)
    module = finetune(multi_label=multi_label, optimizer=OptimizerConfig(lr=1e-3))
    loaders = [torch.utils.data.DataLoader([part], batch_size=None) for part in (batch, nothing)]
    with pytest.warns(UserWarning, match=f"{name} is left out: no c"):
        trainer.fit(module, *loaders)
    scores = {"val/loss", "val/mAP_num_classes"} if multi_label else set()
    assert {key for key in logged if key.startswith("val/")} == scores
    assert all(math.isfinite(value) for value in logged.values())
    assert "val/best_" + module.score_name not in trainer.callback_metrics


@pytest.mark.parametrize("smoothing", [1.0, -0.1])
def test_smoothing_out_of_range(smoothing: float) -> None:
    with pytest.raises(ValueError, match=rf"label_smoothing must lie in \[0, 1\), got {smoothing}"):
        finetune(label_smoothing=smoothing)


@pytest.mark.parametrize("multi_label", [True, False])
def test_probabilities(multi_label: bool) -> None:
    module, batch = finetune(multi_label=multi_label).eval(), noise()
    logits = module(module.log_mels(batch))
    names, predicted = module.predict_step(batch, 0)
    expected = logits.sigmoid() if multi_label else logits.softmax(dim=1)
    torch.testing.assert_close(predicted, expected)
    torch.testing.assert_close(module.probabilities(batch)[0], expected)
    assert names == batch.names


def test_a_frozen_encoder_neither_learns_nor_drops() -> None:
    module = finetune(encoder=replace(ENCODER, drop_path_end=0.5, dropout=0.5), frozen_encoder=True)
    assert module.training
    assert not any(part.training for part in module.encoder.modules())
    assert not module.train().encoder.training
    assert module.head.training
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=r".*self\.log\(\).*")
        module.training_step(noise(), 0).backward()
    assert all(parameter.grad is None for parameter in module.encoder.parameters())
    assert all(parameter.grad is not None for parameter in module.head.parameters())
    published = finetune(frozen_encoder=True, frozen_drop_path=True)
    assert published.encoder.training
    assert not any(parameter.requires_grad for parameter in published.encoder.parameters())


def test_augmentation_is_what_is_asked_for_and_a_function_of_the_clip() -> None:
    batch = noise()
    plain = finetune(roll_and_gain=False)
    log_mels, labels, _ = plain.augmented(batch)
    torch.testing.assert_close(log_mels, plain.log_mels(batch))
    assert torch.equal(labels, batch.labels)
    for settings in (
        {"roll_and_gain": True},
        {"roll_and_gain": False, "noise_and_roll": True},
        {"roll_and_gain": False, "spec_augment": SpecAugment(0.4, 0.4)},
        {"roll_and_gain": False, "mixup": Mixup(alpha=0.8, prob=1.0)},
    ):
        module = finetune(**settings)
        changed, labels, _ = module.augmented(batch)
        assert not torch.allclose(changed, log_mels), settings
        assert torch.equal(labels, batch.labels) == ("mixup" not in settings)
        torch.testing.assert_close(module.augmented(batch)[0], changed)


def test_an_empty_batch_has_no_loss() -> None:
    module = finetune()
    loss = module.training_step(noise()._replace(waveforms=torch.zeros(0, 6000), clip_index=torch.arange(0)), 0)
    loss.backward()
    assert loss.item() == 0.0
    assert all(parameter.grad is not None and not parameter.grad.any() for parameter in module.parameters())


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"num_classes": 7}, r"the model has 4 classes, the data 7"),
        ({"sample_rate_hz": 8000}, r"the model expects audio at 16000 Hz, the data comes at 8000 Hz"),
    ],
)
def test_data_that_does_not_fit(data: dict[str, int], message: str) -> None:
    module = finetune()
    module._trainer = SimpleNamespace(precision="32-true", datamodule=SimpleNamespace(**data))  # type: ignore[assignment]
    with pytest.raises(ValueError, match=message):
        module.setup("fit")


def test_a_schedule_without_an_end() -> None:
    module = finetune()
    module._trainer = SimpleNamespace(estimated_stepping_batches=math.inf, precision="32-true")  # type: ignore[assignment]
    with pytest.raises(ValueError, match=r"the learning rate's cosine needs an end: set trainer\.max_steps"):
        module.configure_optimizers()


def test_a_warm_up_as_long_as_the_run_is_told() -> None:
    module = finetune(optimizer=OptimizerConfig(warmup_steps=5))
    module._trainer = SimpleNamespace(estimated_stepping_batches=5, precision="32-true")
    with pytest.warns(UserWarning, match=r"to the end of the run, of 5 updates: model\.optimizer\.warmup_steps is 5"):
        module.configure_optimizers()
    module._trainer.estimated_stepping_batches = 6
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        module.configure_optimizers()


def test_stripes_stay_blank_under_mixup() -> None:
    """SpecAugment comes behind mixup, as in the public code; before it, a partner would show through."""
    stripes = SpecAugment(0.9, 0.9)
    module = finetune(roll_and_gain=False, mixup=Mixup(alpha=0.8, prob=1.0), spec_augment=stripes)
    batch = noise()
    blank = stripes(torch.ones(4, 32, 16), module.clip_keys(batch)) == 0
    mixed = finetune(roll_and_gain=False, mixup=Mixup(alpha=0.8, prob=1.0)).augmented(batch)[0]
    augmented = module.augmented(batch)[0]
    assert blank.any()
    assert not augmented[blank].any()
    torch.testing.assert_close(augmented[~blank], mixed[~blank])
