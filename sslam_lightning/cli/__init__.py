"""The command line: LightningCLI for training, plain functions for tools."""

from __future__ import annotations

from typing import Any


def one_line(message: str) -> str:
    """The line of a nested parser error that tells what came and what was expected.

    jsonargparse tries every type that an option may have and reports all failures; the first one that is not about
    ``None`` is the user's.
    """
    message = message.split("Given value type:")[0]
    if "Errors:" in message:
        causes = [line.strip() for line in message.split("Errors:")[-1].split("\n") if line.strip(" -")]
        causes = [cause.lstrip("- ") for cause in causes if "NoneType" not in cause]
        message = causes[0] if causes else message
    return " ".join(line.strip(" -") for line in message.splitlines() if line.strip())


def run_trainer(argv: list[str]) -> None:
    """``fit``, ``validate``, ``test`` and ``predict``."""
    from sslam_lightning.cli.trainer import SSLAMCLI

    SSLAMCLI(args=argv)


def run_tool(argv: list[str]) -> Any:
    """``demo``, ``data`` and ``benchmark``; torch is not imported before their arguments are understood."""
    from jsonargparse import auto_cli

    from sslam_lightning.cli.data import DATA_COMMANDS
    from sslam_lightning.cli.tools import benchmark_data, benchmark_pretrain, demo

    benchmarks = {"_help": "Measure speed.", "pretrain": benchmark_pretrain, "data": benchmark_data}
    tools: dict[str, Any] = {"demo": demo, "data": DATA_COMMANDS, "benchmark": benchmarks}
    return auto_cli(tools, args=argv, prog="sslam")
