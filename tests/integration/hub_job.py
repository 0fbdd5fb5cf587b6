"""Uses a model of the Hub by its id, in every way that there is. Started by test_hub_download.py."""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from tiny import FRAMES, encoder, soundscapes, trainer

from sslam_lightning import load_classifier
from sslam_lightning.__main__ import main as sslam
from sslam_lightning.features import LogMels
from sslam_lightning.training import FinetuneModule


def main(hub_id: str, folder: Path) -> None:
    """Convert it, open it, and start fine-tuning from it."""
    sslam(["convert", hub_id, str(folder / "converted")])
    classifier = load_classifier(hub_id)
    module = FinetuneModule(encoder(), LogMels(num_frames=FRAMES), num_classes=4, init_from=hub_id)
    trainer(folder, limit_train_batches=0).fit(module, soundscapes())
    started, opened = module.encoder.state_dict(), classifier.encoder.state_dict()
    same = [torch.equal(started[name], value) for name, value in opened.items()]
    print(f"{sum(same)} of {len(same)} weights are the same")


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
