"""The two stages by themselves, without a trainer."""

from __future__ import annotations

import warnings
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from tiny_modules import ENCODER, finetune, noise, pretrain

from sslam_lightning.losses import DINOLoss, ReconstructionLoss, SourceRetentionLoss, TeacherTargets, UtteranceLoss
from sslam_lightning.mixing import FullMixing, PartialMixing
from sslam_lightning.training import PretrainModule
from sslam_lightning.training.callbacks import SeedBatches

STAGE_2: dict[str, Any] = {
    "mixing": PartialMixing(),
    "source_retention": SourceRetentionLoss(),
    "utterance": UtteranceLoss(top_k_layers=1),
}


@pytest.fixture(autouse=True)
def _without_a_trainer():
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=r".*self\.log\(\).*")
        yield


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"source_retention": SourceRetentionLoss()}, r"source_retention needs mixing: there are no sources to retain"),
        ({"dino": DINOLoss()}, r"dino takes the place of utterance: set one of them to null"),
        ({"masks_per_clip": 0}, r"masks_per_clip must be at least 1, got 0"),
        ({"targets": TeacherTargets(3)}, r"targets\.top_k_layers must lie between 1 and 2, got 3"),
        ({"targets": TeacherTargets(0)}, r"targets\.top_k_layers must lie between 1 and 2, got 0"),
        ({"utterance": UtteranceLoss(top_k_layers=3)}, r"utterance\.top_k_layers must lie between 1 and 2, got 3"),
        ({"utterance": UtteranceLoss(top_k_layers=0)}, r"utterance\.top_k_layers must lie between 1 and 2, got 0"),
        (
            {"targets": TeacherTargets(1), "utterance": UtteranceLoss(top_k_layers=2)},
            r"utterance\.top_k_layers must lie between 1 and 1, got 2",
        ),
    ],
)
def test_settings_that_contradict_each_other(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        pretrain(**wrong)


def test_parts_that_are_not_asked_for_do_not_exist() -> None:
    plain, everything = pretrain(), pretrain(reconstruction=ReconstructionLoss(), utterance=None, dino=DINOLoss())
    assert {name.split(".")[0] for name in plain.state_dict()} == {"student", "teacher", "decoder"}
    added = {name for name in everything.state_dict() if name not in plain.state_dict()}
    assert added == {"dino.center", "reconstruction_head.weight", "reconstruction_head.bias"}
    assert everything.reconstruction_head is not None
    assert everything.reconstruction_head.out_features == 4 * 4


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"reconstruction": ReconstructionLoss(), "utterance": None, "dino": DINOLoss()},
        STAGE_2,
        {**STAGE_2, "mixing": FullMixing("neighbor"), "reconstruction": ReconstructionLoss()},
    ],
    ids=["stage 1", "dino and reconstruction", "stage 2", "full mixing and reconstruction"],
)
def test_everything_that_learns_gets_a_gradient_and_nothing_else(settings: dict[str, Any]) -> None:
    module, batch = pretrain(**settings), noise()
    loss = module.training_step(batch, 0)
    assert torch.isfinite(loss)
    loss.backward()
    for part in module.trainable_modules():
        for name, parameter in part.named_parameters():
            assert parameter.grad is not None, name
            # The softmax is blind to what adds to all scores of a query alike: the keys' part of this bias.
            assert parameter.grad.abs().max() > 1e-9, name
    learning = {id(parameter) for part in module.trainable_modules() for parameter in part.parameters()}
    for name, parameter in module.named_parameters():
        assert (id(parameter) in learning) == (not name.startswith("teacher.")), name
        assert name.startswith("teacher.") == (parameter.grad is None), name


def test_the_total_is_the_sum_of_the_losses() -> None:
    module, batch, logged = pretrain(**STAGE_2, reconstruction=ReconstructionLoss()), noise(), {}
    module.log = lambda name, value, **_: logged.update({name: value})  # type: ignore[method-assign,assignment]
    total = module.training_step(batch, 0)
    parts = {name.removeprefix("train/loss/"): value for name, value in logged.items() if "loss/" in name}
    assert set(parts) == {"regression", "utterance", "reconstruction", "source_retention"}
    torch.testing.assert_close(total, sum(parts.values()))
    torch.testing.assert_close(logged["train/loss"], total)
    assert logged["train/pred_std"] > 0
    assert logged["train/target_std"] > 0
    assert 0 < logged["train/token_std"] <= 1


