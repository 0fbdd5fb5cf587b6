"""A score on clips that a model was trained on is not taken for one on new clips."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import soundfile

from sslam_lightning.__main__ import main
from sslam_lightning.runtime.configs import config_folder

TINY = {
    "model.encoder.dim": 16,
    "model.encoder.depth": 1,
    "model.encoder.num_heads": 2,
    "model.features.num_frames": 64,
    "model.mixup": "null",
    "data.batch_size": 4,
    "data.num_workers": 0,
    "trainer.max_steps": 1,
    "trainer.enable_progress_bar": "false",
    "trainer.enable_model_summary": "false",
}


def make_esc50(folder: Path) -> Path:
    """Three folds of four clips of two classes."""
    (folder / "audio").mkdir(parents=True)
    (folder / "meta").mkdir()
    noise, rows = np.random.default_rng(0), ["filename,fold,target,category,esc10,src_file,take"]
    for number in range(12):
        soundfile.write(folder / "audio" / f"{number}.wav", noise.normal(0, 0.1, 11000), 16000)
        rows.append(f"{number}.wav,{number % 3 + 1},{number % 2},{'rain' if number % 2 else 'dog'},True,{number},A")
    (folder / "meta" / "esc50.csv").write_text("\n".join(rows) + "\n")
    return folder


def test_a_fold_that_was_trained_on(tmp_path, monkeypatch):
    settings = {**TINY, "data.root": make_esc50(tmp_path / "esc50"), "trainer.default_root_dir": tmp_path / "run"}
    configs = [config_folder() / name for name in ("finetune/esc50.yaml", "overlays/trainer/cpu.yaml")]
    given = [argument for path in configs for argument in ("--config", str(path))]
    given += [f"--{name}={value}" for name, value in settings.items()]
    main(["fit", *given, "--model.init_from=null", "--data.fold=1"])
    told = {}
    monkeypatch.chdir(tmp_path)
    for fold, root in ((1, tmp_path / "esc50"), (2, "esc50")):  # the same files under another name
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            last = f"--ckpt_path={tmp_path}/run/checkpoints/last.ckpt"
            main(["test", *given, "--model.init_from=null", f"--data.fold={fold}", f"--data.root={root}", last])
        told[fold] = [str(one.message) for one in caught if "trained" in str(one.message)]
    assert told[1] == []
    assert told[2] == [
        "4 or more of these 4 clips are among those that the checkpoint was trained on, for example "
        f"{tmp_path}/esc50/audio/1.wav: the scores say little about new clips"
    ]
