"""The command line: LightningCLI for training, plain functions for tools."""

from __future__ import annotations

from importlib import import_module
from typing import Any

# Command -> where it is: a function, or a dictionary of functions for commands that have some below them.
TOOLS = {
    "demo": ("sslam_lightning.cli.tools", "demo"),
    "data": ("sslam_lightning.cli.data", "DATA_COMMANDS"),
    "convert": ("sslam_lightning.cli.convert", "convert"),
    "tag": ("sslam_lightning.cli.tag", "tag"),
    "embed": ("sslam_lightning.cli.embed", "embed"),
    "export": ("sslam_lightning.cli.export", "export"),
    "evaluate": ("sslam_lightning.cli.evaluate", "run_evaluate"),
    "benchmark": ("sslam_lightning.cli.tools", "BENCHMARKS"),
}
_ON_RECORDINGS = ("tag", "embed")  # any number of files and folders, then options
_WITH_A_PARSER = ("evaluate",)  # of its own: options that take several values


def run_trainer(argv: list[str]) -> None:
    """``fit``, ``validate``, ``test`` and ``predict``."""
    from sslam_lightning.cli.trainer import SSLAMCLI

    SSLAMCLI(args=argv)


def run_tool(argv: list[str]) -> Any:
    """A command of `TOOLS`; torch is not imported before its arguments are understood."""
    from jsonargparse import auto_cli

    from sslam_lightning.cli.recordings import run_on_recordings
    from sslam_lightning.cli.tool_parser import ToolParser

    module, name = TOOLS[argv[0]]
    command = getattr(import_module(module), name)
    if argv[0] in _WITH_A_PARSER:
        return command(argv)
    if argv[0] in _ON_RECORDINGS:
        return run_on_recordings(command, argv)
    return auto_cli({argv[0]: command}, args=argv, prog="sslam", parser_class=ToolParser)
