"""The command line: LightningCLI for training, plain functions for tools."""

from __future__ import annotations

from typing import Any


def run_trainer(argv: list[str]) -> None:
    """``fit``, ``validate``, ``test`` and ``predict``."""
    from sslam_lightning.cli.trainer import SSLAMCLI

    SSLAMCLI(args=argv)


def run_tool(argv: list[str]) -> Any:
    """Every command but the trainer's; torch is not imported before their arguments are understood."""
    from jsonargparse import auto_cli

    from sslam_lightning.cli.convert import convert
    from sslam_lightning.cli.data import DATA_COMMANDS
    from sslam_lightning.cli.tools import benchmark_data, benchmark_pretrain, demo

    tools: dict[str, Any] = {
        "demo": demo,
        "data": DATA_COMMANDS,
        "convert": convert,
        "benchmark": {"_help": "Measure speed.", "pretrain": benchmark_pretrain, "data": benchmark_data},
    }
    return auto_cli(tools, args=argv, prog="sslam")
