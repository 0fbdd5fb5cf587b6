"""Short runs learn, and one stage hands over to the next."""

from __future__ import annotations

import csv
from typing import Any

import lightning.pytorch as pl
import pytest
import torch
from tiny import FAST_EMA, NUM_CLASSES, Diary, copy_of, ema_callback, finetune, pretrain, soundscapes, trainer

from sslam_lightning.augment import Mixup
from sslam_lightning.data import BrokenClip, SyntheticDataModule, SyntheticDataset
from sslam_lightning.losses import ReconstructionLoss
from sslam_lightning.training import FinetuneModule, PretrainModule
from sslam_lightning.training.callbacks import PredictionWriter
from sslam_lightning.training.run.optimizers import OptimizerConfig

EPOCHS = 10


class AtStart(pl.Callback):
    """The state with which the first step begins."""

    def __init__(self) -> None:
        self.state: dict[str, torch.Tensor] = {}
        self.ema_updates: int | None = None

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx) -> None:
        if not self.state:
            self.state = copy_of(pl_module)
            if isinstance(pl_module, PretrainModule):
                self.ema_updates = ema_callback(trainer).updates


def _fast(**more: Any) -> OptimizerConfig:
    return OptimizerConfig(lr=3e-3, warmup_steps=5, **more)


def _first_and_last_epoch(diary: Diary, name: str) -> tuple[float, float]:
    losses = [entry[name] for entry in diary.logged]
    length = sum(epoch == 0 for epoch, _ in diary.losses)
    return sum(losses[:length]) / length, sum(losses[-length:]) / length


@pytest.fixture(scope="module")
def stage1(tmp_path_factory):
    """A short pre-training run: its folder and its diary."""
    pl.seed_everything(1, verbose=False)
    folder, diary = tmp_path_factory.mktemp("stage1"), Diary()
    module = pretrain(optimizer=_fast(), reconstruction=ReconstructionLoss())
    runner = trainer(folder, diary, max_epochs=EPOCHS, gradient_clip_val=4.0)
    runner.fit(module, soundscapes(32, batch_size=8))
    runner.save_checkpoint(folder / "last.ckpt")
    return folder / "last.ckpt", diary


def _part(checkpoint: str, prefix: str) -> dict[str, torch.Tensor]:
    state = torch.load(checkpoint, weights_only=True)["state_dict"]
    return {name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)}


def _assert_same(own: dict[str, torch.Tensor], prefix: str, other: dict[str, torch.Tensor]) -> None:
    assert other
    for name, value in other.items():
        assert torch.equal(own[prefix + name], value), prefix + name


def test_pretraining_lowers_every_loss(stage1):
    _, diary = stage1
    assert len(diary.losses) == EPOCHS * 4
    for name, share in (("regression", 0.85), ("utterance", 0.85), ("reconstruction", 0.9)):
        first, last = _first_and_last_epoch(diary, f"train/loss/{name}")
        assert last < share * first, f"{name}: {first} to {last}"
    assert diary.logged[-1]["train/pred_std"] > 0.02  # not by guessing the same everywhere


def test_dino_lowers_its_loss_and_its_center_moves(tmp_path):
    module, diary = pretrain("dino", optimizer=_fast()), Diary()
    trainer(tmp_path, diary, max_epochs=EPOCHS, gradient_clip_val=4.0).fit(module, soundscapes(32, batch_size=8))
    first, last = _first_and_last_epoch(diary, "train/loss/dino")
    assert last < 0.6 * first
    assert module.dino.center.abs().max() > 0.01