def test_losses_of_stage_1_by_hand() -> None:
    module, batch = pretrain(reconstruction=ReconstructionLoss()).eval(), noise()
    log_mels, keys = module.log_mels(batch), module.clip_keys(batch)
    mixture, grid = module.mix(log_mels, keys), module.student.front_end.grid(log_mels)
    mask, targets = (
        module.draw_masks(keys, grid),
        module.teacher_targets(module.student.embed(mixture.clips), mixture, grid),
    )
    predictions = module.predict_masked(module.student.embed(mixture.clips), mixture, mask, grid)
    losses = module.losses(module.gather_output(predictions, targets, mask, mixture))

    encoded = module.teacher.encoder.encode(module.teacher.encoder.embed(log_mels), keep_layers=2)
    everywhere = module.targets(encoded.hidden_states)
    torch.testing.assert_close(targets.patches, everywhere)
    regression = utterance = reconstruction = 0.0
    for row in range(8):  # clip by clip, two masks each
        clip, hidden = row // 2, mask.hidden[row]
        regression += (predictions.patches[row] - everywhere[clip, hidden]).square().sum() / 4
        utterance += (predictions.cls[row] - everywhere[clip].mean(dim=0)).square().sum() / 4
        values = module.student.front_end.patchify(log_mels)[clip, hidden]
        values = (values - values.mean(dim=1, keepdim=True)) / values.std(dim=1, keepdim=True)
        reconstruction += (module.reconstruction_head(predictions.patches[row]) - values).square().sum() / 4
    num_hidden = mask.hidden.sum()
    torch.testing.assert_close(losses["regression"], regression / num_hidden)
    torch.testing.assert_close(losses["utterance"], utterance / 8)
    torch.testing.assert_close(losses["reconstruction"], reconstruction / num_hidden, rtol=1e-3, atol=1e-4)


def test_masks_are_drawn_per_copy_and_a_mixture_has_those_of_its_clip() -> None:
    module, batch = pretrain(**STAGE_2, masks_per_clip=3), noise()
    keys = module.clip_keys(batch)
    grid = module.student.front_end.grid(module.log_mels(batch))
    mask = module.draw_masks(keys, grid)
    assert mask.hidden.shape == (2 * 4 * 3, 32)
    for part in mask:
        assert torch.equal(part[:12], part[12:])
    assert len({tuple(row.tolist()) for row in mask.hidden[:12]}) == 12
    torch.testing.assert_close(module.draw_masks(keys[2:3], grid).hidden[:3], mask.hidden[6:9])  # a clip's own


def test_stage_2_retains_both_sources_where_both_are_heard() -> None:
    module, batch = pretrain(**STAGE_2), noise()
    log_mels, keys = module.log_mels(batch), module.clip_keys(batch)
    grid = module.student.front_end.grid(log_mels)
    mixture = module.mix(log_mels, keys)
    targets = module.teacher_targets(module.student.embed(mixture.clips), mixture, grid)
    assert mixture.shared_columns is not None
    assert targets.retained is not None
    encoder = module.teacher.encoder
    assert len(targets.patches) == len(mixture.clips) == 8
    for clip in range(4):
        shared = torch.zeros(8, 4, dtype=torch.bool)
        shared[mixture.shared_columns[clip]] = True
        shared = shared.flatten()
        assert 0 < shared.sum() < 32
        partner = encoder.embed(log_mels[clip - 1][None])  # positions are added before patches are dropped
        foreign = module.targets(encoder.encode(partner[:, shared], keep_layers=2).hidden_states)[0]
        own = module.targets(encoder.encode(encoder.embed(log_mels[clip][None]), keep_layers=2).hidden_states)[0]
        torch.testing.assert_close(targets.retained[clip, ~shared], own[~shared])
        torch.testing.assert_close(targets.retained[clip, shared], (own[shared] + foreign) / 2)


@pytest.mark.parametrize(
    "targets",
    [
        TeacherTargets(2, normalize_layers=("batch",)),
        TeacherTargets(2, normalize_layers=(), normalize_average=("batch", "layer")),
    ],
    ids=["layers", "average"],
)
def test_stage_2_normalizes_the_sources_without_the_mixtures(targets: TeacherTargets) -> None:
    """D5: with batch norm, the clean clips' own targets depend on the mixtures; those of the sources do not."""
    module, batch = pretrain(**{**STAGE_2, "mixing": FullMixing(), "targets": targets}), noise()
    log_mels, keys = module.log_mels(batch), module.clip_keys(batch)
    grid = module.student.front_end.grid(log_mels)
    mixture = module.mix(log_mels, keys)
    made = module.teacher_targets(module.student.embed(mixture.clips), mixture, grid)
    encoder = module.teacher.encoder
    clean = targets(encoder.encode(encoder.embed(log_mels), keep_layers=2).hidden_states)
    assert made.retained is not None
    torch.testing.assert_close(made.retained, (clean + clean.roll(1, dims=0)) / 2)
    assert (made.patches[:4] - clean).abs().max() > 0.01


