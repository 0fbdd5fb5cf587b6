"""Logs 24 steps to W&B offline, whose own process ends behind the 21st: ``python wandb_loss_job.py FOLDER``.

A process of its own, because threads of W&B's outlive the loss and go on complaining to whoever listens.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys

from sslam_lightning.training.run.loggers import WandbRun


def main(folder: str) -> None:
    logger = WandbRun(save_dir=folder, offline=True)
    logger.log_settings({"lr": 0.5})
    for step in range(20):
        logger.log_metrics({"loss": float(step)}, step)
    children = subprocess.run(
        ["ps", "-o", "pid=,args=", "--ppid", str(os.getpid())], capture_output=True, text=True, check=True
    )
    (service,) = (int(line.split()[0]) for line in children.stdout.splitlines() if "wandb-core" in line)
    os.kill(service, signal.SIGUSR1)  # near the time limit: it lives on
    logger.log_metrics({"loss": 20.0}, 20)
    os.kill(service, signal.SIGTERM)
    for step in range(21, 24):
        logger.log_metrics({"loss": float(step)}, step)
    logger.finalize("success")


if __name__ == "__main__":
    main(sys.argv[1])