def test_stage_2_starts_from_stage_1_and_begins_anew(stage1, tmp_path):
    checkpoint, _ = stage1
    start, diary = AtStart(), Diary()
    module = pretrain("stage 2", optimizer=_fast(), init_from=str(checkpoint))
    runner = trainer(tmp_path, start, diary, max_epochs=2)
    runner.fit(module, soundscapes(8))
    for part in ("student.", "teacher.encoder.", "decoder."):
        _assert_same(start.state, part, _part(checkpoint, part))
    assert not torch.equal(start.state["teacher.encoder.cls_token"], start.state["student.cls_token"])
    assert start.ema_updates == 0
    assert ema_callback(runner).updates == runner.global_step == 4
    names = {"regression", "utterance", "source_retention"}
    assert {f"train/loss/{name}" for name in names} == {n for n in diary.logged[0] if n.startswith("train/loss/")}
    assert float(diary.logged[0]["train/loss"]) == pytest.approx(
        sum(diary.logged[0][f"train/loss/{name}"] for name in names), rel=1e-5
    )
    # A resumed run goes on from its own checkpoint, not from that of stage 1.
    runner.save_checkpoint(tmp_path / "stage2.ckpt")
    again = AtStart()
    trainer(tmp_path, again, max_epochs=3).fit(
        pretrain("stage 2", optimizer=_fast(), init_from=str(checkpoint)),
        soundscapes(8),
        ckpt_path=tmp_path / "stage2.ckpt",
        weights_only=True,
    )
    _assert_same(again.state, "student.", _part(tmp_path / "stage2.ckpt", "student."))
    assert again.ema_updates == 4


@pytest.mark.parametrize(("part", "prefix"), [("student", "student."), ("teacher", "teacher.encoder.")])
def test_finetuning_starts_from_either_part(part, prefix, stage1, tmp_path):
    start = AtStart()
    module = finetune(init_from=str(stage1[0]), init_encoder=part, mixup=Mixup())
    trainer(tmp_path, start, max_steps=2).fit(module, soundscapes(8))
    _assert_same(start.state, "encoder.", _part(stage1[0], prefix))
    assert not torch.equal(module.encoder.blocks[0].mlp.fc1.weight, start.state["encoder.blocks.0.mlp.fc1.weight"])


def test_finetuning_learns_what_it_is_shown(stage1, tmp_path):
    module, diary = finetune(init_from=str(stage1[0]), optimizer=_fast(), encoder={}, roll_and_gain=False), Diary()
    runner = trainer(tmp_path, diary, max_epochs=2 * EPOCHS, check_val_every_n_epoch=2 * EPOCHS)
    runner.fit(module, soundscapes(32, 32, batch_size=4))
    first, last = _first_and_last_epoch(diary, "train/loss")
    assert last < 0.85 * first
    assert 0.55 < float(runner.callback_metrics["val/mAP"]) <= float(runner.callback_metrics["val/best_mAP"])


def test_linear_evaluation_moves_the_head_alone(stage1, tmp_path):
    start, diary = AtStart(), Diary()
    module = finetune(
        init_from=str(stage1[0]), frozen_encoder=True, optimizer=OptimizerConfig(lr=0.03), encoder={"drop_path_end": 0.5}
    )
    trainer(tmp_path, start, diary, max_epochs=EPOCHS).fit(module, soundscapes(16, 8, batch_size=8))
    _assert_same(module.state_dict(), "encoder.", _part(stage1[0], "student."))
    changed = {name for name, value in module.state_dict().items() if not torch.equal(value, start.state.get(name, value))}
    assert {name for name in changed if not name.startswith("best_score")} == {
        f"head.{layer}.{kind}" for layer in ("norm", "linear") for kind in ("weight", "bias")
    }
    assert not any(part.training for part in module.encoder.modules())
    first, last = _first_and_last_epoch(diary, "train/loss")
    assert last < first


