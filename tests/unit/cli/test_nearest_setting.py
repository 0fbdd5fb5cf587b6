from __future__ import annotations

from pathlib import Path

import pytest

from sslam_lightning.cli.command_line import CommandLine
from sslam_lightning.cli.configs import config_folder
from sslam_lightning.cli.nearest_setting import nearest_setting
from sslam_lightning.cli.trainer import SSLAMCLI

PRETRAINING = ["--config", "pretrain/sslam_base.yaml"]
FINETUNING = ["--config", "finetune/esc50.yaml"]


@pytest.mark.parametrize(
    ("words", "key", "meant"),
    [
        (PRETRAINING, "modle.seed", "seed_everything"),
        (PRETRAINING, "dat.seed", "seed_everything"),
        (FINETUNING, "modle.num_classes", None),
        (FINETUNING, "modle.resampler", "data.resampler"),
        (FINETUNING, "modle.multi_label", None),  # ESC-50 is what it is
        ([*FINETUNING, "--data", "sslam_lightning.data.AudioSetDataModule"], "modle.multi_label", "data.multi_label"),
        (PRETRAINING, "modle.optimiser.lr", "model.optimizer.lr"),
        (PRETRAINING, "model.init_args.optimiser.init_args.warm_up", "model.init_args.optimizer.init_args.warmup_updates"),
        (PRETRAINING, "model.labl_smoothing", None),  # fine-tuning's
        (FINETUNING, "model.labl_smoothing", "model.label_smoothing"),
        (FINETUNING, "data.folds", "data.fold"),
        ([*FINETUNING, "--data=sslam_lightning.data.AudioFolderDataModule"], "data.folds", None),
        (PRETRAINING, "model.masking.hiden_ratio", "model.masking.hidden_ratio"),
        ([*PRETRAINING, "--model.masking", "ChunkMask"], "model.masking.largst", "model.masking.largest"),
        (FINETUNING, "trainer.callbacks.moniter", "trainer.callbacks.monitor"),
        (PRETRAINING, "trainer.max_stepz", "trainer.max_steps"),
        (PRETRAINING, "batchsize", None),
        (PRETRAINING, "seed_everythink", "seed_everything"),
    ],
)
def test_what_is_meant_is_accepted(words: list[str], key: str, meant: str | None) -> None:
    """U4: nothing is suggested that would be refused, because of its place or of what else decides it."""
    assert nearest_setting(key, CommandLine(words, config_folder())) == meant


def test_the_hint_is_followed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """U4: from the complaint to the run."""
    model = ["--model", "sslam_lightning.FinetuneModule", "--model.encoder", "{dim: 16, depth: 1, num_heads: 2}"]
    with pytest.raises(SystemExit):
        SSLAMCLI([*model, "--modle.seed=3"], run=False)
    assert "there is no setting modle.seed: did you mean seed_everything? (see" in capsys.readouterr().err
    assert SSLAMCLI([*model, "--seed_everything=3"], run=False).model.seed == 3
