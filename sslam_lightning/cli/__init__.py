"""The command line: LightningCLI for training, plain functions for tools."""

from __future__ import annotations

from typing import Any


def run_trainer(argv: list[str]) -> None:
    """``fit``, ``validate``, ``test`` and ``predict``."""
    from sslam_lightning.cli.trainer import SSLAMCLI

    SSLAMCLI(args=argv)


def run_tool(argv: list[str]) -> Any:
    """Commands that are not about one Lightning trainer; torch is not imported before their arguments are understood."""
    from jsonargparse import auto_cli

    from sslam_lightning.cli.benchmark_inference import benchmark_inference
    from sslam_lightning.cli.convert import convert
    from sslam_lightning.cli.embed import embed
    from sslam_lightning.cli.export import export
    from sslam_lightning.cli.recordings import run_on_recordings
    from sslam_lightning.cli.tag import tag
    from sslam_lightning.cli.tools import benchmark_pretrain, demo

    if argv[0] in ("tag", "embed"):
        return run_on_recordings(tag if argv[0] == "tag" else embed, argv)
    tools: dict[str, Any] = {
        "demo": demo,
        "convert": convert,
        "export": export,
        "benchmark": {"_help": "Measure speed.", "pretrain": benchmark_pretrain, "inference": benchmark_inference},
    }
    return auto_cli(tools, args=argv, prog="sslam")