@pytest.mark.parametrize(("padding", "is_heard"), [("covers", False), ("gives_way", True)])
def test_a_long_clip_behind_the_end_of_its_short_partner(padding: Any, is_heard: bool, monkeypatch) -> None:
    module, batch = pretrain(**{**STAGE_2, "mixing": FullMixing(padding=padding)}).eval(), noise(2)
    batch = batch._replace(waveforms=0.01 * batch.waveforms, lengths=[6000, 2000])  # 32 and 11 frames
    seen, teacher_targets = [], module.teacher_targets
    monkeypatch.setattr(module, "teacher_targets", lambda *given: seen.append(given[1].clips) or teacher_targets(*given))
    module.training_step(batch, 0)
    long, short, mixed, other = seen[0]
    assert short[11:].unique().item() == pytest.approx(4.268 / (2 * 4.569))  # louder than the long one
    assert torch.equal(mixed[11:], long[11:] if is_heard else short[11:])
    assert torch.equal(other, mixed)
    assert torch.equal(mixed[:11], torch.maximum(long, short)[:11])


def test_source_retention_looks_at_the_mixtures_alone() -> None:
    module, batch = pretrain(**STAGE_2), noise()
    log_mels, keys = module.log_mels(batch), module.clip_keys(batch)
    mixture, grid = module.mix(log_mels, keys), module.student.front_end.grid(log_mels)
    mask, targets = (
        module.draw_masks(keys, grid),
        module.teacher_targets(module.student.embed(mixture.clips), mixture, grid),
    )
    predictions = module.predict_masked(module.student.embed(mixture.clips), mixture, mask, grid)
    losses = module.losses(module.gather_output(predictions, targets, mask, mixture))
    assert targets.retained is not None
    total = torch.zeros(())
    for row in range(8, 16):  # behind the clean clips: mixture by mixture, two masks each
        retained = targets.retained[(row - 8) // 2, mask.hidden[row]]
        total += (predictions.patches[row] - retained).square().sum() / 4
    torch.testing.assert_close(losses["source_retention"], 2 * total / mask.hidden.sum())


def test_the_utterance_target_may_be_the_last_layer_alone() -> None:
    module, batch = pretrain(utterance=UtteranceLoss(top_k_layers=1)), noise()
    log_mels = module.log_mels(batch)
    mixture, grid = module.mix(log_mels, module.clip_keys(batch)), module.student.front_end.grid(log_mels)
    targets = module.teacher_targets(module.student.embed(log_mels), mixture, grid)
    last = module.targets(
        module.teacher.encoder.encode(module.teacher.encoder.embed(log_mels), keep_layers=1).hidden_states, 1
    )
    torch.testing.assert_close(targets.clip, last.mean(dim=1))
    assert not torch.allclose(targets.clip, targets.patches.mean(dim=1))


def test_dinos_center_moves_in_training_alone() -> None:
    module, batch = pretrain(utterance=None, dino=DINOLoss(center_momentum=0.75)), noise()
    assert module.dino is not None
    for mode in (False, True):
        module.train(mode).training_step(batch, 0)
        assert not module.dino.center.any()
        module.dino.update_center()
        assert bool(module.dino.center.any()) == mode
    log_mels = module.log_mels(batch)
    target = module.targets(
        module.teacher.encoder.encode(module.teacher.encoder.embed(log_mels), keep_layers=2).hidden_states
    )
    torch.testing.assert_close(module.dino.center, 0.25 * target.mean(dim=(0, 1), keepdim=True)[0])
    assert torch.equal(module.state_dict()["dino.center"], module.dino.center)


def test_draws_depend_on_seed_and_clip_and_evaluation_has_draws_of_its_own() -> None:
    batch = noise()
    train, other_seed = pretrain(seed=1).clip_keys(batch), pretrain(seed=2).clip_keys(batch)
    assert torch.equal(pretrain(seed=1).clip_keys(batch), train)
    assert not (train == other_seed).any()
    assert not (train == pretrain(seed=1).eval().clip_keys(batch)).any()
    assert torch.equal(pretrain(seed=1).clip_keys(batch._replace(clip_index=batch.clip_index.flip(0))), train.flip(0))


def test_a_batch_of_which_nothing_is_left() -> None:
    nothing = {"waveforms": torch.zeros(0, 6000), "clip_index": torch.zeros(0, dtype=torch.int64)}
    empty = noise()._replace(**nothing, broken=(("a.wav", "no audio"),))
    module = pretrain()
    assert module.is_empty(empty)
    loss = module.training_step(empty, 0)
    loss.backward()
    assert loss.item() == 0.0
    for part in module.trainable_modules():
        for name, parameter in part.named_parameters():
            assert parameter.grad is not None, name
            assert not parameter.grad.any(), name
    assert module.eval().validation_step(empty, 0) is None


def test_one_clip_is_too_few_to_mix() -> None:
    one, module = noise(1), pretrain(**STAGE_2)
    assert not pretrain().is_empty(one)
    assert not module.is_empty(one)  # a batch size of 1 is the user's mistake, told by the mixer
    with pytest.raises(ValueError, match=r"mixing needs at least 2 clips on each device, got a batch of 1"):
        module.training_step(one, 0)
    assert module.is_empty(one._replace(broken=(("a.wav", "no audio"),)))  # the other clip could not be read
    assert module.eval().is_empty(one)  # the last batch of a validation set


def test_validation_losses_are_means_over_clips_and_leave_no_nan_out(monkeypatch: pytest.MonkeyPatch) -> None:
    module, logged = pretrain().eval(), {}
    monkeypatch.setattr(module, "log", lambda name, value, **options: logged.update({name: value}))
    for regression, utterance, clips in ((1.0, 2.0, 4), (float("nan"), 7.0, 1)):
        losses = {"regression": torch.tensor(regression), "utterance": torch.tensor(utterance)}
        module.sum_and_log(losses, rows=clips)
    module.on_validation_epoch_end()
    assert logged["val/loss/regression"].isnan()
    assert logged["val/loss"].isnan()
    assert logged["val/loss/utterance"] == (4 * 2 + 7) / 5  # each clip counts as much


def test_predictions_are_cls_tokens_of_whole_clips() -> None:
    module, batch = pretrain().eval(), noise()
    names, tokens = module.predict_step(batch, 0)
    assert names == batch.names
    torch.testing.assert_close(tokens, module.student(module.log_mels(batch)).cls)


def test_a_clip_that_is_too_short_is_named() -> None:
    batch = noise()
    batch = batch._replace(lengths=[6000, 6000, 879, 100])  # a patch of 4 frames: 400 + 3 x 160
    message = r"clip 2 has 879 samples, but one patch of 4 frames takes 880 at 16000 Hz: leave out shorter clips"
    with pytest.raises(ValueError, match=message):
        pretrain().transfer_batch_to_device(batch, torch.device("cpu"), 0)


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (
            {"encoder": replace(ENCODER, dim=32)},
            r"the checkpoint's student\.cls_token has shape \(1, 1, 32\), the model expects \(1, 1, 16\)",
        ),
        (
            {"encoder": replace(ENCODER, depth=3)},
            r"the checkpoint's student\.blocks\.2\.\S+ is not in the model: ",
        ),
        (
            {"encoder": replace(ENCODER, depth=1), "targets": TeacherTargets(1)},
            r"the checkpoint's student\.blocks\.1\.\S+ is missing, which the model has",
        ),
        ({"utterance": None, "dino": DINOLoss()}, r"the checkpoint's dino\.center is not in the model"),
    ],
)
def test_a_run_is_not_resumed_with_other_parts(other: dict[str, Any], message: str) -> None:
    module = pretrain()
    with pytest.raises(ValueError, match=message):
        module.on_load_checkpoint({"state_dict": pretrain(**other).state_dict()})
    module.on_load_checkpoint({"state_dict": pretrain().state_dict()})