def test_single_label_runs_are_scored_by_accuracy(tmp_path):
    class OneSound(SyntheticDataModule):
        def __init__(self, **settings: Any) -> None:
            super().__init__(max_sources=1, num_classes=NUM_CLASSES, clip_seconds=0.66, num_workers=0, **settings)
            self.multi_label = False

    module = finetune(multi_label=False, label_smoothing=0.1, optimizer=_fast(), encoder={}, roll_and_gain=False)
    diary = Diary()
    runner = trainer(tmp_path, diary, max_epochs=2 * EPOCHS, check_val_every_n_epoch=2 * EPOCHS)
    runner.fit(module, OneSound(num_train=32, num_val=32, batch_size=4))
    first, last = _first_and_last_epoch(diary, "train/loss")
    assert last < 0.85 * first
    assert 1 / NUM_CLASSES < float(runner.callback_metrics["val/accuracy"]) <= 1
    (tested,) = runner.test(module, OneSound(num_train=32, num_val=32, batch_size=8), verbose=False)
    assert set(tested) == {"test/loss", "test/accuracy"}


def test_predictions_are_written(stage1, tmp_path):
    data = soundscapes(4, 6)
    pretrained = PretrainModule.load_from_checkpoint(stage1[0])
    trainer(tmp_path, PredictionWriter(str(tmp_path / "tokens.csv"))).predict(pretrained, data)
    module = finetune(init_from=str(stage1[0]))
    trainer(tmp_path, PredictionWriter(str(tmp_path / "tags.csv"))).predict(module, data, return_predictions=False)

    tokens, tags = (list(csv.reader((tmp_path / name).open())) for name in ("tokens.csv", "tags.csv"))
    assert tags[0] == ["name", *data.class_names]
    assert tokens[0] == ["name", *map(str, range(32))]
    for rows in (tokens, tags):
        assert [row[0] for row in rows[1:]] == [f"synthetic/test/{i}" for i in range(6)]
    assert all(0 < float(cell) < 1 for row in tags[1:] for cell in row[1:])
    expected = pretrained.eval().student(pretrained.log_mels(next(iter(data.predict_dataloader())))).cls
    written = torch.tensor([[float(cell) for cell in row[1:]] for row in tokens[1:5]])
    torch.testing.assert_close(written, expected, rtol=1e-5, atol=1e-6)

    with pytest.raises(FileExistsError, match=r"tags\.csv exists already"):
        trainer(tmp_path, PredictionWriter(str(tmp_path / "tags.csv"))).predict(module, data)


@pytest.mark.parametrize("build", [pretrain, lambda: pretrain("stage 2"), finetune])
def test_a_batch_none_of_whose_files_can_be_read_has_no_rows(build, tmp_path, monkeypatch):
    class LastIsBroken(SyntheticDataset):
        def __getitem__(self, key):
            index = key if isinstance(key, int) else key[1]
            return BrokenClip("i.wav", "not readable") if index == len(self) - 1 else super().__getitem__(key)

    data, path = soundscapes(4, 9), tmp_path / "predictions.csv"  # in batches of 4
    monkeypatch.setattr(data.dataset("test"), "__class__", LastIsBroken)
    batches = trainer(tmp_path, PredictionWriter(path)).predict(build(), data)
    assert [len(names) for names, _ in batches] == [len(rows) for _, rows in batches] == [4, 4, 0]
    assert [row[0] for row in csv.reader(path.open())] == ["name", *(f"synthetic/test/{i}" for i in range(8))]


@pytest.mark.parametrize("kind", ["pretrain", "finetune"])
def test_a_checkpoint_of_a_module_built_in_python_opens_without_pickle(kind, tmp_path):
    module = pretrain("stage 2", ema=FAST_EMA) if kind == "pretrain" else finetune(mixup=Mixup(alpha=0.5))
    runner = trainer(tmp_path, max_steps=1)
    runner.fit(module, soundscapes(4))
    runner.save_checkpoint(tmp_path / "last.ckpt")
    kind_of_module = PretrainModule if kind == "pretrain" else FinetuneModule
    again = kind_of_module.load_from_checkpoint(tmp_path / "last.ckpt", weights_only=True)
    _assert_same(again.state_dict(), "", {n: v for n, v in module.state_dict().items() if "score" not in n})
    if kind == "pretrain":
        assert again.mixing == module.mixing
        assert again.ema == FAST_EMA
    else:
        assert again.mixup == Mixup(alpha=0.5)
