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