def test_a_run_does_not_go_on_from_another_kind_of_module() -> None:
    other = {"state_dict": finetune().state_dict(), "hyper_parameters": {"_class_path": "sslam_lightning.FinetuneModule"}}
    message = r"is of a FinetuneModule, which a PretrainModule does not go on from: .* name it in model\.init_from"
    with pytest.raises(ValueError, match=message):
        pretrain().on_load_checkpoint(other)


def seed_batch(module: PretrainModule, batch: int) -> None:
    SeedBatches().on_train_batch_start(SimpleNamespace(current_epoch=0), module, None, batch)


def test_every_step_has_a_seed_of_its_own() -> None:
    drawn = set()
    for seed in (0, 1):
        module: PretrainModule = pretrain(seed=seed)
        for batch in (0, 1):
            seed_batch(module, batch)
            first = torch.rand(()).item()
            seed_batch(module, batch)
            assert torch.rand(()).item() == first
            drawn.add(first)
    assert len(drawn) == 4


def test_a_device_draws_what_one_device_draws_in_that_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    def drawn(world: int, rank: int, batch: int) -> float:
        module = pretrain()
        monkeypatch.setattr(type(module), "world_size", world)
        monkeypatch.setattr(type(module), "global_rank", rank)
        seed_batch(module, batch)
        return torch.rand(()).item()

    assert [drawn(2, rank, batch) for batch in (0, 1) for rank in (0, 1)] == [drawn(1, 0, batch) for batch in range(4)]
